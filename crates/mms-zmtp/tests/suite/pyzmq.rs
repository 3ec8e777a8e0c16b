//! Interoperation with libzmq: Python scripts under `tests/pyzmq` are the other end, as clients of our server and as servers of our
//! clients.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use mms_zmtp::{
    Client, ClientOptions, ConnectError, Dealer, Handler, HandshakeError, Heartbeat, ProbeOptions, Request, Server,
    ServerOptions, SocketType, probe,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket},
    process::{Child, Command},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, echo, frames, serve, within};

/// A script of `tests/pyzmq` in the interpreter of the test set-up.
fn python(script: &str, arguments: &[&str]) -> Child {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let interpreter =
        std::env::var_os("MMS_TEST_PYTHON").map_or_else(|| root.join("../../.venv/bin/python"), PathBuf::from);
    let spawned = Command::new(&interpreter)
        .arg(root.join("tests/pyzmq").join(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    spawned.unwrap_or_else(|error| {
        panic!(
            "cannot run {}: {error}. These tests need Python with pyzmq: set MMS_TEST_PYTHON, or make the default with \
             `python3 -m venv .venv && .venv/bin/pip install pyzmq==27.3.0` in the workspace root",
            interpreter.display()
        )
    })
}

async fn line(child: &mut Child) -> String {
    let mut text = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    within(BufReader::new(stdout).read_line(&mut text)).await.expect("a line");
    text.trim().to_owned()
}

async fn assert_success(mut child: Child) {
    let status = within(child.wait()).await.expect("exit status");
    assert!(status.success(), "the script says what is wrong above");
}

async fn moody(request: Request) -> Vec<Bytes> {
    let body = echo(request).await;
    if body[0].starts_with(b"never") {
        std::future::pending::<()>().await;
    }
    body
}

/// Runs one case of `client.py` against our server.
async fn client_case(case: &str) {
    client_case_with(case, ServerOptions::default()).await;
}

async fn client_case_with(case: &str, options: ServerOptions) {
    let running = serve(moody, options).await;
    assert_success(python("client.py", &[case, &running.endpoint])).await;
}

#[tokio::test]
async fn req() {
    client_case("req").await;
}

#[tokio::test]
async fn req_with_correlation_relaxed() {
    client_case("req_relaxed").await;
}

#[tokio::test]
async fn dealer_with_and_without_delimiter() {
    client_case("dealer").await;
}

#[tokio::test]
async fn dealer_that_sends_10_000_before_it_reads() {
    client_case("dealer_flood").await;
}

#[tokio::test]
async fn router_as_a_client() {
    client_case("router").await;
}

#[tokio::test]
async fn equal_identities() {
    client_case("identities").await;
}

#[tokio::test]
async fn messages_of_16_mib() {
    client_case("large").await;
}

#[tokio::test]
async fn messages_over_the_limits() {
    client_case("oversized").await;
}

#[tokio::test]
async fn heartbeats_of_libzmq() {
    client_case("heartbeats").await;
}

#[tokio::test]
async fn heartbeats_of_ours() {
    let beat = Heartbeat { interval: Duration::from_millis(30), timeout: Duration::from_secs(5) };
    client_case_with("heartbeats", ServerOptions { heartbeat: Some(beat), ..ServerOptions::default() }).await;
}

#[tokio::test]
async fn socket_types_that_do_not_fit() {
    client_case("wrong_types").await;
}

#[tokio::test]
async fn a_client_that_requires_curve() {
    client_case("curve").await;
}

#[tokio::test]
async fn fifty_clients_at_once() {
    client_case("many").await;
}

#[tokio::test]
async fn requests_of_a_socket_that_is_closed_at_once() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let tell = tell.clone();
        async move {
            let body = echo(request).await;
            let _ = tell.send(body[0].clone());
            body
        }
    };
    let running = serve(handler, ServerOptions::default()).await;
    assert_success(python("client.py", &["send_and_leave", &running.endpoint])).await;
    for number in 0..100 {
        assert_eq!(within(told.recv()).await.unwrap(), number.to_string());
    }
}

/// A server on the address of a former one.
fn serve_at(addr: std::net::SocketAddr, handler: impl Handler) -> CancellationToken {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_reuseaddr(true).expect("option");
    socket.bind(addr).expect("bind");
    let listener = socket.listen(16).expect("listen");
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move { Server::new(handler, ServerOptions::default()).serve(listener, token).await });
    shutdown
}

#[tokio::test]
async fn reconnects_after_a_restart() {
    let running = serve(moody, ServerOptions::default()).await;
    let mut child = python("client.py", &["reconnect", &running.endpoint]);
    assert_eq!(line(&mut child).await, "ready");
    running.shutdown.cancel();
    within(running.serving).await.unwrap();
    let _again = serve_at(running.addr, moody);
    child.stdin.as_mut().unwrap().write_all(b"restarted\n").await.unwrap();
    assert_success(child).await;
}

/// `server.py` of one kind, with its endpoint.
async fn server(kind: &str) -> (Child, String) {
    let mut child = python("server.py", &[kind]);
    let endpoint = line(&mut child).await;
    assert!(endpoint.starts_with("tcp://"), "the script says what is wrong above");
    (child, endpoint)
}

#[tokio::test]
async fn our_client_and_rep() {
    let (_child, endpoint) = server("rep").await;
    for correlate in [false, true] {
        let options = ClientOptions { correlate, ..ClientOptions::default() };
        let mut client = Client::connect(&endpoint, options).await.unwrap();
        assert_eq!(client.peer().socket_type, SocketType::Rep);
        for body in [&["one"][..], &["two", "", "frames"], &[""]] {
            assert_eq!(client.request(frames(body), PATIENCE).await.unwrap(), body);
        }
        client.ping(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn our_client_and_router() {
    let (_child, endpoint) = server("router").await;
    let mut client = Client::connect(&endpoint, ClientOptions::default()).await.unwrap();
    assert_eq!((client.peer().socket_type, &client.peer().identity[..]), (SocketType::Router, &b"py"[..]));
    let large = Bytes::from(vec![7; 16 << 20]);
    for body in [vec!["one".into()], vec![large.clone(), "two".into()]] {
        assert!(client.request(body.clone(), PATIENCE).await.unwrap() == body);
    }
}

async fn ten_at_a_time(kind: &str) {
    let (_child, endpoint) = server(kind).await;
    let dealer = Arc::new(Dealer::connect(&endpoint, ClientOptions::default()).await.expect("connect"));
    let requests = (0..1000).map(|number| {
        let dealer = dealer.clone();
        tokio::spawn(async move {
            let body = vec![Bytes::from(number.to_string()), Bytes::new()];
            assert_eq!(dealer.request(body.clone(), PATIENCE).await.expect("a reply"), body);
        })
    });
    for request in requests.collect::<Vec<_>>() {
        within(request).await.expect("no panic");
    }
}

#[tokio::test]
async fn our_dealer_and_rep() {
    ten_at_a_time("rep").await;
}

#[tokio::test]
async fn our_dealer_and_a_router_that_answers_in_reverse() {
    ten_at_a_time("reversed").await;
}

#[tokio::test]
async fn our_clients_answer_heartbeats() {
    let (_child, endpoint) = server("heartbeats").await;
    let dealer = Dealer::connect(&endpoint, ClientOptions::default()).await.unwrap();
    dealer.request(frames(&["one"]), PATIENCE).await.unwrap();
    // Several times what the server waits for a PONG.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(dealer.request(frames(&["two"]), PATIENCE).await.unwrap(), ["two"]);
    // A Client has no task of its own: it was dropped meanwhile, and connects anew.
    let mut client = Client::connect(&endpoint, ClientOptions::default()).await.unwrap();
    client.request(frames(&["one"]), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(client.request(frames(&["two"]), PATIENCE).await.unwrap(), ["two"]);
}

#[tokio::test]
async fn servers_of_types_that_do_not_fit() {
    for kind in ["pub", "push", "sub", "pull", "pair", "xpub", "dealer"] {
        let (_child, endpoint) = server(kind).await;
        match Client::connect(&endpoint, ClientOptions::default()).await {
            Err(ConnectError::Handshake { source: HandshakeError::PeerSocketType { peer, .. }, .. }) => {
                assert_eq!(peer, kind.to_uppercase());
            }
            other => panic!("{kind}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_requires_curve() {
    let (_child, endpoint) = server("curve").await;
    match Client::connect(&endpoint, ClientOptions::default()).await {
        Err(ConnectError::Handshake { source: HandshakeError::PeerMechanism { mechanism }, .. }) => {
            assert_eq!(mechanism, "CURVE");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn our_client_after_a_restart_of_libzmq() {
    let (child, endpoint) = server("rep").await;
    let mut client = Client::connect(&endpoint, ClientOptions::default()).await.unwrap();
    client.request(frames(&["one"]), PATIENCE).await.unwrap();
    let addr = endpoint.strip_prefix("tcp://").unwrap().parse().unwrap();
    drop(child);
    // Until the process has gone its port is taken.
    while TcpListener::bind(addr).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _again = serve_at(addr, moody);
    assert_eq!(client.request(frames(&["two"]), PATIENCE).await.unwrap(), ["two"]);
}

#[tokio::test]
async fn the_probe_sees_what_libzmq_is() {
    let options = ProbeOptions::default();
    let (_rep, endpoint) = server("rep").await;
    let report = within(probe(&endpoint, &options)).await;
    let peer = report.ready.as_ref().unwrap().outcome.as_ref().unwrap().peer.clone();
    assert_eq!((peer.socket_type, peer.version), (SocketType::Rep, (3, 1)));
    assert!(report.ping.unwrap().outcome.is_ok());

    let (_curve, endpoint) = server("curve").await;
    let greeted = within(probe(&endpoint, &options)).await.greeting.unwrap().outcome.unwrap();
    assert_eq!(greeted.mechanism, "CURVE");

    let (_push, endpoint) = server("push").await;
    let outcome = within(probe(&endpoint, &options)).await.ready.unwrap().outcome;
    assert!(matches!(&outcome, Err(HandshakeError::PeerSocketType { peer, .. }) if peer == "PUSH"), "{outcome:?}");
}
