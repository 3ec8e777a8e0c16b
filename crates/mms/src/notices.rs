//! From what happens here to what others are told: the manager's events, and checks of the health board that begin to fail or work
//! again. Each becomes a notice for the live feed and for NATS.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use mms_bus::Bus;
use mms_gateway::Feed;
use mms_protocol::notice::{Category, ErrorNotice, ModelChange, ModelNotice, Severity, What};
use mms_protocol::view::HealthCheck;
use mms_protocol::{Event, Notice};
use serde_json::{Map, Value, json};

/// Tells others.
pub(crate) struct Notices {
    agent: String,
    /// What models take that are not told otherwise.
    device: String,
    bus: Arc<Bus>,
    feed: Feed,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the resident models were told to take, and where.
    resident: HashMap<String, (f64, String)>,
    /// Checks that fail, each with the notice that told so.
    failing: HashMap<String, String>,
}

impl Notices {
    /// Nothing is told yet. `device`: where models are loaded.
    pub(crate) fn new(agent: String, device: String, bus: Arc<Bus>, feed: Feed) -> Self {
        Self { agent, device, bus, feed, state: Mutex::default() }
    }

    /// Tells what happened in the manager, as far as others want to know it.
    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Generated(_) => {}
            Event::ModelLoaded { model_id, memory_mb, device, .. } => {
                self.state(|state| state.resident.insert(model_id.clone(), (*memory_mb, device.clone())));
                self.model(ModelChange::Loaded, model_id, (*memory_mb, device.clone()), None);
            }
            Event::ModelUnloaded { model_id, reason } => {
                let change = if *reason == "evicted" { ModelChange::Evicted } else { ModelChange::Unloaded };
                let held = self.forget(model_id);
                self.model(change, model_id, held, Some(*reason));
            }
            Event::ModelFailed { model_id, reason, loading } => {
                let held = self.forget(model_id);
                self.model(ModelChange::Failed, model_id, held, Some(reason));
                let (what, category) = if *loading {
                    ("the load failed", Category::Resource)
                } else {
                    ("the worker ended by itself", Category::System)
                };
                let details = details(json!({"model_id": model_id, "while_loading": loading}));
                let message = format!("{model_id}: {what}: {reason}");
                self.error(ErrorNotice { severity: Severity::Error, category, message, details, resolves: None });
            }
        }
    }

    /// Tells which checks have begun to fail, and which work again.
    pub(crate) fn checks(&self, checks: &[HealthCheck]) {
        for check in checks {
            let failing = self.state(|state| state.failing.get(&check.name).cloned());
            match (check.ok, failing) {
                (false, None) => {
                    let (severity, category) = judged(check);
                    let id = self.error(of_check(check, severity, category, None));
                    self.state(|state| state.failing.insert(check.name.clone(), id));
                }
                (true, Some(id)) => {
                    let (_, category) = judged(check);
                    self.error(of_check(check, Severity::Info, category, Some(id)));
                    self.state(|state| state.failing.remove(&check.name));
                }
                (true, None) | (false, Some(_)) => {}
            }
        }
    }

    /// Nothing more is told; whoever follows has everything.
    pub(crate) fn close(&self) {
        self.feed.close();
    }

    fn model(&self, change: ModelChange, model_id: &str, (vram_mb, device): (f64, String), reason: Option<&str>) {
        let model =
            ModelNotice { change, model_id: model_id.to_owned(), vram_mb, device, reason: reason.map(str::to_owned) };
        self.tell(What::Model(model));
    }

    fn error(&self, error: ErrorNotice) -> String {
        self.tell(What::Error(error))
    }

    fn tell(&self, what: What) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let notice = Notice { id: id.clone(), at, agent: self.agent.clone(), what };
        self.feed.publish(&notice);
        self.bus.publish(&notice);
        id
    }

    fn forget(&self, model: &str) -> (f64, String) {
        self.state(|state| state.resident.remove(model)).unwrap_or_else(|| (0.0, self.device.clone()))
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How bad it is that this check fails, and what it is about.
fn judged(check: &HealthCheck) -> (Severity, Category) {
    match check.name.as_str() {
        _ if check.required => (Severity::Critical, Category::System),
        "evaluation_store" => (Severity::Error, Category::Database),
        "workers" => (Severity::Error, Category::Resource),
        "redis" | "service_registry" | "nats_models" | "nats_errors" | "digital_twin" => {
            (Severity::Warning, Category::Network)
        }
        _ => (Severity::Warning, Category::System),
    }
}

fn of_check(check: &HealthCheck, severity: Severity, category: Category, resolves: Option<String>) -> ErrorNotice {
    let details = details(json!({"check": check.name, "required": check.required}));
    let message = format!("{}: {}", check.name, check.detail);
    ErrorNotice { severity, category, message, details, resolves }
}

fn details(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}
