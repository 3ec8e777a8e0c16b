//! Readiness: the suite's own client asks through every published address, as any other client would, and the manager's one task is
//! asked for a sign of life. The server is ready only while all of them answer; each answer, or its absence, is on the health board.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mms_client::{Client, ClientError, HttpClient};
use mms_manager::Manager;
use mms_protocol::view::ModelState;
use serde_json::{Map, Value};
use tracing::{info, warn};

/// Where the server really listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Main port.
    pub main: SocketAddr,
    /// Health port.
    pub health: SocketAddr,
    /// HTTP port.
    pub http: SocketAddr,
}

/// Asks again and again.
pub(crate) struct Probe {
    /// Whom to ask.
    pub addresses: Addresses,
    /// The name that must answer.
    pub agent: String,
    /// Time for each answer.
    pub timeout: Duration,
    /// Where the verdict goes.
    pub manager: Manager,
}

/// What one round found: a name of the health board, and how long the answer took or why there was none.
type Finding = (&'static str, Result<Duration, String>);

/// Between two rounds while the server has never been ready.
const IMPATIENT: Duration = Duration::from_millis(50);

impl Probe {
    /// Asks until every address has answered once.
    pub(crate) async fn first(&self) {
        let mut last = String::new();
        while let Err(why) = self.round().await {
            if why != last {
                warn!(why, "not ready yet");
                last = why;
            }
            tokio::time::sleep(IMPATIENT).await;
        }
        let Addresses { main, health, http } = self.addresses;
        info!(%main, %health, %http, "bound: every port has answered");
    }

    /// Asks once in each interval, for ever; withdraws readiness when an answer stays away, and restores it when it is back.
    pub(crate) async fn watch(&self, interval: Duration) {
        let mut ready = true;
        loop {
            tokio::time::sleep(interval).await;
            match self.round().await {
                Ok(()) if !ready => info!("ready again: every port answers"),
                Err(why) if ready => warn!(why, "readiness withdrawn"),
                Ok(()) | Err(_) => {}
            }
            ready = self.manager.board().is_ready();
        }
    }

    /// Asks through every address at once, and puts the answers on the health board. `Err`: why the server is not ready.
    async fn round(&self) -> Result<(), String> {
        let Addresses { main, health, http } = self.addresses;
        let (manager, main, health_zmq, health_http, http) = tokio::join!(
            timed(self.pulse()),
            timed(self.ping(main)),
            timed(self.health(health)),
            timed(self.http(health)),
            timed(self.http(http)),
        );
        let findings: [Finding; 5] = [
            ("manager", manager),
            ("main_port", main),
            ("health_port_zmq", health_zmq),
            ("health_port_http", health_http),
            ("http_port", http),
        ];
        let mut missing = Vec::new();
        for (name, finding) in &findings {
            match finding {
                Ok(took) => {
                    self.manager.board().report(
                        *name,
                        true,
                        true,
                        format!("answered in {:.1} ms", took.as_secs_f64() * 1e3),
                    );
                }
                Err(why) => {
                    self.manager.board().report(*name, true, false, why.as_str());
                    missing.push(format!("{name}: {why}"));
                }
            }
        }
        self.report_workers();
        self.manager.board().set_ready(missing.is_empty());
        if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
    }

    /// Workers are needed by requests, not by the server: a model whose worker keeps failing degrades it only.
    fn report_workers(&self) {
        let models = self.manager.models();
        let mut failing = models.iter().filter(|model| model.status == ModelState::Quarantined);
        let failed = failing.next().map(|model| format!("{}: {}", model.model_id, model.message));
        let running = models.iter().filter(|model| model.worker_pid.is_some()).count();
        let detail = failed.clone().unwrap_or_else(|| format!("{running} running"));
        self.manager.board().report("workers", false, failed.is_none(), detail);
    }

    /// A port may answer from what is known while nothing is decided any more.
    async fn pulse(&self) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.manager.pulse()).await {
            Ok(answer) => answer.map_err(|refusal| refusal.message),
            Err(_) => Err(format!("the manager's task has not answered within {} ms", self.timeout.as_millis())),
        }
    }

    async fn ping(&self, address: SocketAddr) -> Result<(), String> {
        let ask = async {
            let mut client = Client::connect(&format!("tcp://{}", reachable(address)), self.timeout).await?;
            client.call("ping", Map::new()).await
        };
        self.ours(ask.await.map_err(|error: ClientError| error.to_string())?.get("agent"))
    }

    async fn health(&self, address: SocketAddr) -> Result<(), String> {
        let ask = async {
            let mut client = Client::connect(&format!("tcp://{}", reachable(address)), self.timeout).await?;
            client.health().await
        };
        self.ours(ask.await.map_err(|error: ClientError| error.to_string())?.get("agent"))
    }

    async fn http(&self, address: SocketAddr) -> Result<(), String> {
        let ask = async {
            let client = HttpClient::new(&format!("http://{}", reachable(address)))?.with_timeout(self.timeout);
            client.get("/health").await
        };
        let reply = ask.await.map_err(|error: ClientError| error.to_string())?;
        // 503 is the honest answer of a server that is not ready yet: it answers, and that is what is asked here.
        if !matches!(reply.status, 200 | 503) {
            return Err(format!("GET /health was answered with status {}", reply.status));
        }
        self.ours(reply.json().unwrap_or_default().get("agent"))
    }

    /// The answer must be this server's, not that of another which took the port over.
    fn ours(&self, agent: Option<&Value>) -> Result<(), String> {
        match agent.and_then(Value::as_str) {
            Some(agent) if agent == self.agent => Ok(()),
            other => Err(format!("somebody else answers: {}", other.unwrap_or("no agent is named"))),
        }
    }
}

async fn timed(work: impl Future<Output = Result<(), String>>) -> Result<Duration, String> {
    let begun = Instant::now();
    work.await.map(|()| begun.elapsed())
}

/// Where a client on this machine reaches a listener.
pub(crate) fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn every_address_is_asked_on_loopback() {
        for (listening, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "[::1]:2"),
            ("127.0.0.1:3", "127.0.0.1:3"),
            ("10.0.0.1:4", "10.0.0.1:4"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
