//! Sequences that lose their slot: put aside in memory, brought back, within bounds, and never at the price of another answer.

use mms_protocol::generate::{GenerateSpec, Prompt};
use mms_protocol::worker::{CacheType, ContextOverflow, EngineSettings, FlashAttention, Heartbeat, ToHost};

use crate::support::{Answer, Host, ask, ramble};

/// One slot, so that every other prompt takes it.
pub(crate) fn one_slot() -> EngineSettings {
    EngineSettings { slots: 1, context_length: 1024, ..EngineSettings::default() }
}

pub(crate) fn without(settings: &EngineSettings) -> EngineSettings {
    EngineSettings { kv_store_mb: 0, ..settings.clone() }
}

/// A prompt of some hundred tokens; those of another `topic` have nothing in common with it.
pub(crate) fn long(topic: &str, question: &str) -> GenerateSpec {
    let text = format!("{topic} is what this is about, and {topic} only. ").repeat(12);
    GenerateSpec { prompt: Prompt::Raw(format!("{text}{question}")), ..ask("", 12) }
}

pub(crate) fn beat(host: &mut Host) -> Heartbeat {
    loop {
        if let ToHost::Heartbeat(beat) = host.receive()
            && beat.busy_slots == 0
        {
            return beat;
        }
    }
}

/// Nearly all of the prompt was there.
pub(crate) fn is_warm(answer: &Answer) -> bool {
    answer.cached_tokens == answer.usage().cached_tokens && answer.cached_tokens + 16 > answer.prompt_tokens
}

fn check(settings: &EngineSettings) {
    let mut host = Host::with(settings.clone());
    let mut plain = Host::with(without(settings));
    let (ships, boats) = (long("Ship", "Where?"), long("A boat", "Why?"));
    for (spec, warm) in [(&ships, false), (&boats, false), (&ships, true), (&boats, true), (&ships, true)] {
        let answer = host.generate(spec);
        assert_eq!(is_warm(&answer), warm, "{answer:?} with {settings:?}");
        let expect = plain.generate(spec);
        assert_eq!(answer.text, expect.text, "with {settings:?}");
        assert!(!is_warm(&expect), "{expect:?}");
    }
    let beat = beat(&mut host);
    assert!(beat.kv_restored == 3 && beat.kv_store_bytes > 0, "{beat:?}");
    assert_eq!(beat.kv_store_disk_bytes, 0);
    assert_eq!(self::beat(&mut plain).kv_store_bytes, 0);
}

#[test]
fn a_prompt_finds_its_beginning_after_its_slot_was_taken() {
    check(&one_slot());
}

#[test]
fn quantized_and_transposed_caches_come_back_as_they_were() {
    let with = |cache_type_k, cache_type_v, flash_attention| EngineSettings {
        cache_type_k,
        cache_type_v,
        flash_attention,
        ..one_slot()
    };
    check(&with(CacheType::F16, CacheType::F16, FlashAttention::Off));
    check(&with(CacheType::Q8_0, CacheType::Q4_0, FlashAttention::On));
    check(&with(CacheType::Q8_0, CacheType::F16, FlashAttention::Off));
}

#[test]
fn a_common_beginning_is_enough() {
    let mut host = Host::with(one_slot());
    let first = host.generate(&long("Ship", "Where are they all gone?"));
    host.generate(&long("A boat", "Why?"));
    let spec = long("Ship", "How many of them?");
    let other = host.generate(&spec);
    assert!(other.cached_tokens + 40 > first.prompt_tokens && other.cached_tokens < first.prompt_tokens, "{other:?}");
    assert_eq!(other.text, Host::with(without(&one_slot())).generate(&spec).text);
    // And the first one is still there as a whole.
    host.generate(&long("A boat", "Why?"));
    assert!(is_warm(&host.generate(&long("Ship", "Where are they all gone?"))));
}

#[test]
fn what_another_slot_holds_is_not_copied() {
    let mut host = Host::with(EngineSettings { slots: 4, ..one_slot() });
    for topic in ["Ship", "A boat", "Ship", "A boat"] {
        host.generate(&long(topic, "Where?"));
    }
    assert_eq!(beat(&mut host).kv_store_bytes, 0);
}

#[test]
fn little_and_too_much_are_not_kept() {
    let mut host = Host::with(one_slot());
    host.generate(&ask("Hello!", 8));
    host.generate(&GenerateSpec { prompt: Prompt::Raw("Something else.".to_owned()), ..ask("", 8) });
    assert_eq!(beat(&mut host).kv_store_bytes, 0);

    // Each of them takes about a third of the bound.
    let mut host = Host::with(EngineSettings { kv_store_mb: 1, cache_type_k: CacheType::F32, ..one_slot() });
    let mut most = 0;
    for n in 0..12 {
        let letter = char::from(b'A' + n);
        host.generate(&long(&format!("{letter}{letter} of {n}"), "Where?"));
        let held = beat(&mut host).kv_store_bytes;
        assert!(held <= 1 << 20, "{held}");
        most = most.max(held);
    }
    assert!(most > 0);
}

#[test]
fn what_was_shifted_comes_back_only_where_it_is_exact() {
    let settings = EngineSettings {
        context_length: 256,
        context_overflow: ContextOverflow::Shift,
        context_keep: 100,
        ..one_slot()
    };
    let text = "Ships are what this is about. ".repeat(6);
    let mut host = Host::with(settings.clone());
    let usage = host.generate(&ramble(&text, 400)).usage();
    assert!(usage.completion_tokens > 0);
    let other = long("A boat", "Why?");
    let other = GenerateSpec { prompt: Prompt::Raw("A boat is another thing. ".repeat(5)), ..other };
    host.generate(&other);
    let again = GenerateSpec { prompt: Prompt::Raw(text), ..ask("", 24) };
    let answer = host.generate(&again);
    assert_eq!(answer.text, Host::with(without(&settings)).generate(&again).text);
}
