//! Requests and replies: envelopes, concurrency, back-pressure, disconnects, heartbeats, bounds, shutdown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mms_zmtp::{
    Client, ClientOptions, Frames, Heartbeat, Incoming, Request, Server, ServerOptions,
    codec::{Command, Item},
    server::ConnectionError,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, Raw, command, echo, encoded, frames, greeting, ready, serve, serve_echo, within};

#[tokio::test]
async fn the_envelope_comes_back_as_it_was() {
    let reply = |_: Request| async { frames(&["re", "ply"]) };
    let running = serve(reply, ServerOptions::default()).await;
    let mut raw = Raw::dealer(running.addr).await;
    for (message, expected) in [
        (&["", "body"][..], &["", "re", "ply"][..]),
        (&["id", "", "body"], &["id", "", "re", "ply"]),
        (&["a", "b", "", "body", "", "more"], &["a", "b", "", "re", "ply"]),
        (&["body"], &["re", "ply"]),
        (&["body", "more"], &["re", "ply"]),
        (&[""], &["re", "ply"]),
        (&["", ""], &["", "re", "ply"]),
        (&["body", ""], &["re", "ply"]),
    ] {
        assert_eq!(raw.ask(message).await, expected, "{message:?}");
    }
}

#[tokio::test]
async fn the_handler_sees_body_and_peer() {
    let describe = |request: Request| async move {
        let info = &request.peer.info;
        let body = request.body.expect("a body");
        let has_addr = request.peer.addr.is_some();
        vec![format!("{} {:?} {} {} {has_addr}", info.socket_type, info.identity, body.len(), body[0].len()).into()]
    };
    let running = serve(describe, ServerOptions::default()).await;
    let mut raw = Raw::peer(running.addr, "REQ", "me").await;
    assert_eq!(raw.ask(&["", "four", "", "x"]).await, ["", "REQ b\"me\" 3 4 true"]);
    assert_eq!(raw.ask(&["", ""]).await, ["", "REQ b\"me\" 1 0 true"], "an empty frame is a body");
}

#[tokio::test]
async fn an_empty_reply_is_one_empty_frame() {
    let running = serve(|_| async { Frames::new() }, ServerOptions::default()).await;
    let mut raw = Raw::dealer(running.addr).await;
    assert_eq!(raw.ask(&["", "x"]).await, ["", ""]);
    assert_eq!(raw.ask(&["x"]).await, [""]);
}

/// Waits for a permit when asked to, otherwise echoes.
pub(crate) fn gated(gate: Arc<Semaphore>) -> impl mms_zmtp::Handler {
    move |request: Request| {
        let gate = gate.clone();
        async move {
            let body = echo(request).await;
            if body[0].starts_with(b"wait") {
                gate.acquire().await.expect("open").forget();
            }
            body
        }
    }
}

#[tokio::test]
async fn a_slow_request_delays_no_other_of_the_same_peer() {
    let gate = Arc::new(Semaphore::new(0));
    let running = serve(gated(gate.clone()), ServerOptions::default()).await;
    let mut raw = Raw::dealer(running.addr).await;
    raw.send(&encoded(&frames(&["1", "", "wait"]))).await;
    assert_eq!(raw.ask(&["2", "", "quick"]).await, ["2", "", "quick"]);
    gate.add_permits(1);
    assert_eq!(raw.message().await, ["1", "", "wait"]);
}

#[tokio::test]
async fn more_requests_than_allowed_in_work_wait() {
    let gate = Arc::new(Semaphore::new(0));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (gate, now, most) = (gate.clone(), now.clone(), most.clone());
        move |request: Request| {
            let (gate, now, most) = (gate.clone(), now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.acquire().await.expect("open").forget();
                now.fetch_sub(1, Ordering::SeqCst);
                echo(request).await
            }
        }
    };
    let running = serve(handler, ServerOptions { max_in_flight: 4, ..ServerOptions::default() }).await;
    let mut raw = Raw::dealer(running.addr).await;
    for number in 0..100 {
        raw.send(&encoded(&[Bytes::from(number.to_string())])).await;
    }
    while now.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    // Time for the others to come in, if they were let in.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut replies = Vec::new();
    for _ in 0..100 {
        gate.add_permits(1);
        replies.push(raw.message().await[0].clone());
    }
    replies.sort_by_key(|reply| String::from_utf8_lossy(reply).parse::<usize>().unwrap());
    assert!(replies.iter().enumerate().all(|(number, reply)| *reply == number.to_string()), "each exactly once");
    assert!((1..=4).contains(&most.load(Ordering::SeqCst)));
}

/// A dealer that sends 10,000 requests before it reads a reply: what the server holds for it stays bounded, others are served, and
/// no reply is lost or doubled.
#[tokio::test]
async fn a_flood_without_reading() {
    const COUNT: usize = 10_000;
    const SIZE: usize = 4000;
    let handled = Arc::new(AtomicUsize::new(0));
    let handler = {
        let handled = handled.clone();
        move |request: Request| {
            handled.fetch_add(1, Ordering::SeqCst);
            echo(request)
        }
    };
    let server = Server::new(handler, ServerOptions { max_buffered: 64 << 10, ..ServerOptions::default() });
    // In place of TCP, whose buffers have no size to reckon with.
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn({
        let server = server.clone();
        async move { server.serve_connection(theirs, Incoming::default(), CancellationToken::new()).await }
    });
    let (mut reader, mut writer) = tokio::io::split(ours);
    let sender = tokio::spawn(async move {
        writer.write_all(&greeting()).await.unwrap();
        writer.write_all(&ready("DEALER", "")).await.unwrap();
        for number in 0..COUNT {
            let body = Bytes::from(vec![b'x'; SIZE]);
            writer.write_all(&encoded(&[number.to_string().into(), Bytes::new(), body])).await.unwrap();
        }
    });
    // Let it run into the wall.
    while handled.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }

    let mut decoder = mms_zmtp::codec::Decoder::new(mms_zmtp::Limits::default());
    let mut inbox = bytes::BytesMut::new();
    within(async {
        while inbox.len() < 64 {
            reader.read_buf(&mut inbox).await.unwrap();
        }
    })
    .await;
    let _greeting = inbox.split_to(64);
    let mut seen = vec![false; COUNT];
    let mut count = 0;
    while count < COUNT {
        match decoder.decode(&mut inbox).unwrap() {
            Some(Item::Message(reply)) => {
                let number: usize = String::from_utf8_lossy(&reply[0]).parse().unwrap();
                assert!(!std::mem::replace(&mut seen[number], true), "reply {number} came twice");
                count += 1;
                let unread = handled.load(Ordering::SeqCst) - count;
                assert!(unread <= 400_000 / SIZE, "{unread} replies are held for a peer that does not read");
            }
            Some(_) => {}
            None => assert!(within(reader.read_buf(&mut inbox)).await.unwrap() > 0),
        }
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn a_flood_does_not_block_others() {
    let running = serve_echo().await;
    let mut flood = Raw::dealer(running.addr).await;
    let message = encoded(&[Bytes::new(), vec![b'x'; 100_000].into()]);
    let addr = running.addr;
    let flooding = tokio::spawn(async move { while flood.stream.write_all(&message).await.is_ok() {} });
    let mut honest = Raw::dealer(addr).await;
    for _ in 0..100 {
        assert_eq!(honest.ask(&["", "hello"]).await, ["", "hello"]);
    }
    flooding.abort();
}

#[tokio::test]
async fn a_peer_that_leaves_cancels_its_work() {
    struct Dropped(mpsc::UnboundedSender<&'static str>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let tell = tell.clone();
        async move {
            let _dropped = Dropped(tell.clone());
            let gone = request.peer.gone.clone();
            tokio::spawn({
                let tell = tell.clone();
                async move {
                    gone.cancelled().await;
                    let _ = tell.send("gone");
                }
            });
            let _ = tell.send("begun");
            std::future::pending::<Frames>().await
        }
    };
    let running = serve(handler, ServerOptions::default()).await;
    let mut raw = Raw::dealer(running.addr).await;
    raw.send(&encoded(&frames(&["", "x"]))).await;
    assert_eq!(within(told.recv()).await, Some("begun"));
    drop(raw);
    let mut ends = [within(told.recv()).await, within(told.recv()).await];
    ends.sort();
    assert_eq!(ends, [Some("dropped"), Some("gone")]);
}

#[tokio::test]
async fn a_panicking_handler_ends_its_connection_only() {
    let handler = |request: Request| async move {
        let body = echo(request).await;
        assert_ne!(body, ["panic"], "as asked");
        body
    };
    let running = serve(handler, ServerOptions::default()).await;
    let mut raw = Raw::dealer(running.addr).await;
    raw.send(&encoded(&frames(&["panic"]))).await;
    raw.expect_end().await;
    assert_eq!(Raw::dealer(running.addr).await.ask(&["x"]).await, ["x"]);
}

/// So many that it has to wait with the others, which nobody reads yet.
#[tokio::test]
async fn a_peer_that_leaves_while_it_has_to_wait_is_noticed() {
    let options = ServerOptions { max_in_flight: 2, ..ServerOptions::default() };
    let running = serve(gated(Arc::new(Semaphore::new(0))), options).await;
    let mut raw = Raw::dealer(running.addr).await;
    for _ in 0..10 {
        raw.send(&encoded(&frames(&["", "wait"]))).await;
    }
    drop(raw);
    running.deserted().await;
}

#[tokio::test]
async fn equal_identities_do_not_collide() {
    let gate = Arc::new(Semaphore::new(0));
    let running = serve(gated(gate.clone()), ServerOptions::default()).await;
    let mut first = Raw::peer(running.addr, "DEALER", "same").await;
    let mut second = Raw::peer(running.addr, "DEALER", "same").await;
    first.send(&encoded(&frames(&["", "wait", "first"]))).await;
    assert_eq!(second.ask(&["", "second"]).await, ["", "second"]);
    gate.add_permits(1);
    assert_eq!(first.message().await, ["", "wait", "first"]);
}

#[tokio::test]
async fn a_ping_is_answered_also_during_work() {
    let running = serve(gated(Arc::new(Semaphore::new(0))), ServerOptions::default()).await;
    let mut raw = Raw::dealer(running.addr).await;
    raw.send(&encoded(&frames(&["", "wait"]))).await;
    raw.send(&command(&Command::Ping { ttl: 0, context: "context".into() })).await;
    assert_eq!(raw.item().await, Some(Item::Command(Command::Pong { context: "context".into() })));
}

#[tokio::test]
async fn a_silent_peer_is_asked_and_then_given_up() {
    let beat = Heartbeat { interval: Duration::from_millis(50), timeout: Duration::from_millis(500) };
    let running = serve(echo, ServerOptions { heartbeat: Some(beat), ..ServerOptions::default() }).await;
    let mut raw = Raw::dealer(running.addr).await;
    for _ in 0..3 {
        let Some(Item::Command(Command::Ping { context, .. })) = raw.item().await else {
            panic!("a PING was expected")
        };
        raw.send(&command(&Command::Pong { context })).await;
    }
    assert!(matches!(raw.item().await, Some(Item::Command(Command::Ping { .. }))));
    raw.expect_end().await;
}

#[tokio::test]
async fn a_peer_that_breaks_its_own_ttl_is_given_up() {
    let running = serve_echo().await;
    let mut raw = Raw::dealer(running.addr).await;
    raw.send(&command(&Command::Ping { ttl: 2, context: Bytes::new() })).await;
    assert_eq!(raw.item().await, Some(Item::Command(Command::Pong { context: Bytes::new() })));
    raw.expect_end().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up_when_so_configured() {
    let options = ServerOptions { write_timeout: Some(Duration::from_millis(300)), ..ServerOptions::default() };
    let server = Server::new(echo, options);
    let (mut ours, theirs) = tokio::io::duplex(4 << 10);
    let serving =
        tokio::spawn(
            async move { server.serve_connection(theirs, Incoming::default(), CancellationToken::new()).await },
        );
    let message = encoded(&frames(&["some", "thing"]));
    within(async {
        ours.write_all(&greeting()).await.unwrap();
        ours.write_all(&ready("DEALER", "")).await.unwrap();
        while ours.write_all(&message).await.is_ok() {}
    })
    .await;
    assert!(matches!(within(serving).await.unwrap(), Err(ConnectionError::NotReading)));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let running = serve(echo, ServerOptions { max_connections: 2, ..ServerOptions::default() }).await;
    let mut first = Raw::dealer(running.addr).await;
    let mut second = Raw::dealer(running.addr).await;
    assert_eq!(running.server.connections(), 2);
    let mut third = Raw::connect(running.addr).await;
    third.greeting().await.unwrap();
    assert_eq!(third.refusal().await, "too many connections, the limit is 2");
    assert_eq!(first.ask(&["1"]).await, ["1"]);
    drop(first);
    let served = within(async {
        loop {
            if let Ok(mut client) = Client::connect(&running.endpoint, ClientOptions::default()).await {
                return client.request(frames(&["3"]), PATIENCE).await.unwrap();
            }
        }
    });
    assert_eq!(served.await, ["3"]);
    assert_eq!(second.ask(&["2"]).await, ["2"]);
}

/// Peers that stall in their handshake hold all slots, for an hour if they may: an honest one gets in all the same.
#[tokio::test]
async fn dawdlers_give_way() {
    let hour = Duration::from_secs(3600);
    let options = ServerOptions { max_connections: 3, handshake_timeout: hour, ..ServerOptions::default() };
    let running = serve(echo, options).await;
    let mut settled = Raw::dealer(running.addr).await;
    let mut dawdlers = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(running.addr).await;
        raw.greeting().await.unwrap();
        dawdlers.push(raw);
    }
    let mut honest = within(async {
        loop {
            if let Ok(client) = Client::connect(&running.endpoint, ClientOptions::default()).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(honest.request(frames(&["in"]), PATIENCE).await.unwrap(), ["in"]);
    assert_eq!(settled.ask(&["still in"]).await, ["still in"]);
    dawdlers[0].expect_end().await;
}

#[tokio::test]
async fn shutdown_lets_work_finish() {
    let gate = Arc::new(Semaphore::new(0));
    let running = serve(gated(gate.clone()), ServerOptions::default()).await;
    let mut raw = Raw::dealer(running.addr).await;
    let mut idle = Raw::dealer(running.addr).await;
    assert_eq!(raw.ask(&["", "before"]).await, ["", "before"]);
    raw.send(&encoded(&frames(&["", "wait"]))).await;
    assert_eq!(raw.ask(&["", "between"]).await, ["", "between"]);
    running.shutdown.cancel();
    idle.expect_end().await;
    gate.add_permits(1);
    assert_eq!(raw.message().await, ["", "wait"]);
    raw.expect_end().await;
    within(running.serving).await.unwrap();
    assert!(tokio::net::TcpStream::connect(running.addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn shutdown_has_a_deadline() {
    let options = ServerOptions { drain_timeout: Duration::from_millis(100), ..ServerOptions::default() };
    let server = Server::new(gated(Arc::new(Semaphore::new(0))), options);
    let (mut ours, theirs) = tokio::io::duplex(4 << 10);
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { server.serve_connection(theirs, Incoming::default(), shutdown).await }
    });
    let bytes = [&greeting()[..], &ready("DEALER", ""), &encoded(&frames(&["wait"])), &encoded(&frames(&["now"]))];
    ours.write_all(&bytes.concat()).await.unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"now") {
        within(ours.read_buf(&mut came)).await.unwrap();
    }
    shutdown.cancel();
    assert!(matches!(within(serving).await.unwrap(), Err(ConnectionError::Undrained(1))));
}

#[tokio::test]
async fn bytes_that_were_already_read_are_not_lost() {
    let bytes = [&greeting()[..], &ready("REQ", ""), &encoded(&frames(&["", "early"]))].concat();
    for already in [0, 1, 10, 64, 70, bytes.len()] {
        let (mut ours, theirs) = tokio::io::duplex(4 << 10);
        let incoming = Incoming { addr: None, already_read: Bytes::copy_from_slice(&bytes[..already]) };
        let server = Server::new(echo, ServerOptions::default());
        tokio::spawn(async move { server.serve_connection(theirs, incoming, CancellationToken::new()).await });
        ours.write_all(&bytes[already..]).await.unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"early") {
            assert!(within(ours.read_buf(&mut came)).await.unwrap() > 0);
        }
    }
}

#[tokio::test]
async fn many_clients_of_which_half_vanish() {
    let running = serve(gated(Arc::new(Semaphore::new(0))), ServerOptions::default()).await;
    let clients = (0..200).map(|number| {
        let addr = running.addr;
        tokio::spawn(async move {
            let mut raw = Raw::peer(addr, "REQ", "").await;
            if number % 2 == 0 {
                raw.send(&encoded(&frames(&["", "wait"]))).await;
                return;
            }
            for _ in 0..20 {
                assert_eq!(raw.ask(&["", "on"]).await, ["", "on"]);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within(client).await.unwrap();
    }
    running.deserted().await;
}

#[tokio::test]
async fn large_messages_travel_whole() {
    let running = serve_echo().await;
    let mut client = Client::connect(&running.endpoint, ClientOptions::default()).await.unwrap();
    let large: Bytes = (0..16u32 << 20).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    for body in [vec![large.clone()], vec!["small".into(), large.clone(), Bytes::new(), "end".into()]] {
        assert!(client.request(body.clone(), PATIENCE).await.unwrap() == body);
    }
}
