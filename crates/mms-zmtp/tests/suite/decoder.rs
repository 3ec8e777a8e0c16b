//! The codec on valid, broken and arbitrary bytes, in any pieces.

use bytes::{Bytes, BytesMut};
use mms_zmtp::{
    Limits, Mechanism, ProtocolError, Rejected,
    codec::{Command, Decoder, Greeting, Item, Outbox},
};
use proptest::{collection::vec, prelude::*};

use crate::support::{drain, encoded, frames};

const LIMITS: Limits = Limits { max_message: 1000, max_frames: 8, max_drained: 5000, max_command: 300 };

/// Everything that comes out of `pieces`, and the error at the end.
fn decode_all(limits: Limits, pieces: &[&[u8]]) -> (Vec<Item>, Option<ProtocolError>) {
    let mut decoder = Decoder::new(limits);
    let (mut src, mut items) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        src.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut src) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Some(error)),
            }
        }
        assert!(decoder.room(&src) <= 256 << 10, "an announced length must not decide how much is allocated");
        assert!(src.len() as u64 <= 1009, "what is not decoded must be less than one frame within the limits");
    }
    (items, None)
}

/// `bytes` cut at the given points.
fn cut<'a>(bytes: &'a [u8], points: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = points.iter().map(|point| point.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn message() -> impl Strategy<Value = Vec<Bytes>> {
    vec(vec(any::<u8>(), 0..300).prop_map(Bytes::from), 1..12)
}

fn any_command() -> impl Strategy<Value = Command> {
    let short = || vec(any::<u8>(), 0..16).prop_map(Bytes::from);
    prop_oneof![
        vec(("[A-Za-z-]{1,20}", short()), 0..5).prop_map(Command::Ready),
        "[ -~]{0,200}".prop_map(Command::Error),
        (any::<u16>(), short()).prop_map(|(ttl, context)| Command::Ping { ttl, context }),
        short().prop_map(|context| Command::Pong { context }),
    ]
}

/// Streams that look like ZMTP most of the time.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => message().prop_map(|message| encoded(&message)),
        1 => any_command().prop_map(|command| {
            let mut outbox = Outbox::default();
            outbox.push_command(&command);
            drain(outbox)
        }),
        1 => vec(any::<u8>(), 0..40),
        1 => (0u8..9, any::<u64>()).prop_map(|(flags, len)| [&[flags], &len.to_be_bytes()[..]].concat()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_decodes_the_same(bytes in stream(), points in vec(any::<prop::sample::Index>(), 0..20)) {
        prop_assert_eq!(decode_all(LIMITS, &cut(&bytes, &points)), decode_all_unchecked(&bytes));
    }

    #[test]
    fn arbitrary_bytes_byte_by_byte(bytes in vec(any::<u8>(), 0..400)) {
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(decode_all(LIMITS, &single), decode_all_unchecked(&bytes));
    }

    #[test]
    fn what_comes_out_is_within_the_limits(bytes in stream()) {
        for item in decode_all_unchecked(&bytes).0 {
            match item {
                Item::Message(frames) | Item::Rejected { envelope: frames, .. } => {
                    prop_assert!(frames.len() <= LIMITS.max_frames);
                    prop_assert!(frames.iter().map(Bytes::len).sum::<usize>() as u64 <= LIMITS.max_message);
                }
                Item::Command(_) => {}
            }
        }
    }

    #[test]
    fn messages_roundtrip(messages in vec(message(), 0..6)) {
        let limits = Limits { max_message: 1 << 20, max_frames: 100, ..LIMITS };
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encoded(message)).collect();
        let mut src = BytesMut::from(&bytes[..]);
        let mut decoder = Decoder::new(limits);
        for message in messages {
            prop_assert_eq!(decoder.decode(&mut src), Ok(Some(Item::Message(message))));
        }
        prop_assert_eq!(decoder.decode(&mut src), Ok(None));
    }

    /// Frames around the size from which on they have a buffer of their own, behind each other and in any pieces.
    #[test]
    fn large_frames_roundtrip(
        messages in vec(vec(prop::sample::select(&[0usize, 5, 16_383, 16_384, 16_385, 70_000][..]), 1..5), 1..4),
        points in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let messages: Vec<Vec<Bytes>> = messages
            .iter()
            .map(|sizes| sizes.iter().map(|size| (0..*size).map(|at| (at % 251) as u8).collect()).collect())
            .collect();
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encoded(message)).collect();
        let limits = Limits { max_message: 1 << 20, ..LIMITS };
        let (mut decoder, mut src, mut came) = (Decoder::new(limits), BytesMut::new(), Vec::new());
        for piece in cut(&bytes, &points) {
            src.extend_from_slice(piece);
            while let Some(item) = decoder.decode(&mut src).expect("valid") {
                let Item::Message(message) = item else { panic!("not a message: {item:?}") };
                came.push(message);
            }
            prop_assert!(src.len() < 16_400, "a large frame does not wait in the read buffer");
        }
        prop_assert!(came == messages);
    }

    #[test]
    fn commands_roundtrip(command in any_command()) {
        let mut body = BytesMut::new();
        command.encode(&mut body);
        prop_assert_eq!(Command::decode(body.freeze()), Ok(command));
    }

    #[test]
    fn arbitrary_commands_do_not_panic(body in vec(any::<u8>(), 0..100), name in prop::sample::select(&["READY", "ERROR", "PING", "PONG", ""][..])) {
        let mut bytes = vec![name.len() as u8];
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&body);
        let _ = Command::decode(bytes.into());
    }

    #[test]
    fn arbitrary_greetings(bytes in vec(any::<u8>(), 0..80), signed in any::<bool>()) {
        let mut bytes = bytes;
        if signed && bytes.len() > 10 {
            (bytes[0], bytes[9], bytes[10]) = (0xFF, 0x7F, 3);
        }
        let whole = Greeting::decode(&mut BytesMut::from(&bytes[..]));
        // No shorter piece may say otherwise than "not yet".
        for len in 0..bytes.len().min(63) {
            match Greeting::decode(&mut BytesMut::from(&bytes[..len])) {
                Ok(early) => prop_assert_eq!(early, None),
                Err(_) => prop_assert!(whole.is_err()),
            }
        }
    }
}

fn decode_all_unchecked(bytes: &[u8]) -> (Vec<Item>, Option<ProtocolError>) {
    let (mut decoder, mut src, mut items) = (Decoder::new(LIMITS), BytesMut::from(bytes), Vec::new());
    loop {
        match decoder.decode(&mut src) {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

#[test]
fn a_terabyte_is_neither_awaited_nor_allocated() {
    let mut decoder = Decoder::new(LIMITS);
    let mut src = BytesMut::from(&encoded(&frames(&["", "x"]))[..3]);
    src.truncate(2);
    src.extend_from_slice(&[2]);
    src.extend_from_slice(&(1u64 << 40).to_be_bytes());
    let why = Rejected::Oversized { len: 1 << 40, limit: 1000 };
    let envelope = vec![Bytes::new()];
    assert_eq!(decoder.decode(&mut src), Ok(Some(Item::Rejected { envelope, why, last: true })));
    assert_eq!(decoder.decode(&mut src), Err(ProtocolError::Undrainable(why)));
    assert!(decoder.room(&src) <= 256 << 10);
}

#[test]
fn an_oversized_message_is_read_past() {
    let big = vec![b'x'; 3000];
    let mut bytes = encoded(&[Bytes::new(), big.into(), "rest".into()]);
    bytes.extend(encoded(&frames(&["", "next"])));
    let pieces: Vec<_> = bytes.chunks(7).collect();
    let why = Rejected::Oversized { len: 3004, limit: 1000 };
    let expected =
        vec![Item::Rejected { envelope: vec![Bytes::new()], why, last: false }, Item::Message(frames(&["", "next"]))];
    assert_eq!(decode_all(LIMITS, &pieces), (expected, None));
}

#[test]
fn frames_add_up_to_the_limit_of_the_message() {
    let frame = Bytes::from(vec![0; 400]);
    let (items, _) = decode_all_unchecked(&encoded(&[frame.clone(), frame.clone(), frame]));
    let why = Rejected::Oversized { len: 1200, limit: 1000 };
    assert_eq!(items, [Item::Rejected { envelope: vec![], why, last: false }]);
}

#[test]
fn too_many_frames_are_counted_to_the_end() {
    let mut message = frames(&["id", ""]);
    message.extend(std::iter::repeat_n(Bytes::from_static(b"f"), 20));
    let (items, _) = decode_all_unchecked(&encoded(&message));
    let why = Rejected::TooManyFrames { frames: 22, limit: 8 };
    assert_eq!(items, [Item::Rejected { envelope: frames(&["id", ""]), why, last: false }]);
}

#[test]
fn commands_come_between_the_frames_of_a_message() {
    let mut outbox = Outbox::default();
    outbox.push_raw(b"\x01\x01a");
    outbox.push_command(&Command::Pong { context: Bytes::new() });
    outbox.push_raw(b"\x00\x01b");
    let expected = vec![Item::Command(Command::Pong { context: Bytes::new() }), Item::Message(frames(&["a", "b"]))];
    assert_eq!(decode_all_unchecked(&drain(outbox)), (expected, None));
}

#[test]
fn long_form_is_valid_for_short_frames() {
    let bytes = b"\x02\0\0\0\0\0\0\0\x02hi";
    assert_eq!(decode_all_unchecked(bytes).0, [Item::Message(frames(&["hi"]))]);
}

#[test]
fn invalid_frames() {
    assert_eq!(decode_all_unchecked(b"\x08\x00").1, Some(ProtocolError::BadFlags(8)));
    assert_eq!(decode_all_unchecked(b"\x05\x00").1, Some(ProtocolError::BadFlags(5)), "a command has no MORE");
    let long = [&[6u8][..], &(301u64).to_be_bytes()].concat();
    assert_eq!(decode_all_unchecked(&long).1, Some(ProtocolError::CommandTooLong { len: 301, limit: 300 }));
    assert_eq!(decode_all_unchecked(b"\x04\x00").1, Some(ProtocolError::BadCommand("unnamed")));
    assert_eq!(decode_all_unchecked(b"\x04\x02\x09x").1, Some(ProtocolError::BadCommand("unnamed")));
}

#[test]
fn greetings() {
    let ours = Greeting::ours(Mechanism::Null);
    let mut src = BytesMut::from(&ours.encode()[..]);
    assert_eq!(Greeting::decode(&mut src), Ok(Some(ours)));
    assert!(src.is_empty());
    // As libzmq 4.3 pads it, with CURVE as a server.
    let mut bytes = [0; 64];
    (bytes[0], bytes[8], bytes[9], bytes[10], bytes[32]) = (0xFF, 1, 0x7F, 3, 1);
    bytes[12..17].copy_from_slice(b"CURVE");
    let expected = Greeting { version: (3, 0), mechanism: "CURVE".into(), as_server: true };
    assert_eq!(Greeting::decode(&mut BytesMut::from(&bytes[..])), Ok(Some(expected)));
    let decode = |bytes: &[u8]| Greeting::decode(&mut BytesMut::from(bytes));
    assert_eq!(decode(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01"), Err(ProtocolError::OldVersion(2)));
    assert!(matches!(decode(b"GET / HTTP/1.1\r\n"), Err(ProtocolError::NotZmtp { .. })));
    assert!(matches!(decode(b"\xff\0\0\0\0\0\0\0\x01\x7e"), Err(ProtocolError::NotZmtp { .. })));
}
