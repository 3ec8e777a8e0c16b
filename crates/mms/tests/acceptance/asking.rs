//! Asking a server under test through its main port, as its users do.

use std::time::{Duration, Instant};

use mms_client::Client;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Server};

/// One request of a client that comes, asks and goes.
pub(crate) async fn ask(endpoint: &str, request: &Value) -> Value {
    let mut client = Client::connect(endpoint, PATIENCE).await.unwrap();
    client.send_json("request", request).await.unwrap()
}

/// The server still does what it is there for.
pub(crate) async fn answers(server: &Server) {
    let reply = ask(&server.main, &json!({"action": "ping"})).await;
    assert_eq!(reply["status"], "success", "{reply}");
}

/// The catalogue's entry of a model; `null`: there is none.
pub(crate) async fn model(server: &Server, id: &str) -> Value {
    let reply = ask(&server.main, &json!({"action": "list_models"})).await;
    let models = reply["models"].as_array().unwrap();
    models.iter().find(|model| model["model_id"] == id).cloned().unwrap_or(Value::Null)
}

/// Loads a model; gives the process of its worker.
pub(crate) async fn load(server: &Server, id: &str) -> u32 {
    let reply = ask(&server.main, &json!({"action": "load_model", "model": id})).await;
    assert_eq!(reply["status"], "success", "{reply}\nserver log:\n{}", server.log());
    worker_pid(server, id).await.expect("a loaded model has a worker")
}

/// The process of a model's worker.
pub(crate) async fn worker_pid(server: &Server, id: &str) -> Option<u32> {
    model(server, id).await["worker_pid"].as_u64().map(|pid| pid as u32)
}

/// A short answer of this model.
pub(crate) async fn generates(server: &Server, id: &str) {
    let request =
        json!({"action": "generate_text", "model": id, "prompt": "Hello!", "max_tokens": 8, "temperature": 0});
    let reply = ask(&server.main, &request).await;
    assert_eq!(reply["status"], "success", "{reply}\nserver log:\n{}", server.log());
    assert!(reply["text"].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
}

/// Memory in which so many copies of the built-in model can be resident, MiB, by the server's own figures.
pub(crate) async fn memory_for(config: &str, residents: f64) -> u64 {
    let server = Server::start(config);
    load(&server, "mms-demo").await;
    generates(&server, "mms-demo").await;
    let reply = ask(&server.main, &json!({"action": "get_loaded_models_status"})).await;
    server.stop();
    // What one copy holds: the larger of what was measured and what is reserved for it, of which KV states that are put aside are a part.
    let held = reply["total_vram_used_mb"].as_f64().unwrap_or_else(|| panic!("no memory in use: {reply}"));
    // And not enough for one more.
    ((residents + 0.2) * held).ceil() as u64
}

/// A generation that ends only after `max_tokens`: so hot that the end of the answer is one token among many.
pub(crate) fn long(number: usize, max_tokens: u32) -> Value {
    json!({
        "action": "generate", "prompt": "Tell me about models.", "request_id": number, "max_tokens": max_tokens,
        "temperature": 5, "top_k": 0, "top_p": 1, "min_p": 0, "seed": number,
    })
}

/// Requests running or waiting in all models.
pub(crate) async fn requests(server: &Server) -> u64 {
    let reply = ask(&server.main, &json!({"action": "list_models"})).await;
    let models = reply["models"].as_array().unwrap();
    models.iter().map(|m| m["active_requests"].as_u64().unwrap() + m["queued_requests"].as_u64().unwrap()).sum()
}

/// Waits until `condition` holds; only a hang takes as long as patience.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
