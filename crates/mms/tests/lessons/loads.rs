//! Loads: whoever started one may leave, nobody starts a second one, and a model that cannot work is given a rest.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mms_client::Client;
use serde_json::json;

use crate::asking::{answers, ask, eventually, generates, model};
use crate::doors::every_door_refuses;
use crate::models::{Bystander, asking, demo_model, folder, long};
use crate::support::{self, PATIENCE, Server};

/// A load was aborted since the first client left, or two loads of one model ran at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_outlives_who_began_it_and_serves_all_who_wait() {
    let folder = folder("[engine]\nworker = \"slow/mms-worker\"\n[limits]\nheartbeat_timeout_s = 60\n", &[]);
    // A worker that waits before it begins, for as long as the file `hold` is there, and leaves a mark of its start.
    std::fs::create_dir(folder.path().join("slow")).unwrap();
    std::fs::write(folder.path().join("hold"), "").unwrap();
    let program = folder.path().join("slow/mms-worker");
    let script =
        format!("#!/bin/sh\nwhile [ -e hold ]; do sleep 0.02; done\nexec {} \"$@\"\n", support::worker().display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start_in(folder, &[]);

    let mut first = Client::connect(&server.main, PATIENCE).await.unwrap();
    let request = long("mms-demo", 4);
    tokio::select! {
        _ = first.send_json("generate", &request) => panic!("the worker is held"),
        () = eventually("the load", async || model(&server, "mms-demo").await["status"] == "loading") => {}
    }
    drop(first);
    let others: Vec<_> = (0..4).map(|_| asking(&server, long("mms-demo", 4))).collect();
    eventually("the others to wait", async || {
        let entry = model(&server, "mms-demo").await;
        entry["status"] == "loading" && entry["queued_requests"] == 4
    })
    .await;
    answers(&server).await;
    std::fs::remove_file(server.folder().join("hold")).unwrap();
    for other in others {
        let reply = other.await.unwrap();
        assert_eq!(reply["status"], "success", "{reply}");
    }
    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    assert_eq!(stats["metrics"]["models_loaded"], 1, "{stats}");
    server.stop();
}

/// A broken model was retried until the host was dead: it rests after some failures in a row, and every reply says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_aborts_is_quarantined_with_its_reason_in_every_reply() {
    let folder = folder("", &["well"]);
    let mut bytes = demo_model();
    let key = b"llama.attention.layer_norm_rms_epsilon";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    // What our reader of headers has no reason to look at, and llama.cpp aborts for in the middle of its work.
    bytes[at..at + 4].copy_from_slice(&(-1.0_f32).to_le_bytes());
    std::fs::write(folder.path().join("models/odd.gguf"), bytes).unwrap();
    let server = Server::start_in(folder, &[]);
    let bystander = Bystander::of(&server, "well");

    let mut replies = Vec::new();
    eventually("quarantine", async || {
        replies.push(ask(&server.main, &long("odd", 4)).await);
        replies.last().unwrap()["error"]["code"] == "quarantined"
    })
    .await;
    assert!(replies.len() <= 5, "so many tries: {replies:?}");
    for reply in &replies {
        let code = reply["error"]["code"].as_str().unwrap();
        assert!(["worker_died", "load_failed", "quarantined"].contains(&code), "{reply}");
        assert!(reply["message"].as_str().unwrap().contains("SIGABRT"), "the reason: {reply}");
    }
    let retry_after = replies.last().unwrap()["error"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=10_000).contains(&retry_after), "the first pause is short: {replies:?}");
    let entry = model(&server, "odd").await;
    assert_eq!(entry["status"], "quarantined", "{entry}");
    assert!(entry["message"].as_str().unwrap().contains("SIGABRT"), "{entry}");
    for refused in every_door_refuses(&server, "odd").await {
        let (door, message) = (&refused.door, &refused.message);
        assert!(message.contains("SIGABRT") && message.contains("is tried again in"), "{door}: {message}");
        if !refused.details.is_null() {
            assert_eq!(refused.code, "quarantined", "{door}");
            assert!(refused.details["reason"].as_str().unwrap().contains("SIGABRT"), "{door}: {}", refused.details);
            assert!(refused.details["retry_after_ms"].as_u64() > Some(0), "{door}");
        }
        if let Some(status) = refused.status {
            assert_eq!(status, 503, "{door}");
            assert!((1..=10).contains(&refused.retry_after.unwrap()), "{door}");
        }
    }

    bystander.was_served().await;

    // When the pause is over it has one more try, and then a longer pause.
    tokio::time::sleep(Duration::from_millis(retry_after)).await;
    let longer = async || ask(&server.main, &long("odd", 4)).await["error"]["retry_after_ms"].as_u64() > Some(10_000);
    eventually("a longer pause", longer).await;
    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    let count = |key: &str| stats["metrics"][key].as_u64().unwrap();
    assert_eq!(count("load_failures") + count("worker_deaths"), 4, "three failures, a pause, and one more: {stats}");
    generates(&server, "mms-demo").await;
    server.stop();
}
