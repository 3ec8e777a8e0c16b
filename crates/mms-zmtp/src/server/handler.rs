//! What a handler of requests sees.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{Frames, PeerInfo, Rejected};

/// One request of a peer. It gets exactly one reply: what the handler's future yields.
#[derive(Debug)]
pub struct Request {
    /// The frames behind the envelope, or why the message was not kept.
    pub body: Result<Frames, Rejected>,
    /// Who asks.
    pub peer: Arc<Peer>,
}

/// The peer of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address, where the stream has one.
    pub addr: Option<SocketAddr>,
    /// What it told in its handshake.
    pub info: PeerInfo,
    /// Cancelled when the connection has ended. The futures of its requests are dropped then; work that they have started elsewhere
    /// can wait for this.
    pub gone: CancellationToken,
}

/// Answers requests. Closures `Fn(Request) -> impl Future<Output = Frames>` are handlers.
///
/// The future is polled in the task of its connection, at once, so an answer that is ready needs no further wakeup; long computations
/// belong elsewhere (`spawn_blocking`, a task). It is dropped when the peer leaves. A panic ends the connection without a reply.
pub trait Handler: Send + Sync + 'static {
    /// The body of the reply; an empty one is sent as one empty frame.
    fn handle(&self, request: Request) -> impl Future<Output = Frames> + Send;
}

impl<F, R> Handler for F
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Frames> + Send,
{
    fn handle(&self, request: Request) -> impl Future<Output = Frames> + Send {
        self(request)
    }
}
