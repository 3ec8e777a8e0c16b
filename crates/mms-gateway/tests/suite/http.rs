//! Probes, metrics, and what holds for every HTTP request.

use serde_json::{Value, json};

use crate::support::{raw, serve};

#[tokio::test]
async fn probes_tell_why() {
    let suite = serve().await;
    suite.manager.board().report("main_port", true, false, "no answer on tcp://127.0.0.1:9901");
    for path in ["/health", "/healthz", "/readyz"] {
        assert_eq!(suite.get(path).await.status, 503, "{path}");
    }
    let readyz = suite.get("/readyz").await.json().unwrap();
    assert_eq!(readyz["ready"], false);
    let failing = json!([{"name": "main_port", "detail": "no answer on tcp://127.0.0.1:9901"}]);
    assert_eq!(readyz["failing"], failing);
    assert_eq!(suite.get("/livez").await.status, 200);

    suite.manager.board().report("main_port", true, true, "answers");
    suite.manager.board().set_ready(true);
    for path in ["/health", "/healthz", "/readyz", "/livez"] {
        assert_eq!(suite.get(path).await.status, 200, "{path}");
    }
    suite.manager.board().report("store", false, false, "disk full");
    let healthz = suite.get("/healthz").await;
    assert_eq!((healthz.status, &healthz.json().unwrap()["status"]), (200, &json!("degraded")));
    suite.stop().await;
}

#[tokio::test]
async fn every_metric_begins_with_mms() {
    let suite = serve().await;
    suite.post("/api/v1/ping", &json!({})).await;
    suite.get("/no/such/path").await;
    let reply = suite.get("/metrics").await;
    assert!(reply.headers["content-type"].to_str().unwrap().contains("text"));
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    let documented = include_str!("../../../../docs/http.md");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(documented.contains(name), "{name} is missing in docs/http.md");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("mms_"), "{line}");
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    for series in [
        r#"mms_build_info{version="1.2.3",agent="Gate"} 1.0"#,
        "mms_ready 0.0",
        r#"mms_models{state="loaded"} 0.0"#,
        r#"mms_requests_total{operation="ping",dialect="http",outcome="ok"} 1"#,
        r#"mms_http_requests_total{route="none",status="404"} 1"#,
        r#"mms_request_duration_seconds_count{operation="ping"} 1"#,
        "mms_worker_deaths_total 0",
        "mms_store_ok 1.0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} is missing in\n{text}");
    }
    assert!(suite.metric("mms_memory_budget_bytes").await > 0.0);
    suite.stop().await;
}

#[tokio::test]
async fn errors_have_the_shape_of_their_interface() {
    let suite = serve().await;
    let openai = suite.get("/v1/dance").await;
    assert_eq!(openai.status, 404);
    let error = &openai.json().unwrap()["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("unknown_url"), &json!("invalid_request_error")));

    let own = suite.get("/dance").await;
    let body = own.json().unwrap();
    assert_eq!(
        (own.status, &body["status"], &body["error"]["code"]),
        (404, &json!("error"), &json!("unknown_operation"))
    );

    for path in ["/v1/chat/completions", "/api/v1/ping"] {
        let reply = suite.get(path).await;
        assert_eq!((reply.status, reply.headers["allow"].to_str().unwrap()), (405, "POST"), "{path}");
        assert!(reply.json().unwrap()["error"]["message"].as_str().unwrap().contains("GET"), "{path}");
    }
    let index = suite.get("/").await.json().unwrap();
    assert!(index["openai"].as_array().unwrap().contains(&json!("POST /v1/chat/completions")));
    assert!(index["operations"].as_array().unwrap().contains(&json!("POST /api/v1/generate_text")));
    suite.stop().await;
}

#[tokio::test]
async fn request_ids_come_back() {
    let suite = serve().await;
    let ask =
        |id: &str| format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n");
    assert!(raw(suite.http, ask("abc-1").as_bytes()).await.contains("x-request-id: abc-1\r\n"));
    let strange = raw(suite.http, ask("a b").as_bytes()).await;
    assert!(strange.contains("x-request-id: ") && !strange.contains("a b"), "{strange}");
    let ids: Vec<Value> = vec![id_of(&suite).await, id_of(&suite).await];
    assert_ne!(ids[0], ids[1]);
    suite.stop().await;
}

async fn id_of(suite: &crate::support::Suite) -> Value {
    json!(suite.get("/livez").await.headers["x-request-id"].to_str().expect("text"))
}

#[tokio::test]
async fn a_strange_host_is_turned_away_on_loopback() {
    let suite = serve().await;
    let ask = |host: &str| format!("GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let turned_away = raw(suite.http, ask("evil.example:9903").as_bytes()).await;
    assert!(turned_away.starts_with("HTTP/1.1 403 ") && turned_away.contains("x-request-id: "), "{turned_away}");
    assert!(raw(suite.health, ask("evil.example").as_bytes()).await.starts_with("HTTP/1.1 403 "));
    assert!(raw(suite.http, ask("localhost").as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let plain = raw(suite.http, ask("localhost").as_bytes()).await.to_ascii_lowercase();
    assert!(!plain.contains("access-control"), "no CORS: {plain}");
    suite.stop().await;
}
