//! Which models will be asked for next: the three operations about it, their arguments, their replies, and what is shown of loading
//! ahead of requests.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::call::{MAX_NAME_BYTES, model};
use crate::error::Refusal;

/// Most models that one `preload_models` may name.
pub const MAX_PRELOADS: usize = 64;

/// What is asked about uses to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictionOperation {
    /// Which models will be asked for.
    Predict,
    /// A use of a model that this server did not see.
    RecordUsage {
        /// Its id.
        model: String,
    },
    /// Load these as far as there is free memory.
    Preload {
        /// Their ids.
        models: Vec<String>,
    },
}

impl PredictionOperation {
    /// The name under which it is documented.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Predict => "predict_models",
            Self::RecordUsage { .. } => "record_usage",
            Self::Preload { .. } => "preload_models",
        }
    }

    /// Reads the operation called `name`. `None`: it is none of these.
    pub(crate) fn read(name: &str, args: &Args<'_>) -> Option<Result<Self, Refusal>> {
        match name {
            "predict_models" => Some(Ok(Self::Predict)),
            "record_usage" => Some(model(args).and_then(|model| {
                let model = model.ok_or_else(|| Refusal::missing("model_id required"))?;
                Ok(Self::RecordUsage { model })
            })),
            "preload_models" => Some(model_ids(args).map(|models| Self::Preload { models })),
            _ => None,
        }
    }
}

/// `model_ids`, each of them once.
fn model_ids(args: &Args<'_>) -> Result<Vec<String>, Refusal> {
    let must_be = format!("an array of at most {MAX_PRELOADS} model ids, each of 1 to {MAX_NAME_BYTES} bytes");
    let list = match args.get("model_ids") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_PRELOADS => list,
        Some(Value::Array(list)) => {
            return Err(Refusal::invalid("model_ids", &must_be, &Value::from(format!("{} of them", list.len()))));
        }
        Some(other) => return Err(Refusal::invalid("model_ids", &must_be, other)),
    };
    let mut models: Vec<String> = Vec::with_capacity(list.len());
    for value in list {
        let name = value.as_str().filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()));
        let name = name.ok_or_else(|| Refusal::invalid("model_ids", &must_be, value))?;
        if !models.iter().any(|known| known == name) {
            models.push(name.to_owned());
        }
    }
    Ok(models)
}

/// A model that may be asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Likely {
    /// Its id.
    #[serde(skip)]
    pub model_id: String,
    /// How likely it is the next one asked for; those of all models ever used are 1 together.
    pub score: f64,
    /// How likely it is asked for within the lookahead.
    pub probability: f64,
}

/// What is foreseen.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Models of the catalogue that were used before, likeliest first.
    pub models: Vec<Likely>,
    /// How much each way of foreseeing counts at present.
    pub weights: Vec<(&'static str, f64)>,
    /// Uses that it goes by.
    pub uses: u64,
    /// How far ahead is looked, seconds.
    pub lookahead_s: f64,
    /// What is made of it.
    pub preloading: PreloadingView,
}

/// What came of loading models before they are asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PreloadingView {
    /// It is switched on.
    pub enabled: bool,
    /// Models are loaded by guess now: it is switched on, and its guesses are good enough.
    pub active: bool,
    /// Why, for a person.
    pub detail: String,
    /// Of the last guesses, the part that came true; `None`: too few yet.
    pub hit_rate: Option<f64>,
    /// Guesses since the start, those included that were only watched.
    pub guesses: u64,
    /// Of them, those whose model was asked for in time.
    pub hits: u64,
    /// Of them, those whose model was not.
    pub misses: u64,
    /// Loads by guess.
    pub loads: u64,
    /// Of them, those that had to go for another model before they were asked for.
    pub gave_way: u64,
    /// Times that it was stopped as its guesses were poor.
    pub stops: u64,
}

/// What these operations give when they work.
#[derive(Debug, Clone, PartialEq)]
pub enum PredictionReply {
    /// To `predict_models`.
    Predicted(Box<Prediction>),
    /// To `record_usage`; it is on the disk.
    UsageRecorded {
        /// The model's id.
        model: String,
    },
    /// To `preload_models`.
    Preloaded {
        /// Resident now.
        loaded: Vec<String>,
        /// Not loaded, and why.
        failed: BTreeMap<String, String>,
    },
}

impl PredictionReply {
    pub(crate) fn fields(&self, now: f64) -> Value {
        match self {
            Self::Predicted(prediction) => prediction.fields(now),
            Self::UsageRecorded { model } => json!({"message": "Usage recorded", "model_id": model}),
            Self::Preloaded { loaded, failed } => json!({
                "message": format!("Preloaded {} models", loaded.len()),
                "loaded": loaded,
                "failed": failed,
            }),
        }
    }
}

/// Nine digits: what is left of a sum of shares says nothing, and the whole reads as 1.
fn rounded(share: f64) -> Value {
    ((share * 1e9).round() / 1e9).into()
}

impl Prediction {
    fn fields(&self, now: f64) -> Value {
        let scores: Map<String, Value> =
            self.models.iter().map(|model| (model.model_id.clone(), rounded(model.score))).collect();
        let probabilities: Map<String, Value> =
            self.models.iter().map(|model| (model.model_id.clone(), rounded(model.probability))).collect();
        let weights: Map<String, Value> =
            self.weights.iter().map(|(name, weight)| ((*name).to_owned(), rounded(*weight))).collect();
        json!({
            "predicted_models": self.models.iter().map(|model| model.model_id.as_str()).collect::<Vec<_>>(),
            "scores": scores,
            "probabilities": probabilities,
            "weights": weights,
            "uses": self.uses,
            "lookahead_s": self.lookahead_s,
            "preloading": self.preloading,
            "timestamp": now,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MAX_PRELOADS, PredictionOperation};
    use crate::args::Args;
    use crate::error::Refusal;

    fn read(name: &str, args: &Value) -> Result<PredictionOperation, Refusal> {
        let args = args.as_object().unwrap();
        PredictionOperation::read(name, &Args::of_request(args).unwrap()).unwrap()
    }

    #[test]
    fn models_to_load_are_named_once_and_not_without_end() {
        let models = |names: &[&str]| {
            Ok(PredictionOperation::Preload { models: names.iter().map(|name| (*name).to_owned()).collect() })
        };
        assert_eq!(read("preload_models", &json!({})), models(&[]));
        assert_eq!(read("preload_models", &json!({"model_ids": ["a", "b", "a"]})), models(&["a", "b"]));
        let many: Vec<String> = (0..=MAX_PRELOADS).map(|n| n.to_string()).collect();
        for wrong in [json!("a"), json!([1]), json!([""]), json!(["x".repeat(257)]), json!({"a": 1}), json!(many)] {
            let refusal = read("preload_models", &json!({"model_ids": wrong})).unwrap_err();
            assert!(refusal.message.contains("model_ids must be an array of at most 64"), "{refusal}");
        }
    }

    #[test]
    fn a_use_needs_a_model() {
        assert_eq!(read("record_usage", &json!({})).unwrap_err().message, "model_id required");
        let use_of = |model: &str| Ok(PredictionOperation::RecordUsage { model: model.to_owned() });
        assert_eq!(read("record_usage", &json!({"model_name": "m"})), use_of("m"));
    }
}
