//! A stream with its buffers and decoder: what server, clients and probe have in common.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::{
    Limits, ProtocolError,
    codec::{Command, Decoder, Item, Outbox},
};

/// Smallest and largest buffer space offered to one read of small messages.
const READ_SIZES: (usize, usize) = (4 << 10, 64 << 10);

/// Bytes in the inbox from which on nothing is read ahead of decoding.
const READ_AHEAD: usize = 16 << 10;
/// Unsent bytes from which on a PING gets no PONG: a peer that sends them without reading must not fill our memory.
const MAX_UNREAD: usize = 4 << 20;
/// Keeps nothing.
const NOTHING: Limits = Limits { max_message: 0, max_frames: 0, max_drained: 0, max_command: 0 };

#[derive(Debug)]
pub(crate) struct Link<S> {
    stream: S,
    pub(crate) inbox: BytesMut,
    pub(crate) outbox: Outbox,
    decoder: Decoder,
    read_size: usize,
    unflushed: bool,
}

/// What to make of a command outside the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing but a sign of life.
    Alive,
    /// The peer announced that it will not be silent for longer than this.
    Ttl(Duration),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// A link before its handshake: commands are read up to `max_command`, messages are not kept.
    pub(crate) fn new(stream: S, already_read: &[u8], max_command: usize) -> Self {
        let limits = Limits { max_command, ..NOTHING };
        Self {
            stream,
            inbox: BytesMut::from(already_read),
            outbox: Outbox::default(),
            decoder: Decoder::new(limits),
            read_size: READ_SIZES.0,
            unflushed: false,
        }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// The handshake is over, messages within `limits` are welcome.
    pub(crate) fn open(&mut self, limits: Limits) {
        self.decoder = Decoder::new(limits);
    }

    pub(crate) fn decode(&mut self) -> Result<Option<Item>, ProtocolError> {
        self.decoder.decode(&mut self.inbox)
    }

    /// Answers what needs an answer, unless the peer reads nothing anyway.
    pub(crate) fn react(&mut self, command: Command) -> Sign {
        match command {
            Command::Ping { ttl, context } => {
                if self.outbox.len() < MAX_UNREAD {
                    self.outbox.push_command(&Command::Pong { context });
                }
                if ttl == 0 { Sign::Alive } else { Sign::Ttl(Duration::from_millis(u64::from(ttl) * 100)) }
            }
            _ => Sign::Alive,
        }
    }

    /// Memory of the unfinished message after the next read.
    pub(crate) fn held(&self) -> usize {
        self.decoder.held()
    }

    /// Gives up the unfinished message; false when there is none to give up.
    pub(crate) fn refuse(&mut self, budget: u64) -> bool {
        self.decoder.refuse(budget)
    }

    /// Nothing more will be decoded: drops what was to be. What is read from now on may be dropped too.
    pub(crate) fn deafen(&mut self) {
        self.inbox = BytesMut::new();
        self.open(NOTHING);
    }

    /// Whether a read now takes only a little memory although nothing is decoded.
    pub(crate) fn can_read_ahead(&self) -> bool {
        self.inbox.len() < READ_AHEAD && !self.decoder.in_large_frame()
    }

    /// Reads once, into the inbox or the large frame that is coming; 0 is the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(mut frame) = self.decoder.large_frame() {
            debug_assert!(self.inbox.is_empty(), "bytes in front would be overtaken");
            return poll_read_buf(Pin::new(&mut self.stream), cx, &mut frame);
        }
        let room = self.decoder.room(&self.inbox).max(self.read_size);
        self.inbox.reserve(room);
        let got = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbox))?;
        let (least, most) = READ_SIZES;
        // A full buffer tells of more to come; a nearly empty one need not be that large.
        self.read_size =
            if got >= room { (self.read_size * 2).min(most) } else { (got * 2).clamp(least, self.read_size) };
        Poll::Ready(Ok(got))
    }

    /// Writes as much of the outbox as the stream takes now, and gives how much that was. Wakes the task when it takes more.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut written = 0;
        while self.outbox.has_remaining() {
            match poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.outbox) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    written += count;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(written),
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(written)
    }

    /// Whether everything has left.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Writes the whole outbox.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self.poll_write(cx) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) if self.is_flushed() => Poll::Ready(Ok(())),
            Ok(_) => Poll::Pending,
        })
        .await
    }

    /// Reads once, and writes meanwhile.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|cx| {
            if let Err(error) = self.poll_write(cx) {
                return Poll::Ready(Err(error));
            }
            self.poll_read(cx)
        })
        .await
    }

    /// Sends what is left, ends the stream, and reads on for a moment: closing with unread bytes would make the system drop what the peer
    /// has not read yet.
    pub(crate) async fn farewell(mut self, patience: Duration) {
        let goodbye = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            loop {
                self.inbox.clear();
                if self.read().await? == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        // Nobody is left to be told about a failure here.
        let _ = tokio::time::timeout(patience, goodbye).await;
    }
}
