//! The evaluation framework: what agents measured, and how models did in evaluations. Arguments and replies of the four operations
//! that write and read them, and the rows that travel with them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::call::model;
use crate::error::Refusal;

/// Longest name of an agent, a metric, a model or a cycle, bytes.
pub const MAX_RECORD_NAME_BYTES: usize = 1024;
/// Longest `metadata` or `comparison_data`, bytes of JSON.
pub const MAX_DATA_BYTES: usize = 1024 * 1024;
/// Most rows of one page.
pub const MAX_ROWS: u32 = 10_000;
/// Rows of a page when nothing is said.
pub const DEFAULT_ROWS: u32 = 100;
/// Longest time or cursor given as text, bytes.
const MAX_TIME_BYTES: usize = 128;

/// What is asked of the evaluation store.
#[derive(Debug, Clone, PartialEq)]
pub enum EvaluationOperation {
    /// Keep a measurement.
    LogMetric(NewMetric),
    /// Give measurements back.
    GetMetrics(MetricFilter),
    /// Keep an evaluation.
    LogEvaluation(NewEvaluation),
    /// Give evaluations back.
    GetScores(EvaluationFilter),
}

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
    /// The figure. `None`: an old row holds something that is no number.
    pub value: Option<f64>,
    /// When, epoch seconds. `None`: an old row holds something that is no time.
    pub timestamp: Option<f64>,
    /// Circumstances: the `metadata` that it was logged with.
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
    pub trust_score: Option<f64>,
    /// Share of right answers.
    pub accuracy: Option<f64>,
    /// F1 score.
    pub f1_score: Option<f64>,
    /// Mean latency, milliseconds.
    pub avg_latency_ms: Option<f64>,
    /// When, epoch seconds. `None`: an old row holds something that is no time.
    pub evaluation_timestamp: Option<f64>,
    /// What it was compared with.
    pub comparison_data: Option<Value>,
}

/// Which part of the rows, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    /// Not before: ISO 8601 (without a zone it is the server's local time) or epoch seconds.
    pub start_time: Option<String>,
    /// Not after.
    pub end_time: Option<String>,
    /// At most this many, [`MAX_ROWS`] in any case; `None`: [`DEFAULT_ROWS`].
    pub limit: Option<u32>,
    /// What follows an earlier page: its [`Page::next_cursor`].
    pub cursor: Option<String>,
}

/// Which measurements; everything that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricFilter {
    /// Exactly this agent.
    pub agent_name: Option<String>,
    /// Exactly this metric.
    pub metric_name: Option<String>,
    /// Which of them.
    pub window: Window,
}

/// Which evaluations; everything that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvaluationFilter {
    /// Exactly this model.
    pub model_name: Option<String>,
    /// Exactly this cycle.
    pub cycle_id: Option<String>,
    /// Which of them.
    pub window: Window,
}

/// Some rows, newest first, and where to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Names the place after the last row; `None`: there are no more.
    pub next_cursor: Option<String>,
}

/// What the evaluation store answers.
#[derive(Debug, Clone, PartialEq)]
pub enum EvaluationReply {
    /// To `log_performance_metric`: it is on the disk.
    MetricLogged {
        /// Its id.
        metric_id: String,
    },
    /// To `get_performance_metrics`.
    Metrics(Page<MetricRow>),
    /// To `log_model_evaluation`: it is on the disk.
    EvaluationLogged {
        /// Its id.
        evaluation_id: String,
    },
    /// To `get_model_evaluation_scores`.
    Scores(Page<EvaluationRow>),
}

impl EvaluationOperation {
    /// The name under which it is documented.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LogMetric(_) => "log_performance_metric",
            Self::GetMetrics(_) => "get_performance_metrics",
            Self::LogEvaluation(_) => "log_model_evaluation",
            Self::GetScores(_) => "get_model_evaluation_scores",
        }
    }

    /// Reads the operation called `name`, in lower case. `None`: it is none of these.
    pub fn read(name: &str, args: &Args<'_>) -> Option<Result<Self, Refusal>> {
        Some(match name {
            "log_performance_metric" => NewMetric::read(args).map(Self::LogMetric),
            "get_performance_metrics" => MetricFilter::read(args).map(Self::GetMetrics),
            "log_model_evaluation" => NewEvaluation::read(args).map(Self::LogEvaluation),
            "get_model_evaluation_scores" => EvaluationFilter::read(args).map(Self::GetScores),
            _ => return None,
        })
    }
}

impl NewMetric {
    fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        let given = (name(args, "agent_name")?, name(args, "metric_name")?, args.real("value", f64::MIN)?);
        let (Some(agent_name), Some(metric_name), Some(value)) = given else {
            return Err(Refusal::missing("agent_name, metric_name, and value required"));
        };
        let context = match args.get("metadata") {
            None => None,
            Some(object @ Value::Object(_)) => Some(object.clone()),
            Some(other) => return Err(Refusal::invalid("metadata", "an object", other)),
        };
        Ok(Self { agent_name, metric_name, value, context })
    }
}

impl NewEvaluation {
    fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        let given = (model(args)?, name(args, "cycle_id")?, args.real("trust_score", f64::MIN)?);
        let (Some(model_name), Some(cycle_id), Some(trust_score)) = given else {
            return Err(Refusal::missing("model_name, cycle_id, and trust_score required"));
        };
        let comparison_data = match args.get("comparison_data") {
            None => None,
            Some(data @ (Value::Object(_) | Value::Array(_))) => Some(data.clone()),
            Some(other) => return Err(Refusal::invalid("comparison_data", "an object or an array", other)),
        };
        Ok(Self {
            model_name,
            cycle_id,
            trust_score,
            accuracy: args.real("accuracy", 0.0)?,
            f1_score: args.real("f1_score", 0.0)?,
            avg_latency_ms: args.real("avg_latency_ms", 0.0)?.unwrap_or(0.0),
            comparison_data,
        })
    }
}

impl MetricFilter {
    fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            agent_name: name(args, "agent_name")?,
            metric_name: name(args, "metric_name")?,
            window: Window::read(args)?,
        })
    }
}

impl EvaluationFilter {
    fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        Ok(Self { model_name: model(args)?, cycle_id: name(args, "cycle_id")?, window: Window::read(args)? })
    }
}

impl Window {
    fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            start_time: point_in_time(args, "start_time")?,
            end_time: point_in_time(args, "end_time")?,
            limit: args.integer("limit", 1, MAX_ROWS.into())?.map(|rows| rows as u32),
            cursor: args.string("cursor", MAX_TIME_BYTES)?,
        })
    }
}

/// A name; an empty one counts as none.
fn name(args: &Args<'_>, key: &str) -> Result<Option<String>, Refusal> {
    Ok(args.string(key, MAX_RECORD_NAME_BYTES)?.filter(|name| !name.is_empty()))
}

/// As it was given: what a text means depends on the server's zone.
fn point_in_time(args: &Args<'_>, key: &str) -> Result<Option<String>, Refusal> {
    match args.get(key) {
        None => Ok(None),
        Some(Value::Number(seconds)) => Ok(Some(seconds.to_string())),
        Some(Value::String(text)) if text.len() <= MAX_TIME_BYTES => Ok(Some(text.clone())),
        Some(other) => Err(Refusal::invalid(key, "epoch seconds or a time such as 2025-08-02T10:50:16Z", other)),
    }
}

impl EvaluationReply {
    /// The keys of the reply.
    pub(crate) fn fields(&self) -> Value {
        match self {
            Self::MetricLogged { metric_id } => json!({"metric_id": metric_id}),
            Self::EvaluationLogged { evaluation_id } => json!({"evaluation_id": evaluation_id}),
            Self::Metrics(page) => page.fields("metrics"),
            Self::Scores(page) => page.fields("scores"),
        }
    }
}

impl<T: Serialize> Page<T> {
    fn fields(&self, rows: &str) -> Value {
        Value::Object(Map::from_iter([
            (rows.to_owned(), json!(self.rows)),
            ("next_cursor".to_owned(), json!(self.next_cursor)),
        ]))
    }
}
