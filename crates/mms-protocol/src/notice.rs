//! What the server tells others of models and of errors, in the shapes that the old systems used: the subject, the headers and the JSON
//! of each message. The live feed over HTTP tells the same.

use serde_json::{Map, Value, json};

use crate::time::iso_offset;

/// Longest text of an error, characters.
const MAX_TEXT: usize = 4096;

/// One thing that is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Its own, for ever.
    pub id: String,
    /// Epoch seconds.
    pub at: f64,
    /// Who tells it.
    pub agent: String,
    /// What.
    pub what: What,
}

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Something became of a model.
    Model(ModelNotice),
    /// Something went wrong, or right again.
    Error(ErrorNotice),
}

/// What became of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelNotice {
    /// In one word.
    pub change: ModelChange,
    /// Which model.
    pub model_id: String,
    /// Memory that it takes, took or would have taken, MiB.
    pub vram_mb: f64,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Why, where there is a reason.
    pub reason: Option<String>,
}

/// What can become of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelChange {
    /// It is in memory.
    Loaded,
    /// It no longer is, since somebody or idleness wanted it so.
    Unloaded,
    /// It no longer is, since another one needed the room.
    Evicted,
    /// Its load failed, or its worker ended by itself.
    Failed,
}

/// Something went wrong, or right again.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorNotice {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub category: Category,
    /// For a person.
    pub message: String,
    /// For a program.
    pub details: Map<String, Value>,
    /// The notice of the error that is over now.
    pub resolves: Option<String>,
}

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know: something is over.
    Info,
    /// Something is worse than it could be.
    Warning,
    /// Something did not work.
    Error,
    /// The server cannot do what it is for.
    Critical,
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The server and its workers.
    System,
    /// Connections to others.
    Network,
    /// The evaluation store.
    Database,
    /// Memory and models.
    Resource,
}

impl ModelChange {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Unloaded => "unloaded",
            Self::Evicted => "evicted",
            Self::Failed => "failed",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Loaded => "models.model.loaded",
            Self::Unloaded => "models.model.unloaded",
            Self::Evicted => "models.model.evicted",
            Self::Failed => "models.model.failed",
        }
    }
}

impl Severity {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl Category {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Network => "network",
            Self::Database => "database",
            Self::Resource => "resource",
        }
    }
}

impl Notice {
    /// The subject under which it is known.
    pub fn subject(&self) -> &'static str {
        match &self.what {
            What::Model(model) => model.change.subject(),
            What::Error(_) => "errors.events",
        }
    }

    /// Every subject that it goes to.
    pub fn subjects(&self) -> Vec<String> {
        let mut subjects = vec![self.subject().to_owned()];
        if let What::Error(error) = &self.what {
            subjects.push(format!("errors.agents.{}", token(&self.agent)));
            if error.severity == Severity::Critical {
                subjects.extend(["errors.system".to_owned(), "errors.system.critical".to_owned()]);
            }
        }
        subjects
    }

    /// Headers of its messages.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        match &self.what {
            What::Model(_) => vec![("agent", one_line(&self.agent))],
            What::Error(error) => {
                vec![("agent", one_line(&self.agent)), ("severity", error.severity.as_str().to_owned())]
            }
        }
    }

    /// The message.
    pub fn json(&self) -> Value {
        match &self.what {
            What::Model(model) => {
                let mut json = json!({
                    "model_id": model.model_id,
                    "type": "gguf",
                    "vram_mb": (model.vram_mb * 10.0).round() / 10.0,
                    "device": model.device,
                    "timestamp": self.at,
                    "event": model.change.as_str(),
                    "agent_name": self.agent,
                });
                if let Some(reason) = &model.reason {
                    json["reason"] = bounded(reason).into();
                }
                json
            }
            What::Error(error) => json!({
                "id": self.id,
                "timestamp": iso_offset(self.at),
                "agent_name": self.agent,
                "severity": error.severity.as_str(),
                "category": error.category.as_str(),
                "message": bounded(&error.message),
                "details": error.details,
                "stack_trace": null,
                "correlation_id": error.resolves,
                "resolved": error.resolves.is_some(),
                "resolution_notes": error.resolves.as_ref().map(|_| bounded(&error.message)),
            }),
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// A header may not hold line breaks.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A name as one token of a subject: without dots, wildcards and white space.
fn token(name: &str) -> String {
    name.chars()
        .map(|c| if matches!(c, '.' | '*' | '>') || c.is_whitespace() || c.is_control() { '_' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn notice(what: What) -> Notice {
        Notice { id: "id".to_owned(), at: 100.5, agent: "My Agent.1".to_owned(), what }
    }

    fn error(severity: Severity, resolves: Option<&str>) -> Notice {
        notice(What::Error(ErrorNotice {
            severity,
            category: Category::Database,
            message: "disk full".to_owned(),
            details: Map::from_iter([("check".to_owned(), json!("evaluation_store"))]),
            resolves: resolves.map(str::to_owned),
        }))
    }

    #[test]
    fn models() {
        for (change, word) in [
            (ModelChange::Loaded, "loaded"),
            (ModelChange::Unloaded, "unloaded"),
            (ModelChange::Evicted, "evicted"),
            (ModelChange::Failed, "failed"),
        ] {
            let model = ModelNotice {
                change,
                model_id: "m".to_owned(),
                vram_mb: 53.28,
                device: "cpu".to_owned(),
                reason: (change != ModelChange::Loaded).then(|| "idle".to_owned()),
            };
            let notice = notice(What::Model(model));
            assert_eq!(notice.subjects(), [format!("models.model.{word}")]);
            let mut expect = json!({
                "model_id": "m", "type": "gguf", "vram_mb": 53.3, "device": "cpu", "timestamp": 100.5, "event": word,
                "agent_name": "My Agent.1",
            });
            if change != ModelChange::Loaded {
                expect["reason"] = json!("idle");
            }
            assert_eq!(notice.json(), expect);
        }
    }

    #[test]
    fn errors() {
        let bad = error(Severity::Error, None);
        assert_eq!(bad.subjects(), ["errors.events", "errors.agents.My_Agent_1"]);
        assert_eq!(bad.headers(), [("agent", "My Agent.1".to_owned()), ("severity", "error".to_owned())]);
        assert_eq!(
            bad.json(),
            json!({
                "id": "id", "timestamp": "1970-01-01T00:01:40.500000+00:00", "agent_name": "My Agent.1", "severity": "error",
                "category": "database", "message": "disk full", "details": {"check": "evaluation_store"}, "stack_trace": null,
                "correlation_id": null, "resolved": false, "resolution_notes": null,
            })
        );
        assert_eq!(
            error(Severity::Critical, None).subjects(),
            ["errors.events", "errors.agents.My_Agent_1", "errors.system", "errors.system.critical"]
        );
        let over = error(Severity::Info, Some("before")).json();
        assert_eq!(
            (&over["correlation_id"], &over["resolved"], &over["resolution_notes"]),
            (&json!("before"), &json!(true), &json!("disk full"))
        );
    }

    #[test]
    fn no_text_is_endless() {
        let mut long = error(Severity::Error, None);
        if let What::Error(error) = &mut long.what {
            error.message = "\u{e9}".repeat(2 * MAX_TEXT);
        }
        assert_eq!(long.json()["message"].as_str().map(|text| text.chars().count()), Some(MAX_TEXT));
    }
}
