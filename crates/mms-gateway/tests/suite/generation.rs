//! Real generations with the built-in model through every door, and what happens when a client leaves.

use futures::StreamExt;
use mms_client::SseLines;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use crate::support::{Suite, ask, serve_model, until, within, zmtp};

pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) fn question(extra: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hello, who are you?"}]);
    let mut body = json!({"model": "mms-demo", "messages": messages, "temperature": 0, "max_tokens": 24});
    for (key, value) in extra.as_object().expect("object") {
        body[key] = value.clone();
    }
    body
}

pub(crate) async fn stream(suite: &Suite, path: &str, body: &Value) -> SseLines {
    match suite.http_client().post_sse(path, body).await.expect("reply") {
        Ok(lines) => lines,
        Err(reply) => panic!("{} {:?}", reply.status, reply.json()),
    }
}

/// Every chunk of a stream that ends with `[DONE]`.
pub(crate) async fn chunks(suite: &Suite, path: &str, body: &Value) -> Vec<Value> {
    let lines: Vec<String> = within(stream(suite, path, body).await.map(|line| line.expect("line")).collect()).await;
    let (done, chunks) = lines.split_last().expect("lines");
    assert_eq!(done, "[DONE]");
    chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("JSON")).collect()
}

pub(crate) fn text_of(chunks: &[Value], pointer: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk.pointer(pointer)?.as_str()).collect()
}

#[tokio::test]
async fn a_chat_whole_and_streamed_is_the_same() {
    let suite = serve_model().await;
    let reply = suite.post(CHAT, &question(&json!({}))).await;
    let whole = reply.json().expect("JSON");
    assert_eq!(reply.status, 200, "{whole}");
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("mms-demo")));
    let message = &whole["choices"][0]["message"];
    let text = message["content"].as_str().expect("text");
    assert!(!text.is_empty() && message["role"] == "assistant", "{whole}");
    assert!(["stop", "length"].contains(&whole["choices"][0]["finish_reason"].as_str().unwrap()));
    let usage = &whole["usage"];
    let tokens = |key: &str| usage[key].as_u64().unwrap();
    assert!(tokens("prompt_tokens") > 0 && tokens("completion_tokens") > 0, "{usage}");
    assert_eq!(tokens("total_tokens"), tokens("prompt_tokens") + tokens("completion_tokens"));

    let body = question(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let streamed = chunks(&suite, CHAT, &body).await;
    assert_eq!(streamed[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(text_of(&streamed, "/choices/0/delta/content"), text);
    let [.., end, counts] = streamed.as_slice() else { panic!("{streamed:?}") };
    assert_eq!(end["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
    assert_eq!(counts["choices"], json!([]));
    for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(counts["usage"][key], usage[key], "{key}");
    }
    assert!(
        counts["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0,
        "the prompt was in the cache"
    );

    let counted = suite.metric(r#"mms_tokens_total{model="mms-demo",kind="completion"}"#).await;
    assert_eq!(counted, 2.0 * tokens("completion_tokens") as f64);
    assert_eq!(suite.metric(r#"mms_time_to_first_token_seconds_count{model="mms-demo"}"#).await, 2.0);
    assert_eq!(suite.metric(r#"mms_models{state="loaded"}"#).await, 1.0);
    assert!(suite.metric(r#"mms_model_memory_measured_bytes{model="mms-demo"}"#).await > 0.0);
    suite.stop().await;
}

#[tokio::test]
async fn completions_whole_and_streamed() {
    let suite = serve_model().await;
    let mut body = json!({"model": "fast", "prompt": "Hello", "temperature": 0, "max_tokens": 5});
    let whole = suite.post("/v1/completions", &body).await.json().expect("JSON");
    assert_eq!((&whole["object"], &whole["model"]), (&json!("text_completion"), &json!("mms-demo")), "{whole}");
    assert!(whole["usage"]["completion_tokens"].as_u64().unwrap() <= 5);
    body["stream"] = json!(true);
    let streamed = chunks(&suite, "/v1/completions", &body).await;
    assert_eq!(text_of(&streamed, "/choices/0/text"), whole["choices"][0]["text"].as_str().unwrap());
    suite.stop().await;
}

#[tokio::test]
async fn every_door_gives_the_same_text() {
    let suite = serve_model().await;
    let whole = suite.post(CHAT, &question(&json!({}))).await.json().expect("JSON");
    let text = &whole["choices"][0]["message"]["content"];
    let arguments = json!({"model": "mms-demo", "prompt": "Hello, who are you?", "temperature": 0, "max_tokens": 24});
    let native = suite.post("/api/v1/generate_text", &arguments).await.json().expect("JSON");
    assert_eq!(&native["text"], text);
    for addr in [suite.main, suite.legacy] {
        let mut request: Map<String, Value> = arguments.as_object().unwrap().clone();
        request.insert("action".to_owned(), json!("generate"));
        let reply = ask(&mut zmtp(addr).await, Value::Object(request).to_string()).await;
        assert_eq!(&reply["response_text"], text, "{reply:?}");
    }
    suite.stop().await;
}

#[tokio::test]
async fn models_are_listed() {
    let suite = serve_model().await;
    let list = suite.get("/v1/models").await.json().unwrap();
    assert_eq!((&list["data"][0]["id"], &list["data"][0]["object"]), (&json!("mms-demo"), &json!("model")));
    let one = suite.get("/v1/models/mms-demo").await.json().unwrap();
    assert_eq!(one, list["data"][0]);
    suite.stop().await;
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_a_clear_error() {
    let suite = serve_model().await;
    let messages = json!([{"role": "user", "content": "hello ".repeat(60_000)}]);
    for stream in [false, true] {
        let reply = suite.post(CHAT, &question(&json!({"messages": messages, "stream": stream}))).await;
        let body = reply.json().expect("JSON");
        assert_eq!((reply.status, &body["error"]["code"]), (400, &json!("context_length_exceeded")), "{body}");
        let details = &body["error"]["details"];
        assert!(details["prompt_tokens"].as_u64() > details["context_length"].as_u64(), "{body}");
    }
    suite.stop().await;
}

/// Series of requests whose client left.
pub(crate) fn cancelled(operation: &str, dialect: &str) -> String {
    format!(r#"mms_requests_total{{operation="{operation}",dialect="{dialect}",outcome="cancelled"}}"#)
}

pub(crate) async fn until_cancelled(suite: &Suite, series: &str) {
    until(series, async || (suite.metric(series).await >= 1.0).then_some(())).await;
}

/// Holds the worker, so that what is asked now stays in work.
pub(crate) async fn hold(suite: &Suite) -> Pid {
    suite.post("/api/v1/load_model", &json!({"model": "mms-demo"})).await;
    let pid = suite.manager.models()[0].worker_pid.expect("worker");
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("process id");
    kill_process(pid, Signal::STOP).expect("held");
    pid
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let suite = serve_model().await;
    let worker = hold(&suite).await;
    let in_work = async || (suite.metric("mms_requests_in_flight").await >= 1.0).then_some(());
    for (operation, dialect) in [("generate", "openai"), ("generate_text", "action")] {
        let asking = {
            let (main, http) = (suite.main, suite.http_client());
            tokio::spawn(async move {
                if dialect == "openai" {
                    http.post_json(CHAT, &question(&json!({}))).await.map(|_| ()).expect("never");
                } else {
                    let request = json!({"action": "generate_text", "model": "mms-demo", "prompt": "Hello"});
                    zmtp(main).await.send_json("generate", &request).await.map(|_| ()).expect("never");
                }
            })
        };
        until("the request is in work", in_work).await;
        // Other requests do not wait for it.
        assert_eq!(ask(&mut zmtp(suite.main).await, r#"{"action": "ping"}"#).await["status"], "success");
        assert_eq!(suite.get("/livez").await.status, 200);
        asking.abort();
        until_cancelled(&suite, &cancelled(operation, dialect)).await;
    }
    kill_process(worker, Signal::CONT).expect("released");
    assert_eq!(suite.post(CHAT, &question(&json!({}))).await.status, 200, "the next one is served");
    suite.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_cancels_the_generation() {
    let suite = serve_model().await;
    let body = question(&json!({"stream": true, "temperature": 1.5, "max_tokens": 400, "min_p": 0}));
    let series = cancelled("generate", "openai");
    // A short answer may be over before its client has left; one of many is not.
    for _attempt in 0..50 {
        let mut lines = stream(&suite, CHAT, &body).await;
        within(lines.next()).await.expect("a line").expect("no error");
        drop(lines);
        until("no request in work", async || (suite.metric("mms_requests_in_flight").await == 0.0).then_some(())).await;
        if suite.metric(&series).await >= 1.0 {
            return suite.stop().await;
        }
    }
    panic!("no generation was cancelled");
}

#[tokio::test]
async fn shutdown_lets_a_running_stream_finish() {
    let suite = serve_model().await;
    let worker = hold(&suite).await;
    let body = question(&json!({"stream": true}));
    let client = suite.http_client();
    let asking = tokio::spawn(async move { client.post_sse(CHAT, &body).await });
    until("the request is in work", async || (suite.metric("mms_requests_in_flight").await >= 1.0).then_some(())).await;
    suite.shutdown.cancel();
    kill_process(worker, Signal::CONT).expect("released");
    let lines = within(asking).await.unwrap().expect("reply").expect("stream");
    let lines: Vec<_> = within(lines.collect::<Vec<_>>()).await;
    assert_eq!(lines.last().unwrap().as_ref().expect("line"), "[DONE]");
    suite.stop().await;
}
