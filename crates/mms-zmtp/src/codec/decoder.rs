//! Frames to messages, incrementally and within limits.
//!
//! ```text
//! flags (bit 0 MORE, bit 1 LONG, bit 2 COMMAND) │ length, 1 or 8 bytes │ body
//! ```
//! Small frames are copied out of the read buffer, so that one which is kept does not keep that buffer; a large one is collected in a buffer
//! of its own, which grows with what arrives.
//!
//! A message over a limit is not an end of the connection: its rest is read past without being kept, and it comes out as
//! [`Item::Rejected`] with its envelope, so that its sender can be told.

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Limit};

use super::Command;
use crate::{Frames, Limits, ProtocolError, Rejected};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Shortest read worth asking for.
const MIN_READ: usize = 4 << 10;
/// Longest read into the buffer that is common to all frames.
const MAX_READ: usize = 64 << 10;
/// Frames from this size on have a buffer of their own.
const LARGE: usize = 16 << 10;
/// Most bytes that such a buffer grows by ahead of their arrival, until it is so large that half of it is more.
const GROWTH: usize = 256 << 10;
/// Largest envelope of a rejected message that is kept for the reply; those of ZeroMQ have a few hundred bytes.
const MAX_ENVELOPE: usize = 16 << 10;
/// What a frame takes besides its bytes.
const FRAME_OVERHEAD: usize = size_of::<Bytes>();

/// What came off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A command; it may come between the frames of a message.
    Command(Command),
    /// A whole message.
    Message(Frames),
    /// A message that broke a limit.
    Rejected {
        /// Its frames up to and including the first empty one; none where that did not come in time, or came after more bytes than an
        /// envelope has.
        envelope: Frames,
        /// The limit.
        why: Rejected,
        /// Whether the rest of it is too long to be read past: the next call fails, nothing more can be read.
        last: bool,
    },
}

/// The state between two pieces of a byte stream.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    frames: Frames,
    /// Bytes and frames of the message so far, kept or not.
    bytes: u64,
    count: u64,
    rejected: Option<Rejected>,
    body: Option<Body>,
    failed: Option<ProtocolError>,
}

/// A frame whose header has been read and whose body has not come whole.
#[derive(Debug)]
enum Body {
    /// A large frame.
    Kept { buf: Vec<u8>, len: usize, more: bool },
    /// A frame that is read past.
    Skipped { left: u64, more: bool },
}

#[derive(Debug, Clone, Copy)]
struct Header {
    flags: u8,
    size: usize,
    len: u64,
}

impl Decoder {
    /// A decoder at the beginning of a frame.
    pub fn new(limits: Limits) -> Self {
        Self { limits, frames: Vec::new(), bytes: 0, count: 0, rejected: None, body: None, failed: None }
    }

    /// Takes the next item from `src`; `None` when more bytes are needed. After an error every call gives that error.
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Item>, ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = self.advance(src);
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }

    /// How many bytes to make room for before the next read into `src`, which holds what is not decoded yet.
    pub fn room(&self, src: &BytesMut) -> usize {
        let wanted = match (&self.body, parse_header(src)) {
            (Some(Body::Skipped { left, .. }), _) => *left,
            (Some(Body::Kept { buf, len, .. }), _) => (len - buf.len()) as u64,
            (None, Ok(Some(header))) => {
                (header.size as u64).saturating_add(header.len).saturating_sub(src.len() as u64)
            }
            (None, _) => 0,
        };
        wanted.clamp(MIN_READ as u64, MAX_READ as u64) as usize
    }

    /// Memory of the unfinished message after the next read; of a rejected one nothing but its small envelope is kept.
    pub(crate) fn held(&self) -> usize {
        if self.rejected.is_some() {
            return 0;
        }
        let announced = self.bytes as usize + self.count as usize * FRAME_OVERHEAD;
        match &self.body {
            Some(Body::Kept { buf, len, .. }) if buf.len() == buf.capacity() => {
                announced - len + grown(buf.len(), *len)
            }
            Some(Body::Kept { buf, len, .. }) => announced - len + buf.capacity(),
            _ => announced,
        }
    }

    pub(crate) fn in_large_frame(&self) -> bool {
        matches!(self.body, Some(Body::Kept { .. }))
    }

    /// Where the next bytes belong when they are part of a large frame, which they then can be read into directly.
    pub(crate) fn large_frame(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        let Some(Body::Kept { buf, len, .. }) = &mut self.body else { return None };
        if buf.len() == buf.capacity() {
            buf.reserve_exact(grown(buf.len(), *len) - buf.len());
        }
        let left = *len - buf.len();
        Some(buf.limit(left))
    }

    /// Gives up the unfinished message because the memory for it, `budget` bytes for many connections, is used up: what came of it is dropped
    /// now, the rest read past. False when there is no such message, or it was given up before.
    pub(crate) fn refuse(&mut self, budget: u64) -> bool {
        if self.count == 0 || self.rejected.is_some() {
            return false;
        }
        self.reject(Rejected::NoRoom { len: self.bytes, budget });
        if let Some(Body::Kept { buf, len, more }) = &self.body {
            self.body = Some(Body::Skipped { left: (len - buf.len()) as u64, more: *more });
        }
        true
    }

    fn advance(&mut self, src: &mut BytesMut) -> Result<Option<Item>, ProtocolError> {
        loop {
            match self.body.take() {
                None => {}
                Some(Body::Skipped { left, more }) => {
                    let now = left.min(src.len() as u64);
                    src.advance(now as usize);
                    if now < left {
                        self.body = Some(Body::Skipped { left: left - now, more });
                        return Ok(None);
                    }
                    if !more {
                        return Ok(self.finish());
                    }
                }
                Some(Body::Kept { mut buf, len, more }) => {
                    let now = src.len().min(len - buf.len());
                    buf.reserve_exact(now);
                    buf.extend_from_slice(&src[..now]);
                    src.advance(now);
                    if buf.len() < len {
                        self.body = Some(Body::Kept { buf, len, more });
                        return Ok(None);
                    }
                    self.frames.push(buf.into());
                    if !more {
                        return Ok(self.finish());
                    }
                }
            }
            let Some(header) = parse_header(src)? else { return Ok(None) };
            if header.flags & COMMAND != 0 {
                return self.command(src, header);
            }
            let more = header.flags & MORE != 0;
            // A frame is looked at once: when it is kept whole, or when its body begins.
            if self.over_limits(header.len) {
                src.advance(header.size);
                self.count(header.len);
                if self.bytes > self.limits.max_drained {
                    return Ok(self.give_up());
                }
                self.body = Some(Body::Skipped { left: header.len, more });
                continue;
            }
            let len = header.len as usize;
            if len >= LARGE {
                src.advance(header.size);
                self.count(header.len);
                self.body = Some(Body::Kept { buf: Vec::new(), len, more });
                continue;
            }
            if src.len() < header.size + len {
                return Ok(None);
            }
            src.advance(header.size);
            self.count(header.len);
            self.frames.push(Bytes::copy_from_slice(&src[..len]));
            src.advance(len);
            if !more {
                return Ok(self.finish());
            }
        }
    }

    /// Whether a further frame of `len` bytes is over a limit, or the message already was.
    fn over_limits(&mut self, len: u64) -> bool {
        if self.rejected.is_none() {
            let (bytes, frames) = (self.bytes.saturating_add(len), self.count + 1);
            if bytes > self.limits.max_message {
                self.reject(Rejected::Oversized { len: bytes, limit: self.limits.max_message });
            } else if frames > self.limits.max_frames as u64 {
                self.reject(Rejected::TooManyFrames { frames, limit: self.limits.max_frames });
            }
        }
        self.rejected.is_some()
    }

    /// From here on nothing of the message is kept but its envelope.
    fn reject(&mut self, why: Rejected) {
        self.rejected = Some(why);
        let envelope = envelope_len(&self.frames)
            .filter(|len| self.frames[..*len].iter().map(Bytes::len).sum::<usize>() <= MAX_ENVELOPE);
        self.frames.truncate(envelope.unwrap_or(0));
    }

    fn count(&mut self, len: u64) {
        self.bytes = self.bytes.saturating_add(len);
        self.count += 1;
        match &mut self.rejected {
            Some(Rejected::Oversized { len, .. } | Rejected::NoRoom { len, .. }) => *len = self.bytes,
            Some(Rejected::TooManyFrames { frames, .. }) => *frames = self.count,
            None => {}
        }
    }

    fn finish(&mut self) -> Option<Item> {
        (self.bytes, self.count) = (0, 0);
        let frames = std::mem::take(&mut self.frames);
        Some(match self.rejected.take() {
            None => Item::Message(frames),
            Some(why) => Item::Rejected { envelope: frames, why, last: false },
        })
    }

    fn give_up(&mut self) -> Option<Item> {
        let envelope = std::mem::take(&mut self.frames);
        let why = self.rejected.take()?;
        self.failed = Some(ProtocolError::Undrainable(why));
        Some(Item::Rejected { envelope, why, last: true })
    }

    fn command(&mut self, src: &mut BytesMut, header: Header) -> Result<Option<Item>, ProtocolError> {
        let limit = self.limits.max_command;
        if header.len > limit as u64 {
            return Err(ProtocolError::CommandTooLong { len: header.len, limit });
        }
        let len = header.len as usize;
        if src.len() < header.size + len {
            return Ok(None);
        }
        src.advance(header.size);
        // Copied, so that a property that is kept does not keep the read buffer.
        let body = Bytes::copy_from_slice(&src.split_to(len));
        Command::decode(body).map(|command| Some(Item::Command(command)))
    }
}

/// How large the buffer of a large frame, full with `have` bytes, becomes on its way to `len` bytes.
fn grown(have: usize, len: usize) -> usize {
    len.min(have + GROWTH.max(have / 2))
}

/// How many leading frames are the envelope: up to and including the first empty one.
pub(crate) fn envelope_len(frames: &[Bytes]) -> Option<usize> {
    frames.iter().position(Bytes::is_empty).map(|delimiter| delimiter + 1)
}

fn parse_header(src: &[u8]) -> Result<Option<Header>, ProtocolError> {
    let Some(&flags) = src.first() else { return Ok(None) };
    if flags > (MORE | LONG | COMMAND) || flags & (MORE | COMMAND) == MORE | COMMAND {
        return Err(ProtocolError::BadFlags(flags));
    }
    Ok(if flags & LONG == 0 {
        src.get(1).map(|len| Header { flags, size: 2, len: (*len).into() })
    } else {
        src[1..].first_chunk().map(|len| Header { flags, size: 9, len: u64::from_be_bytes(*len) })
    })
}
