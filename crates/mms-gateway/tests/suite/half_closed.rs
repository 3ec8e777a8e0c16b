//! Clients that end their sending side and wait (`nc -N`), clients that are gone, and clients that never read.

use std::time::Duration;

use mms_gateway::WireLimits;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::generation::{CHAT, cancelled, hold, question, stream, until_cancelled};
use crate::support::{read_to_end, serve, serve_model, serve_with, until, within};

async fn half_closed(addr: std::net::SocketAddr, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(addr).await.expect("connection");
    client.write_all(request.as_bytes()).await.expect("connection");
    client.shutdown().await.expect("connection");
    client
}

fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_quick_answer_comes() {
    let suite = serve().await;
    for addr in [suite.http, suite.health] {
        for request in ["GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n", "GET /livez HTTP/1.0\r\n\r\n"] {
            let reply = read_to_end(&mut half_closed(addr, request).await).await;
            assert!(reply.contains(" 200 OK\r\n") && reply.contains("alive"), "{reply}");
        }
        let reply = read_to_end(&mut half_closed(addr, &post("/api/v1/status", &json!({}))).await).await;
        assert!(reply.contains("\r\n\r\n{\"status\":\"success\""), "{reply}");
    }
    suite.stop().await;
}

#[tokio::test]
async fn a_slow_answer_comes_whole_and_streamed() {
    let suite = serve_model().await;
    for (body, end) in [(json!({}), "\"chat.completion\""), (json!({"stream": true}), "data: [DONE]\n\n")] {
        let worker = hold(&suite).await;
        let mut client = half_closed(suite.http, &post(CHAT, &question(&body))).await;
        let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        within(client.read_exact(&mut asked)).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n", "is it still there?");
        kill_process(worker, Signal::CONT).unwrap();
        let reply = read_to_end(&mut client).await;
        assert!(reply.contains("HTTP/1.1 200 OK\r\n") && reply.contains(end), "{reply}");
    }
    suite.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_between_two_tokens_cancels_the_generation() {
    let suite = serve_model().await;
    let body = question(&json!({"stream": true, "temperature": 1.5, "max_tokens": 400, "min_p": 0}));
    // A short answer may be over before the worker is held; one of many is not.
    for _attempt in 0..50 {
        let mut lines = stream(&suite, CHAT, &body).await;
        within(futures::StreamExt::next(&mut lines)).await.expect("a line").expect("no error");
        let worker = hold(&suite).await;
        let in_work = suite.metric("mms_requests_in_flight").await;
        drop(lines);
        if in_work >= 1.0 {
            until_cancelled(&suite, &cancelled("generate", "openai")).await;
        }
        kill_process(worker, Signal::CONT).unwrap();
        if in_work >= 1.0 {
            return suite.stop().await;
        }
        until("no request in work", async || (suite.metric("mms_requests_in_flight").await == 0.0).then_some(())).await;
    }
    panic!("no generation was still at work");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let limits = WireLimits { body_timeout: Duration::from_millis(50), ..WireLimits::default() };
    let suite = serve_with(limits, None).await;
    let mut client = TcpStream::connect(suite.http).await.unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000);
    let asking = async { while client.write_all(requests.as_bytes()).await.is_ok() {} };
    within(asking).await;
    suite.stop().await;
}
