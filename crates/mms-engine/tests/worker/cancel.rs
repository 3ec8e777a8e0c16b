//! Cancelling in every state, and what it leaves behind.

use mms_protocol::generate::{GenerateSpec, Sampling};
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

/// Starts an answer, cancels it after its first text, and waits for the one end. False: it had ended by itself before.
fn cancel_in_the_middle(host: &mut Host, seed: u32) -> bool {
    let spec = ramble("Once", 450);
    let sampling = Sampling { seed: Some(seed), ..spec.sampling.clone() };
    host.start(0, &GenerateSpec { sampling, ..spec });
    let mut cancelled = false;
    loop {
        match host.next() {
            ToHost::Text { .. } if !cancelled => {
                host.send(&ToWorker::Cancel { id: 0 });
                cancelled = true;
            }
            ToHost::Started { .. } | ToHost::Text { .. } => {}
            ToHost::Failed { id: 0, failure: GenerateFailure::Cancelled } => return true,
            ToHost::Finished { .. } => return false,
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn while_decoding() {
    let mut host = Host::with(slow());
    // A fast answer can win the race against its cancellation, but not every time.
    assert!((0..50).any(|seed| cancel_in_the_middle(&mut host, seed)));
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
}

#[test]
fn while_the_prompt_is_computed() {
    let mut host = Host::with(slow());
    let spec = Box::new(ramble(&long_prompt(), 10));
    host.send_all(&[ToWorker::Generate { id: 0, spec }, ToWorker::Cancel { id: 0 }]);
    // The race can go either way on a fast machine, but there is exactly one end and the slot is free again.
    let answers = host.collect(1);
    assert!(answers[0].end == cancelled() || matches!(answers[0].end, End::Finished { .. }));
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
}

#[test]
fn while_queued() {
    let mut host = Host::with(slow());
    let specs = [ramble("Once", 450), ask("Hello", 8), ask("What is this?", 8)];
    let generate = |(id, spec): (u64, &GenerateSpec)| ToWorker::Generate { id, spec: Box::new(spec.clone()) };
    let mut messages: Vec<ToWorker> = (0..).zip(&specs).map(generate).collect();
    messages.extend([1, 0, 0, 777].map(|id| ToWorker::Cancel { id }));
    host.send_all(&messages);
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
    for seed in 0..3 {
        cancel_in_the_middle(&mut host, seed);
    }
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
