//! Choosing a model for a kind of task, and asking whether downstream services answer: arguments and replies.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::call::MAX_NAME_BYTES;
use crate::error::Refusal;
use crate::view::ModelView;

/// Largest `context_size`, tokens.
const MAX_CONTEXT: u64 = 1 << 30;

/// Arguments of `select_model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectArgs {
    /// The kind of task, as the client calls it: `text-generation`, `chat`, `code-generation`...
    pub task_type: String,
    /// Context that the task needs, tokens; `None`: any will do.
    pub context_size: Option<u32>,
}

impl SelectArgs {
    /// Reads `task_type`, which is required, and `context_size`, of which 0 asks for nothing.
    pub(crate) fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        let task_type = args.string("task_type", MAX_NAME_BYTES)?.filter(|task| !task.trim().is_empty());
        Ok(Self {
            task_type: task_type.ok_or_else(|| Refusal::missing("task_type required"))?,
            context_size: args
                .integer("context_size", 0, MAX_CONTEXT)?
                .map(|size| size as u32)
                .filter(|size| *size > 0),
        })
    }
}

/// What a model was measured by when it was compared with others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The model.
    pub model_id: String,
    /// The sum that decides, 0 to 1.
    pub score: f64,
    /// 1: in memory; 0.5: being loaded; 0: neither.
    pub resident: f64,
    /// Time for an answer of the length that all are compared by, from what was measured; `None`: nothing yet.
    pub latency_ms: Option<f64>,
    /// Answers that were measured.
    pub requests: u32,
    /// Mean of its last trust scores; `None`: it has none.
    pub trust_score: Option<f64>,
    /// How many they are.
    pub evaluations: u32,
}

/// The model that was chosen for a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The model.
    pub model: Arc<ModelView>,
    /// What decided, for a person.
    pub reason: String,
    /// The kind of task as it was understood.
    pub task: String,
    /// Models that were compared, best first; empty when the routing policy decided.
    pub figures: Vec<Figures>,
}

impl Selection {
    pub(crate) fn fields(&self, now: f64) -> Value {
        json!({
            "selected_model": self.model.model_id,
            "model_info": crate::reply::catalogue_entry(&self.model, now),
            "reason": self.reason,
            "task_type": self.task,
            "figures": self.figures,
        })
    }

    /// As the old agent's `SELECT_MODEL` gave it: id and entry, in an array.
    pub(crate) fn pair(&self, now: f64) -> Value {
        json!([self.model.model_id, crate::reply::catalogue_entry(&self.model, now)])
    }
}

/// Whether a downstream service answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceCheck {
    /// As it is configured.
    #[serde(skip)]
    pub name: String,
    /// It does.
    pub ok: bool,
    /// Where it was looked for.
    pub address: String,
    /// What was found, for a person.
    pub detail: String,
    /// How long that took.
    pub took_ms: f64,
}

/// Keys of replies that no service can be called by, as each service is a key of the reply to `verify_services`.
pub const RESERVED_SERVICE_NAMES: [&str; 6] = ["status", "message", "error", "error_code", "request_id", "services"];

/// The keys of the reply to `verify_services`.
pub(crate) fn services(checks: &[ServiceCheck]) -> Value {
    let mut fields: Map<String, Value> = checks.iter().map(|check| (check.name.clone(), check.ok.into())).collect();
    let details: Map<String, Value> = checks.iter().map(|check| (check.name.clone(), json!(check))).collect();
    fields.insert("services".to_owned(), Value::Object(details));
    Value::Object(fields)
}
