//! Any bytes, in pieces of the size that their first byte says: the decoder neither panics nor keeps more than its limits allow, and the
//! pieces make no difference.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mms_zmtp::{
    Limits, ProtocolError,
    codec::{Decoder, Item},
};

/// Large enough for frames that have a buffer of their own.
const LIMITS: Limits = Limits { max_message: 100_000, max_frames: 8, max_drained: 500_000, max_command: 300 };

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Item>, Option<ProtocolError>) {
    let (mut decoder, mut src, mut items) = (Decoder::new(LIMITS), BytesMut::new(), Vec::new());
    for piece in pieces {
        src.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut src) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Some(error)),
            }
        }
        assert!(decoder.room(&src) <= 256 << 10);
    }
    (items, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_first() else { return };
    let (items, error) = decode(std::iter::once(bytes));
    for item in &items {
        if let Item::Message(frames) | Item::Rejected { envelope: frames, .. } = item {
            assert!(frames.len() <= LIMITS.max_frames);
            assert!(frames.iter().map(|frame| frame.len() as u64).sum::<u64>() <= LIMITS.max_message);
        }
    }
    assert_eq!((items, error), decode(bytes.chunks(usize::from(*size).max(1))));
});
