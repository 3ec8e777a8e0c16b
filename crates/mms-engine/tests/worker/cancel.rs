//! Cancelling in every state, and what it leaves behind.

use mms_protocol::worker::{EngineSettings, GenerateFailure, ToHost, ToWorker};

use crate::support::{End, Host, ask, ramble};

/// One slot and tiny steps, so that a prompt takes many steps.
fn slow() -> EngineSettings {
    EngineSettings { slots: 1, batch_size: 4, ubatch_size: 4, ..EngineSettings::default() }
}

fn long_prompt() -> String {
    "one two three four five six seven ".repeat(20)
}

fn cancelled() -> End {
    End::Failed(GenerateFailure::Cancelled)
}

#[test]
fn while_decoding() {
    let mut host = Host::with(slow());
    host.start(0, &ramble("Once", 450));
    while !matches!(host.next(), ToHost::Text { .. }) {}
    host.send(&ToWorker::Cancel { id: 0 });
    let last = loop {
        match host.next() {
            ToHost::Text { .. } => {}
            other => break other,
        }
    };
    assert_eq!(last, ToHost::Failed { id: 0, failure: GenerateFailure::Cancelled });
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
}

#[test]
fn while_the_prompt_is_computed() {
    let mut host = Host::with(slow());
    host.start(0, &ramble(&long_prompt(), 10));
    assert!(matches!(host.next(), ToHost::Started { id: 0, .. }));
    host.send(&ToWorker::Cancel { id: 0 });
    // The race can go either way on a fast machine, but there is exactly one end and the slot is free again.
    let answers = host.collect(1);
    assert!(answers[0].end == cancelled() || matches!(answers[0].end, End::Finished { .. }));
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
}

#[test]
fn while_queued() {
    let mut host = Host::with(slow());
    let specs = [ramble("Once", 450), ask("Hello", 8), ask("What is this?", 8)];
    for (id, spec) in (0..).zip(&specs) {
        host.start(id, spec);
    }
    host.send(&ToWorker::Cancel { id: 1 });
    host.send(&ToWorker::Cancel { id: 0 });
    host.send(&ToWorker::Cancel { id: 0 });
    host.send(&ToWorker::Cancel { id: 777 });
    let answers = host.collect(3);
    assert_eq!(answers[0].end, cancelled());
    assert_eq!((&answers[1].end, answers[1].prompt_tokens), (&cancelled(), 0));
    assert!(matches!(answers[2].end, End::Finished { .. }));
}

#[test]
fn what_a_cancelled_request_computed_is_not_wasted_and_does_no_harm() {
    let mut host = Host::with(slow());
    let spec = ask("How do I load a model? Please tell me all about it.", 24);
    let expect = host.generate(&spec).text;
    host.start(0, &ramble("Something else", 400));
    while !matches!(host.next(), ToHost::Text { .. }) {}
    host.send(&ToWorker::Cancel { id: 0 });
    while !matches!(host.next(), ToHost::Failed { .. }) {}
    assert_eq!(host.generate(&spec).text, expect);
}

#[test]
fn thousands_wait_in_order() {
    let mut host = Host::with(EngineSettings { slots: 2, ..EngineSettings::default() });
    let count = 2000_u64;
    // A writer of its own: the worker must not stop reading, nor this test, while both have much to say.
    let mut writing = host.socket.try_clone().expect("a socket");
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        for id in 0..count {
            let message = ToWorker::Generate { id, spec: Box::new(ask("Hi", 1)) };
            let body = serde_json::to_vec(&message).expect("a message");
            let length = u32::try_from(body.len()).expect("short");
            writing.write_all(&[&length.to_be_bytes(), body.as_slice()].concat()).expect("the worker reads");
        }
    });
    let answers = host.collect(usize::try_from(count).expect("fits"));
    writer.join().expect("no panic");
    assert!(answers.iter().all(|answer| answer.text == answers[0].text));
}
