//! Workers that die, hang, or cannot be started.

use std::time::Duration;

use mms_manager::GenerateEvent;
use mms_protocol::view::ModelState;
use mms_protocol::{ErrorCode, Event, LoadArgs, Operation};
use rustix::process::Signal;

use crate::harness::{Setup, ask, endless, first_text, long_prompt, rest, signal, within};

#[tokio::test]
async fn killed_while_idle_it_is_replaced_at_the_next_request() {
    let mut rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let first = rig.pid("demo").unwrap();
    signal(first, Signal::KILL);
    let died = rig.event("its death", |event| matches!(event, Event::ModelFailed { .. })).await;
    let Event::ModelFailed { reason, .. } = died else { panic!() };
    assert!(reason.starts_with("killed by signal 9"), "{reason}");
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    assert_ne!(rig.pid("demo").unwrap(), first);
    assert_eq!(rig.manager.health().stats.worker_deaths, 1);
    rig.finish().await;
}

#[tokio::test]
async fn killed_while_loading_the_load_is_tried_again() {
    let rig = Setup::new().start().await;
    let load = rig.manager.call(Operation::LoadModel(LoadArgs::of("demo")));
    let kill = async {
        rig.until("a process", |rig| rig.state("demo") == ModelState::Loading && rig.pid("demo").is_some()).await;
        if let Some(pid) = rig.pid("demo").filter(|_| rig.state("demo") == ModelState::Loading) {
            signal(pid, Signal::KILL);
        }
    };
    let (loaded, ()) = within("the load", async { tokio::join!(load, kill) }).await;
    assert!(loaded.is_ok(), "{loaded:?}");
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    rig.finish().await;
}

#[tokio::test]
async fn killed_before_the_first_text_the_request_is_tried_again() {
    let rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let first = rig.pid("demo").unwrap();
    // Stopped, so that nothing of the answer can leave before it is killed.
    signal(first, Signal::STOP);
    let mut stream = rig.stream(long_prompt("demo")).await;
    signal(first, Signal::KILL);
    let (_, last) = rest(&mut stream).await;
    assert!(matches!(last, GenerateEvent::Finished(_)), "{last:?}");
    assert_eq!(rig.manager.health().stats.retries, 1);
    rig.finish().await;
}

#[tokio::test]
async fn killed_while_prefilling_every_request_in_it_begins_again() {
    let rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let first = rig.pid("demo").unwrap();
    signal(first, Signal::STOP);
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(rig.stream(long_prompt("demo")).await);
    }
    signal(first, Signal::CONT);
    signal(first, Signal::KILL);
    for mut stream in streams {
        let (text, last) = rest(&mut stream).await;
        match last {
            GenerateEvent::Finished(generation) => assert_eq!(generation.text, text),
            GenerateEvent::Failed(refusal) => {
                assert!(refusal.code == ErrorCode::WorkerDied && !text.is_empty(), "{refusal:?} after {text:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_ne!(rig.pid("demo").unwrap(), first);
    rig.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_prefill_costs_nothing() {
    let rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let pid = rig.pid("demo").unwrap();
    signal(pid, Signal::STOP);
    let stream = rig.stream(long_prompt("demo")).await;
    drop(stream);
    rig.until("the departure", |rig| rig.manager.model("demo").unwrap().active_requests == 0).await;
    signal(pid, Signal::CONT);
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    assert_eq!(rig.pid("demo"), Some(pid), "the worker went on");
    assert_eq!(rig.manager.health().stats.generations, 1, "only the answer that somebody waited for was generated");
    rig.finish().await;
}

#[tokio::test]
async fn killed_after_the_first_text_the_request_fails_and_says_why() {
    let rig = Setup::new().start().await;
    let mut stream = rig.stream(endless("demo")).await;
    first_text(&mut stream).await;
    signal(rig.pid("demo").unwrap(), Signal::KILL);
    let (_, last) = rest(&mut stream).await;
    let GenerateEvent::Failed(refusal) = last else { panic!("{last:?}") };
    assert_eq!(refusal.code, ErrorCode::WorkerDied);
    assert!(refusal.message.contains("killed by signal 9"), "{refusal}");
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok(), "the next request gets a new worker");
    rig.finish().await;
}

#[tokio::test]
async fn a_hung_worker_is_killed_and_replaced() {
    let setup = Setup::new().change(|config| config.limits.heartbeat_timeout = Duration::from_secs(3));
    let rig = setup.start().await;
    rig.load("demo").await.unwrap();
    let hung = rig.pid("demo").unwrap();
    signal(hung, Signal::STOP);
    let answer = rig.generate(ask("demo", "hello", 4)).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_ne!(rig.pid("demo").unwrap(), hung);
    assert!(!std::path::Path::new(&format!("/proc/{hung}")).exists(), "it was waited for");
    rig.finish().await;
}

#[tokio::test]
async fn a_missing_worker_program_is_named_and_the_model_is_quarantined_in_the_end() {
    let rig = Setup::new().change(|config| config.worker_program = "/nowhere/mms-worker".into()).start().await;
    assert!(!rig.manager.health().checks.iter().find(|check| check.name == "worker_program").unwrap().ok);
    for _ in 0..3 {
        let refusal = rig.load("demo").await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::LoadFailed);
        assert!(refusal.message.contains("/nowhere/mms-worker"), "{refusal}");
    }
    let refusal = rig.load("demo").await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Quarantined);
    assert!(refusal.message.contains("/nowhere/mms-worker"), "{refusal}");
    assert!(refusal.details["retry_after_ms"].as_u64().is_some());
    assert_eq!(rig.state("demo"), ModelState::Quarantined);
    rig.finish().await;
}

#[tokio::test]
async fn a_program_that_is_no_worker_ends_the_load_with_its_last_words() {
    let setup = Setup::new();
    let program = setup.models.path().join("pretender");
    std::fs::write(&program, "#!/bin/sh\necho 'I am no worker' >&2\nexit 7\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let rig = setup.change(|config| config.worker_program = program).start().await;
    let refusal = rig.load("demo").await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::LoadFailed);
    assert!(refusal.message.contains("exit code 7") && refusal.message.contains("I am no worker"), "{refusal}");
    rig.finish().await;
}

#[tokio::test]
async fn a_model_that_llama_cpp_gives_up_on_ends_requests_with_its_reason() {
    let setup = Setup::new().copy("odd.gguf");
    let path = setup.models.path().join("odd.gguf");
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"llama.attention.layer_norm_rms_epsilon";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&(-1.0_f32).to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let rig = setup.start().await;
    let refusal = rig.generate(ask("odd", "hello", 4)).await.unwrap_err();
    // It gives up in the warm-up already.
    assert_eq!(refusal.code, ErrorCode::LoadFailed);
    assert!(refusal.message.contains("SIGABRT") && refusal.message.contains("eps >= 0"), "{refusal}");
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    rig.finish().await;
}

#[tokio::test]
async fn workers_end_with_the_last_handle() {
    let rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let pid = rig.pid("demo").unwrap();
    drop(rig);
    within("the worker's end", async {
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
