//! Figures read from the manager and the store at each scrape, so that a model that is gone leaves no stale series behind.

use std::collections::BTreeMap;
use std::fmt;

use mms_manager::Manager;
use mms_protocol::prediction::PreloadingView;
use mms_protocol::view::{DeviceMemory, HealthView, MemoryView, ModelState, ModelView, StreamFigures, Traffic};
use mms_store::{Store, StoreStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::conversations::{ConversationFigures, Conversations, Gone};
use crate::feed::{Feed, FeedFigures};
use crate::gateway::BusFigures;

const MIB: f64 = 1024.0 * 1024.0;

const STATES: [ModelState; 7] = [
    ModelState::AvailableNotLoaded,
    ModelState::Queued,
    ModelState::Loading,
    ModelState::Loaded,
    ModelState::Draining,
    ModelState::Quarantined,
    ModelState::Broken,
];

pub(crate) struct Snapshot {
    pub(crate) manager: Manager,
    pub(crate) store: Option<Store>,
    pub(crate) conversations: Conversations,
    pub(crate) feed: Feed,
    pub(crate) bus: BusFigures,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let health = self.manager.health();
        let mut writer = Writer { encoder };
        writer.server(&health)?;
        writer.models(&health)?;
        writer.traffic(&self.manager.traffic())?;
        let over_budget = self.manager.counters().over_budget.get();
        writer.counter("memory_over_budget", "Times that models had grown over the budget", over_budget)?;
        writer.preloading(&self.manager.predictions().preloading())?;
        writer.conversations(self.conversations.figures())?;
        writer.events(self.feed.figures(), &(self.bus)())?;
        match &self.store {
            Some(store) => writer.store(&store.status()),
            None => Ok(()),
        }
    }
}

struct Writer<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Writer<'_> {
    fn server(&mut self, health: &HealthView) -> fmt::Result {
        let build = [("version", health.version.as_str()), ("agent", health.agent.as_str())];
        self.family("build_info", "The program, always 1", [(build, 1.0)])?;
        self.gauge("ready", "1: the own probe has had an answer through every published address lately", health.ready)?;
        self.gauge("draining", "1: no new work is taken", health.draining)?;
        self.gauge("uptime_seconds", "Since the start", health.uptime_s)?;
        let checks = health.checks.iter().map(|check| ([("check", check.name.as_str())], f64::from(check.ok)));
        self.family("health_check", "1: the check passes", checks)?;
        let memory = &health.memory;
        self.gauge("memory_total_bytes", "Memory of the device that models are loaded on", memory.total_mb * MIB)?;
        self.gauge("memory_budget_bytes", "What models may take together", memory.budget_mb * MIB)?;
        self.gauge("memory_used_bytes", "What models hold or have reserved", memory.used_mb * MIB)?;
        self.devices(memory)?;
        let stats = health.stats;
        self.counter("generations", "Generations that ended well", stats.generations)?;
        self.counter("embeddings", "Requests for embeddings that ended well", stats.embeddings)?;
        self.counter("models_loaded", "Loads that ended well", stats.models_loaded)?;
        self.counter("models_unloaded", "Workers ended on purpose", stats.models_unloaded)?;
        self.counter("load_failures", "Loads that failed", stats.load_failures)?;
        self.counter("worker_deaths", "Worker processes that died", stats.worker_deaths)?;
        self.counter("retries", "Generations started again after their worker died", stats.retries)?;
        self.counter("predictions_made", "Predictions answered", stats.predictions_made)?;
        self.counter("usage_records", "Uses of models that predictions go by", stats.usage_records)
    }

    fn preloading(&mut self, view: &PreloadingView) -> fmt::Result {
        self.gauge("prediction_preloading", "1: models are loaded ahead of requests", view.active)?;
        if let Some(rate) = view.hit_rate {
            self.gauge("prediction_hit_rate", "Part of the last guesses that came true, 0 to 1", rate)?;
        }
        self.counter("prediction_guesses", "Guesses that a model will be asked for", view.guesses)?;
        self.counter("prediction_hits", "Guesses that came true within the lookahead", view.hits)?;
        self.counter("prediction_misses", "Guesses that did not", view.misses)?;
        self.counter("prediction_loads", "Loads by guess", view.loads)?;
        self.counter("prediction_gave_way", "Loads by guess that made room for another model", view.gave_way)?;
        self.counter("prediction_stops", "Times that loading by guess was stopped for poor guesses", view.stops)
    }

    fn devices(&mut self, memory: &MemoryView) -> fmt::Result {
        let of = |figure: fn(&DeviceMemory) -> f64| {
            memory.devices.iter().map(move |device| ([("device", device.device.as_str())], figure(device) * MIB))
        };
        self.family("device_memory_total_bytes", "Memory of the device; cpu: RAM", of(|device| device.total_mb))?;
        self.family("device_memory_budget_bytes", "What models may take of it", of(|device| device.budget_mb))?;
        self.family(
            "device_memory_used_bytes",
            "What models hold of it or have reserved",
            of(|device| device.used_mb),
        )?;
        self.family("device_memory_available_bytes", "What it could give now", of(|device| device.available_mb))
    }

    fn models(&mut self, health: &HealthView) -> fmt::Result {
        let count = |state| health.models.iter().filter(|model| model.status == state).count() as f64;
        let states = STATES.map(|state| ([("state", state.as_str())], count(state)));
        self.family("models", "Models of the catalogue by state", states)?;
        self.each(health, "model_memory_estimated_bytes", "What loading is expected to take", |model| {
            Some(model.estimated_mb * MIB)
        })?;
        self.each(health, "model_memory_measured_bytes", "What the worker was measured to hold", |model| {
            model.measured_mb.map(|mb| mb * MIB)
        })?;
        self.each(
            health,
            "model_memory_reclaimable_bytes",
            "Of what was measured, pages of the mapped file that the kernel could drop and read again",
            |model| model.reclaimable_mb.map(|mb| mb * MIB),
        )?;
        let held = health.models.iter().flat_map(|model| {
            let held = model.held_by_device.iter();
            held.map(|(device, mb)| ([("model", model.model_id.as_str()), ("device", device.as_str())], mb * MIB))
        });
        self.family("model_memory_held_bytes", "What counts as the model's own: reserved, or measured if more", held)?;
        self.each(
            health,
            "model_memory_estimate_error_bytes",
            "What the worker was measured to hold after its load, less what was expected",
            |model| model.estimate_error_mb.map(|mb| mb * MIB),
        )?;
        self.each(health, "model_memory_estimate_error_ratio", "The same as a part of what was expected", |model| {
            model.estimate_error_mb.filter(|_| model.estimated_mb > 0.0).map(|mb| mb / model.estimated_mb)
        })?;
        self.each(health, "kv_store_bytes", "KV states of conversations without a slot, in memory", |model| {
            model.kv.map(|kv| kv.ram_bytes as f64)
        })?;
        self.each(health, "kv_store_disk_bytes", "The same on disk, of loaded models", |model| {
            model.kv.map(|kv| kv.disk_bytes as f64)
        })?;
        self.each(health, "kv_restored", "Conversations that went on from such a state since the load", |model| {
            model.kv.map(|kv| kv.restored as f64)
        })?;
        self.each(health, "model_requests_active", "Requests running in the worker", |model| {
            Some(f64::from(model.active_requests))
        })?;
        self.each(health, "model_requests_queued", "Requests waiting for the model", |model| {
            Some(f64::from(model.queued_requests))
        })
    }

    fn traffic(&mut self, traffic: &BTreeMap<String, Traffic>) -> fmt::Result {
        let of = |figure: fn(&Traffic) -> u64| {
            traffic.iter().map(move |(id, traffic)| ([("model", id.as_str())], figure(traffic)))
        };
        self.counters("model_requests", "Generations and embeddings asked of the model", of(|t| t.requests))?;
        self.counters("model_errors", "Of them, those that were refused or failed", of(|t| t.errors))?;
        self.counters(
            "model_generated_tokens",
            "Tokens generated so far; answers under way and those that nobody waited for count too",
            of(|t| t.completion_tokens),
        )
    }

    fn events(&mut self, feed: FeedFigures, bus: &[(&'static str, StreamFigures)]) -> fmt::Result {
        self.counter("events", "Events told of models and errors", feed.told)?;
        self.gauge("event_followers", "Clients that follow the events over HTTP", feed.followers as f64)?;
        let of = |figure: fn(&StreamFigures) -> u64| {
            bus.iter().map(move |(stream, figures)| ([("stream", *stream)], figure(figures)))
        };
        self.counters("bus_messages_published", "Messages that the stream has acknowledged", of(|f| f.published))?;
        self.counters(
            "bus_messages_duplicate",
            "Of them, those that it had from an earlier try",
            of(|f| f.duplicates),
        )?;
        self.counters(
            "bus_messages_dropped",
            "Messages given up: too many waited, or one was too large",
            of(|f| f.dropped),
        )?;
        let of = |figure: fn(&StreamFigures) -> u64| {
            bus.iter().map(move |(stream, figures)| ([("stream", *stream)], figure(figures) as f64))
        };
        self.family("bus_messages_waiting", "Messages that wait for the stream", of(|f| f.waiting))?;
        self.family("bus_waiting_bytes", "Bytes of those", of(|f| f.waiting_bytes))
    }

    fn conversations(&mut self, figures: ConversationFigures) -> fmt::Result {
        self.gauge("conversations", "Conversations that are kept", figures.conversations as f64)?;
        self.gauge("conversations_bytes", "Memory that they take", figures.bytes as f64)?;
        let Gone { age, room, cleared } = figures.gone;
        let gone = [("age", age), ("room", room), ("cleared", cleared)];
        let gone = gone.map(|(reason, count)| ([("reason", reason)], count));
        self.counters("conversations_gone", "Conversations that are not kept any more, by reason", gone)
    }

    fn store(&mut self, status: &StoreStatus) -> fmt::Result {
        self.gauge("store_ok", "1: the evaluation store takes rows", status.ok)?;
        self.counter("store_rows_written", "Rows written to the evaluation store", status.written)?;
        self.counter("store_rows_dropped", "Rows that were given up", status.dropped)?;
        self.gauge("store_rows_queued", "Rows that wait to be written", status.queued as f64)
    }

    fn each(
        &mut self,
        health: &HealthView,
        name: &str,
        help: &str,
        figure: impl Fn(&ModelView) -> Option<f64>,
    ) -> fmt::Result {
        let models = health.models.iter().filter_map(|m| Some(([("model", m.model_id.as_str())], figure(m)?)));
        self.family(name, help, models)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<f64>) -> fmt::Result {
        let gauge = ConstGauge::new(value.into());
        gauge.encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); N], f64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
