//! Every way in which users ask for a model, and the refusal that each of them gets.

use std::process::Stdio;

use mms_client::HttpClient;
use serde_json::{Value, json};

use crate::asking::ask;
use crate::support::{PATIENCE, Server};

/// What one door said.
pub(crate) struct Refused {
    pub(crate) door: String,
    pub(crate) code: String,
    pub(crate) message: String,
    /// Figures beside the message; `null` where the door has no place for them.
    pub(crate) details: Value,
    /// Of HTTP.
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<u64>,
}

/// Asks for a model through every door, one after the other; none of them may give an answer.
pub(crate) async fn every_door_refuses(server: &Server, model: &str) -> Vec<Refused> {
    let args = json!({"model": model, "prompt": "Hello!", "max_tokens": 4});
    let named = |key: &str, name: &str| {
        let mut request = args.clone();
        request[key] = name.into();
        request
    };
    let mut all = Vec::new();
    for (door, request) in [
        ("action", named("action", "generate")),
        ("action, load", named("action", "load_model")),
        ("command", named("command", "GENERATE_TEXT")),
        ("type", named("type", "generate_text")),
        ("method", json!({"method": "generate", "params": args})),
        ("JSON-RPC", json!({"jsonrpc": "2.0", "id": 1, "method": "generate", "params": args})),
        ("model request", json!({"model_id": model, "requester_id": "test"})),
    ] {
        let reply = ask(&server.main, &request).await;
        let error = &reply["error"];
        let details = if reply.get("jsonrpc").is_some() { &error["data"] } else { error };
        all.push(Refused {
            door: door.to_owned(),
            code: details["code"].as_str().unwrap_or_else(|| panic!("{door}: {reply}")).to_owned(),
            message: error["message"].as_str().unwrap_or_else(|| panic!("{door}: {reply}")).to_owned(),
            details: details.clone(),
            status: None,
            retry_after: None,
        });
    }
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let chat = json!([{"role": "user", "content": "Hello!"}]);
    for (path, key, given) in
        [("/v1/chat/completions", "messages", chat), ("/v1/completions", "prompt", json!("Hello!"))]
    {
        let body = json!({"model": model, key: given, "max_tokens": 4});
        let reply = http.post_json(path, &body).await.unwrap();
        let json = reply.json().unwrap_or_else(|| panic!("{path}: {reply:?}"));
        let error = &json["error"];
        let retry_after = reply.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        all.push(Refused {
            door: path.to_owned(),
            code: error["code"].as_str().unwrap_or_else(|| panic!("{path}: {json}")).to_owned(),
            message: error["message"].as_str().unwrap_or_else(|| panic!("{path}: {json}")).to_owned(),
            details: error["details"].clone(),
            status: Some(reply.status),
            retry_after,
        });
    }
    for args in [&["models", "load", model][..], &["generate", "Hello!", "-m", model]] {
        let mut command = tokio::process::Command::from(server.command(args));
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        assert_eq!(output.status.code(), Some(4), "{args:?}: {output:?}");
        all.push(Refused {
            door: format!("mms {}", args.join(" ")),
            code: String::new(),
            message: String::from_utf8(output.stderr).unwrap(),
            details: Value::Null,
            status: None,
            retry_after: None,
        });
    }
    all
}
