//! What is still to be sent to a peer: small frames gathered in one buffer, large ones kept as they are.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Command;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Frames from this size on are not copied.
const LARGE: usize = 8 << 10;

/// Encoded frames in order; a [`Buf`] over bytes yet to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Outbox {
    /// Bytes yet to be written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends bytes as they are.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends one message; without frames it is sent as one empty frame.
    pub fn push_message<'a>(&mut self, frames: impl IntoIterator<Item = &'a Bytes>) {
        let mut frames = frames.into_iter();
        let mut current = frames.next();
        if current.is_none() {
            self.push_header(0, 0);
        }
        while let Some(frame) = current {
            current = frames.next();
            self.push_frame(if current.is_some() { MORE } else { 0 }, frame);
        }
    }

    /// Appends a reply: the envelope as it came, then the body, at least one frame of it.
    pub fn push_reply(&mut self, envelope: &[Bytes], body: &[Bytes]) {
        let empty = [Bytes::new()];
        self.push_message(envelope.iter().chain(if body.is_empty() { &empty } else { body }));
    }

    /// Appends one command.
    pub fn push_command(&mut self, command: &Command) {
        let mut body = BytesMut::new();
        command.encode(&mut body);
        self.push_frame(COMMAND, &body.freeze());
    }

    fn push_frame(&mut self, flags: u8, body: &Bytes) {
        self.push_header(flags, body.len());
        if body.len() < LARGE {
            self.tail.put_slice(body);
        } else {
            if !self.tail.is_empty() {
                self.queue.push_back(self.tail.split().freeze());
            }
            self.queue.push_back(body.clone());
        }
        self.len += body.len();
    }

    fn push_header(&mut self, flags: u8, len: usize) {
        if let Ok(short) = u8::try_from(len) {
            self.tail.put_slice(&[flags, short]);
            self.len += 2;
        } else {
            self.tail.put_u8(flags | LONG);
            self.tail.put_u64(len as u64);
            self.len += 9;
        }
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.queue.front().map_or(&self.tail[..], |front| &front[..])
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let chunks =
            self.queue.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]]).filter(|chunk| !chunk.is_empty());
        let mut filled = 0;
        for (slot, chunk) in dst.iter_mut().zip(chunks) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(front) = self.queue.front_mut() {
            let now = count.min(front.len());
            front.advance(now);
            count -= now;
            if !front.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            // Begin at the front of the buffer again.
            self.tail.clear();
        }
    }
}
