//! One look at a server: what `status`, `list_models` and `get_stats` say, read into types. Keys that a server does not give count as
//! nothing, so that servers of other versions are shown, too.

use std::collections::BTreeMap;
use std::time::Instant;

use mms_client::{Client, ClientError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Everything that is shown, as the server told it.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// When it was taken.
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) models: Vec<Model>,
    pub(super) stats: Stats,
}

/// The reply to `status`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) agent: String,
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) health: String,
    pub(super) message: String,
    pub(super) uptime: f64,
    /// Epoch seconds by the server's clock.
    pub(super) timestamp: f64,
    pub(super) devices: Vec<Device>,
}

/// A device of the reply to `status`, MiB.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Device {
    pub(super) device: String,
    pub(super) total_mb: f64,
    pub(super) budget_mb: f64,
    pub(super) used_mb: f64,
    pub(super) available_mb: f64,
}

/// An entry of the reply to `list_models`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Model {
    pub(super) model_id: String,
    pub(super) status: String,
    pub(super) message: String,
    pub(super) load_fraction: Option<f64>,
    pub(super) load_elapsed_s: Option<f64>,
    pub(super) load_remaining_s: Option<f64>,
    pub(super) worker_pid: Option<u32>,
    pub(super) estimated_vram_mb: f64,
    pub(super) measured_mb: Option<f64>,
    pub(super) held_by_device: BTreeMap<String, f64>,
    pub(super) measured_by_device: BTreeMap<String, f64>,
    pub(super) active_requests: u32,
    pub(super) queued_requests: u32,
    pub(super) idle_unload_s: Option<f64>,
    pub(super) expires_at: Option<f64>,
    pub(super) last_used: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Models {
    models: Vec<Model>,
}

/// The reply to `get_stats`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stats {
    pub(super) metrics: Metrics,
    pub(super) models: BTreeMap<String, Traffic>,
    pub(super) recent_errors: Vec<RecentError>,
}

/// Counters of the whole server.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metrics {
    pub(super) errors: u64,
    pub(super) evictions: u64,
    pub(super) worker_deaths: u64,
}

/// Counters of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Traffic {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) completion_tokens: u64,
}

/// A request that was refused lately.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct RecentError {
    /// Epoch seconds by the server's clock.
    pub(super) at: f64,
    pub(super) operation: String,
    pub(super) model_id: Option<String>,
    pub(super) code: String,
    pub(super) message: String,
}

impl Look {
    /// Asks the server.
    pub(super) async fn take(client: &mut Client) -> Result<Self, ClientError> {
        let status = ask(client, "status").await?;
        let Models { models } = ask(client, "list_models").await?;
        let stats = ask(client, "get_stats").await?;
        Ok(Self { at: Instant::now(), status, models, stats })
    }
}

async fn ask<T: DeserializeOwned>(client: &mut Client, operation: &str) -> Result<T, ClientError> {
    let reply = client.call(operation, Map::new()).await?;
    serde_json::from_value(Value::Object(reply)).map_err(|error| ClientError::Protocol {
        endpoint: client.endpoint().to_owned(),
        why: format!("{operation}: the reply is not that of a model manager: {error}"),
    })
}

#[cfg(test)]
impl Look {
    /// A server with two models, one of which has been asked `requests` times.
    pub(super) fn example(at: Instant, requests: u64) -> Self {
        let device = Device {
            device: "cpu".to_owned(),
            total_mb: 8192.0,
            budget_mb: 2048.0,
            used_mb: 1024.0,
            available_mb: 512.0,
        };
        let held = BTreeMap::from([("cpu".to_owned(), 30.0)]);
        let models = vec![
            Model {
                model_id: "mms-demo".to_owned(),
                status: "loaded".to_owned(),
                worker_pid: Some(4_194_303),
                estimated_vram_mb: 28.0,
                measured_mb: Some(27.0),
                held_by_device: held.clone(),
                measured_by_device: held,
                active_requests: 1,
                queued_requests: 2,
                idle_unload_s: Some(300.0),
                last_used: Some(995.0),
                ..Model::default()
            },
            Model {
                model_id: "bigger".to_owned(),
                status: "loading".to_owned(),
                message: "loading, 43 %, 2.0 s so far, about 3.0 s left".to_owned(),
                load_fraction: Some(0.43),
                load_elapsed_s: Some(2.0),
                load_remaining_s: Some(3.0),
                ..Model::default()
            },
            Model {
                model_id: "odd".to_owned(),
                status: "quarantined".to_owned(),
                message: "failed 3 times in a row, tried again later: it ended with SIGABRT".to_owned(),
                ..Model::default()
            },
        ];
        let traffic = Traffic {
            requests,
            errors: 1,
            prompt_tokens: 100 * requests,
            cached_tokens: 50 * requests,
            completion_tokens: 10 * requests,
        };
        let error = RecentError {
            at: 990.0,
            operation: "generate".to_owned(),
            model_id: Some("odd".to_owned()),
            code: "quarantined".to_owned(),
            message: "odd failed 3 times".to_owned(),
        };
        Self {
            at,
            status: Status {
                agent: "ModelManagerSuite".to_owned(),
                version: "1".to_owned(),
                ready: true,
                health: "degraded".to_owned(),
                message: "ready".to_owned(),
                uptime: 100.0 + requests as f64,
                timestamp: 1000.0,
                devices: vec![device],
            },
            models,
            stats: Stats {
                metrics: Metrics { errors: 4, evictions: 1, worker_deaths: 3 },
                models: BTreeMap::from([("mms-demo".to_owned(), traffic)]),
                recent_errors: vec![error],
            },
        }
    }
}
