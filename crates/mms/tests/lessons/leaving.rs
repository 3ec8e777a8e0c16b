//! Clients that leave: work for nobody ends in the queue, while a prompt is read, and while an answer is written, streamed or not.

use std::time::Duration;

use mms_client::{Client, HttpClient};
use serde_json::{Value, json};

use crate::asking::{ask, eventually, generates, load, model, requests, worker_pid};
use crate::models::{folder, long};
use crate::support::{PATIENCE, Server};

/// Every token of a prompt is a step of its own, so that reading one takes a while.
const SLOW: &str =
    "[engine]\nslots = 1\nthreads = 1\nbatch_size = 1\nubatch_size = 1\nspeculation = \"off\"\nkv_store_mb = 0\n";

/// Sends this on a connection, waits until `seen`, and leaves without the answer.
async fn leaves_after(server: &Server, request: &Value, seen: impl AsyncFnMut() -> bool) {
    let mut client = Client::connect(&server.main, PATIENCE).await.unwrap();
    tokio::select! {
        reply = client.send_json("request", request) => panic!("answered too early: {reply:?}"),
        () = eventually("the request at the model", seen) => {}
    }
}

async fn generations(server: &Server) -> u64 {
    ask(&server.main, &json!({"action": "get_stats"})).await["metrics"]["generations"].as_u64().unwrap()
}

/// A client that disconnected (queued, in prefill, not streaming) kept the cores busy.
#[tokio::test(flavor = "multi_thread")]
async fn work_for_nobody_ends_in_queue_prefill_and_decode() {
    let server = Server::start_in(folder(SLOW, &["slow"]), &[]);
    let pid = load(&server, "slow").await;
    let mut prompt = long("slow", 600);
    prompt["prompt"] = json!("How do I load a model? ".repeat(45));
    let is_active = async || model(&server, "slow").await["active_requests"] == 1;
    let is_gone = async || requests(&server).await == 0;

    // In prefill, on ZeroMQ and on HTTP; neither streams.
    leaves_after(&server, &prompt, is_active).await;
    eventually("its end in prefill", is_gone).await;
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let body = json!({"model": "slow", "prompt": prompt["prompt"], "max_tokens": 600, "temperature": 5});
    tokio::select! {
        reply = http.post_json("/v1/completions", &body) => panic!("answered too early: {reply:?}"),
        () = eventually("the request at the model", is_active) => {}
    }
    eventually("its end in prefill, HTTP", is_gone).await;

    // In the queue, behind one that decodes; then that one.
    let first = {
        let (endpoint, request) = (server.main.clone(), long("slow", 900));
        tokio::spawn(async move { ask(&endpoint, &request).await })
    };
    eventually("the first to run", is_active).await;
    leaves_after(&server, &long("slow", 900), async || requests(&server).await == 2).await;
    eventually("its end in the queue", async || requests(&server).await <= 1).await;
    first.abort();
    eventually("the end of the other in decode", is_gone).await;

    assert_eq!(generations(&server).await, 0, "somebody's answer was finished for nobody");
    assert_eq!(worker_pid(&server, "slow").await, Some(pid), "the worker goes on");
    generates(&server, "slow").await;
    server.stop();
}

/// Endless prefill: a deadline holds while a prompt is read, too, and the next request is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_long_prefill() {
    let server = Server::start_in(folder(SLOW, &["slow"]), &[]);
    let pid = load(&server, "slow").await;
    let mut request = long("slow", 600);
    request["prompt"] = json!("How do I load a model? ".repeat(45));
    request["timeout_ms"] = json!(20);
    let reply = ask(&server.main, &request).await;
    assert_eq!(reply["error"]["code"], "timeout", "{reply}");
    eventually("its end in the worker", async || requests(&server).await == 0).await;
    generates(&server, "slow").await;
    assert_eq!(worker_pid(&server, "slow").await, Some(pid), "the worker goes on");
    tokio::time::timeout(Duration::from_secs(60), generates(&server, "mms-demo")).await.unwrap();
    server.stop();
}
