//! What is shown of a look: the JSON document of `mms top --json` (its keys stand in docs/cli.md), and what table and live view draw.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::look::{self, Look, RecentError};
use super::rates::Rates;
use crate::output::mebibytes;

/// Everything about a server at one moment. Times are seconds, memory is MiB.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) endpoint: String,
    pub(super) agent: String,
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) health: String,
    pub(super) message: String,
    pub(super) uptime_s: f64,
    /// Epoch seconds by the clock of this machine.
    pub(super) timestamp: f64,
    pub(super) totals: Totals,
    pub(super) devices: Vec<Device>,
    pub(super) models: Vec<Model>,
    pub(super) recent_errors: Vec<Error>,
}

/// All models together.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Totals {
    pub(super) active: u32,
    pub(super) queued: u32,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) evictions: u64,
    pub(super) worker_deaths: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) requests_per_second: Option<f64>,
    pub(super) prompt_tokens_per_second: Option<f64>,
    pub(super) tokens_per_second: Option<f64>,
    /// The time that these speeds are of.
    pub(super) speeds_over_s: Option<f64>,
}

/// Memory of a device.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Device {
    pub(super) device: String,
    pub(super) total_mb: f64,
    pub(super) budget_mb: f64,
    pub(super) held_mb: f64,
    pub(super) measured_mb: f64,
    pub(super) available_mb: f64,
    pub(super) free_mb: f64,
}

/// A model.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Model {
    pub(super) model_id: String,
    pub(super) state: String,
    pub(super) message: String,
    pub(super) load_percent: Option<f64>,
    pub(super) load_elapsed_s: Option<f64>,
    pub(super) load_remaining_s: Option<f64>,
    pub(super) pid: Option<u32>,
    pub(super) estimated_mb: f64,
    pub(super) measured_mb: Option<f64>,
    pub(super) held_mb: f64,
    pub(super) active: u32,
    pub(super) queued: u32,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) prompt_tokens_per_second: Option<f64>,
    pub(super) tokens_per_second: Option<f64>,
    pub(super) idle_unload_s: Option<f64>,
    /// Until it is unloaded if nobody asks for it.
    pub(super) unload_in_s: Option<f64>,
    /// Since the last request.
    pub(super) last_used_s: Option<f64>,
}

/// A request that was refused lately.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Error {
    /// So long ago.
    pub(super) ago_s: f64,
    #[serde(flatten)]
    pub(super) error: RecentError,
}

impl Report {
    pub(super) fn new(endpoint: String, look: Look, rates: &Rates) -> Self {
        let Look { status, models, stats, .. } = look;
        // The server's moments count by its own clock.
        let now = status.timestamp;
        let devices = status.devices.into_iter().map(|device| Device::new(device, &models)).collect();
        let models: Vec<Model> = models.into_iter().map(|model| Model::new(model, &stats, rates, now)).collect();
        let speed = rates.all;
        let totals = Totals {
            active: models.iter().map(|model| model.active).sum(),
            queued: models.iter().map(|model| model.queued).sum(),
            requests: models.iter().map(|model| model.requests).sum(),
            errors: stats.metrics.errors,
            evictions: stats.metrics.evictions,
            worker_deaths: stats.metrics.worker_deaths,
            prompt_tokens: models.iter().map(|model| model.prompt_tokens).sum(),
            completion_tokens: models.iter().map(|model| model.completion_tokens).sum(),
            requests_per_second: speed.map(|speed| tenth(speed.requests)),
            prompt_tokens_per_second: speed.map(|speed| tenth(speed.prompt_tokens)),
            tokens_per_second: speed.map(|speed| tenth(speed.tokens)),
            speeds_over_s: rates.over.map(|over| over.as_secs_f64()),
        };
        let ago = |error: RecentError| Error { ago_s: (now - error.at).max(0.0), error };
        Self {
            endpoint,
            agent: status.agent,
            version: status.version,
            ready: status.ready,
            health: status.health,
            message: status.message,
            uptime_s: status.uptime,
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            totals,
            devices,
            models,
            recent_errors: stats.recent_errors.into_iter().map(ago).collect(),
        }
    }
}

impl Device {
    fn new(device: look::Device, models: &[look::Model]) -> Self {
        let look::Device { device, total_mb, budget_mb, used_mb, available_mb } = device;
        let measured = models.iter().filter_map(|model| model.measured_by_device.get(&device));
        // A sum of nothing is -0.
        let measured_mb = measured.sum::<f64>() + 0.0;
        let free_mb = (budget_mb - used_mb).min(available_mb).max(0.0);
        Self { device, total_mb, budget_mb, held_mb: used_mb, measured_mb, available_mb, free_mb }
    }
}

impl Model {
    fn new(model: look::Model, stats: &look::Stats, rates: &Rates, now: f64) -> Self {
        let traffic = stats.models.get(&model.model_id).copied().unwrap_or_default();
        // A model without requests so far has generated nothing a second; without an earlier look nothing is known.
        let speed = rates.all.map(|_| rates.models.get(&model.model_id).copied().unwrap_or_default());
        Self {
            model_id: model.model_id,
            state: model.status,
            message: model.message,
            load_percent: model.load_fraction.map(|fraction| (fraction * 100.0).round()),
            load_elapsed_s: model.load_elapsed_s,
            load_remaining_s: model.load_remaining_s,
            pid: model.worker_pid,
            estimated_mb: model.estimated_vram_mb,
            measured_mb: model.measured_mb,
            held_mb: model.held_by_device.values().sum(),
            active: model.active_requests,
            queued: model.queued_requests,
            requests: traffic.requests,
            errors: traffic.errors,
            prompt_tokens: traffic.prompt_tokens,
            completion_tokens: traffic.completion_tokens,
            prompt_tokens_per_second: speed.map(|speed| tenth(speed.prompt_tokens)),
            tokens_per_second: speed.map(|speed| tenth(speed.tokens)),
            idle_unload_s: model.idle_unload_s,
            unload_in_s: model.expires_at.map(|at| (at - now).max(0.0)),
            last_used_s: model.last_used.map(|at| (now - at).max(0.0)),
        }
    }

    /// Its worker runs, or is about to.
    pub(super) fn is_resident(&self) -> bool {
        self.pid.is_some() || ["loading", "loaded", "draining"].contains(&self.state.as_str())
    }

    /// Its state for a person, such as `loading 43 %`.
    pub(super) fn state_text(&self) -> String {
        match (self.state.as_str(), self.load_percent) {
            ("available_not_loaded", _) => "available".to_owned(),
            ("loading", Some(percent)) => format!("loading {percent:.0} %"),
            (state, _) => state.to_owned(),
        }
    }

    /// How long it stays for a person.
    pub(super) fn keep_alive_text(&self) -> String {
        match (self.state == "loaded", self.unload_in_s, self.idle_unload_s) {
            (false, ..) => String::new(),
            (true, Some(left), _) => duration(left),
            (true, None, None) => "always".to_owned(),
            (true, None, Some(_)) => "in use".to_owned(),
        }
    }

    /// Everything about it that a row has no room for: how far its load is, why it does not work, its memory.
    pub(super) fn detail_text(&self) -> String {
        let mut parts = Vec::new();
        if !self.message.is_empty() {
            parts.push(self.message.clone());
        }
        if self.held_mb > 0.0 {
            parts.push(format!("{} held", mebibytes(self.held_mb)));
        }
        if let Some(measured) = self.measured_mb {
            parts.push(format!("{} measured", mebibytes(measured)));
        }
        if self.estimated_mb > 0.0 {
            parts.push(format!("{} estimated", mebibytes(self.estimated_mb)));
        }
        if self.requests > 0 {
            let errors = if self.errors > 0 { format!(", {} failed", self.errors) } else { String::new() };
            parts.push(format!("{} requests{errors}", self.requests));
        }
        format!("{}: {}", self.model_id, parts.join("; "))
    }
}

/// A speed with one decimal.
fn tenth(speed: f64) -> f64 {
    (speed * 10.0).round() / 10.0
}

/// A speed for a person; empty when it is not known.
pub(super) fn speed_text(speed: Option<f64>) -> String {
    speed.map(|speed| format!("{speed:.1}")).unwrap_or_default()
}

/// Seconds for a person: `42 s`, `4:59`, `3:12 h`, `5 d`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        3600..86_400 => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
        _ => format!("{} d", whole / 86_400),
    }
}

#[cfg(test)]
impl Report {
    /// Of [`Look::example`].
    pub(super) fn example() -> Self {
        let begun = std::time::Instant::now();
        let mut meter = super::rates::Meter::default();
        meter.rates(&Look::example(begun, 0));
        let look = Look::example(begun + std::time::Duration::from_secs(1), 2);
        let rates = meter.rates(&look);
        Self::new("tcp://127.0.0.1:9901".to_owned(), look, &rates)
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, duration};

    #[test]
    fn times_for_people() {
        for (seconds, text) in
            [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (299.0, "4:59"), (11_520.0, "3:12 h"), (450_000.0, "5 d")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn figures_are_joined_by_model_and_device() {
        let report = Report::example();
        let device = &report.devices[0];
        assert_eq!((device.held_mb, device.measured_mb), (1024.0, 30.0));
        assert_eq!(device.free_mb, 512.0, "no more than the device could give");
        let [demo, bigger, odd] = &report.models[..] else { panic!("{report:?}") };
        assert_eq!((demo.tokens_per_second, demo.requests, demo.errors), (Some(20.0), 2, 1));
        assert_eq!((demo.last_used_s, demo.keep_alive_text()), (Some(5.0), "in use".to_owned()));
        assert_eq!((bigger.state_text(), bigger.tokens_per_second), ("loading 43 %".to_owned(), Some(0.0)));
        assert!(odd.detail_text().contains("SIGABRT"));
        assert_eq!(report.recent_errors[0].ago_s, 10.0);
        let totals = &report.totals;
        assert_eq!((totals.active, totals.queued, totals.tokens_per_second), (1, 2, Some(20.0)));
    }
}
