//! The probe: how far it comes against each kind of peer, and what it says.

use std::time::Duration;

use mms_zmtp::{
    ConnectError, HandshakeError, Mechanism, ProbeOptions, ProbeReport, ProtocolError, SocketType, Stage, probe,
    probe::Banner,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    clients::fake,
    support::{greeting, ready, serve_echo, within},
};

async fn look(endpoint: &str) -> ProbeReport {
    let options = ProbeOptions { step_timeout: Duration::from_millis(200), ..ProbeOptions::default() };
    within(probe(endpoint, &options)).await
}

async fn look_at(bytes: &[u8]) -> ProbeReport {
    look(&fake(bytes.to_vec()).await.to_string()).await
}

fn greeting_error(report: ProbeReport) -> HandshakeError {
    assert!(report.ready.is_none() && report.ping.is_none());
    report.greeting.expect("a greeting step").outcome.expect_err("no greeting")
}

#[tokio::test]
async fn our_own_server() {
    let running = serve_echo().await;
    let report = within(probe(&running.endpoint, &ProbeOptions::default())).await;
    assert_eq!(*report.connect.as_ref().unwrap().outcome.as_ref().unwrap(), running.addr);
    let greeted = report.greeting.as_ref().unwrap().outcome.as_ref().unwrap();
    assert_eq!((greeted.version, greeted.mechanism.as_str(), greeted.as_server), ((3, 1), "NULL", false));
    let facts = report.ready.as_ref().unwrap().outcome.as_ref().unwrap();
    assert_eq!(facts.peer.socket_type, SocketType::Router);
    assert_eq!(facts.metadata[0], ("Socket-Type".into(), "ROUTER".into()));
    assert!(report.ping.as_ref().unwrap().outcome.is_ok());
    assert!(report.is_zmtp_peer());
    assert_eq!(report.mechanism(), Some(Mechanism::Null));
}

#[tokio::test]
async fn before_the_greeting() {
    let report = look("tcp://no-such-host.invalid:1").await;
    assert!(matches!(report.resolve.outcome, Err(ConnectError::ResolveFailed { .. })));
    assert!(report.connect.is_none());

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let report = look(&closed.to_string()).await;
    assert!(matches!(report.connect.unwrap().outcome, Err(ConnectError::Refused { .. })));
    assert!(report.greeting.is_none());
}

#[tokio::test]
async fn something_else() {
    for (bytes, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Banner::Http),
        (b"\x15\x03\x01\x00\x02\x02\x46", Banner::Tls),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Banner::Ssh),
        (b"-ERR unknown command\r\n", Banner::Redis),
        (b"INFO {\"server_id\":\"x\"}\r\n", Banner::Nats),
        (b"220 mail ESMTP\r\n", Banner::Text),
        (b"\x01\x00", Banner::OldZmtp),
        (b"\x00\x01\x02", Banner::Unknown),
    ] {
        match greeting_error(look_at(bytes).await) {
            HandshakeError::NotZmtp { first, looks_like } => {
                assert_eq!((&first[..], looks_like), (&bytes[..first.len()], expected));
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn silence_and_half_a_greeting() {
    let error = greeting_error(look_at(b"").await);
    assert!(matches!(&error, HandshakeError::Timeout { stage: Stage::Greeting, received, .. } if received.is_empty()));
    let error = greeting_error(look_at(&greeting()[..10]).await);
    assert!(matches!(&error, HandshakeError::Timeout { stage: Stage::Greeting, received, .. } if received.len() == 10));
}

#[tokio::test]
async fn a_text_protocol_that_waits_for_a_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut came = Vec::new();
                while stream.read_buf(&mut came).await.is_ok_and(|count| count > 0) {
                    if came.ends_with(b"\n") {
                        let _ = stream.write_all(b"-NOAUTH Authentication required.\r\n").await;
                    }
                }
            });
        }
    });
    let error = greeting_error(look(&addr.to_string()).await);
    assert!(matches!(error, HandshakeError::NotZmtp { looks_like: Banner::Redis, .. }), "{error}");
}

#[tokio::test]
async fn an_old_libzmq() {
    let error = greeting_error(look_at(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\0\0").await);
    assert!(matches!(error, HandshakeError::Protocol(ProtocolError::OldVersion(2))), "{error}");
}

#[tokio::test]
async fn zmtp_that_does_not_fit() {
    let mut curve = greeting().to_vec();
    curve[12..17].copy_from_slice(b"CURVE");
    curve[32] = 1;
    let report = look_at(&curve).await;
    let greeted = report.greeting.as_ref().unwrap().outcome.as_ref().unwrap();
    assert_eq!((greeted.mechanism.as_str(), greeted.as_server), ("CURVE", true));
    assert!(matches!(report.ready.as_ref().unwrap().outcome, Err(HandshakeError::PeerMechanism { .. })));
    assert!(!report.is_zmtp_peer());

    let report = look_at(&[&greeting()[..], &ready("PUSH", "")].concat()).await;
    let outcome = report.ready.unwrap().outcome;
    assert!(matches!(&outcome, Err(HandshakeError::PeerSocketType { peer, .. }) if peer == "PUSH"), "{outcome:?}");
}

#[tokio::test]
async fn a_peer_without_pong() {
    let report = look_at(&[&greeting()[..], &ready("REP", "me")].concat()).await;
    assert!(report.is_zmtp_peer());
    assert_eq!(report.ready.unwrap().outcome.unwrap().peer.identity, "me");
    assert!(matches!(report.ping.unwrap().outcome, Err(HandshakeError::Timeout { stage: Stage::Ping, .. })));
}
