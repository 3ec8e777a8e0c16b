//! The ZMTP client against a server that answers what a case needs.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use mms_client::{Client, ClientError};
use mms_protocol::ErrorCode;
use mms_zmtp::{Frames, Request, Server, ServerOptions};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server whose replies are `reply` of the request.
async fn served(reply: fn(Value) -> Frames) -> (String, tokio_util::sync::DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let handler = move |request: Request| async move {
        let body = request.body.expect("a message within the limits");
        reply(serde_json::from_slice(&body[0]).expect("a JSON request"))
    };
    let server = Server::new(handler, ServerOptions::default());
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move { server.serve(listener, shutdown).await }
    });
    (endpoint, shutdown.drop_guard())
}

fn json_frame(value: &Value) -> Frames {
    vec![value.to_string().into()]
}

#[tokio::test]
async fn both_dialects_put_the_arguments_where_they_belong() {
    let (endpoint, _running) = served(|request| json_frame(&json!({"status": "success", "asked": request}))).await;
    let mut client = Client::connect(&endpoint, PATIENCE).await.unwrap();
    let args = Map::from_iter([("n".to_owned(), json!(1))]);
    let reply = client.call("op", args.clone()).await.unwrap();
    assert_eq!(reply["asked"], json!({"action": "op", "n": 1}));
    let reply = client.call_method("op", args).await.unwrap();
    assert_eq!(reply["asked"], json!({"method": "op", "params": {"n": 1}}));
}

#[tokio::test]
async fn a_refusal_is_an_error_with_its_code_but_the_health_object_never_is() {
    let refusing =
        |_| json_frame(&json!({"status": "error", "message": "no", "error": {"code": "queue_full", "message": "no"}}));
    let (endpoint, _running) = served(refusing).await;
    let mut client = Client::connect(&endpoint, PATIENCE).await.unwrap();
    match client.call("op", Map::new()).await {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, ErrorCode::QueueFull),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.health().await.unwrap()["status"], "error");
}

#[tokio::test]
async fn a_reply_that_is_none_is_told() {
    for reply in
        [(|_| vec!["no json".into()]) as fn(Value) -> Frames, |_| vec!["{}".into(), "{}".into()], |_| vec!["[]".into()]]
    {
        let (endpoint, _running) = served(reply).await;
        let mut client = Client::connect(&endpoint, PATIENCE).await.unwrap();
        let error = client.call("op", Map::new()).await.expect_err("no reply");
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_there_silence_and_strangers_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let silent = Client::connect(&address, Duration::from_millis(50)).await;
    assert!(matches!(silent, Err(ClientError::Silent { .. })), "{silent:?}");
    drop(listener);
    let nobody = Client::connect(&address, PATIENCE).await;
    assert!(matches!(nobody, Err(ClientError::Unreachable { .. })), "{nobody:?}");
    assert!(matches!(Client::connect("udp://x:1", PATIENCE).await, Err(ClientError::BadEndpoint { .. })));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drop(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 64]).await);
    });
    match Client::connect(&address, PATIENCE).await {
        Err(ClientError::Foreign { speaks, .. }) => assert_eq!(speaks, "HTTP"),
        other => panic!("{other:?}"),
    }
}
