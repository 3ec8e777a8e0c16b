//! Rows of the two tables as they come in and go out, and what may stand in them.

use serde::Serialize;
use serde_json::Value;

use crate::StoreError;
use crate::time;

/// Most rows that one query returns.
pub const MAX_LIMIT: u32 = 10_000;

/// Longest of the names and JSON texts in a row, bytes.
const MAX_NAME_BYTES: usize = 1024;
const MAX_JSON_BYTES: usize = 1024 * 1024;

/// A measurement to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMetric {
    /// Who measured.
    pub agent_name: String,
    /// What was measured.
    pub metric_name: String,
    /// The figure; neither NaN nor infinite.
    pub value: f64,
    /// Circumstances.
    pub context: Option<Value>,
}

/// An evaluation to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvaluation {
    /// The model.
    pub model_name: String,
    /// The evaluation cycle.
    pub cycle_id: String,
    /// Figures; none of them NaN or infinite.
    pub trust_score: f64,
    /// Share of right answers.
    pub accuracy: Option<f64>,
    /// F1 score.
    pub f1_score: Option<f64>,
    /// Mean latency, milliseconds.
    pub avg_latency_ms: f64,
    /// What it was compared with.
    pub comparison_data: Option<Value>,
}

/// A kept measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricRow {
    /// Its id, a UUID.
    pub metric_id: String,
    /// Who measured.
    pub agent_name: String,
    /// What was measured.
    pub metric_name: String,
    /// The figure.
    pub value: f64,
    /// When, local time, ISO 8601.
    pub timestamp: String,
    /// Circumstances.
    pub context: Option<Value>,
}

/// A kept evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationRow {
    /// Its id, a UUID.
    pub evaluation_id: String,
    /// The model.
    pub model_name: String,
    /// The evaluation cycle.
    pub cycle_id: String,
    /// How far the model is trusted.
    pub trust_score: f64,
    /// Share of right answers.
    pub accuracy: Option<f64>,
    /// F1 score.
    pub f1_score: Option<f64>,
    /// Mean latency, milliseconds.
    pub avg_latency_ms: f64,
    /// When, local time, ISO 8601.
    pub evaluation_timestamp: String,
    /// What it was compared with.
    pub comparison_data: Option<Value>,
}

/// Which measurements; everything that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricFilter {
    /// Exactly this agent.
    pub agent_name: Option<String>,
    /// Exactly this metric.
    pub metric_name: Option<String>,
    /// Not before: ISO 8601 (without a zone it is local time) or epoch seconds.
    pub start_time: Option<String>,
    /// Not after.
    pub end_time: Option<String>,
    /// At most this many, [`MAX_LIMIT`] in any case; `None`: 100.
    pub limit: Option<u32>,
}

/// Which evaluations; everything that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvaluationFilter {
    /// Exactly this model.
    pub model_name: Option<String>,
    /// Exactly this cycle.
    pub cycle_id: Option<String>,
    /// At most this many, [`MAX_LIMIT`] in any case; `None`: 100.
    pub limit: Option<u32>,
}

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
}

impl NewMetric {
    pub(crate) fn check(self) -> Result<Row, StoreError> {
        Ok(Row::Metric {
            id: uuid::Uuid::new_v4().to_string(),
            agent_name: name("agent_name", self.agent_name)?,
            metric_name: name("metric_name", self.metric_name)?,
            value: finite("value", self.value)?,
            timestamp: time::now(),
            context: json("metadata", self.context)?,
        })
    }
}

impl NewEvaluation {
    pub(crate) fn check(self) -> Result<Row, StoreError> {
        Ok(Row::Evaluation {
            id: uuid::Uuid::new_v4().to_string(),
            model_name: name("model_name", self.model_name)?,
            cycle_id: name("cycle_id", self.cycle_id)?,
            trust_score: finite("trust_score", self.trust_score)?,
            accuracy: self.accuracy.map(|value| finite("accuracy", value)).transpose()?,
            f1_score: self.f1_score.map(|value| finite("f1_score", value)).transpose()?,
            avg_latency_ms: finite("avg_latency_ms", self.avg_latency_ms)?,
            timestamp: time::now(),
            comparison_data: json("comparison_data", self.comparison_data)?,
        })
    }
}

impl Row {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Metric { id, .. } | Self::Evaluation { id, .. } => id,
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
    } else if text.len() > MAX_NAME_BYTES {
        Err(StoreError::invalid(field, format!("is {} bytes long, at most {MAX_NAME_BYTES} are kept", text.len())))
    } else {
        Ok(text)
    }
}

fn json(field: &'static str, value: Option<Value>) -> Result<Option<String>, StoreError> {
    let text = value.filter(|value| !value.is_null()).map(|value| value.to_string());
    match text {
        Some(text) if text.len() > MAX_JSON_BYTES => {
            Err(StoreError::invalid(field, format!("is {} bytes long, at most {MAX_JSON_BYTES} are kept", text.len())))
        }
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{NewEvaluation, NewMetric};

    fn metric(value: f64) -> NewMetric {
        NewMetric { agent_name: "a".to_owned(), metric_name: "m".to_owned(), value, context: None }
    }

    #[test]
    fn what_cannot_be_stored_is_refused_by_name() {
        let refused = |metric: NewMetric| metric.check().unwrap_err().to_string();
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
        assert_eq!(evaluation.check().unwrap_err().to_string(), "f1_score must be a finite number, not inf");
        assert!(metric(-0.0).check().is_ok());
    }
}
