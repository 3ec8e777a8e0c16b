//! The memory that all connections share: what becomes of large messages when it is used up.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use mms_zmtp::{
    Limits, ServerOptions,
    codec::{Command, Item},
};
use tokio::sync::Semaphore;

use crate::{
    serving::gated,
    support::{Raw, command, echo, encoded, frames, serve},
};

const MIB: usize = 1 << 20;
const NO_ROOM: &str =
    "no room now for the message of 1048576 bytes: the 1048576 bytes for large messages of all peers are in use";

/// Room for one message of a MiB.
fn narrow(message_grace: Duration) -> ServerOptions {
    ServerOptions {
        limits: Limits { max_message: MIB as u64, ..Limits::default() },
        max_held: 0,
        message_grace,
        ..ServerOptions::default()
    }
}

/// A message of a MiB that begins with `text`, behind an empty delimiter.
fn mib(text: &str) -> Vec<u8> {
    let mut body = text.as_bytes().to_vec();
    body.resize(MIB, b'.');
    encoded(&[Bytes::new(), body.into()])
}

#[tokio::test]
async fn requests_in_work_hold_their_memory() {
    let gate = Arc::new(Semaphore::new(0));
    let running = serve(gated(gate.clone()), narrow(Duration::ZERO)).await;
    let mut first = Raw::dealer(running.addr).await;
    first.send(&mib("wait")).await;
    assert_eq!(first.ask(&["", "small"]).await, ["", "small"], "the large one is in work, small ones are welcome");

    let mut second = Raw::dealer(running.addr).await;
    second.send(&mib("large too")).await;
    assert_eq!(second.message().await, frames(&["", NO_ROOM]));
    assert_eq!(second.ask(&["", "small"]).await, ["", "small"], "the connection is still good");

    gate.add_permits(1);
    assert_eq!(first.message().await[1].len(), MIB);
    second.send(&mib("again")).await;
    assert!(second.message().await[1].starts_with(b"again"), "there is room again");
}

/// A peer that has sent most of its message, which the server has read: the PONG says so.
async fn stalled(addr: SocketAddr) -> Raw {
    let mut raw = Raw::dealer(addr).await;
    let mut begin = mib("large");
    begin.truncate(begin.len() - 1000);
    let len = (begin.len() - 11) as u64;
    // A delimiter, then a long frame; MORE follows.
    begin[2] = 3;
    begin[3..11].copy_from_slice(&len.to_be_bytes());
    raw.send(&begin).await;
    raw.send(&command(&Command::Ping { ttl: 0, context: Bytes::new() })).await;
    assert_eq!(raw.item().await, Some(Item::Command(Command::Pong { context: Bytes::new() })));
    raw
}

/// The last frame of a stalled message.
fn rest() -> Vec<u8> {
    encoded(&[vec![b'.'; 1000].into()])
}

#[tokio::test]
async fn a_message_that_takes_long_gives_way() {
    let running = serve(echo, narrow(Duration::ZERO)).await;
    let mut dawdlers = Vec::new();
    for _ in 0..4 {
        dawdlers.push(stalled(running.addr).await);
    }
    let mut honest = Raw::dealer(running.addr).await;
    honest.send(&mib("honest")).await;
    assert!(honest.message().await[1].starts_with(b"honest"));
    // They are told when they go on.
    for raw in &mut dawdlers {
        raw.send(&rest()).await;
        assert_eq!(raw.message().await, frames(&["", NO_ROOM]));
        assert_eq!(raw.ask(&["", "and on"]).await, ["", "and on"]);
    }
}

#[tokio::test]
async fn a_message_within_its_grace_is_safe() {
    let running = serve(echo, narrow(Duration::from_secs(3600))).await;
    let mut slow = stalled(running.addr).await;
    let mut other = Raw::dealer(running.addr).await;
    other.send(&mib("other")).await;
    assert_eq!(other.message().await, frames(&["", NO_ROOM]));
    slow.send(&rest()).await;
    assert!(slow.message().await[1].starts_with(b"large"));
    other.send(&mib("other")).await;
    assert!(other.message().await[1].starts_with(b"other"), "there is room again");
}

/// Also what a peer has left behind is given back.
#[tokio::test]
async fn memory_of_peers_that_leave_comes_back() {
    let running = serve(echo, narrow(Duration::from_secs(3600))).await;
    for _ in 0..3 {
        drop(stalled(running.addr).await);
        running.deserted().await;
    }
    let mut honest = Raw::dealer(running.addr).await;
    honest.send(&mib("honest")).await;
    assert!(honest.message().await[1].starts_with(b"honest"));
}
