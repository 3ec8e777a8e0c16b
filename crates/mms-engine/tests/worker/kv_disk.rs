//! Sequences that outlive their worker: saved at its end and while it rests, found by the next one, and never taken when they are not
//! exactly what was saved.

use std::fs;
use std::path::{Path, PathBuf};

use mms_protocol::generate::{GenerateSpec, Prompt};
use mms_protocol::worker::{CacheType, EngineSettings, Heartbeat, KvStoreSpec, LoadSpec, ToHost, ToWorker};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::gguf::{recurrent_model, windowed_model};
use crate::kv::{beat, is_warm, long, one_slot, without};
use crate::support::{Answer, Host, ask, demo, ramble};

pub(crate) fn spec(folder: &Path) -> KvStoreSpec {
    KvStoreSpec {
        folder: folder.to_str().expect("UTF-8").to_owned(),
        max_mb: 64,
        max_states: 50,
        max_age_s: 3600,
        fingerprint: "the demo model".to_owned(),
        save_within_ms: 60_000,
    }
}

pub(crate) fn host(settings: EngineSettings, kv_store: KvStoreSpec) -> Host {
    let mut host = Host::spawn();
    host.shake_hands();
    host.load(LoadSpec { settings, kv_store: Some(kv_store), ..demo() }).expect("loads");
    host
}

pub(crate) fn end(mut host: Host) {
    host.send(&ToWorker::Shutdown);
    assert_eq!(host.exit().code(), Some(0));
}

/// Nothing of its text was there; the first token is that of every prompt.
pub(crate) fn is_cold(answer: &Answer) -> bool {
    answer.cached_tokens <= 1
}

pub(crate) fn states(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    paths.filter(|path| path.file_name().is_some_and(|name| name != "lock")).collect()
}

/// Waits for a heartbeat that tells so.
fn until(host: &mut Host, tells: impl Fn(&Heartbeat) -> bool) {
    while !tells(&beat(host)) {}
}

#[test]
fn a_conversation_goes_on_after_the_worker_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("kv");
    let settings = EngineSettings { slots: 2, ..one_slot() };
    let topics = ["Ship", "A boat", "The raft"].map(|topic| long(topic, "Where?"));
    let mut first = host(settings.clone(), spec(&folder));
    let expect: Vec<String> = topics.iter().map(|spec| first.generate(spec).text).collect();
    end(first);
    assert_eq!(states(&folder).len(), 3, "two slots and one that had lost its slot");

    let mut next = host(settings.clone(), spec(&folder));
    assert!(beat(&mut next).kv_store_disk_bytes > 0);
    for (spec, expect) in topics.iter().zip(&expect) {
        let answer = next.generate(spec);
        assert!(is_warm(&answer), "{answer:?}");
        assert_eq!(&answer.text, expect);
    }
    until(&mut next, |beat| beat.kv_restored == 3);
    // Nothing new has been said, so nothing new is saved.
    end(next);
    assert_eq!(states(&folder).len(), 3);

    // A state of other settings or another model is not taken.
    let others = [
        (EngineSettings { cache_type_k: CacheType::F32, ..settings.clone() }, spec(&folder)),
        (settings, KvStoreSpec { fingerprint: "another model".to_owned(), ..spec(&folder) }),
    ];
    for (settings, kv_store) in others {
        let mut other = host(settings, kv_store);
        assert_eq!(other.generate(&topics[0]).cached_tokens, 0);
        assert_eq!(beat(&mut other).kv_store_disk_bytes, 0);
    }
}

#[test]
fn a_longer_conversation_takes_the_place_of_its_beginning() {
    let folder = tempfile::tempdir().expect("a folder");
    for question in ["Where?", "Where? And why? And since when, and how often do they come back?"] {
        let mut host = host(one_slot(), spec(folder.path()));
        let answer = host.generate(&long("Ship", question));
        assert_eq!(answer.cached_tokens > 0, question.len() > 10, "{answer:?}");
        end(host);
    }
    // The answers differ, so both ends are kept; the same prompt again adds nothing.
    let before = states(folder.path()).len();
    let mut host = host(one_slot(), spec(folder.path()));
    host.generate(&long("Ship", "Where?"));
    end(host);
    assert_eq!(states(folder.path()).len(), before);
}

#[test]
fn damaged_files_are_removed_and_change_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let asked = long("Ship", "Where?");
    let mut first = host(one_slot(), spec(folder.path()));
    let expect = first.generate(&asked).text;
    end(first);
    let [path] = &states(folder.path())[..] else { panic!("one state") };
    let whole = fs::read(path).expect("a state");
    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let cases = [
        flip(0),
        flip(9),
        flip(50),
        flip(whole.len() / 2),
        flip(whole.len() - 1),
        whole[..whole.len() / 2].to_vec(),
        whole[..20].to_vec(),
        Vec::new(),
        [&whole[..], b"more"].concat(),
    ];
    for (case, bytes) in cases.iter().enumerate() {
        fs::write(path, bytes).expect("a file");
        let mut host = host(one_slot(), spec(folder.path()));
        let answer = host.generate(&asked);
        assert_eq!((answer.cached_tokens, &answer.text), (0, &expect), "case {case}");
        assert!(!path.exists(), "case {case} stays");
    }
    // And the whole one is taken.
    fs::write(path, &whole).expect("a file");
    assert!(is_warm(&host(one_slot(), spec(folder.path())).generate(&asked)));
}

#[test]
fn what_rests_is_on_disk_before_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = host(one_slot(), spec(folder.path()));
    first.generate(&long("Ship", "Where?"));
    first.generate(&long("A boat", "Where?"));
    until(&mut first, |beat| beat.kv_store_disk_bytes > 0);
    drop(first);
    let mut next = host(one_slot(), spec(folder.path()));
    assert!(is_warm(&next.generate(&long("Ship", "Where?"))));
    assert!(is_cold(&next.generate(&long("A boat", "Where?"))), "its slot was lost with the process");
}

#[test]
fn what_leaves_memory_comes_back_from_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = EngineSettings { kv_store_mb: 2, cache_type_k: CacheType::F32, ..one_slot() };
    let mut host = host(settings, spec(folder.path()));
    let topics: Vec<String> = (0..12_u8).map(|n| format!("{0}{0} of {n}", char::from(b'A' + n))).collect();
    for (n, topic) in topics.iter().enumerate() {
        host.generate(&long(topic, "Where?"));
        // The last one is in the slot, half of the memory may be unwritten.
        until(&mut host, |beat| beat.kv_store_disk_bytes > 0 || n < 6);
        assert!(beat(&mut host).kv_store_bytes <= 2 << 20);
    }
    until(&mut host, |_| states(folder.path()).len() == topics.len() - 1);
    for topic in &topics {
        let answer = host.generate(&long(topic, "Where?"));
        assert!(is_warm(&answer), "{topic}: {answer:?}");
        assert!(beat(&mut host).kv_store_bytes <= 2 << 20);
    }
}

#[test]
fn bounds_of_the_folder_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = KvStoreSpec { max_states: 2, max_mb: 1, ..spec(folder.path()) };
    for topic in ["Ship", "A boat", "The raft", "One canoe"] {
        let mut host = host(one_slot(), bounds.clone());
        host.generate(&long(topic, "Where?"));
        end(host);
        let held = states(folder.path());
        let bytes: u64 = held.iter().map(|path| path.metadata().expect("there").len()).sum();
        assert!(!held.is_empty() && held.len() <= 2 && bytes <= 1 << 20, "{held:?}");
    }
    let mut host = host(one_slot(), bounds);
    assert!(is_warm(&host.generate(&long("One canoe", "Where?"))));
    assert!(is_cold(&host.generate(&long("Ship", "Where?"))));
}

#[test]
fn a_disk_that_takes_nothing_is_no_end_of_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut host = host(EngineSettings { kv_store_mb: 1, ..one_slot() }, spec(folder.path()));
    let limit = |host: &Host, current| {
        let pid = Pid::from_raw(i32::try_from(host.worker.id()).expect("a pid"));
        prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).expect("a limit");
    };
    limit(&host, Some(4096));
    for n in 0..8_u8 {
        let answer = host.generate(&long(&format!("{0}{0} of {n}", char::from(b'A' + n)), "Where?"));
        assert!(answer.usage().prompt_tokens > 0);
        assert!(states(folder.path()).is_empty());
    }
    limit(&host, None);
    end(host);
    assert!(!states(folder.path()).is_empty());
}

#[test]
fn a_folder_that_cannot_be_leaves_memory_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = folder.path().join("a file");
    fs::write(&taken, "").expect("a file");
    let mut host = host(one_slot(), spec(&taken.join("kv")));
    for (topic, warm) in [("Ship", false), ("A boat", false), ("Ship", true)] {
        assert_eq!(is_warm(&host.generate(&long(topic, "Where?"))), warm);
    }
    end(host);
}

#[test]
fn the_end_saves_what_was_under_way_and_nothing_when_it_may_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let asked = long("Ship", "Where?");
    let run = |settings: EngineSettings, kv_store: KvStoreSpec| {
        let mut host = host(settings, kv_store);
        host.start(1, &GenerateSpec { prompt: asked.prompt.clone(), ..ramble("", 600) });
        while !matches!(host.next(), ToHost::Text { .. }) {}
        end(host);
        states(folder.path()).len()
    };
    assert_eq!(run(one_slot(), KvStoreSpec { save_within_ms: 0, ..spec(folder.path()) }), 0);
    assert_eq!(run(without(&one_slot()), spec(folder.path())), 0);
    assert_eq!(run(one_slot(), spec(folder.path())), 1);
    assert!(is_warm(&host(one_slot(), spec(folder.path())).generate(&asked)));
}

/// Models that cannot go back to an earlier token: a state serves what begins with all of it, and nothing else.
#[test]
fn what_cannot_be_cut_comes_back_as_a_whole() {
    let files = tempfile::tempdir().expect("a folder");
    for (name, model) in [("recurrent", recurrent_model()), ("windowed", windowed_model(32))] {
        let path = files.path().join(format!("{name}.gguf"));
        fs::write(&path, model.bytes()).expect("a file");
        let path = path.to_str().expect("UTF-8").to_owned();
        let kept = files.path().join(name);
        let load = |settings: EngineSettings, kv_store: Option<KvStoreSpec>| {
            let mut host = Host::spawn();
            host.shake_hands();
            host.load(LoadSpec { settings, kv_store, path: path.clone(), ..demo() }).expect("loads");
            host
        };
        let with = || load(one_slot(), Some(spec(&kept)));
        // What such a model says is hardly text, so the bytes of its tokens are compared.
        let prompt = |text: &str, max_tokens| GenerateSpec {
            prompt: Prompt::Raw(text.to_owned()),
            logprobs: Some(0),
            ..ask("", max_tokens)
        };
        let said = |answer: &Answer| {
            let tokens = answer.logprobs.iter().map(|logprob| logprob.chosen.bytes.clone());
            tokens.collect::<Vec<_>>()
        };
        let (ships, boats) = ("Ships are what this is about. ".repeat(6), "A boat is another thing. ".repeat(6));
        // The one token of the answer is not in the state, so that is the prompt.
        let (first, other) = (prompt(&ships, 1), prompt(&boats, 1));
        let on = prompt(&format!("{ships}Where are they?"), 24);
        let aside = prompt(&format!("{}And where are they now?", &ships[..120]), 24);
        let [expect, expect_aside] = [&on, &aside].map(|spec| said(&load(without(&one_slot()), None).generate(spec)));
        assert!(expect.len() > 8 && expect != expect_aside, "{name}: {expect:?}");

        // From memory.
        let mut host = with();
        let whole = host.generate(&first).prompt_tokens;
        host.generate(&other);
        let answer = host.generate(&on);
        assert_eq!((answer.cached_tokens, &said(&answer)), (whole, &expect), "{name}");
        host.generate(&other);
        let answer = host.generate(&aside);
        // Every prompt begins with the same few tokens, which the slot may still have.
        assert_eq!((answer.cached_tokens < 8, &said(&answer)), (true, &expect_aside), "{name}");
        drop(host);

        // From disk.
        let mut host = with();
        host.generate(&first);
        end(host);
        let mut host = with();
        let answer = host.generate(&on);
        assert_eq!((answer.cached_tokens, &said(&answer)), (whole, &expect), "{name}");
    }
}
