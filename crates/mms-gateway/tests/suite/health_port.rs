//! The health port: ZMTP or HTTP by the first byte.

use std::time::Duration;

use mms_gateway::WireLimits;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{ask, raw, read_to_end, serve, serve_with, zmtp};

const KEYS: [&str; 17] = [
    "status",
    "agent",
    "ready",
    "initialized",
    "message",
    "uptime",
    "timestamp",
    "commands_processed",
    "loaded_models",
    "vram_used_mb",
    "vram_budget_mb",
    "device",
    "metrics",
    "health_checks",
    "health_details",
    "version",
    "draining",
];

#[tokio::test]
async fn any_zmtp_payload_is_answered_with_health() {
    let suite = serve().await;
    suite.manager.board().report("main_port", true, true, "answers");
    let mut client = zmtp(suite.health).await;
    for payload in [&b"{\"action\": \"health_check\"}"[..], b"health", b"", b"\xff\xfe", b"[[[["] {
        let health = ask(&mut client, payload).await;
        for key in KEYS {
            assert!(health.contains_key(key), "{key} is missing in {health:?}");
        }
        assert_eq!((&health["status"], &health["ready"]), (&json!("error"), &json!(false)));
        assert_eq!(
            (&health["health_checks"]["main_port"], &health["health_details"]["main_port"]),
            (&json!(true), &json!("answers"))
        );
    }
    let frames = client.request_raw(vec!["a".into(), "b".into()]).await.unwrap();
    assert_eq!(frames.len(), 1, "several frames are answered too");
    suite.manager.board().set_ready(true);
    assert_eq!(ask(&mut client, "?").await["ready"], true);
    drop(client);
    suite.stop().await;
}

#[tokio::test]
async fn http_on_the_same_port() {
    let suite = serve().await;
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(raw(suite.health, request).await.starts_with("HTTP/1.1 503 "));
    suite.manager.board().set_ready(true);
    let reply = raw(suite.health, request).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let body = reply.split("\r\n\r\n").nth(1).unwrap();
    let health: serde_json::Value = serde_json::from_str(body).unwrap();
    for key in KEYS {
        assert!(health.get(key).is_some(), "{key} is missing in {health}");
    }
    let mut client = zmtp(suite.health).await;
    assert_eq!(ask(&mut client, "?").await["ready"], true, "ZMTP still works beside it");
    drop(client);
    suite.stop().await;
}

#[tokio::test]
async fn silent_and_half_connections_are_closed() {
    let short = Duration::from_millis(50);
    let limits = WireLimits { handshake_timeout: short, header_timeout: short, ..WireLimits::default() };
    let suite = serve_with(limits, None).await;
    for (name, first) in [("silent", &b""[..]), ("half a greeting", b"\xff\0\0\0"), ("half a head", b"GET /heal")] {
        let mut stream = TcpStream::connect(suite.health).await.unwrap();
        stream.write_all(first).await.unwrap();
        let rest = read_to_end(&mut stream).await;
        assert!(!rest.contains("HTTP/1.1 2"), "{name}: {rest}");
    }
    suite.stop().await;
}
