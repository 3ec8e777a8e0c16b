//! What this server tells others of itself: presence in Redis, events in NATS, a registration with a SystemDigitalTwin. Each is
//! optional, has tasks of its own, and never delays anybody: what is away, slow or refuses is told in [`Bus::parts`] and tried again
//! with growing pauses.

mod address;
mod backoff;
mod identity;
mod outbox;
mod part;
mod publisher;
mod registry;
mod streams;
mod twin;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mms_protocol::Notice;
use mms_protocol::notice::What;
use mms_protocol::view::StreamFigures;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use address::{AddressError, ServerUrl};
pub use identity::Identity;
pub use part::{PartState, PartStatus};
pub use publisher::NatsConfig;
pub use registry::RegistryConfig;
pub use twin::TwinConfig;

use outbox::{Bounds, Message, Outbox};
use part::Part;
use publisher::Publisher;
use registry::Registry;
use streams::{ERRORS, MODELS, StreamSpec};
use twin::Twin;

/// Which connections there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BusConfig {
    /// Presence, and the service's entry where it is in the same server.
    pub redis: Option<RegistryConfig>,
    /// The service's entry in another server.
    pub service_registry: Option<RegistryConfig>,
    /// Events.
    pub nats: Option<NatsConfig>,
    /// The digital twin.
    pub twin: Option<TwinConfig>,
}

/// The running connections.
#[derive(Debug)]
pub struct Bus {
    parts: Vec<Arc<Part>>,
    outboxes: Option<Outboxes>,
    tasks: TaskTracker,
    stop: CancellationToken,
    ready: watch::Sender<bool>,
    reason: watch::Sender<String>,
}

/// What waits for each stream.
#[derive(Debug)]
struct Outboxes {
    models: Arc<Outbox>,
    errors: Arc<Outbox>,
}

impl Bus {
    /// Starts what is configured; waits for nothing.
    pub fn start(config: BusConfig, identity: &Identity) -> Self {
        let (ready, _) = watch::channel(false);
        let (reason, _) = watch::channel(String::new());
        let mut bus = Self {
            parts: Vec::new(),
            outboxes: None,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            ready,
            reason,
        };
        for (name, config) in [("redis", config.redis), ("service_registry", config.service_registry)] {
            if let Some(config) = config {
                bus.registry(name, config, identity.clone());
            }
        }
        if let Some(config) = config.nats {
            bus.outboxes = Some(Outboxes {
                models: bus.publisher("nats_models", MODELS, config.clone(), &identity.agent),
                errors: bus.publisher("nats_errors", ERRORS, config, &identity.agent),
            });
        }
        if let Some(config) = config.twin {
            let part = bus.part("digital_twin", "not registered yet: this server is not ready".to_owned());
            let twin =
                Twin { config, identity: identity.clone(), ready: bus.ready.subscribe(), part, stop: bus.stop.clone() };
            bus.tasks.spawn(twin.run());
        }
        bus.tasks.close();
        bus
    }

    fn registry(&mut self, name: &'static str, config: RegistryConfig, identity: Identity) {
        let part = self.part(name, format!("{}: connecting", config.url));
        let registry = Registry {
            config,
            identity,
            ready: self.ready.subscribe(),
            part,
            stop: self.stop.clone(),
            reason: self.reason.subscribe(),
        };
        self.tasks.spawn(registry.run());
    }

    fn publisher(&mut self, name: &'static str, spec: StreamSpec, config: NatsConfig, agent: &str) -> Arc<Outbox> {
        let bounds = Bounds { messages: config.max_waiting, bytes: config.max_waiting_bytes };
        let outbox = Arc::new(Outbox::new(bounds));
        let part = self.part(name, format!("connecting; events for {} are kept meanwhile", spec.name));
        let publisher = Publisher {
            config,
            agent: agent.to_owned(),
            spec,
            outbox: Arc::clone(&outbox),
            part,
            stop: self.stop.clone(),
        };
        self.tasks.spawn(publisher.run());
        outbox
    }

    fn part(&mut self, name: &'static str, detail: String) -> Arc<Part> {
        let part = Arc::new(Part::new(name, detail));
        self.parts.push(Arc::clone(&part));
        part
    }

    /// Whether requests may be sent to this server.
    pub fn set_ready(&self, ready: bool) {
        self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }

    /// Publishes a notice; waits for nothing.
    pub fn publish(&self, notice: &Notice) {
        let Some(outboxes) = &self.outboxes else { return };
        let outbox = match notice.what {
            What::Model(_) => &outboxes.models,
            What::Error(_) => &outboxes.errors,
        };
        for message in Message::all_of(notice) {
            outbox.push(message);
        }
    }

    /// What became of the messages for each stream, by its name.
    pub fn figures(&self) -> Vec<(&'static str, StreamFigures)> {
        let outboxes = self.outboxes.iter();
        outboxes
            .flat_map(|boxes| [(MODELS.name, boxes.models.figures()), (ERRORS.name, boxes.errors.figures())])
            .collect()
    }

    /// How each connection is.
    pub fn parts(&self) -> Vec<PartStatus> {
        self.parts.iter().map(|part| part.status()).collect()
    }

    /// Publishes what waits and takes back what was entered, within `patience`.
    pub async fn stop(&self, reason: &str, patience: Duration) {
        self.reason.send_replace(reason.to_owned());
        self.stop.cancel();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            warn!(
                ?patience,
                "not everybody could be told of the end: entries in registries expire, and events that waited are lost"
            );
        }
    }
}

/// Epoch seconds.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
