//! The bind side: accepts peers, bounds their number and serves each in a task of its own.
//!
//! ```text
//! accept ─▶ slot free? ─ yes ─▶ handshake ─▶ connection loop ─▶ closed
//!               └─ no ─▶ somebody dawdles in its handshake and gives way, or: greeting + ERROR "too many connections" ─▶ closed
//! ```

mod budget;
mod connection;
mod handler;
mod slots;
mod timers;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use self::{budget::Budget, connection::Connection, slots::Slots};
pub use self::{
    connection::ConnectionError,
    handler::{Handler, Peer, Request},
};
use crate::{
    Heartbeat, Limits, Mechanism, SocketType,
    codec::{Command, Greeting},
    handshake::{self, FAREWELL, Ours, Side},
    link::Link,
};

/// Most peers that are told at once that there is no room; further ones are closed without a word.
const MAX_REFUSALS: usize = 64;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    /// Bytes of messages that arrive and of requests in work, of all peers together; at least one message of the largest size fits always.
    /// The first 64 KiB of each peer do not count. A message for which there is no room is read past, and the handler is told.
    pub max_held: usize,
    /// How long a message may take to arrive when its memory is wanted by others.
    pub message_grace: Duration,
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
            max_held: 256 << 20,
            message_grace: Duration::from_secs(10),
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
    slots: Slots,
    budget: Budget,
    refusals: Semaphore,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<H: Handler> Server<H> {
    /// A server that gives every request to `handler`.
    pub fn new(handler: H, options: ServerOptions) -> Self {
        let slots = Slots::new(options.max_connections);
        let largest = usize::try_from(options.limits.max_message).unwrap_or(usize::MAX);
        let budget = Budget::new(options.max_held.max(largest), options.message_grace);
        Self { shared: Arc::new(Shared { handler, options, slots, budget, refusals: Semaphore::new(MAX_REFUSALS) }) }
    }

    /// How many peers are connected now, or in their handshake.
    pub fn connections(&self) -> usize {
        self.shared.slots.taken()
    }

    /// Accepts peers until `shutdown`; then lets the requests in work finish, within `drain_timeout`, and returns.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let peers = TaskTracker::new();
        // Also when this future is dropped its peers are drained.
        let stop = shutdown.child_token();
        let _stop_when_dropped = stop.clone().drop_guard();
        let mut failing = false;
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, addr)) => {
                    failing = false;
                    let (server, stop) = (self.clone(), stop.clone());
                    peers.spawn(async move {
                        let outcome = async {
                            tune_tcp(&stream)?;
                            server.serve_connection(stream, addr.into(), stop).await
                        };
                        if let Err(error) = outcome.await {
                            debug!(%addr, %error, "connection ended");
                        }
                    });
                }
                Err(error) => {
                    // Such as no free file descriptor: better to wait for one than to end.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        peers.close();
        peers.wait().await;
    }

    /// Serves one accepted stream until the peer leaves or `shutdown` has drained it. Whether bytes of the stream were peeked does not
    /// matter; bytes that were read belong into `incoming`. Counts against `max_connections`.
    pub async fn serve_connection<S>(
        &self,
        stream: S,
        incoming: Incoming,
        shutdown: CancellationToken,
    ) -> Result<(), ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Shared { handler, options, slots, budget, .. } = &*self.shared;
        let mut link = Link::new(stream, &incoming.already_read, options.limits.max_command);
        let Some(slot) = slots.take().await else {
            link.outbox.push_raw(&Greeting::ours(Mechanism::Null).encode());
            let error = ConnectionError::TooMany(options.max_connections);
            self.refuse(link, error.to_string()).await;
            return Err(error);
        };
        let ours = Ours { socket_type: SocketType::Router, identity: Bytes::new() };
        let shaking = handshake::shake(&mut link, &ours, Side::Bind, options.handshake_timeout);
        let outcome = tokio::select! {
            biased;
            outcome = shaking => outcome,
            () = shutdown.cancelled() => return Ok(()),
            () = slot.give_way.cancelled() => return Err(ConnectionError::TooMany(options.max_connections)),
        };
        let info = match outcome {
            Ok(info) => info,
            Err(error) => {
                drop(slot);
                if let Some(reason) = handshake::reason(&error) {
                    self.refuse(link, reason).await;
                }
                return Err(error.into());
            }
        };
        slot.settle();
        link.open(options.limits.clone());
        let gone = CancellationToken::new();
        let _cancel_when_gone = gone.clone().drop_guard();
        let peer = Arc::new(Peer { addr: incoming.addr, info, gone });
        Connection::new(link, handler, options, budget, peer).run(&shutdown.child_token()).await
    }

    /// Tells a peer why it is not served, in the words of its protocol, and closes.
    async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(&self, mut link: Link<S>, why: String) {
        if let Ok(_permit) = self.shared.refusals.try_acquire() {
            link.outbox.push_command(&Command::Error(why));
            link.farewell(FAREWELL).await;
        }
    }
}

/// Settings of an accepted TCP stream: replies leave at once, and a peer whose machine has vanished is noticed by the system.
pub fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
