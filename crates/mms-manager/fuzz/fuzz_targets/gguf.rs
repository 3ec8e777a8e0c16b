//! Any bytes as a GGUF file, whole and with a length that is not the true one: an answer, never a panic and never a large allocation.
//! Run with `cargo +nightly fuzz run gguf -- -rss_limit_mb=256` in `crates/mms-manager`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mms_manager::gguf::Header;
use mms_manager::memory::estimate;
use mms_protocol::worker::EngineSettings;

fuzz_target!(|input: (u64, &[u8])| {
    let (said_length, bytes) = input;
    for length in [bytes.len() as u64, said_length] {
        if let Ok(header) = Header::parse(bytes, length) {
            let estimated = estimate(&header, &EngineSettings::default());
            assert!(estimated.total_mb().is_finite());
        }
    }
});
