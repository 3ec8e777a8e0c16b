//! Frames to messages, incrementally and within limits.
//!
//! ```text
//! flags (bit 0 MORE, bit 1 LONG, bit 2 COMMAND) │ length, 1 or 8 bytes │ body
//! ```
//! A message over a limit is not an end of the connection: its rest is read past without being kept, and it comes out as
//! [`Item::Rejected`] with its envelope, so that its sender can be told.

use bytes::{Buf, Bytes, BytesMut};

use super::Command;
use crate::{Frames, Limits, ProtocolError, Rejected};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Shortest read worth asking for.
const MIN_READ: usize = 4 << 10;
/// Most bytes asked for ahead of their arrival: an announced length alone takes no more memory than this.
const MAX_READ: usize = 256 << 10;

/// What came off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A command; it may come between the frames of a message.
    Command(Command),
    /// A whole message.
    Message(Frames),
    /// A message that broke a limit.
    Rejected {
        /// Its frames up to and including the first empty one; none where that did not come in time.
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
    skip: Option<Skip>,
    failed: Option<ProtocolError>,
}

/// A frame that is being read past.
#[derive(Debug, Clone, Copy)]
struct Skip {
    left: u64,
    more: bool,
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
        Self { limits, frames: Vec::new(), bytes: 0, count: 0, rejected: None, skip: None, failed: None }
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

    /// How many bytes to make room for before the next read into `src`, which holds what could not be decoded yet.
    pub fn room(&self, src: &BytesMut) -> usize {
        let wanted = match (self.skip, parse_header(src)) {
            (Some(skip), _) => skip.left,
            (None, Ok(Some(header))) => (header.size as u64 + header.len).saturating_sub(src.len() as u64),
            _ => 0,
        };
        wanted.clamp(MIN_READ as u64, MAX_READ as u64) as usize
    }

    fn advance(&mut self, src: &mut BytesMut) -> Result<Option<Item>, ProtocolError> {
        loop {
            if let Some(skip) = &mut self.skip {
                let now = skip.left.min(src.len() as u64);
                src.advance(now as usize);
                skip.left -= now;
                if skip.left > 0 {
                    return Ok(None);
                }
                let more = skip.more;
                self.skip = None;
                if !more {
                    return Ok(self.finish());
                }
            }
            let Some(header) = parse_header(src)? else { return Ok(None) };
            if header.flags & COMMAND != 0 {
                return self.command(src, header);
            }
            let more = header.flags & MORE != 0;
            // A frame is looked at once: when it is kept whole, or when its skipping begins.
            if self.over_limits(header.len) {
                src.advance(header.size);
                self.count(header.len);
                if self.bytes > self.limits.max_drained {
                    return Ok(self.give_up());
                }
                self.skip = Some(Skip { left: header.len, more });
                continue;
            }
            let len = header.len as usize;
            if src.len() < header.size + len {
                return Ok(None);
            }
            src.advance(header.size);
            self.count(header.len);
            self.frames.push(src.split_to(len).freeze());
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
                self.rejected = Some(Rejected::Oversized { len: bytes, limit: self.limits.max_message });
            } else if frames > self.limits.max_frames as u64 {
                self.rejected = Some(Rejected::TooManyFrames { frames, limit: self.limits.max_frames });
            }
            if self.rejected.is_some() {
                let envelope = envelope_len(&self.frames).unwrap_or(0);
                self.frames.truncate(envelope);
            }
        }
        self.rejected.is_some()
    }

    fn count(&mut self, len: u64) {
        self.bytes = self.bytes.saturating_add(len);
        self.count += 1;
        match &mut self.rejected {
            Some(Rejected::Oversized { len, .. }) => *len = self.bytes,
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
