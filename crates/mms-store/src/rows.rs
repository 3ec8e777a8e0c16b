//! Rows of the two tables on their way in: what may stand in them.

use mms_protocol::evaluation::{MAX_DATA_BYTES, MAX_RECORD_NAME_BYTES, NewEvaluation, NewMetric};
use serde_json::Value;

use crate::{StoreError, Usage, time};

/// A checked row on its way to the writer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Row {
    Metric {
        id: String,
        agent_name: String,
        metric_name: String,
        value: f64,
        timestamp: String,
        context: Option<String>,
    },
    Evaluation {
        id: String,
        model_name: String,
        cycle_id: String,
        trust_score: f64,
        accuracy: Option<f64>,
        f1_score: Option<f64>,
        avg_latency_ms: f64,
        timestamp: String,
        comparison_data: Option<String>,
    },
    Usage(Usage),
}

impl Row {
    /// A measurement, if it can be kept.
    pub(crate) fn metric(new: NewMetric) -> Result<Self, StoreError> {
        Ok(Self::Metric {
            id: uuid::Uuid::new_v4().to_string(),
            agent_name: name("agent_name", new.agent_name)?,
            metric_name: name("metric_name", new.metric_name)?,
            value: finite("value", new.value)?,
            timestamp: time::now(),
            context: json("metadata", new.context)?,
        })
    }

    /// An evaluation, if it can be kept.
    pub(crate) fn evaluation(new: NewEvaluation) -> Result<Self, StoreError> {
        Ok(Self::Evaluation {
            id: uuid::Uuid::new_v4().to_string(),
            model_name: name("model_name", new.model_name)?,
            cycle_id: name("cycle_id", new.cycle_id)?,
            trust_score: finite("trust_score", new.trust_score)?,
            accuracy: new.accuracy.map(|value| finite("accuracy", value)).transpose()?,
            f1_score: new.f1_score.map(|value| finite("f1_score", value)).transpose()?,
            avg_latency_ms: finite("avg_latency_ms", new.avg_latency_ms)?,
            timestamp: time::now(),
            comparison_data: json("comparison_data", new.comparison_data)?,
        })
    }

    /// A use of a model, if it can be kept.
    pub(crate) fn usage(new: Usage) -> Result<Self, StoreError> {
        Ok(Self::Usage(Usage {
            model_id: name("model_id", new.model_id)?,
            client: new.client.map(|client| name("client", client)).transpose()?,
            used_at: finite("used_at", new.used_at)?,
        }))
    }

    /// Bytes of its JSON.
    pub(crate) fn data_bytes(&self) -> usize {
        match self {
            Self::Metric { context: data, .. } | Self::Evaluation { comparison_data: data, .. } => {
                data.as_ref().map_or(0, String::len)
            }
            Self::Usage(_) => 0,
        }
    }

    /// Its UUID; a use of a model has none.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Metric { id, .. } | Self::Evaluation { id, .. } => id,
            Self::Usage(_) => "",
        }
    }
}

fn finite(field: &'static str, value: f64) -> Result<f64, StoreError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(StoreError::invalid(field, format!("must be a finite number, not {value}")))
    }
}

fn name(field: &'static str, text: String) -> Result<String, StoreError> {
    if text.is_empty() {
        Err(StoreError::invalid(field, "must not be empty"))
    } else if text.len() > MAX_RECORD_NAME_BYTES {
        Err(StoreError::invalid(
            field,
            format!("is {} bytes long, at most {MAX_RECORD_NAME_BYTES} are kept", text.len()),
        ))
    } else {
        Ok(text)
    }
}

fn json(field: &'static str, value: Option<Value>) -> Result<Option<String>, StoreError> {
    let text = value.filter(|value| !value.is_null()).map(|value| value.to_string());
    match text {
        Some(text) if text.len() > MAX_DATA_BYTES => {
            Err(StoreError::invalid(field, format!("is {} bytes long, at most {MAX_DATA_BYTES} are kept", text.len())))
        }
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{NewEvaluation, NewMetric, Row};

    fn metric(value: f64) -> NewMetric {
        NewMetric { agent_name: "a".to_owned(), metric_name: "m".to_owned(), value, context: None }
    }

    #[test]
    fn what_cannot_be_stored_is_refused_by_name() {
        let refused = |metric: NewMetric| Row::metric(metric).unwrap_err().to_string();
        assert_eq!(refused(metric(f64::NAN)), "value must be a finite number, not NaN");
        assert_eq!(refused(metric(f64::NEG_INFINITY)), "value must be a finite number, not -inf");
        assert_eq!(refused(NewMetric { agent_name: String::new(), ..metric(1.0) }), "agent_name must not be empty");
        assert_eq!(
            refused(NewMetric { metric_name: "x".repeat(1025), ..metric(1.0) }),
            "metric_name is 1025 bytes long, at most 1024 are kept"
        );
        let large = serde_json::Value::String("x".repeat(1 << 20));
        assert!(refused(NewMetric { context: Some(large), ..metric(1.0) }).starts_with("metadata is 1048578 bytes"));
        let evaluation = NewEvaluation {
            model_name: "m".to_owned(),
            cycle_id: "c".to_owned(),
            trust_score: 0.5,
            accuracy: None,
            f1_score: Some(f64::INFINITY),
            avg_latency_ms: 0.0,
            comparison_data: None,
        };
        assert_eq!(Row::evaluation(evaluation).unwrap_err().to_string(), "f1_score must be a finite number, not inf");
        assert!(Row::metric(metric(-0.0)).is_ok());
    }
}
