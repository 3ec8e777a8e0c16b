//! One peer's connection after its handshake.
//!
//! ```text
//! read ─▶ decode ─▶ handler, polled at once ─ ready ──────────▶ outbox ─▶ write
//!                          └─ pending ─▶ work ─ when done ─────────┘
//! ```
//! No request is taken while too much is in work or unsent: the peer then feels TCP's back-pressure. A little is read ahead even so, since
//! that is how its leaving shows; that of a peer which has sent more than that is noticed when the next reply is written to it.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    Handler, Peer, Request, ServerOptions,
    budget::{Budget, Claim},
    timers::{Due, Timers},
};
use crate::{
    Frames, HandshakeError, ProtocolError, Rejected,
    codec::{Command, Item, envelope_len},
    handshake::is_closed,
    link::{Link, Sign},
};

/// Why a connection ended otherwise than by the peer's leaving or by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// All connections are taken.
    #[error("too many connections, the limit is {0}")]
    TooMany(usize),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer sent what is not ZMTP, or broke a limit for good.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The peer did not answer our PING, or was silent for longer than it had announced.
    #[error("no sign of life from the peer")]
    Dead,
    /// The peer did not read its replies.
    #[error("the peer does not read its replies")]
    NotReading,
    /// Requests were still in work when the time to drain was over.
    #[error("{0} requests unanswered at shutdown")]
    Undrained(usize),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How long a peer has to read its last replies after we ended the connection.
const PARTING: Duration = Duration::from_secs(2);
/// What a request in work costs besides its bytes.
const REQUEST_OVERHEAD: usize = 256;

/// A reply on its way to the outbox.
struct Answer {
    envelope: Frames,
    body: Frames,
    cost: usize,
}

/// Serves one peer after its handshake. One task does it all: requests are decoded, their futures polled and replies written here, so that
/// a reply that is ready at once costs one read and one write.
pub(super) struct Connection<'a, S, H> {
    link: Link<S>,
    handler: &'a H,
    options: &'a ServerOptions,
    peer: Arc<Peer>,
    work: FuturesUnordered<BoxFuture<'a, Answer>>,
    /// Cost of the requests in work.
    held: usize,
    /// Set when no further requests are taken: how the connection is going to end.
    ending: Option<Result<(), ConnectionError>>,
    timers: Timers,
    /// What this connection holds of the memory that all share.
    claim: Claim<'a>,
    budget: &'a Budget,
    /// Whether the peer's next bytes are wanted; otherwise it has to wait.
    hungry: bool,
}

enum Progress {
    /// Something was read, written or answered, or memory was taken away.
    Moved,
    /// The peer has left.
    Left,
    /// Shutdown began.
    Stop,
    /// A timer is due.
    Due,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin, H: Handler> Connection<'a, S, H> {
    pub(super) fn new(
        link: Link<S>,
        handler: &'a H,
        options: &'a ServerOptions,
        budget: &'a Budget,
        peer: Arc<Peer>,
    ) -> Self {
        let heartbeat = options.heartbeat.filter(|_| peer.info.version >= (3, 1));
        let timers = Timers::new(heartbeat, options.write_timeout);
        Self {
            link,
            handler,
            options,
            peer,
            work: FuturesUnordered::new(),
            held: 0,
            ending: None,
            timers,
            claim: budget.claim(),
            budget,
            hungry: true,
        }
    }

    /// Serves until the peer leaves, or until `shutdown` and what is in work then is answered.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Result<(), ConnectionError> {
        let mut stop = pin!(shutdown.cancelled());
        loop {
            self.take_requests().await;
            // While the connection is ending bytes are read only to notice that the peer leaves.
            self.hungry = (self.find_room() && self.has_capacity()) || self.ending.is_some();
            if self.work.is_empty()
                && self.link.is_flushed()
                && let Some(end) = self.ending.take()
            {
                self.link.farewell(PARTING).await;
                return end;
            }
            match poll_fn(|cx| self.poll_progress(cx, stop.as_mut())).await? {
                Progress::Moved => {}
                Progress::Left => return Ok(()),
                Progress::Stop => self.end(Ok(())),
                Progress::Due => self.on_timer()?,
            }
        }
    }

    /// Takes no further requests and ends with `how` when those in work are answered.
    fn end(&mut self, how: Result<(), ConnectionError>) {
        if self.ending.is_none() {
            self.ending = Some(how);
            self.link.deafen();
            self.timers.end_by = Some(Instant::now() + self.options.drain_timeout);
        }
    }

    fn on_timer(&mut self) -> Result<(), ConnectionError> {
        match self.timers.due_now(Instant::now(), !self.hungry) {
            Due::Nothing => Ok(()),
            Due::Ping => {
                self.link.outbox.push_command(&Command::Ping { ttl: 0, context: Bytes::new() });
                Ok(())
            }
            Due::Dead => Err(ConnectionError::Dead),
            Due::NotReading => Err(ConnectionError::NotReading),
            Due::End => Err(ConnectionError::Undrained(self.work.len())),
        }
    }

    /// Whether the peer may give us more to do, or has to wait: back-pressure.
    fn has_capacity(&self) -> bool {
        self.work.len() < self.options.max_in_flight && self.held + self.link.outbox.len() < self.options.max_buffered
    }

    /// Whether there is memory for the next read. If not, the message that is arriving is given up, and perhaps there is then.
    fn find_room(&mut self) -> bool {
        self.claim.hold(self.held, self.link.held())
            || (self.link.refuse(self.budget.limit() as u64) && self.claim.hold(self.held, self.link.held()))
    }

    async fn take_requests(&mut self) {
        while self.ending.is_none() && self.has_capacity() {
            match self.link.decode() {
                Ok(None) => return,
                Ok(Some(Item::Command(command))) => {
                    if let Sign::Ttl(ttl) = self.link.react(command) {
                        self.timers.pulse.announce(ttl);
                    }
                }
                Ok(Some(Item::Message(mut frames))) => {
                    let body = frames.split_off(envelope_len(&frames).filter(|len| *len < frames.len()).unwrap_or(0));
                    self.take(frames, Ok(body)).await;
                }
                Ok(Some(Item::Rejected { envelope, why, last })) => {
                    self.take(envelope, Err(why)).await;
                    if last {
                        self.end(Err(ProtocolError::Undrainable(why).into()));
                    }
                }
                Err(error) => self.end(Err(error.into())),
            }
            // A peer that sends without pause must not keep the thread for itself.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Gives one request to the handler. What is answered at once goes straight to the outbox.
    async fn take(&mut self, envelope: Frames, body: Result<Frames, Rejected>) {
        self.claim.complete();
        let bytes: usize = body.iter().flatten().chain(&envelope).map(Bytes::len).sum();
        let cost = bytes + REQUEST_OVERHEAD;
        let reply = self.handler.handle(Request { body, peer: self.peer.clone() });
        let mut answer: BoxFuture<'a, Answer> = Box::pin(async move { Answer { body: reply.await, envelope, cost } });
        match poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await {
            Poll::Ready(answer) => self.link.outbox.push_reply(&answer.envelope, &answer.body),
            Poll::Pending => {
                self.held += cost;
                self.work.push(answer);
            }
        }
    }

    fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
        stop: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Poll<Result<Progress, ConnectionError>> {
        let mut moved = self.poll_write(cx)?;
        while self.link.outbox.len() < self.options.max_buffered
            && let Poll::Ready(Some(answer)) = self.work.poll_next_unpin(cx)
        {
            self.held -= answer.cost;
            self.link.outbox.push_reply(&answer.envelope, &answer.body);
            moved = true;
        }
        if moved {
            return Poll::Ready(Ok(Progress::Moved));
        }
        if self.ending.is_none() && stop.poll(cx).is_ready() {
            return Poll::Ready(Ok(Progress::Stop));
        }
        if self.timers.poll(cx).is_ready() {
            return Poll::Ready(Ok(Progress::Due));
        }
        if self.claim.poll_give_way(cx).is_ready() {
            return Poll::Ready(Ok(Progress::Moved));
        }
        if (self.hungry || self.link.can_read_ahead())
            && let Poll::Ready(read) = self.link.poll_read(cx)
        {
            return Poll::Ready(match read {
                Ok(0) => Ok(Progress::Left),
                Ok(_) => {
                    self.timers.hear();
                    if self.ending.is_some() {
                        self.link.inbox.clear();
                    }
                    Ok(Progress::Moved)
                }
                Err(error) if is_closed(&error) => Ok(Progress::Left),
                Err(error) => Err(error.into()),
            });
        }
        Poll::Pending
    }

    /// Writes what the peer takes; whether that was anything.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.link.is_flushed() {
            return Ok(false);
        }
        let written = self.link.poll_write(cx)?;
        self.timers.wrote(written, self.link.is_flushed());
        Ok(written > 0)
    }
}
