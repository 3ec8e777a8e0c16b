//! The HTTP client against listeners that answer exactly what a case needs.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use futures::StreamExt;
use mms_client::{ClientError, HttpClient};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(30);

/// Answers one connection with `reply` and gives what was asked; the reply is sent at once when `unasked`.
async fn answering(reply: &'static [u8], unasked: bool) -> (HttpClient, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = HttpClient::new(&listener.local_addr().unwrap().to_string()).unwrap().with_timeout(PATIENCE);
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 64 * 1024];
        let length = if unasked { 0 } else { stream.read(&mut asked).await.unwrap() };
        stream.write_all(reply).await.unwrap();
        stream.shutdown().await.unwrap();
        // Until the client has left, so that nothing it still reads is lost.
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    (client, served)
}

#[tokio::test]
async fn a_whole_reply_has_status_headers_and_body() {
    let (client, served) =
        answering(b"HTTP/1.1 503 Busy\r\nX-Y: z\r\nContent-Length: 9\r\n\r\n{\"a\": 1}\n", false).await;
    let reply = client.post_json("/path", &json!({"q": true})).await.unwrap();
    assert_eq!((reply.status, &reply.headers["x-y"]), (503, &"z".parse().unwrap()));
    assert_eq!(reply.json().unwrap(), json!({"a": 1}));
    drop(client);
    let asked = served.await.unwrap();
    assert!(asked.starts_with("POST /path HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("host: 127.0.0.1:") && asked.contains("{\"q\":true}"), "{asked}");
}

#[tokio::test]
async fn events_come_line_by_line_whatever_the_ends_of_lines() {
    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
        data: one\n\n: comment\r\ndata:two\r\n\r\nevent: x\ndata: \xe2\x82\xac\n\ndata: [DONE]\n\n";
    let (client, _served) = answering(REPLY, false).await;
    let lines = client.post_sse("/s", &json!({})).await.unwrap().expect("a stream");
    let lines: Vec<_> = lines.map(Result::unwrap).collect().await;
    assert_eq!(lines, ["one", "two", "€", "[DONE]"]);
}

#[tokio::test]
async fn an_error_in_place_of_a_stream_is_given_whole() {
    let (client, _served) =
        answering(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", false)
            .await;
    let reply = client.post_sse("/s", &json!({})).await.unwrap().expect_err("no stream");
    assert_eq!((reply.status, reply.json()), (404, Some(json!({}))));
}

#[tokio::test]
async fn what_is_no_http_is_named_as_such() {
    for (reply, unasked) in
        [(&b"\xff\0\0\0\0\0\0\0\x01\x7f"[..], true), (b"\xff\0\0\0\0\0\0\0\x01\x7f", false), (b"-ERR what\r\n", false)]
    {
        let (client, _served) = answering(reply, unasked).await;
        let error = client.get("/").await.expect_err("no HTTP");
        assert!(matches!(error, ClientError::Foreign { expected: "HTTP", .. }), "{reply:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_told() {
    let (client, _served) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", false).await;
    let error = client.get("/").await.expect_err("half a reply");
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    let (client, _served) = answering(b"", false).await;
    let error = client.get("/").await.expect_err("no reply");
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn silence_ends_with_a_timeout_and_nobody_there_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = HttpClient::new(&address).unwrap().with_timeout(Duration::from_millis(50));
    assert!(matches!(client.get("/").await, Err(ClientError::Timeout { .. })));
    drop(listener);
    assert!(matches!(client.get("/").await, Err(ClientError::Unreachable { .. })));
}
