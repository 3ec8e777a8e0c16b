//! OpenAI's interface without a model: shapes of what is refused. With a model: see `generation`.

use serde_json::{Value, json};

use crate::support::serve;

fn chat(extra: &Value) -> Value {
    let mut body = json!({"model": "none", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in extra.as_object().expect("object") {
        body[key] = value.clone();
    }
    body
}

#[tokio::test]
async fn refusals_have_openais_shape() {
    let suite = serve().await;
    for (extra, status, code, param) in [
        (json!({}), 404, "model_not_found", Value::Null),
        (json!({"stream": true}), 404, "model_not_found", Value::Null),
        (json!({"model": null}), 400, "missing_argument", json!("model")),
        (json!({"n": 300}), 400, "invalid_argument", json!("n")),
        (json!({"tools": [{}]}), 400, "invalid_argument", json!("tools[0]")),
        (json!({"temperature": 9}), 400, "invalid_argument", json!("temperature")),
        (json!({"stream": "yes"}), 400, "invalid_argument", json!("stream")),
    ] {
        let reply = suite.post("/v1/chat/completions", &chat(&extra)).await;
        let body = reply.json().expect("JSON");
        let error = &body["error"];
        assert_eq!(reply.status, status, "{extra}: {body}");
        assert_eq!((&error["code"], &error["type"]), (&json!(code), &json!("invalid_request_error")), "{extra}");
        assert_eq!(error["param"], param, "{extra}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let reply = suite.post("/v1/completions", &json!({"model": "m", "prompt": "a", "suffix": "b"})).await;
    assert_eq!((reply.status, &reply.json().unwrap()["error"]["param"]), (400, &json!("suffix")));
    let refused =
        suite.metric(r#"mms_requests_total{operation="none",dialect="openai",outcome="invalid_argument"}"#).await;
    assert_eq!(refused, 5.0);
    suite.stop().await;
}

#[tokio::test]
async fn an_empty_catalogue_is_an_empty_list() {
    let suite = serve().await;
    let reply = suite.get("/v1/models").await;
    assert_eq!((reply.status, reply.json().unwrap()), (200, json!({"object": "list", "data": []})));
    let reply = suite.get("/v1/models/org/none").await;
    let error = reply.json().unwrap()["error"].clone();
    assert_eq!((reply.status, &error["code"]), (404, &json!("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("org/none"));
    suite.stop().await;
}
