//! What this server tells others of itself: presence in Redis, events in NATS, a registration with a SystemDigitalTwin. Each is
//! optional, has tasks of its own, and never delays anybody: what is away, slow or refuses is told in [`Bus::parts`] and tried again
//! with growing pauses.

mod address;
mod backoff;
mod identity;
mod part;
mod registry;
mod twin;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use address::{AddressError, ServerUrl};
pub use identity::Identity;
pub use part::{PartState, PartStatus};
pub use registry::RegistryConfig;
pub use twin::TwinConfig;

use part::Part;
use registry::Registry;
use twin::Twin;

/// Which connections there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BusConfig {
    /// Presence, and the service's entry where it is in the same server.
    pub redis: Option<RegistryConfig>,
    /// The service's entry in another server.
    pub service_registry: Option<RegistryConfig>,
    /// The digital twin.
    pub twin: Option<TwinConfig>,
}

/// The running connections.
#[derive(Debug)]
pub struct Bus {
    parts: Vec<Arc<Part>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    ready: watch::Sender<bool>,
    reason: watch::Sender<String>,
}

impl Bus {
    /// Starts what is configured; waits for nothing.
    pub fn start(config: BusConfig, identity: &Identity) -> Self {
        let (ready, _) = watch::channel(false);
        let (reason, _) = watch::channel(String::new());
        let mut bus =
            Self { parts: Vec::new(), tasks: TaskTracker::new(), stop: CancellationToken::new(), ready, reason };
        for (name, config) in [("redis", config.redis), ("service_registry", config.service_registry)] {
            if let Some(config) = config {
                bus.registry(name, config, identity.clone());
            }
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

    fn part(&mut self, name: &'static str, detail: String) -> Arc<Part> {
        let part = Arc::new(Part::new(name, detail));
        self.parts.push(Arc::clone(&part));
        part
    }

    /// Whether requests may be sent to this server.
    pub fn set_ready(&self, ready: bool) {
        self.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }

    /// How each connection is.
    pub fn parts(&self) -> Vec<PartStatus> {
        self.parts.iter().map(|part| part.status()).collect()
    }

    /// Takes back what was entered, within `patience`.
    pub async fn stop(self, reason: &str, patience: Duration) {
        self.reason.send_replace(reason.to_owned());
        self.stop.cancel();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            warn!(?patience, "the farewell to registries took too long; what was entered there expires");
        }
    }
}

/// Epoch seconds.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
