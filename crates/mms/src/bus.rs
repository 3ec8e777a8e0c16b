//! The bus beside the manager: who this server is to others, and what the bus says on the health board.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mms_bus::{Bus, Identity, PartState};
use mms_manager::Manager;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::{Config, ServerConfig};
use crate::ready::Addresses;

/// Between two looks at readiness and at the bus.
const INTERVAL: Duration = Duration::from_millis(250);
/// What taking back entries may take when the server ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// The bus, and the task that goes between it and the health board.
pub(crate) struct BusWatch {
    task: JoinHandle<Bus>,
    stop: CancellationToken,
}

impl BusWatch {
    /// Starts what is configured; waits for nothing.
    pub(crate) fn start(config: &Config, addresses: &Addresses, manager: Manager) -> Self {
        let bus = Bus::start(config.bus.clone(), &identity(&config.server, addresses));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            loop {
                tell(&bus, &manager);
                if stopped.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
                    return bus;
                }
            }
        });
        Self { task, stop }
    }

    /// Takes back what was entered; `reason` is left as word of the shutdown.
    pub(crate) async fn end(self, reason: &str) {
        self.stop.cancel();
        match self.task.await {
            Ok(bus) => bus.stop(reason, FAREWELL).await,
            Err(error) => error!(%error, "the bus failed; what was entered in registries expires"),
        }
    }
}

fn tell(bus: &Bus, manager: &Manager) {
    let health = manager.health();
    bus.set_ready(health.ready && !health.draining);
    for part in bus.parts() {
        manager.board().report(part.name, false, part.state == PartState::Works, part.detail);
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
