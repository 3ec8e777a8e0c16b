//! The bind side: accepts peers, bounds their number and serves each in a task of its own.
//!
//! ```text
//! accept ─▶ slot free? ─ yes ─▶ handshake ─▶ connection loop ─▶ closed
//!               └─ no ─▶ greeting + ERROR "too many connections" ─▶ closed
//! ```

mod connection;
mod handler;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    connection::ConnectionError,
    handler::{Handler, Peer, Request},
};
use crate::{Heartbeat, Limits};

/// Bounds and times of a [`Server`].
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What one message may cost.
    pub limits: Limits,
    /// Time for greeting and READY together.
    pub handshake_timeout: Duration,
    /// Most connections at once; further peers are told so and closed.
    pub max_connections: usize,
    /// Most requests of one peer in work at once; beyond it nothing more is read from that peer.
    pub max_in_flight: usize,
    /// Bytes of requests in work and of unsent replies beyond which nothing more is read from a peer.
    pub max_buffered: usize,
    /// Our own PINGs to silent peers, for peers that speak ZMTP 3.1. A peer's PINGs are always answered.
    pub heartbeat: Option<Heartbeat>,
    /// Time after which a peer that does not read its replies is given up.
    pub write_timeout: Option<Duration>,
    /// Time that requests in work have to finish after shutdown began.
    pub drain_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            handshake_timeout: Duration::from_secs(10),
            max_connections: 1024,
            max_in_flight: 1024,
            max_buffered: 4 << 20,
            heartbeat: None,
            write_timeout: None,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What is known of a stream that somebody else accepted.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    /// The peer's address, when it has one.
    pub addr: Option<SocketAddr>,
    /// Bytes that were already read (not merely peeked) from the stream.
    pub already_read: Bytes,
}

impl From<SocketAddr> for Incoming {
    fn from(addr: SocketAddr) -> Self {
        Self { addr: Some(addr), already_read: Bytes::new() }
    }
}

/// Serves requests of REQ, DEALER and ROUTER peers; presents itself as ROUTER. Clones share handler and bounds.
pub struct Server<H> {
    shared: Arc<Shared<H>>,
}

struct Shared<H> {
    handler: H,
    options: ServerOptions,
    slots: Semaphore,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<H: Handler> Server<H> {
    /// A server that gives every request to `handler`.
    pub fn new(handler: H, options: ServerOptions) -> Self {
        let slots = Semaphore::new(options.max_connections);
        Self { shared: Arc::new(Shared { handler, options, slots }) }
    }

    /// How many peers are connected now, or in their handshake.
    pub fn connections(&self) -> usize {
        self.shared.options.max_connections - self.shared.slots.available_permits()
    }

    /// Accepts peers until `shutdown`; then lets the requests in work finish, within `drain_timeout`, and returns.
    pub async fn serve(&self, _listener: TcpListener, _shutdown: CancellationToken) {
        unimplemented!()
    }

    /// Serves one accepted stream until the peer leaves or `shutdown` has drained it. Whether bytes of the stream were peeked does not
    /// matter; bytes that were read belong into `incoming`. Counts against `max_connections`.
    pub async fn serve_connection<S>(
        &self,
        _stream: S,
        _incoming: Incoming,
        _shutdown: CancellationToken,
    ) -> Result<(), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        unimplemented!()
    }
}
