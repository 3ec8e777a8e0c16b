//! The main port: whatever comes, one reply; both profiles; batches; limits.

use bytes::Bytes;
use mms_gateway::WireLimits;
use mms_zmtp::{ClientOptions, Dealer};
use serde_json::{Value, json};

use crate::support::{PATIENCE, ask, ask_any, serve, serve_with, within, zmtp};

fn nested(depth: usize) -> Bytes {
    Bytes::from("[".repeat(depth) + &"]".repeat(depth))
}

#[tokio::test]
async fn whatever_comes_has_one_reply() {
    let suite = serve().await;
    let cases: [(&str, Bytes, &str); 17] = [
        ("empty frame", Bytes::new(), "invalid_json"),
        ("rubbish", Bytes::from_static(b"\x00\x01rubbish"), "invalid_json"),
        ("not UTF-8", Bytes::from_static(b"{\"action\": \"\xff\xfe\"}"), "invalid_json"),
        ("NaN", Bytes::from_static(b"{\"action\": \"ping\", \"x\": NaN}"), "invalid_json"),
        ("half an object", Bytes::from_static(b"{\"action\": \"ping\""), "invalid_json"),
        ("two objects", Bytes::from_static(b"{}{}"), "invalid_json"),
        ("deep nesting", nested(20_000), "invalid_json"),
        ("too many values", Bytes::from(format!("[{}0]", "0,".repeat(200_000))), "invalid_json"),
        ("a number", Bytes::from_static(b"5"), "invalid_request"),
        ("null", Bytes::from_static(b"null"), "invalid_request"),
        ("an array", Bytes::from_static(b"[1]"), "invalid_request"),
        ("nothing named", Bytes::from_static(b"{}"), "invalid_request"),
        ("unknown", Bytes::from_static(b"{\"action\": \"dance\"}"), "unknown_operation"),
        ("a number for a name", Bytes::from_static(b"{\"action\": 5}"), "invalid_argument"),
        ("no model", Bytes::from_static(b"{\"action\": \"load_model\"}"), "missing_argument"),
        (
            "a strange model",
            Bytes::from_static(b"{\"action\": \"load_model\", \"model\": \"none\"}"),
            "model_not_found",
        ),
        (
            "negative",
            Bytes::from_static(b"{\"action\":\"generate\",\"prompt\":\"a\",\"max_tokens\":-1}"),
            "invalid_argument",
        ),
    ];
    for addr in [suite.main, suite.legacy] {
        let mut client = zmtp(addr).await;
        for (name, frame, code) in &cases {
            let reply = ask(&mut client, frame.clone()).await;
            assert_eq!(reply["status"], "error", "{name}: {reply:?}");
            assert!(reply["message"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {reply:?}");
            let told = if addr == suite.main { &reply["error"]["code"] } else { &reply["error_code"] };
            assert_eq!(told, code, "{name}: {reply:?}");
        }
        let frames = client.request_raw(vec!["{}".into(), "{}".into(), "{}".into()]).await.unwrap();
        let reply: Value = serde_json::from_slice(&frames[0]).unwrap();
        assert_eq!(frames.len(), 1);
        let text = "Invalid request format: the message has 3 frames, send one frame holding one JSON object";
        assert_eq!(reply["message"], text);
        let pong = ask(&mut client, r#"{"action": "ping"}"#).await;
        assert_eq!(pong["agent"], "Gate", "the connection is as good as before");
    }
    suite.stop().await;
}

#[tokio::test]
async fn profiles_differ_in_their_words() {
    let suite = serve().await;
    for (addr, word) in [(suite.main, "success"), (suite.legacy, "ok")] {
        let mut client = zmtp(addr).await;
        let reply = ask(&mut client, r#"{"method": "ping", "request_id": "r1"}"#).await;
        assert_eq!((&reply["status"], &reply["request_id"]), (&json!(word), &json!("r1")));
        assert_eq!(reply["version"], "1.2.3");
    }
    let mut client = zmtp(suite.legacy).await;
    let health = ask(&mut client, r#"{"action": "health_check", "request_id": 7}"#).await;
    assert_eq!(health["request_id_received"], 7);
    drop(client);
    suite.stop().await;
}

#[tokio::test]
async fn batches_and_notifications() {
    let suite = serve().await;
    let mut client = zmtp(suite.main).await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "ping"},
        {"jsonrpc": "2.0", "id": "two", "method": "dance"},
        5,
    ]);
    let replies = ask_any(&mut client, batch.to_string()).await;
    let replies = replies.as_array().expect("array");
    assert_eq!(replies.len(), 3);
    assert_eq!((&replies[0]["id"], &replies[0]["result"]["agent"]), (&json!(1), &json!("Gate")));
    assert_eq!((&replies[1]["id"], &replies[1]["error"]["code"]), (&json!("two"), &json!(-32601)));
    assert_eq!((&replies[2]["id"], &replies[2]["error"]["code"]), (&json!(null), &json!(-32600)));

    let notification = json!({"jsonrpc": "2.0", "method": "ping"});
    assert_eq!(ask_any(&mut client, notification.to_string()).await, json!({}));
    assert_eq!(ask_any(&mut client, json!([notification, notification]).to_string()).await, json!({}));

    let too_many: Vec<Value> = (0..65).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).collect();
    let reply = ask(&mut client, json!(too_many).to_string()).await;
    assert_eq!(reply["error"]["code"], -32600);
    drop(client);
    suite.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limits_is_answered_with_both_figures() {
    let limits = WireLimits { max_request_bytes: 10_000, ..WireLimits::default() };
    let suite = serve_with(limits, None).await;
    let mut client = zmtp(suite.main).await;
    let reply = ask(&mut client, vec![b'x'; 10_001]).await;
    assert_eq!(reply["error"]["code"], "too_large");
    assert_eq!((&reply["error"]["bytes"], &reply["error"]["limit_bytes"]), (&json!(10_001), &json!(10_000)));

    let frames = client.request_raw(vec![Bytes::new(); 1000]).await.unwrap();
    let reply: Value = serde_json::from_slice(&frames[0]).unwrap();
    assert_eq!(reply["error"]["code"], "too_large", "{reply}");
    assert_eq!(reply["error"]["limit_frames"], 256);

    assert_eq!(ask(&mut client, r#"{"action": "ping"}"#).await["status"], "success");
    drop(client);
    suite.stop().await;
}

#[tokio::test]
async fn many_requests_at_once_on_one_connection() {
    let suite = serve().await;
    let dealer = Dealer::connect(&format!("tcp://{}", suite.main), ClientOptions::default()).await.unwrap();
    let asks = (0..2000).map(|id| {
        let request = json!({"action": if id % 2 == 0 { "ping" } else { "list_models" }, "request_id": id});
        let dealer = &dealer;
        async move {
            let frames = dealer.request(vec![Bytes::from(request.to_string())], PATIENCE).await.unwrap();
            let reply: Value = serde_json::from_slice(&frames[0]).unwrap();
            assert_eq!(reply["request_id"], id);
        }
    });
    within(futures::future::join_all(asks)).await;
    let counted = suite.metric(r#"mms_requests_total{operation="ping",dialect="action",outcome="ok"}"#).await;
    assert_eq!(counted, 1000.0);
    assert_eq!(suite.manager.health().stats.requests, 2000);
    suite.stop().await;
}
