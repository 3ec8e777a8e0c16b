//! Many requests at a time over one connection, told apart by an id in their envelopes.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::dial::dial;
use crate::{
    ClientOptions, ConnectError, Frames, PeerInfo, RequestError, SocketType,
    codec::{Command, Item, envelope_len},
    link::{Link, Sign},
    pulse::{Beat, Pulse},
};

/// Unsent bytes beyond which requests wait.
const MAX_UNSENT: usize = 4 << 20;
/// Requests that may wait between their callers and the task.
const QUEUED: usize = 64;

/// A DEALER peer. Clones share the connection; a task of its own serves it and ends with the last clone.
#[derive(Debug, Clone)]
pub struct Dealer {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Frames>,
}

type Waiting = HashMap<Bytes, oneshot::Sender<Result<Frames, RequestError>>>;

#[derive(Debug)]
struct Shared {
    peer: PeerInfo,
    next_id: AtomicU64,
    /// Bounds the requests in work, and with them the map.
    permits: Semaphore,
    waiting: Mutex<Waiting>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a request whose caller does not wait any longer; its late reply is dropped.
struct Forget<'a>(&'a Shared, Bytes);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

impl Dealer {
    /// Connects to `tcp://host:port` or `host:port`.
    pub async fn connect(endpoint: &str, options: ClientOptions) -> Result<Self, ConnectError> {
        let (link, peer) = dial(endpoint, SocketType::Dealer, &options).await?;
        let heartbeat = options.heartbeat.filter(|_| peer.version >= (3, 1));
        let shared = Arc::new(Shared {
            peer,
            next_id: AtomicU64::new(1),
            permits: Semaphore::new(options.max_in_flight),
            waiting: Mutex::default(),
        });
        let (outgoing, requests) = mpsc::channel(QUEUED);
        let pulse = Pulse::new(heartbeat, Instant::now());
        let mut courier = Courier { link, requests, shared: shared.clone(), pulse, done: false };
        tokio::spawn(async move {
            let outcome = courier.run().await;
            // First nothing new can come in, then all that waits is told.
            drop(courier.requests);
            courier.shared.waiting().clear();
            if let Err(error) = outcome {
                tracing::debug!(%error, "dealer connection ended");
            }
        });
        Ok(Self { shared, outgoing })
    }

    /// Sends `body` and waits for the body of its reply; others can be sent meanwhile. A lost connection fails what waits
    /// with [`RequestError::Closed`], and the connection is not made again.
    pub async fn request(&self, body: Frames, patience: Duration) -> Result<Frames, RequestError> {
        let exchange = async {
            let _permit = self.shared.permits.acquire().await.map_err(|_| RequestError::Closed)?;
            let id = Bytes::copy_from_slice(&self.shared.next_id.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            let (reply, replied) = oneshot::channel();
            self.shared.waiting().insert(id.clone(), reply);
            let forget = Forget(&self.shared, id);
            let body = if body.is_empty() { vec![Bytes::new()] } else { body };
            let message = [forget.1.clone(), Bytes::new()].into_iter().chain(body).collect();
            self.outgoing.send(message).await.map_err(|_| RequestError::Closed)?;
            replied.await.unwrap_or(Err(RequestError::Closed))
        };
        timeout(patience, exchange).await.unwrap_or(Err(RequestError::Timeout { after: patience }))
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.outgoing.is_closed()
    }

    /// The server, as it presented itself.
    pub fn peer(&self) -> &PeerInfo {
        &self.shared.peer
    }
}

/// The task that owns the connection.
struct Courier {
    link: Link<TcpStream>,
    requests: mpsc::Receiver<Frames>,
    shared: Arc<Shared>,
    pulse: Pulse,
    done: bool,
}

impl Courier {
    /// Until the last [`Dealer`] is dropped, or the connection is lost.
    async fn run(&mut self) -> Result<(), RequestError> {
        let mut timer: Option<std::pin::Pin<Box<Sleep>>> = None;
        while !self.done {
            while let Some(item) = self.link.decode()? {
                self.deliver(item);
            }
            match self.pulse.beat(Instant::now()) {
                Beat::Nothing => {}
                Beat::Ping => self.link.outbox.push_command(&Command::Ping { ttl: 0, context: Bytes::new() }),
                Beat::Dead => return Err(RequestError::Closed),
            }
            if let Some(due) = self.pulse.due() {
                timer.get_or_insert_with(|| Box::pin(sleep_until(due))).as_mut().reset(due);
            }
            poll_fn(|cx| {
                let due = timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                let moved = self.poll_progress(cx);
                if due && moved.is_pending() { Poll::Ready(Ok(())) } else { moved }
            })
            .await?;
        }
        Ok(())
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let mut moved = !self.link.is_flushed() && self.link.poll_write(cx)? > 0;
        while !self.done && self.link.outbox.len() < MAX_UNSENT {
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(message)) => self.link.outbox.push_message(&message),
                Poll::Ready(None) => self.done = true,
                Poll::Pending => break,
            }
            moved = true;
        }
        match self.link.poll_read(cx) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(RequestError::Closed)),
            Poll::Ready(Ok(_)) => {
                self.pulse.hear(Instant::now());
                moved = true;
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(io::Error::into(error))),
            Poll::Pending => {}
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn deliver(&mut self, item: Item) {
        let (mut frames, rejected) = match item {
            Item::Message(frames) => (frames, None),
            Item::Rejected { envelope, why, .. } => (envelope, Some(why)),
            Item::Command(command) => {
                if let Sign::Ttl(ttl) = self.link.react(command) {
                    self.pulse.announce(ttl);
                }
                return;
            }
        };
        let Some(waiting) = frames.first().and_then(|id| self.shared.waiting().remove(id)) else { return };
        let outcome = match rejected {
            Some(why) => Err(RequestError::Rejected(why)),
            // The envelope is our id and the delimiter; a server that lost the delimiter is understood too.
            None => Ok(frames.split_off(if envelope_len(&frames) == Some(2) && frames.len() > 2 { 2 } else { 1 })),
        };
        // Its caller may have left between; then nobody wants the reply.
        let _ = waiting.send(outcome);
    }
}
