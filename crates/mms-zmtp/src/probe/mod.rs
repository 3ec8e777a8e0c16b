//! What answers at an address: resolve, connect, greeting, READY and PING, each with its outcome and time.

mod banner;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

pub use self::banner::Banner;
use crate::{ConnectError, HandshakeError, Mechanism, PeerInfo, SocketType, codec::Greeting};

/// Times of a [`probe()`].
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// For name resolution and the TCP connection.
    pub connect_timeout: Duration,
    /// For each of greeting, READY and PONG.
    pub step_timeout: Duration,
    /// The socket type to present.
    pub socket_type: SocketType,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            step_timeout: Duration::from_secs(3),
            socket_type: SocketType::Dealer,
        }
    }
}

/// One step of a probe.
#[derive(Debug)]
pub struct Step<T, E> {
    /// What came of it.
    pub outcome: Result<T, E>,
    /// How long it took.
    pub took: Duration,
}

/// What a probe found. A step that was not reached is `None`.
#[derive(Debug)]
pub struct ProbeReport {
    /// The endpoint as it was given.
    pub endpoint: String,
    /// The addresses behind it.
    pub resolve: Step<Vec<SocketAddr>, ConnectError>,
    /// The TCP connection, with the address that took it.
    pub connect: Option<Step<SocketAddr, ConnectError>>,
    /// The peer's greeting: version, mechanism, as-server.
    pub greeting: Option<Step<Greeting, HandshakeError>>,
    /// The peer's READY.
    pub ready: Option<Step<ReadyFacts, HandshakeError>>,
    /// PING and its PONG.
    pub ping: Option<Step<(), HandshakeError>>,
}

/// What a peer's READY said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyFacts {
    /// Version, mechanism, socket type and identity.
    pub peer: PeerInfo,
    /// Every property as it came.
    pub metadata: Vec<(String, Bytes)>,
}

impl ProbeReport {
    /// Whether a ZMTP peer answered that our mechanism and socket type can talk to.
    pub fn is_zmtp_peer(&self) -> bool {
        self.ready.as_ref().is_some_and(|step| step.outcome.is_ok())
    }

    /// The mechanism that was agreed on, when it came to that.
    pub fn mechanism(&self) -> Option<Mechanism> {
        Some(self.ready.as_ref()?.outcome.as_ref().ok()?.peer.mechanism)
    }
}

/// Looks at what answers at `endpoint` (`tcp://host:port` or `host:port`); never fails, the report says how far it came.
pub async fn probe(_endpoint: &str, _options: &ProbeOptions) -> ProbeReport {
    unimplemented!()
}
