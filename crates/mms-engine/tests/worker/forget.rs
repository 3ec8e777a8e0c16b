//! Conversations that are forgotten: what slots, memory and disk have of them goes, what others have stays.

use mms_protocol::generate::GenerateSpec;
use mms_protocol::worker::{EngineSettings, ToHost, ToWorker};

use crate::kv::{is_warm, long, one_slot};
use crate::kv_disk::{end, host, is_cold, spec, states};
use crate::support::{Host, ramble};

fn labelled(topic: &str, label: u64) -> GenerateSpec {
    GenerateSpec { label: Some(label), ..long(topic, "Where?") }
}

fn forget(host: &mut Host, labels: &[u64]) {
    host.send(&ToWorker::Forget { labels: labels.to_vec() });
}

#[test]
fn what_is_forgotten_is_computed_again_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("kv");
    // One in a slot, one aside; the other of both stays.
    let settings = EngineSettings { slots: 2, ..one_slot() };
    let [ship, boat, raft, tree] =
        [("Ship", 1), ("A boat", 2), ("The raft", 3), ("Trees", 4)].map(|(topic, label)| labelled(topic, label));
    let mut first = host(settings.clone(), spec(&folder));
    for spec in [&ship, &boat, &raft, &tree] {
        first.generate(spec);
    }
    forget(&mut first, &[1, 4, 77]);
    assert!(is_warm(&first.generate(&raft)) && is_warm(&first.generate(&boat)));
    assert!(is_cold(&first.generate(&ship)) && is_cold(&first.generate(&tree)));
    forget(&mut first, &[4]);
    end(first);
    let names = || -> Vec<String> {
        let paths = states(&folder).into_iter();
        paths.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    };
    let of = |label: u64| names().iter().filter(|name| name.ends_with(&format!(".{label:016x}.kv"))).count();
    // Its label was given up before: what is said under it is for this one answer.
    assert_eq!([1, 2, 3, 4].map(of), [0, 1, 1, 0], "{:?}", names());

    // They are known by their names in the next worker, and go from the disk.
    let mut next = host(settings, spec(&folder));
    forget(&mut next, &[2]);
    assert!(is_warm(&next.generate(&raft)) && is_cold(&next.generate(&boat)));
    assert_eq!(of(2), 0, "{:?}", names());
    end(next);
}

#[test]
fn what_is_running_goes_on_and_leaves_nothing() {
    let mut host = Host::with(one_slot());
    let running = GenerateSpec { label: Some(5), ..ramble(&"A ship sails. ".repeat(30), 60) };
    host.start(0, &running);
    while !matches!(host.receive(), ToHost::Text { .. }) {}
    forget(&mut host, &[5]);
    let mut came = 0;
    loop {
        match host.receive() {
            ToHost::Finished { usage, .. } => break assert!(usage.completion_tokens > 1),
            ToHost::Text { .. } => came += 1,
            ToHost::Heartbeat(_) => {}
            other => panic!("{other:?} after {came} pieces"),
        }
    }
    assert!(is_cold(&host.generate(&running)));
}
