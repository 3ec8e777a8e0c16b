//! Whatever a peer sends, or stops sending, everybody else is served: each bad input is followed by a ping that is answered. The
//! smaller kinds are cases of `contract/`.

use std::net::SocketAddr;

use crate::asking::{answers, ask};
use crate::support::{PATIENCE, Server};
use bytes::Bytes;
use mms_client::{Client, HttpClient};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Greeting of a ZMTP 3.1 peer with the NULL mechanism.
fn greeting() -> Vec<u8> {
    let mut bytes = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    bytes
}

/// READY of a REQ socket.
fn ready() -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend_from_slice(&3u32.to_be_bytes());
    body.extend_from_slice(b"REQ");
    [vec![0x04, body.len() as u8], body].concat()
}

fn address(endpoint: &str) -> SocketAddr {
    endpoint.split("://").nth(1).unwrap().parse().unwrap()
}

async fn connect(endpoint: &str) -> TcpStream {
    TcpStream::connect(address(endpoint)).await.unwrap()
}

/// A peer that has shaken hands.
async fn greeted(endpoint: &str) -> TcpStream {
    let mut stream = connect(endpoint).await;
    stream.write_all(&[greeting(), ready()].concat()).await.unwrap();
    let mut theirs = [0; 64];
    stream.read_exact(&mut theirs).await.unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut body = vec![0; head[1].into()];
    stream.read_exact(&mut body).await.unwrap();
    assert!(body.starts_with(b"\x05READY"), "{body:?}");
    stream
}

/// Reads until the server closes the connection.
async fn until_closed(mut stream: TcpStream, what: &str) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "{what}: the connection stays open");
}

/// Sends one message and gives the JSON of the one reply.
async fn reply_to(server: &Server, frames: Vec<Bytes>) -> Value {
    let mut client = Client::connect(&server.main, PATIENCE).await.unwrap();
    let reply = client.request_raw(frames).await.unwrap();
    assert_eq!(reply.len(), 1);
    let value = serde_json::from_slice(&reply[0]).unwrap();
    let pong = client.send_json("ping", &json!({"action": "ping"})).await.unwrap();
    assert_eq!(pong["status"], "success", "the same connection goes on");
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_too_much() {
    let server = Server::start("");
    let rubbish: Bytes = (0..64u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let reply = reply_to(&server, vec![rubbish]).await;
    assert_eq!((&reply["status"], &reply["error"]["code"]), (&json!("error"), &json!("too_large")), "{reply}");

    let reply = reply_to(&server, vec![Bytes::from(vec![0xFE; 16 << 20])]).await;
    assert_eq!(reply["error"]["code"], "invalid_json", "{reply}");

    let reply = reply_to(&server, vec![Bytes::from_static(b"{}"); 20_000]).await;
    assert_eq!(reply["status"], "error", "{reply}");
    assert!(reply["message"].as_str().unwrap().contains("frames"), "{reply}");

    for deep in ["[".repeat(20_000), r#"{"action":"ping","params":"#.to_owned() + &r#"{"a":"#.repeat(20_000)] {
        let reply = reply_to(&server, vec![deep.into()]).await;
        assert_eq!(reply["status"], "error", "{reply}");
        assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()), "{reply}");
    }
    let closed = r#"{"a":"#.repeat(20_000) + "1" + &"}".repeat(20_000);
    let reply = reply_to(&server, vec![closed.into()]).await;
    assert_eq!(reply["status"], "error", "{reply}");
    answers(&server).await;
    server.stop();
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_names_both_lengths() {
    let server = Server::start("");
    let prompt = "How do I load a model? ".repeat(5_000);
    for operation in ["generate", "generate_text"] {
        let reply = ask(&server.main, &json!({"action": operation, "model": "mms-demo", "prompt": prompt})).await;
        let error = &reply["error"];
        assert_eq!(error["code"], "context_exceeded", "{reply}");
        let (prompt_tokens, context) =
            (error["prompt_tokens"].as_u64().unwrap(), error["context_length"].as_u64().unwrap());
        assert!(prompt_tokens > context && context >= 512, "{reply}");
        let message = reply["message"].as_str().unwrap();
        assert!(message.contains(&prompt_tokens.to_string()) && message.contains(&context.to_string()), "{message}");
        answers(&server).await;
    }
    server.stop();
}

#[tokio::test]
async fn a_length_header_of_one_tebibyte() {
    let server = Server::start("");
    for endpoint in [&server.main, &server.health] {
        let mut peer = greeted(endpoint).await;
        // An empty delimiter with MORE, then a long frame that announces 2^40 bytes.
        let mut bytes = vec![0x01, 0x00, 0x02];
        bytes.extend_from_slice(&(1u64 << 40).to_be_bytes());
        bytes.extend_from_slice(b"a little of it");
        peer.write_all(&bytes).await.unwrap();
        answers(&server).await;
        until_closed(peer, "1 TiB").await;
        answers(&server).await;
    }
    server.stop();
}

#[tokio::test]
async fn peers_that_stop_in_the_middle() {
    let server = Server::start("");
    let whole = [greeting(), ready(), vec![0x01, 0x00, 0x00, 0x05, b'h']].concat();
    for endpoint in [&server.main, &server.health] {
        let mut held = Vec::new();
        for length in [0, 1, 5, 9, 10, 11, 12, 40, 63, 64, 65, 70, 90, whole.len()] {
            let mut stream = connect(endpoint).await;
            stream.write_all(&whole[..length]).await.unwrap();
            answers(&server).await;
            held.push(stream);
        }
        answers(&server).await;
        drop(held);
        answers(&server).await;
    }
    server.stop();
}

#[tokio::test]
async fn a_greeting_that_never_ends_is_given_up() {
    let server = Server::start("[limits]\nhandshake_timeout_s = 1\nheader_timeout_s = 1\n");
    for (endpoint, begin) in
        [(&server.main, &greeting()[..20]), (&server.health, &greeting()[..20]), (&server.health, b"GET /hea")]
    {
        let mut stream = connect(endpoint).await;
        stream.write_all(begin).await.unwrap();
        until_closed(stream, "half a greeting").await;
    }
    answers(&server).await;
    server.stop();
}

#[tokio::test]
async fn tricklers_delay_nobody() {
    let server = Server::start("");
    let message = [vec![0x01, 0x00, 0x00, 0x11], br#"{"action":"ping"}"#.to_vec()].concat();
    let mut tricklers = Vec::new();
    for _ in 0..10 {
        tricklers.push(greeted(&server.main).await);
    }
    for byte in message {
        for trickler in &mut tricklers {
            trickler.write_all(&[byte]).await.unwrap();
        }
        answers(&server).await;
    }
    for mut trickler in tricklers {
        // The whole request has come, if slowly, so it has its answer: an empty delimiter, then one frame.
        let mut head = [0; 4];
        trickler.read_exact(&mut head).await.unwrap();
        assert_eq!(head[..2], [0x01, 0x00], "{head:?}");
    }
    server.stop();
}

#[tokio::test]
async fn peers_that_speak_something_else() {
    let server = Server::start("");
    let greetings: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x00\x00\x00\x00",
        b"\x00",
        &[0xFF; 64],
    ];
    for hello in greetings {
        for endpoint in [&server.main, &server.health] {
            let mut stream = connect(endpoint).await;
            stream.write_all(hello).await.unwrap();
            stream.shutdown().await.unwrap();
            until_closed(stream, "foreign greeting").await;
            answers(&server).await;
        }
    }
    let http = HttpClient::new(&server.http).unwrap();
    for body in [json!(5), json!({}), json!({"model": 5}), json!({"model": "mms-demo", "messages": "x"})] {
        let reply = http.post_json("/v1/chat/completions", &body).await.unwrap();
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        let error = reply.json().unwrap();
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
    answers(&server).await;
    server.stop();
}
