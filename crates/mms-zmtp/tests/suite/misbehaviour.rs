//! Raw TCP peers that break the rules, one way each; an honest client is served meanwhile and afterwards.

use std::time::Duration;

use bytes::Bytes;
use mms_zmtp::{Client, ClientOptions, Handler, Limits, ServerOptions, codec::Command};
use tokio::io::AsyncWriteExt;

use crate::support::{
    PATIENCE, Raw, Running, command, echo, encoded, frames, greeting, ready, serve, serve_echo, within,
};

/// Small limits and a short handshake.
fn strict() -> ServerOptions {
    ServerOptions {
        limits: Limits { max_message: 100_000, max_frames: 10, max_drained: 100 << 20, max_command: 1000 },
        handshake_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    }
}

async fn assert_serves<H: Handler>(running: &Running<H>) {
    let mut client = Client::connect(&running.endpoint, ClientOptions::default()).await.expect("connect");
    assert_eq!(client.request(frames(&["still", "here"]), PATIENCE).await.expect("a reply"), ["still", "here"]);
}

/// Sends these bytes and nothing more; the server must close, and live on.
async fn assert_closes(bytes: &[u8]) -> Vec<u8> {
    let running = serve(echo, strict()).await;
    let mut raw = Raw::connect(running.addr).await;
    raw.send(bytes).await;
    assert_serves(&running).await;
    raw.expect_end().await;
    assert_serves(&running).await;
    raw.inbox.to_vec()
}

#[tokio::test]
async fn stalls_in_mid_greeting() {
    let came = assert_closes(&greeting()[..10]).await;
    assert_eq!(came[..64], greeting(), "our greeting is sent at once, and whole");
}

#[tokio::test]
async fn connects_and_says_nothing() {
    assert_closes(b"").await;
}

#[tokio::test]
async fn stalls_before_ready() {
    assert_closes(&greeting()).await;
}

#[tokio::test]
async fn trickles_byte_by_byte() {
    let running = serve(echo, strict()).await;
    let mut raw = Raw::connect(running.addr).await;
    let bytes = [&greeting()[..], &ready("REQ", "")].concat();
    let trickle = async {
        for byte in bytes.iter().cycle() {
            if raw.stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Ends only since the server closes: every byte alone would be in time.
    within(trickle).await;
    assert_serves(&running).await;
}

#[tokio::test]
async fn speaks_http() {
    assert_closes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
}

#[tokio::test]
async fn speaks_tls() {
    assert_closes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
}

#[tokio::test]
async fn speaks_zmtp_1_or_2() {
    assert_closes(b"\x01\x00").await;
    assert_closes(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x03\0\0").await;
}

#[tokio::test]
async fn sends_a_message_in_place_of_ready() {
    assert_closes(&[&greeting()[..], &encoded(&frames(&["", "x"]))].concat()).await;
}

#[tokio::test]
async fn sends_endless_metadata() {
    let mut bytes = greeting().to_vec();
    bytes.extend([6]);
    bytes.extend((1u64 << 30).to_be_bytes());
    assert_closes(&bytes).await;
}

#[tokio::test]
async fn sends_garbage_after_the_handshake() {
    assert_closes(&[&greeting()[..], &ready("DEALER", ""), b"\xde\xad\xbe\xef"].concat()).await;
}

#[tokio::test]
async fn needs_another_mechanism() {
    let running = serve_echo().await;
    let mut raw = Raw::connect(running.addr).await;
    let mut bytes = greeting();
    bytes[12..17].copy_from_slice(b"CURVE");
    raw.send(&bytes).await;
    raw.greeting().await.unwrap();
    assert_eq!(raw.refusal().await, "mechanism CURVE is not supported, use NULL");
}

#[tokio::test]
async fn has_a_socket_type_that_asks_nothing() {
    let running = serve_echo().await;
    for kind in ["PUB", "SUB", "XPUB", "XSUB", "PUSH", "PULL", "PAIR", "REP", "STREAM", "\u{1f}", ""] {
        let mut raw = Raw::connect(running.addr).await;
        raw.send(&greeting()).await;
        raw.greeting().await.unwrap();
        raw.send(&ready(kind, "")).await;
        raw.expect_ready().await;
        let reason = raw.refusal().await;
        assert_eq!(
            reason,
            format!("socket type {} cannot be served here, use REQ or DEALER", kind.escape_default())
                .replace("\\u{1f}", "\\x1f")
        );
    }
    assert_serves(&running).await;
}

#[tokio::test]
async fn announces_a_terabyte() {
    let running = serve(echo, strict()).await;
    let mut raw = Raw::peer(running.addr, "REQ", "").await;
    raw.send(b"\x01\x00\x02").await;
    raw.send(&(1u64 << 40).to_be_bytes()).await;
    raw.send(&[0; 1000]).await;
    let limit = "the message of 1099511627776 bytes is larger than the limit of 100000 bytes";
    assert_eq!(raw.message().await, frames(&["", limit]), "told before the connection ends");
    raw.expect_end().await;
    assert_serves(&running).await;
}

#[tokio::test]
async fn sends_64_mib_of_rubbish() {
    let running = serve(echo, strict()).await;
    let mut raw = Raw::dealer(running.addr).await;
    raw.send(b"\x01\x00\x02").await;
    raw.send(&(64u64 << 20).to_be_bytes()).await;
    let rubbish = vec![0xA5; 1 << 20];
    for _ in 0..64 {
        raw.send(&rubbish).await;
    }
    let limit = "the message of 67108864 bytes is larger than the limit of 100000 bytes";
    assert_eq!(raw.message().await, frames(&["", limit]));
    assert_eq!(raw.ask(&["", "and on"]).await, ["", "and on"], "the connection is still good");
}

#[tokio::test]
async fn sends_too_many_frames() {
    let running = serve(echo, strict()).await;
    let mut raw = Raw::dealer(running.addr).await;
    let mut message = frames(&["id", ""]);
    message.extend(std::iter::repeat_n(Bytes::from_static(b"f"), 100_000));
    raw.send(&encoded(&message)).await;
    let limit = "the message of 100002 frames has more than the limit of 10 frames";
    assert_eq!(raw.message().await, frames(&["id", "", limit]));
    assert_eq!(raw.ask(&["", "and on"]).await, ["", "and on"]);
}

#[tokio::test]
async fn sends_commands_that_nobody_knows() {
    let running = serve_echo().await;
    let mut raw = Raw::dealer(running.addr).await;
    for name in ["SUBSCRIBE", "CANCEL", "JOIN", "X-OTHER"] {
        raw.send(&command(&Command::Other { name: name.into() })).await;
    }
    raw.send(&command(&Command::Error("no reason".into()))).await;
    assert_eq!(raw.ask(&["", "and on"]).await, ["", "and on"]);
}

#[tokio::test]
async fn leaves_at_every_byte_of_the_handshake_and_of_a_request() {
    let running = serve_echo().await;
    let bytes = [&greeting()[..], &ready("REQ", "me"), &encoded(&frames(&["", "body"]))].concat();
    for len in 0..bytes.len() {
        let mut raw = Raw::connect(running.addr).await;
        raw.send(&bytes[..len]).await;
    }
    assert_serves(&running).await;
}
