//! What one listener takes: sizes, numbers and times, for ZMTP and HTTP alike.

use std::time::Duration;

use mms_zmtp::{Heartbeat, Limits, ServerOptions};

/// Bounds of one listener.
#[derive(Debug, Clone)]
pub struct WireLimits {
    /// Largest request in bytes: a ZMTP message, an HTTP body. Default 32 MiB.
    pub max_request_bytes: u64,
    /// Most connections at once. Default 1024.
    pub max_connections: usize,
    /// Most requests of one ZMTP peer in work at once; beyond it nothing more is read from that peer. Default 1024.
    pub max_in_flight: usize,
    /// Time for the first byte on the health port, and for a ZMTP handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// Time for the head of an HTTP request; an idle HTTP connection is closed after it. Default 30 s.
    pub header_timeout: Duration,
    /// Time for the body of an HTTP request; a client that takes nothing of its answer for as long is given up. Default 60 s.
    pub body_timeout: Duration,
    /// Silence of a ZMTP peer after which it is asked whether it is there; it has as long again to answer. Default: never asked.
    pub heartbeat: Option<Duration>,
    /// Time that running requests have to finish after shutdown began. Default 30 s.
    pub drain_timeout: Duration,
    /// Names besides `localhost` and IP addresses under which browsers may reach an HTTP listener on loopback; any other `Host` is
    /// refused there, since it is a web page's attempt to reach a local service under a name of its own.
    pub trusted_hosts: Vec<String>,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            max_request_bytes: 32 << 20,
            max_connections: 1024,
            max_in_flight: 1024,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            heartbeat: None,
            drain_timeout: Duration::from_secs(30),
            trusted_hosts: Vec::new(),
        }
    }
}

impl WireLimits {
    /// The part that concerns ZMTP.
    pub(crate) fn zmtp(&self) -> ServerOptions {
        ServerOptions {
            limits: Limits { max_message: self.max_request_bytes, ..Limits::default() },
            handshake_timeout: self.handshake_timeout,
            max_connections: self.max_connections,
            max_in_flight: self.max_in_flight,
            heartbeat: self.heartbeat.map(|interval| Heartbeat { interval, timeout: interval }),
            drain_timeout: self.drain_timeout,
            ..ServerOptions::default()
        }
    }
}
