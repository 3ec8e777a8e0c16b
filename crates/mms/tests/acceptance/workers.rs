//! Workers that are killed, whatever they were doing: every request has its answer, and the next one is served by a new worker.

use std::os::unix::fs::PermissionsExt;

use crate::asking::{answers, ask, eventually, generates, load, long, model, requests, worker_pid};
use crate::support::{self, PATIENCE, Server, send};
use futures::StreamExt;
use mms_client::HttpClient;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MODEL: &str = "mms-demo";

/// A reply after a worker's death: the answer of a second try, or an error that says what happened.
fn assert_answered(reply: &Value) {
    if reply["status"] == "success" {
        assert!(reply["text"].is_string(), "{reply}");
    } else {
        assert_eq!(reply["error"]["code"], "worker_died", "{reply}");
        assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()), "{reply}");
    }
}

/// The model is served again, by another process.
async fn served_again(server: &Server, dead: u32) {
    generates(server, MODEL).await;
    let pid = worker_pid(server, MODEL).await;
    assert!(pid.is_some() && pid != Some(dead), "{pid:?}");
    assert!(!support::is_alive(dead));
}

async fn deaths(server: &Server) -> u64 {
    ask(&server.main, &json!({"action": "get_stats"})).await["metrics"]["worker_deaths"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_idle() {
    let server = Server::start("");
    let pid = load(&server, MODEL).await;
    send(pid, Signal::KILL);
    served_again(&server, pid).await;
    assert_eq!(deaths(&server).await, 1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_loading() {
    let folder = tempfile::tempdir().unwrap();
    // A worker that waits before it begins, for as long as the file `hold` is there.
    std::fs::create_dir(folder.path().join("slow")).unwrap();
    let slow = folder.path().join("slow/mms-worker");
    let script =
        format!("#!/bin/sh\nwhile [ -e hold ]; do sleep 0.05; done\nexec {} \"$@\"\n", support::worker().display());
    std::fs::write(&slow, script).unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    // Without plans: a measuring worker would wait as well, and give way to the loading one in the middle of this.
    let config = "[engine]\nworker = \"slow/mms-worker\"\n[memory]\nplan_timeout_s = 0\n";
    std::fs::write(folder.path().join("mms.toml"), config).unwrap();
    let server = Server::start_in(folder, &[]);

    let mut requests = JoinSet::new();
    for request in [json!({"action": "load_model", "model": MODEL}), long(1, 4)] {
        let endpoint = server.main.clone();
        requests.spawn(async move { ask(&endpoint, &request).await });
    }
    let mut dead = 0;
    eventually("a loading worker", async || {
        dead = server.workers().first().copied().unwrap_or(0);
        dead != 0 && model(&server, MODEL).await["status"] == "loading"
    })
    .await;
    answers(&server).await; // a load delays nobody
    std::fs::remove_file(hold).unwrap();
    send(dead, Signal::KILL);
    while let Some(reply) = requests.join_next().await {
        let reply = reply.unwrap();
        if reply["status"] != "success" {
            let code = reply["error"]["code"].as_str().unwrap();
            assert!(["load_failed", "worker_died", "quarantined"].contains(&code), "{reply}");
            assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()), "{reply}");
        }
    }
    eventually("the model to be served again", async || ask(&server.main, &long(2, 4)).await["status"] == "success")
        .await;
    server.stop();
}

/// Stopped first, so that what is sent next is certainly in the worker and not begun when it dies.
#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_first_token() {
    let server = Server::start("");
    let pid = load(&server, MODEL).await;
    send(pid, Signal::STOP);
    let mut replies = JoinSet::new();
    for number in 0..8 {
        let endpoint = server.main.clone();
        let mut request = long(number, 4);
        request["prompt"] = json!("How do I load a model? ".repeat(20));
        replies.spawn(async move { ask(&endpoint, &request).await });
    }
    eventually("all requests at the model", async || requests(&server).await == 8).await;
    send(pid, Signal::KILL);
    while let Some(reply) = replies.join_next().await {
        // Nothing had left yet, so each is tried again and works.
        let reply = reply.unwrap();
        assert_eq!(reply["status"], "success", "{reply}\nserver log:\n{}", server.log());
    }
    served_again(&server, pid).await;
    assert_eq!(deaths(&server).await, 1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_decoding() {
    let server = Server::start("");
    let pid = load(&server, MODEL).await;
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let mut streams = Vec::new();
    for number in 0..12 {
        let body = json!({
            "model": MODEL, "messages": [{"role": "user", "content": "Tell me about models."}], "stream": true,
            "max_tokens": 300, "temperature": 5, "top_k": 0, "top_p": 1, "min_p": 0, "seed": number,
        });
        streams.push(http.post_sse("/v1/chat/completions", &body).await.unwrap().expect("a stream"));
    }
    let mut replies = JoinSet::new();
    for number in 0..8 {
        let endpoint = server.main.clone();
        replies.spawn(async move { ask(&endpoint, &long(number, 300)).await });
    }
    // Text has come, so the worker is decoding; far more is still to be done.
    loop {
        let line = streams[0].next().await.expect("an event").unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
            break;
        }
    }
    send(pid, Signal::KILL);

    let (mut failed, mut whole) = (0, 0);
    for stream in &mut streams {
        let mut last = String::new();
        let mut error = None;
        while let Some(line) = stream.next().await {
            let line = line.unwrap();
            if let Ok(event) = serde_json::from_str::<Value>(&line)
                && event.get("error").is_some()
            {
                error = Some(event["error"].clone());
            }
            last = line;
        }
        match error {
            Some(error) => {
                assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
                failed += 1;
            }
            None => {
                assert_eq!(last, "[DONE]", "a stream that just stops");
                whole += 1;
            }
        }
    }
    assert!(failed > 0, "{whole} streams ended well, so the worker was not decoding when it died");
    while let Some(reply) = replies.join_next().await {
        assert_answered(&reply.unwrap());
    }
    served_again(&server, pid).await;
    assert_eq!(deaths(&server).await, 1);
    server.stop();
}
