//! `POST /api/v1/{operation}`.

use mms_protocol::Operation;
use serde_json::json;

use crate::support::{raw, serve};

#[tokio::test]
async fn every_operation_is_there() {
    let suite = serve().await;
    for name in Operation::NAMES {
        let reply = suite.post(&format!("/api/v1/{name}"), &json!({"request_id": "r"})).await;
        let body = reply.json().expect("JSON");
        assert_eq!(body["request_id"], "r", "{name}");
        match reply.status {
            200 => assert_ne!(body["status"], "error", "{name}"),
            400 => assert_eq!(body["error"]["code"], "missing_argument", "{name}"),
            other => panic!("{name}: {other} {body}"),
        }
    }
    suite.stop().await;
}

#[tokio::test]
async fn refusals_have_their_status() {
    let suite = serve().await;
    for (path, body, status, code) in [
        ("/api/v1/dance", json!({}), 404, "unknown_operation"),
        ("/api/v1/load_model", json!({"model": "none"}), 404, "model_not_found"),
        ("/api/v1/unload_model", json!({"model": "none"}), 404, "model_not_found"),
        ("/api/v1/generate", json!({"prompt": "a", "max_tokens": -1}), 400, "invalid_argument"),
        ("/api/v1/ping", json!([1]), 400, "invalid_argument"),
    ] {
        let reply = suite.post(path, &body).await;
        let told = reply.json().unwrap();
        assert_eq!((reply.status, &told["error"]["code"]), (status, &json!(code)), "{path} {body}");
        assert_eq!(told["status"], "error");
    }
    let counted = r#"mms_requests_total{operation="unload_model",dialect="http",outcome="model_not_found"}"#;
    assert_eq!(suite.metric(counted).await, 1.0);
    suite.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_refused() {
    let suite = serve().await;
    let ask = |kind: &str, body: &str| {
        let length = body.len();
        format!(
            "POST /api/v1/ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{kind}content-length: {length}\r\n\r\n{body}"
        )
    };
    for kind in ["content-type: text/plain\r\n", ""] {
        let reply = raw(suite.http, ask(kind, "{}").as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("Content-Type: application/json"), "{reply}");
    }
    let bare = raw(suite.http, ask("", "").as_bytes()).await;
    assert!(bare.starts_with("HTTP/1.1 200 "), "no body, no arguments: {bare}");
    let charset = raw(suite.http, ask("content-type: application/json; charset=utf-8\r\n", "{}").as_bytes()).await;
    assert!(charset.starts_with("HTTP/1.1 200 "), "{charset}");
    suite.stop().await;
}
