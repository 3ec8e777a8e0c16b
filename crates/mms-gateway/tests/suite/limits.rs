//! Bounds of HTTP: body size and time, number of connections, the end of the server.

use std::time::Duration;

use mms_gateway::WireLimits;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{raw, read_to_end, serve, serve_with, until, within};

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_both_figures() {
    let suite = serve_with(WireLimits { max_request_bytes: 1000, ..WireLimits::default() }, None).await;
    let body = json!({"prompt": "x".repeat(2000)});
    let bytes = body.to_string().len();
    let own = suite.post("/api/v1/generate", &body).await;
    let error = own.json().unwrap()["error"].clone();
    assert_eq!((own.status, &error["code"]), (413, &json!("too_large")));
    assert_eq!((&error["bytes"], &error["limit_bytes"]), (&json!(bytes), &json!(1000)));
    let openai = suite.post("/v1/completions", &body).await;
    assert_eq!((openai.status, &openai.json().unwrap()["error"]["code"]), (413, &json!("too_large")));

    // Far more than the buffers between client and server hold: it is read past, so that the client comes to read the answer.
    let body = json!({"prompt": "x".repeat(16 << 20)});
    let large = suite.post("/v1/completions", &body).await;
    let details = &large.json().unwrap()["error"]["details"];
    assert_eq!((large.status, &details["bytes"]), (413, &json!(body.to_string().len())));

    let chunk = format!("{:x}\r\n{}\r\n", 2000, "x".repeat(2000));
    let head =
        "POST /api/v1/ping HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let unannounced =
        raw(suite.http, format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(unannounced.starts_with("HTTP/1.1 413 ") && unannounced.contains("2000 bytes"), "{unannounced}");

    let asking = format!("{head}content-length: 2000\r\nexpect: 100-continue\r\n\r\n");
    let reply = raw(suite.http, asking.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "a client that asks first need not send it: {reply}");
    suite.stop().await;
}

#[tokio::test]
async fn large_bodies_share_what_room_there_is() {
    let suite = serve_with(WireLimits { max_request_bytes: 100_000, ..WireLimits::default() }, None).await;
    let head = "POST /api/v1/ping HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut client = TcpStream::connect(suite.http).await.unwrap();
        client
            .write_all(format!("{head}content-length: 99000\r\n\r\n{}", " ".repeat(98_000)).as_bytes())
            .await
            .unwrap();
        stalled.push(client);
    }
    let large = json!({"x": "y".repeat(95_000)});
    let ask = async || suite.post("/api/v1/ping", &large).await;
    let refused = until("no room", async || Some(ask().await).filter(|reply| reply.status != 200)).await;
    let error = refused.json().unwrap()["error"].clone();
    assert_eq!(
        (refused.status, &error["code"], &error["bytes"]),
        (429, &json!("queue_full"), &json!(large.to_string().len()))
    );
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(suite.post("/api/v1/ping", &json!({"x": "y".repeat(60_000)})).await.status, 200, "small ones need none");
    drop(stalled);
    until("room again", async || Some(ask().await).filter(|reply| reply.status == 200)).await;
    suite.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let suite = serve_with(WireLimits { body_timeout: Duration::from_millis(50), ..WireLimits::default() }, None).await;
    let request =
        "POST /api/v1/ping HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let reply = raw(suite.http, request.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 504 ") && reply.contains("not complete within 50 ms"), "{reply}");
    suite.stop().await;
}

#[tokio::test]
async fn heads_that_do_not_end_and_idle_connections_are_given_up() {
    let suite =
        serve_with(WireLimits { header_timeout: Duration::from_millis(50), ..WireLimits::default() }, None).await;
    for begun in [&b""[..], b"GET /livez HTTP/1.1\r\nx: y\r\n"] {
        let reply = raw(suite.http, begun).await;
        assert!(!reply.starts_with("HTTP/1.1 2"), "{reply}");
    }
    let kept_alive = raw(suite.http, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(kept_alive.starts_with("HTTP/1.1 200 "), "answered, then closed: {kept_alive}");
    suite.stop().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let suite = serve().await;
    let head = "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ";
    let reply = raw(suite.http, format!("{head}{}", "y".repeat((64 << 10) - head.len())).as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
    suite.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let suite = serve_with(WireLimits { max_connections: 1, ..WireLimits::default() }, None).await;
    for addr in [suite.http, suite.health] {
        let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let mut first = TcpStream::connect(addr).await.unwrap();
        first.write_all(request).await.unwrap();
        let mut begin = [0; 12];
        within(first.read_exact(&mut begin)).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");

        let refused = raw(addr, request).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
        assert!(refused.contains("too many connections"), "{refused}");
        drop(first);
    }
    suite.stop().await;
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_takes_no_new_ones() {
    let suite = serve().await;
    let mut idle = TcpStream::connect(suite.http).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut begin = [0; 12];
    within(idle.read_exact(&mut begin)).await.unwrap();
    let addrs = [suite.main, suite.legacy, suite.health, suite.http];
    suite.stop().await;
    read_to_end(&mut idle).await;
    for addr in addrs {
        assert!(TcpStream::connect(addr).await.is_err(), "{addr} still takes connections");
    }
}
