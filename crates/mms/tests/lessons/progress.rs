//! Whoever waits for a load in vain is told how far it is, on every door, and when to come back.

use mms_client::HttpClient;
use serde_json::{Value, json};

use crate::asking::{ask, generates};
use crate::support::{PATIENCE, Server, hold_loads};

const WAITS: u64 = 1500;

/// `error` of a reply, in whatever dialect: the load of a model that stands still at 43 %.
fn assert_tells_the_load(error: &Value, reply: &Value) {
    assert_eq!((&error["phase"], &error["load_percent"]), (&"loading".into(), &43.into()), "{reply}");
    assert!(error["load_elapsed_s"].as_f64() >= Some(0.1), "{reply}");
    assert!(error["load_remaining_s"].as_f64() > Some(0.0), "{reply}");
    assert!(error["retry_after_ms"].as_u64() > Some(0), "{reply}");
}

/// A client waited in the dark, and then had a bare timeout.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_load_in_vain_is_told_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    hold_loads(folder.path(), "");
    let server = Server::start_in(folder, &[]);
    let generate = json!({"model": "mms-demo", "prompt": "Hello!", "max_tokens": 4, "timeout_ms": WAITS});
    let load = json!({"model": "mms-demo", "timeout_ms": WAITS});
    let with = |pairs: Value, of: &Value| {
        let mut request = of.as_object().unwrap().clone();
        request.extend(pairs.as_object().unwrap().clone());
        Value::Object(request)
    };
    let requests = [
        with(json!({"action": "load_model"}), &load),
        with(json!({"action": "generate"}), &generate),
        with(json!({"command": "GENERATE_TEXT"}), &generate),
        with(json!({"type": "generate_text"}), &generate),
        json!({"method": "generate", "params": generate}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "generate", "params": generate}),
    ];
    let asked = requests.map(|request| {
        let endpoint = server.main.clone();
        tokio::spawn(async move { ask(&endpoint, &request).await })
    });
    for reply in asked {
        let reply = reply.await.unwrap();
        match reply.get("jsonrpc") {
            Some(_) => assert_tells_the_load(&reply["error"]["data"], &reply),
            None => assert_tells_the_load(&reply["error"], &reply),
        }
    }

    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let chat = json!([{"role": "user", "content": "Hello!"}]);
    for (path, key, given) in
        [("/v1/chat/completions", "messages", chat), ("/v1/completions", "prompt", json!("Hello!"))]
    {
        for stream in [false, true] {
            let body = json!({"model": "mms-demo", key: given, "max_tokens": 4, "timeout_ms": WAITS, "stream": stream});
            let reply = http.post_json(path, &body).await.unwrap();
            let json = reply.json().unwrap_or_else(|| panic!("{reply:?}"));
            assert_eq!(reply.status, 503, "{path}, stream {stream}: {json}");
            let retry_after = reply.headers.get("retry-after").unwrap().to_str().unwrap();
            assert!(retry_after.parse::<u64>().unwrap() >= 1, "{retry_after}");
            assert_tells_the_load(&json["error"]["details"], &json);
            let message = json["error"]["message"].as_str().unwrap();
            assert!(message.contains("loading mms-demo (43 %") && message.contains("left"), "{message}");
        }
    }
    // The load was nobody's alone.
    std::fs::remove_file(server.folder().join("hold")).unwrap();
    generates(&server, "mms-demo").await;
    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    assert_eq!(stats["metrics"]["models_loaded"], 1, "{stats}");
    server.stop();
}
