//! The bus beside the manager: who this server is to others, and what the bus says on the health board.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mms_bus::{Bus, Identity, PartState};
use mms_gateway::{BusFigures, Feed};
use mms_manager::Manager;
use mms_protocol::view::HealthCheck;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::{Config, ServerConfig};
use crate::notices::Notices;
use crate::ready::Addresses;

/// Between two looks at readiness and at the bus.
const INTERVAL: Duration = Duration::from_millis(250);
/// What publishing the last events and taking back entries may take when the server ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// The bus and the notices, and the task that goes between them and the health board.
pub(crate) struct BusWatch {
    /// Who tells others what happens.
    pub notices: Arc<Notices>,
    /// Who follows what happens over HTTP.
    pub feed: Feed,
    bus: Arc<Bus>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl BusWatch {
    /// Starts what is configured; waits for nothing.
    pub(crate) fn start(config: &Config, addresses: &Addresses, manager: Manager) -> Self {
        let identity = identity(&config.server, addresses);
        let feed = Feed::new(identity.started);
        let bus = Arc::new(Bus::start(config.bus.clone(), &identity));
        let device = manager.health().memory.device;
        let notices = Arc::new(Notices::new(identity.agent, device, Arc::clone(&bus), feed.clone()));
        let stop = CancellationToken::new();
        let watch = watch(Arc::clone(&bus), Arc::clone(&notices), manager, stop.clone());
        Self { notices, feed, bus, task: tokio::spawn(watch), stop }
    }

    /// What became of the events for each stream.
    pub(crate) fn figures(&self) -> BusFigures {
        let bus = Arc::clone(&self.bus);
        Arc::new(move || bus.figures())
    }

    /// Publishes what waits and takes back what was entered; `reason` is left as word of the shutdown.
    pub(crate) async fn end(self, reason: &str) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            error!(%error, "the health board and the bus were not told of each other any more");
        }
        self.bus.stop(reason, FAREWELL).await;
    }
}

/// Tells the bus whether the server is ready, the health board how the bus is, and others what the board says, until `stop`.
async fn watch(bus: Arc<Bus>, notices: Arc<Notices>, manager: Manager, stop: CancellationToken) {
    loop {
        bus.set_ready(manager.board().is_ready());
        let parts = bus.parts();
        for part in &parts {
            manager.board().report(part.name, false, part.state == PartState::Works, part.detail.as_str());
        }
        let (mut checks, ..) = manager.board().read();
        // What has not been tried yet has not failed.
        let untried = |check: &HealthCheck| {
            parts.iter().any(|part| part.name == check.name && part.state == PartState::Connecting)
        };
        checks.retain(|check| !untried(check));
        notices.checks(&checks);
        if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

fn identity(server: &ServerConfig, addresses: &Addresses) -> Identity {
    Identity {
        agent: server.agent_name.clone(),
        host: server.public_host.clone().unwrap_or_else(|| found_out(addresses)),
        port: addresses.main.port(),
        health_port: addresses.health.port(),
        started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
    }
}

/// The address that is listened on, or this machine's name where that is every address.
fn found_out(addresses: &Addresses) -> String {
    let ip = addresses.main.ip();
    if !ip.is_unspecified() {
        return ip.to_string();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
