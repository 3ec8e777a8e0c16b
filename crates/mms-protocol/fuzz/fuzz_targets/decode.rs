//! Any bytes are decoded and refused or accepted, and the refusal can always be written as a reply. Run:
//! `cargo +nightly fuzz run decode` in `crates/mms-protocol`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mms_protocol::{Inbound, Profile, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    for profile in [Profile::Suite, Profile::Legacy] {
        let calls = match decode(profile, bytes) {
            Inbound::Single(call) => vec![*call],
            Inbound::Batch(calls) => calls,
        };
        assert!(!calls.is_empty());
        for call in calls {
            if let Err(refusal) = &call.operation {
                assert!(encode(profile, &call.envelope, Err(refusal), 0.0).is_object());
            }
        }
    }
});
