//! Our connect side against our bind side and against peers that are none.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use mms_zmtp::{
    Client, ClientOptions, ConnectError, Dealer, HandshakeError, Heartbeat, Limits, Rejected, Request, RequestError,
    ServerOptions, SocketType, Stage, codec::Item, probe::Banner,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{PATIENCE, Raw, echo, encoded, frames, greeting, ready, serve, serve_echo, within};

fn quick() -> ClientOptions {
    ClientOptions { handshake_timeout: Duration::from_millis(200), ..ClientOptions::default() }
}

/// A listener that answers every connection with these bytes, reads and never says more.
pub(crate) async fn fake(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let _ = stream.write_all(&bytes).await;
                let mut sink = Vec::new();
                let _ = stream.read_to_end(&mut sink).await;
            });
        }
    });
    addr
}

async fn handshake_error(bytes: Vec<u8>) -> HandshakeError {
    let addr = fake(bytes).await;
    match Client::connect(&addr.to_string(), quick()).await {
        Err(ConnectError::Handshake { source, .. }) => source,
        other => panic!("the handshake must fail, but: {other:?}"),
    }
}

#[tokio::test]
async fn why_a_connection_fails() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(&format!("tcp://{closed}"), quick()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { addr } if addr == closed));
    let error = Client::connect("tcp://no-such-host.invalid:1", quick()).await.unwrap_err();
    assert!(matches!(error, ConnectError::ResolveFailed { .. }), "{error}");
    let error = Client::connect("ipc:///tmp/socket", quick()).await.unwrap_err();
    assert!(matches!(error, ConnectError::BadEndpoint { .. }));
}

#[tokio::test]
async fn why_a_handshake_fails() {
    let error = handshake_error(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    assert!(matches!(error, HandshakeError::NotZmtp { looks_like: Banner::Http, .. }), "{error}");

    let error = handshake_error(Vec::new()).await;
    assert!(matches!(&error, HandshakeError::Timeout { stage: Stage::Greeting, received, .. } if received.is_empty()));

    let error = handshake_error(greeting()[..10].to_vec()).await;
    assert!(matches!(&error, HandshakeError::Timeout { stage: Stage::Greeting, received, .. } if received.len() == 10));

    let error = handshake_error(greeting().to_vec()).await;
    assert!(matches!(error, HandshakeError::Timeout { stage: Stage::Ready, .. }));

    let mut curve = greeting().to_vec();
    curve[12..17].copy_from_slice(b"CURVE");
    let error = handshake_error(curve).await;
    assert!(matches!(&error, HandshakeError::PeerMechanism { mechanism } if mechanism == "CURVE"), "{error}");

    let error = handshake_error([&greeting()[..], &ready("PUB", "")].concat()).await;
    assert!(
        matches!(&error, HandshakeError::PeerSocketType { peer, ours: SocketType::Req } if peer == "PUB"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_without_room_is_told_so() {
    let running = serve(echo, ServerOptions { max_connections: 0, ..ServerOptions::default() }).await;
    match Client::connect(&running.endpoint, ClientOptions::default()).await {
        Err(ConnectError::Handshake { source: HandshakeError::PeerRefused { reason }, .. }) => {
            assert_eq!(reason, "too many connections, the limit is 0");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_with_and_without_correlation() {
    let running = serve_echo().await;
    for correlate in [false, true] {
        let options = ClientOptions { correlate, ..ClientOptions::default() };
        let mut client = Client::connect(&running.endpoint, options).await.unwrap();
        assert_eq!(client.peer().socket_type, SocketType::Router);
        for body in [&["one"][..], &["two", "", "frames"], &[""]] {
            assert_eq!(client.request(frames(body), PATIENCE).await.unwrap(), body);
        }
        client.ping(PATIENCE).await.unwrap();
        assert_eq!(client.request(frames(&["after"]), PATIENCE).await.unwrap(), ["after"]);
    }
}

/// Never answers what begins with `never`.
async fn moody(request: Request) -> Vec<Bytes> {
    let body = echo(request).await;
    if body[0].starts_with(b"never") {
        std::future::pending::<()>().await;
    }
    body
}

#[tokio::test]
async fn a_timeout_does_not_spoil_the_next_request() {
    let running = serve(moody, ServerOptions::default()).await;
    let mut client = Client::connect(&running.endpoint, ClientOptions::default()).await.unwrap();
    let error = client.request(frames(&["never"]), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout { .. }));
    assert_eq!(client.request(frames(&["now"]), PATIENCE).await.unwrap(), ["now"]);
}

#[tokio::test]
async fn a_client_connects_anew_after_the_server_was_restarted() {
    let running = serve_echo().await;
    let addr = running.addr;
    let mut client = Client::connect(&running.endpoint, ClientOptions::default()).await.unwrap();
    client.request(frames(&["one"]), PATIENCE).await.unwrap();
    running.shutdown.cancel();
    within(running.serving).await.unwrap();
    let error = client.request(frames(&["two"]), PATIENCE).await.unwrap_err();
    assert!(matches!(error, RequestError::Reconnect(ConnectError::Refused { .. }) | RequestError::Closed), "{error}");

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    let listener = socket.listen(16).unwrap();
    let server = mms_zmtp::Server::new(echo, ServerOptions::default());
    tokio::spawn(async move { server.serve(listener, Default::default()).await });
    assert_eq!(client.request(frames(&["three"]), PATIENCE).await.unwrap(), ["three"]);
}

#[tokio::test]
async fn a_reply_over_the_limit_is_refused() {
    let running = serve(|_| async { vec![vec![0; 2000].into()] }, ServerOptions::default()).await;
    let limits = Limits { max_message: 1000, ..Limits::default() };
    let options = ClientOptions { limits, ..ClientOptions::default() };
    let mut client = Client::connect(&running.endpoint, options.clone()).await.unwrap();
    let error = client.request(frames(&["x"]), PATIENCE).await.unwrap_err();
    assert!(matches!(error, RequestError::Rejected(Rejected::Oversized { len: 2000, limit: 1000 })), "{error}");
    let dealer = Dealer::connect(&running.endpoint, options).await.unwrap();
    let error = dealer.request(frames(&["x"]), PATIENCE).await.unwrap_err();
    assert!(matches!(error, RequestError::Rejected(Rejected::Oversized { .. })), "{error}");
}

#[tokio::test]
async fn a_dealer_matches_replies_to_requests() {
    let shuffle = |request: Request| async move {
        let body = echo(request).await;
        tokio::time::sleep(Duration::from_millis(u64::from(body[0][0] % 16))).await;
        body
    };
    let running = serve(shuffle, ServerOptions::default()).await;
    let dealer = Dealer::connect(&running.endpoint, ClientOptions { max_in_flight: 100, ..ClientOptions::default() });
    let dealer = Arc::new(dealer.await.unwrap());
    let requests = (0..1000u32).map(|number| {
        let dealer = dealer.clone();
        tokio::spawn(async move {
            let body = vec![Bytes::from(vec![number as u8]), number.to_string().into(), Bytes::new()];
            assert_eq!(dealer.request(body.clone(), PATIENCE).await.unwrap(), body);
        })
    });
    for request in requests.collect::<Vec<_>>() {
        within(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_dealer_forgets_what_it_does_not_wait_for() {
    let running = serve(moody, ServerOptions::default()).await;
    let options = ClientOptions { max_in_flight: 1, ..ClientOptions::default() };
    let dealer = Dealer::connect(&running.endpoint, options).await.unwrap();
    for _ in 0..3 {
        let error = dealer.request(frames(&["never"]), Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, RequestError::Timeout { .. }));
    }
    assert_eq!(dealer.request(frames(&["now"]), PATIENCE).await.unwrap(), ["now"]);
}

#[tokio::test]
async fn a_dealer_tells_when_the_server_has_gone() {
    let options = ServerOptions { drain_timeout: Duration::from_millis(10), ..ServerOptions::default() };
    let running = serve(moody, options).await;
    let dealer = Dealer::connect(&running.endpoint, ClientOptions::default()).await.unwrap();
    let waiting = tokio::spawn({
        let dealer = dealer.clone();
        async move { dealer.request(frames(&["never"]), PATIENCE).await }
    });
    dealer.request(frames(&["now"]), PATIENCE).await.unwrap();
    running.shutdown.cancel();
    assert!(matches!(within(waiting).await.unwrap(), Err(RequestError::Closed)));
    assert!(matches!(dealer.request(frames(&["late"]), PATIENCE).await, Err(RequestError::Closed)));
    assert!(dealer.is_closed());
}

#[tokio::test]
async fn a_dealer_notices_a_dead_server() {
    let addr = fake([&greeting()[..], &ready("ROUTER", "")].concat()).await;
    let heartbeat = Some(Heartbeat { interval: Duration::from_millis(20), timeout: Duration::from_millis(50) });
    let options = ClientOptions { heartbeat, ..ClientOptions::default() };
    let dealer = Dealer::connect(&addr.to_string(), options).await.unwrap();
    assert!(matches!(dealer.request(frames(&["x"]), PATIENCE).await, Err(RequestError::Closed)));
}

/// What leaves a REQ client is exactly what libzmq sends: the empty delimiter, then the body.
#[tokio::test]
async fn the_bytes_of_a_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let asking = tokio::spawn(async move {
        let mut client = Client::connect(&addr, ClientOptions::default()).await.unwrap();
        client.request(frames(&["body", ""]), PATIENCE).await.unwrap()
    });
    let mut raw = Raw::new(listener.accept().await.unwrap().0);
    raw.send(&[&greeting()[..], &ready("REP", "")].concat()).await;
    raw.greeting().await.unwrap();
    assert!(matches!(raw.item().await, Some(Item::Command(_))));
    assert_eq!(raw.message().await, ["", "body", ""]);
    raw.send(&encoded(&frames(&["stray"]))).await;
    raw.send(&encoded(&frames(&["", "reply"]))).await;
    assert_eq!(within(asking).await.unwrap(), ["reply"]);
}
