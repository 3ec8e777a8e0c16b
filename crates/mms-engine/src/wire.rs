//! The socket to the host: frames of a 4-byte big-endian length and JSON, one thread that reads and one that writes.
//!
//! The reader thread does nothing that can block but reading. So the end of the socket ends the process at any moment, also during
//! a long load or decode, and no worker outlives its host; broken frames act at once for the same reason, and so does `Shutdown`, unless
//! there are states to save.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use mms_protocol::worker::{EXIT_PROTOCOL, MAX_FRAME_BYTES, ToHost, ToWorker};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::kv::Notice;
use crate::prompts::Prepared;
use crate::sys::exit_now;

/// Messages that may wait for a host that does not read. Then the engine waits, and with it the heartbeat.
const MOST_UNSENT: usize = 4096;

/// What the engine's thread is told.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message of the host and when it came.
    Host { message: ToWorker, at: Instant },
    /// A prompt has become tokens.
    Prepared(Prepared),
    /// Something about states on disk.
    Store(Notice),
}

/// Where the engine's thread is told, and the way there for other threads.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) incoming: Receiver<Incoming>,
    pub(crate) sender: Sender<Incoming>,
    pub(crate) farewell: Farewell,
}

/// The time that this worker gets to end by itself when it is told to; none at first, so it ends at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Farewell(Arc<AtomicU64>);

impl Farewell {
    /// From now on it gets so many milliseconds.
    pub(crate) fn grant(&self, milliseconds: u64) {
        self.0.store(milliseconds, Ordering::Relaxed);
    }

    /// It is told to end: at once, or after its time at the latest.
    fn begin(&self) {
        let time = Duration::from_millis(self.0.load(Ordering::Relaxed));
        let last = thread::Builder::new().name("farewell".into());
        let watched = !time.is_zero()
            && last
                .spawn(move || {
                    thread::sleep(time);
                    exit_now(0)
                })
                .is_ok();
        if !watched {
            exit_now(0);
        }
    }
}

/// Where messages to the host go; clones share the socket.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(SyncSender<Outgoing>);

enum Outgoing {
    Messages(Vec<ToHost>),
    /// Answered when everything before it has been written.
    Flush(Sender<()>),
}

impl Outbox {
    /// Never fails: without a host the process ends.
    pub(crate) fn send(&self, message: ToHost) {
        self.send_all(vec![message]);
    }

    /// The same of several: both processes wake up once.
    pub(crate) fn send_all(&self, messages: Vec<ToHost>) {
        if !messages.is_empty() && self.0.send(Outgoing::Messages(messages)).is_err() {
            exit_now(0);
        }
    }

    /// Waits until everything sent so far is written.
    pub(crate) fn flush(&self) {
        let (done, wait) = channel();
        if self.0.send(Outgoing::Flush(done)).is_ok() {
            let _closed = wait.recv();
        }
    }
}

/// Starts both threads.
pub(crate) fn start(socket: UnixStream) -> io::Result<(Outbox, Inbox)> {
    let reading = socket.try_clone()?;
    let (sender, incoming) = channel();
    let (to_engine, farewell) = (sender.clone(), Farewell::default());
    let told = farewell.clone();
    let (outbox, to_write) = sync_channel(MOST_UNSENT);
    thread::Builder::new().name("wire-read".into()).spawn(move || read_all(reading, &to_engine, &told))?;
    thread::Builder::new().name("wire-write".into()).spawn(move || write_all(socket, &to_write))?;
    Ok((Outbox(outbox), Inbox { incoming, sender, farewell }))
}

fn read_all(mut socket: UnixStream, to_engine: &Sender<Incoming>, farewell: &Farewell) {
    let mut buffer = Vec::new();
    loop {
        // Linux wakes a reader of a Unix socket whenever the other side has read, too, and each wake takes a core from the model's
        // threads. Whoever polls is woken only by what there is to read.
        wait_for_bytes(&socket);
        match read_frame(&mut socket, &mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => refuse(&error),
            Err(error) => {
                tracing::debug!(%error, "the host is gone");
                exit_now(0);
            }
        }
        let message = match serde_json::from_slice(&buffer) {
            Ok(message) => {
                if message == ToWorker::Shutdown {
                    farewell.begin();
                }
                message
            }
            Err(error) => refuse(&error),
        };
        if to_engine.send(Incoming::Host { message, at: Instant::now() }).is_err() {
            return;
        }
        // One large prompt must not keep its memory forever.
        buffer.shrink_to(1 << 20);
    }
}

/// What is wrong with the socket shows when it is read.
fn wait_for_bytes(socket: &UnixStream) {
    while let Err(Errno::INTR) = poll(&mut [PollFd::new(socket, PollFlags::IN)], None) {}
}

/// Reads one frame's body into `buffer`. The length is checked before any memory is taken.
fn read_frame(socket: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        let what = format!("a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    buffer.resize(length, 0);
    socket.read_exact(buffer)
}

fn refuse(error: &dyn std::fmt::Display) -> ! {
    tracing::error!(%error, "the host sent what this worker does not understand; ending");
    exit_now(EXIT_PROTOCOL)
}

fn write_all(mut socket: UnixStream, to_write: &Receiver<Outgoing>) {
    let mut buffer = Vec::with_capacity(1 << 16);
    while let Ok(first) = to_write.recv() {
        // Everything that is waiting goes out in one write.
        let mut flushed = Vec::new();
        for outgoing in std::iter::once(first).chain(to_write.try_iter().take(256)) {
            match outgoing {
                Outgoing::Messages(messages) => messages.iter().for_each(|message| push_frame(message, &mut buffer)),
                Outgoing::Flush(done) => flushed.push(done),
            }
        }
        if let Err(error) = socket.write_all(&buffer) {
            tracing::debug!(%error, "the host is gone");
            exit_now(0);
        }
        buffer.clear();
        buffer.shrink_to(1 << 20);
        for done in flushed {
            let _nobody_waits = done.send(());
        }
    }
}

fn push_frame(message: &ToHost, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    buffer.extend([0; 4]);
    if let Err(error) = serde_json::to_writer(&mut *buffer, message) {
        tracing::error!(%error, "a message cannot be written; ending");
        exit_now(EXIT_PROTOCOL);
    }
    let length = u32::try_from(buffer.len() - start - 4).unwrap_or(u32::MAX);
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use mms_protocol::worker::{MAX_FRAME_BYTES, ToHost};

    use super::{push_frame, read_frame};

    #[test]
    fn a_frame_and_back() {
        let mut bytes = Vec::new();
        let message = ToHost::Loading { fraction: 0.5 };
        push_frame(&message, &mut bytes);
        push_frame(&message, &mut bytes);
        let mut read = bytes.as_slice();
        let mut buffer = Vec::new();
        for _ in 0..2 {
            read_frame(&mut read, &mut buffer).expect("a whole frame");
            assert_eq!(serde_json::from_slice::<ToHost>(&buffer).expect("a message"), message);
        }
        assert!(read_frame(&mut read, &mut buffer).is_err());
    }

    #[test]
    fn a_length_is_checked_before_memory_is_taken() {
        let mut buffer = Vec::new();
        let length = u32::try_from(MAX_FRAME_BYTES + 1).expect("fits");
        let error = read_frame(&mut length.to_be_bytes().as_slice(), &mut buffer).expect_err("too long");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(buffer.capacity(), 0);
    }
}
