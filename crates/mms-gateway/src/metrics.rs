//! What `/metrics` shows: what the front doors count themselves, and, read at each scrape, what the manager and the store know. Every
//! name begins with `mms_`.

use std::sync::Arc;
use std::time::Instant;

use mms_manager::Manager;
use mms_protocol::Refusal;
use mms_protocol::view::{Embedding, Generation};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

mod snapshot;

pub(crate) use snapshot::Snapshot;

/// Upper bounds of the duration histograms, seconds: from a ping to a long generation.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    dialect: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    model: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    route: String,
    status: u16,
}

type Seconds = Family<ModelLabel, Histogram, fn() -> Histogram>;

/// The counters of the front doors.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<OperationLabel, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    first_token: Seconds,
    tokens: Family<TokenLabels, Counter>,
    http: Family<HttpLabels, Counter>,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("mms"),
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
            first_token: Family::new_with_constructor(histogram),
            tokens: Family::default(),
            http: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "requests",
            "Requests by operation, dialect and outcome (ok, cancelled by the client, or an error code)",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From the request's arrival to its reply",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("requests_in_flight", "Requests in work now", metrics.in_flight.clone());
        registry.register_with_unit(
            "time_to_first_token",
            "From the request's arrival to its first text, waiting and loading included",
            Unit::Seconds,
            metrics.first_token.clone(),
        );
        registry.register("tokens", "Tokens by model and kind (prompt, cached, completion)", metrics.tokens.clone());
        registry.register("http_requests", "HTTP requests by route and status", metrics.http.clone());
        registry.register_collector(Box::new(snapshot));
        metrics
    }

    /// Counts a request that begins; the guard counts how it ends, also when it is dropped because its client left.
    pub(crate) fn begin(
        self: &Arc<Self>,
        operation: &'static str,
        dialect: &'static str,
        manager: Manager,
    ) -> InFlight {
        self.in_flight.inc();
        InFlight { metrics: self.clone(), manager, operation, dialect, began: Instant::now(), outcome: "cancelled" }
    }

    /// Counts the figures of a generation that ended well.
    pub(crate) fn generated(&self, generation: &Generation) {
        let model = || generation.model_id.clone();
        let usage = generation.usage;
        let kinds =
            [("prompt", usage.prompt_tokens), ("cached", usage.cached_tokens), ("completion", usage.completion_tokens)];
        for (kind, count) in kinds {
            self.tokens.get_or_create(&TokenLabels { model: model(), kind }).inc_by(count.into());
        }
        if let Some(ms) = generation.first_token_ms {
            self.first_token.get_or_create(&ModelLabel { model: model() }).observe(ms / 1000.0);
        }
    }

    /// Counts the tokens of embeddings.
    pub(crate) fn embedded(&self, embedding: &Embedding) {
        let labels = TokenLabels { model: embedding.model_id.clone(), kind: "prompt" };
        self.tokens.get_or_create(&labels).inc_by(embedding.prompt_tokens.into());
    }

    /// Counts one HTTP response; `route` is the pattern, not the path, so that strangers cannot make new series.
    pub(crate) fn http(&self, route: &str, status: u16) {
        self.http.get_or_create(&HttpLabels { route: route.to_owned(), status }).inc();
    }

    /// Everything as OpenMetrics text.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A request in work. Counted as `cancelled` unless [`InFlight::end`] is called.
pub(crate) struct InFlight {
    metrics: Arc<Metrics>,
    manager: Manager,
    operation: &'static str,
    dialect: &'static str,
    began: Instant,
    outcome: &'static str,
}

impl InFlight {
    /// It was answered, or refused.
    pub(crate) fn end(mut self, refusal: Option<&Refusal>) {
        self.outcome = refusal.map_or("ok", |refusal| refusal.code.as_str());
        if let Some(refusal) = refusal {
            self.manager.counters().refused(self.operation, refusal);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self { operation, dialect, outcome, .. } = *self;
        let metrics = &self.metrics;
        metrics.in_flight.dec();
        metrics.requests.get_or_create(&RequestLabels { operation, dialect, outcome }).inc();
        metrics.durations.get_or_create(&OperationLabel { operation }).observe(self.began.elapsed().as_secs_f64());
        self.manager.counters().request(outcome == "ok");
    }
}
