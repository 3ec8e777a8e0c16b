//! The client at the other end of an HTTP connection. One that ends its sending side may still wait for its answer (`nc -N` does) or
//! may be gone; the system tells the two apart only once something is sent, since a closed socket answers with a reset. So a client
//! that has ended its sending side while its request is in work is sent `100 Continue`, which every client of HTTP/1.1 reads past,
//! and its request is given up when the reset comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Version;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// First pause before, between and after questions to a client that has ended its sending side; doubled each time.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const QUESTION: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A handle to the connection, beside the one that speaks HTTP on it.
#[derive(Clone)]
pub(crate) struct Peer {
    stream: Arc<TcpStream>,
    /// Some of what was written waits for the client to read, so nothing may be put behind it yet.
    blocked: Arc<AtomicBool>,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), blocked: Arc::default() }
    }

    /// The connection for whoever speaks HTTP on it. Writing fails when the client takes nothing for as long as `patience`.
    pub(crate) fn io(&self, patience: Duration) -> PeerIo {
        PeerIo { peer: self.clone(), patience, stalled: None }
    }

    /// Waits until the client has ended its sending side.
    pub(crate) async fn half_closed(&self) {
        while let Ok(1..) = self.stream.peek(&mut [0]).await {
            // Something else was sent before the end and hides it.
            let seen = self.stream.ready(Interest::READABLE).now_or_never();
            if seen.is_some_and(|seen| seen.is_ok_and(|ready| ready.is_read_closed())) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// `answer`, unless the client leaves before. Nothing of the response may be written meanwhile.
    pub(crate) async fn unless_gone<T>(&self, version: Version, answer: impl Future<Output = T>) -> io::Result<T> {
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = self.gone(version) => {
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client left before it was answered"))
            }
        }
    }

    async fn gone(&self, version: Version) {
        self.half_closed().await;
        let mut pause = PAUSE;
        sleep(pause).await;
        // HTTP/1.0 has no interim responses, so its clients cannot be asked.
        while version >= Version::HTTP_11 && matches!(self.stream.take_error(), Ok(None)) {
            let blocked = self.blocked.load(Ordering::Relaxed);
            if !blocked && !matches!(self.stream.try_write(QUESTION), Ok(written) if written == QUESTION.len()) {
                return;
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

/// The bytes of the connection.
pub(crate) struct PeerIo {
    peer: Peer,
    patience: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl PeerIo {
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = &self.peer.stream;
        while stream.poll_write_ready(cx)?.is_ready() {
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.stalled = None;
                    self.peer.blocked.store(false, Ordering::Relaxed);
                    return Poll::Ready(written);
                }
            }
        }
        self.peer.blocked.store(true, Ordering::Relaxed);
        let patience = self.patience;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &self.peer.stream;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read(buf.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|count| buf.advance(count))),
            }
        }
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream| stream.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self.peer.stream, rustix::net::Shutdown::Write).map_err(io::Error::from))
    }
}
