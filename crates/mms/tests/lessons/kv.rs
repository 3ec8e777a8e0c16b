//! Conversations that begin anew: when their model has gone and come back, in whatever way, they go on where they were.

use std::time::Duration;

use mms_client::HttpClient;
use serde_json::{Value, json};

use crate::asking::{ask, generates, load, model};
use crate::models::{demo_model, folder};
use crate::support::{PATIENCE, Server};

const ENGINE: &str = "[engine]\nslots = 1\nthreads = 1\ncontext_length = 1024\nkv_store_mb = 16\n";

/// A prompt of some hundred tokens that begins like no other topic's.
pub(crate) fn prompt(topic: &str) -> String {
    format!("{topic} is what this is about, and {topic} only. ").repeat(12)
}

/// Asks on through the main port: the answer, and whether nearly all of the prompt was there already.
pub(crate) async fn goes_on(server: &Server, id: &str, topic: &str) -> (Value, bool) {
    let request = json!({
        "action": "generate", "model": id, "prompt": prompt(topic), "max_tokens": 12, "temperature": 0,
    });
    let reply = ask(&server.main, &request).await;
    assert_eq!(reply["status"], "success", "{reply}\nserver log:\n{}", server.log());
    let (prompt, cached) = (reply["usage"]["prompt_tokens"].as_u64(), reply["usage"]["cached_tokens"].as_u64());
    let (Some(prompt), Some(cached)) = (prompt, cached) else { panic!("no counts: {reply}") };
    (reply["text"].clone(), cached + 16 > prompt)
}

pub(crate) async fn unload(server: &Server, id: &str) {
    let reply = ask(&server.main, &json!({"action": "unload_model", "model": id})).await;
    assert_eq!(reply["status"], "success", "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_after_its_model_was_unloaded() {
    let server = Server::start(ENGINE);
    let (expect, warm) = goes_on(&server, "mms-demo", "Ship").await;
    assert!(!warm);
    for _ in 0..2 {
        unload(&server, "mms-demo").await;
        assert_eq!(model(&server, "mms-demo").await["kv_restored"], Value::Null);
        load(&server, "mms-demo").await;
        assert_eq!(goes_on(&server, "mms-demo", "Ship").await, (expect.clone(), true));
    }
    // Another conversation takes the slot, and gives it back.
    assert!(!goes_on(&server, "mms-demo", "A boat").await.1);
    assert_eq!(goes_on(&server, "mms-demo", "Ship").await, (expect, true));

    // The answer may be here before the worker's word on what it keeps.
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut shown = model(&server, "mms-demo").await;
    while shown["kv_restored"] != 2 && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        shown = model(&server, "mms-demo").await;
    }
    assert_eq!(shown["kv_restored"], 2, "{shown}");
    assert!(shown["kv_store_mb"].as_f64() > Some(0.0) && shown["kv_store_disk_mb"].as_f64() > Some(0.0), "{shown}");
    assert!(server.ok(&["models", "show", "mms-demo"]).contains("kv_restored"));
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let metrics = http.get("/metrics").await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body);
    for line in ["mms_kv_restored{model=\"mms-demo\"} 2", "mms_kv_store_bytes{model=\"mms-demo\"}"] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_after_another_model_took_the_memory() {
    let config = format!("{ENGINE}[limits]\nmax_loaded_models = 1\n");
    let server = Server::start_in(folder(&config, &["one", "other"]), &[]);
    let (expect, _) = goes_on(&server, "one", "Ship").await;
    generates(&server, "other").await;
    assert_eq!(model(&server, "one").await["loaded"], false);
    assert_eq!(goes_on(&server, "one", "Ship").await, (expect, true));
    // The other one has the same content and another name: what it computes may be the same, but is not taken for it.
    assert!(!goes_on(&server, "other", "Ship").await.1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_after_the_server_was_started_again() {
    let kept = tempfile::tempdir().unwrap();
    std::fs::create_dir(kept.path().join("models")).unwrap();
    let file = kept.path().join("models/kept.gguf");
    std::fs::write(&file, demo_model()).unwrap();
    let shown = kept.path().display();
    let config = |more: &str| {
        format!("{ENGINE}[models]\nfolders = [\"{shown}/models\"]\n[kv_store]\nfolder = \"{shown}/kv\"\n{more}")
    };
    let mut expect = None;
    for warm in [false, true] {
        let server = Server::start(&config(""));
        let answer = goes_on(&server, "kept", "Ship").await;
        assert_eq!(answer.1, warm);
        assert_eq!(*expect.get_or_insert(answer.0.clone()), answer.0);
        server.stop();
    }
    // Another file under the same name is another model.
    let mut other = demo_model();
    let last = other.len() - 64;
    other[last] ^= 0x01;
    std::fs::write(&file, other).unwrap();
    let server = Server::start(&config(""));
    assert!(!goes_on(&server, "kept", "Ship").await.1);
    server.stop();
    // Not wanted.
    std::fs::write(&file, demo_model()).unwrap();
    let server = Server::start(&config("enabled = false\n"));
    assert!(!goes_on(&server, "kept", "Ship").await.1);
    unload(&server, "kept").await;
    assert!(!goes_on(&server, "kept", "Ship").await.1);
    server.stop();
}
