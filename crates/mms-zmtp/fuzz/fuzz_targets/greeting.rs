//! Any bytes as a greeting and as the body of a command.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mms_zmtp::codec::{Command, Greeting};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(greeting)) = Greeting::decode(&mut BytesMut::from(data)) {
        assert!(greeting.version.0 >= 3);
    }
    if let Ok(command) = Command::decode(Bytes::copy_from_slice(data)) {
        let mut body = BytesMut::new();
        command.encode(&mut body);
    }
});
