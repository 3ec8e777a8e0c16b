//! What answers at an address: resolve, connect, greeting, READY and PING, each with its outcome and time.

mod banner;

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

pub use self::banner::Banner;
use crate::{
    ConnectError, HandshakeError, Limits, Mechanism, PeerInfo, SocketType, Stage, client,
    codec::{Command, Greeting, Item},
    handshake::{self, Deadline, Ours, Side},
    link::Link,
};

/// Times of a [`probe()`].
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// For name resolution and the TCP connection.
    pub connect_timeout: Duration,
    /// For each of greeting, READY and PONG.
    pub step_timeout: Duration,
    /// The socket type to present.
    pub socket_type: SocketType,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            step_timeout: Duration::from_secs(3),
            socket_type: SocketType::Dealer,
        }
    }
}

/// One step of a probe.
#[derive(Debug)]
pub struct Step<T, E> {
    /// What came of it.
    pub outcome: Result<T, E>,
    /// How long it took.
    pub took: Duration,
}

/// What a probe found. A step that was not reached is `None`.
#[derive(Debug)]
pub struct ProbeReport {
    /// The endpoint as it was given.
    pub endpoint: String,
    /// The addresses behind it.
    pub resolve: Step<Vec<SocketAddr>, ConnectError>,
    /// The TCP connection, with the address that took it.
    pub connect: Option<Step<SocketAddr, ConnectError>>,
    /// The peer's greeting: version, mechanism, as-server.
    pub greeting: Option<Step<Greeting, HandshakeError>>,
    /// The peer's READY.
    pub ready: Option<Step<ReadyFacts, HandshakeError>>,
    /// PING and its PONG.
    pub ping: Option<Step<(), HandshakeError>>,
}

/// What a peer's READY said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyFacts {
    /// Version, mechanism, socket type and identity.
    pub peer: PeerInfo,
    /// Every property as it came.
    pub metadata: Vec<(String, Bytes)>,
}

impl ProbeReport {
    /// Whether a ZMTP peer answered that our mechanism and socket type can talk to.
    pub fn is_zmtp_peer(&self) -> bool {
        self.ready.as_ref().is_some_and(|step| step.outcome.is_ok())
    }

    /// The mechanism that was agreed on, when it came to that.
    pub fn mechanism(&self) -> Option<Mechanism> {
        Some(self.ready.as_ref()?.outcome.as_ref().ok()?.peer.mechanism)
    }
}

/// Looks at what answers at `endpoint` (`tcp://host:port` or `host:port`); never fails, the report says how far it came.
///
/// A peer that stays silent is asked once more, on a second connection, in a way that text protocols answer.
pub async fn probe(endpoint: &str, options: &ProbeOptions) -> ProbeReport {
    let after = options.connect_timeout;
    let deadline = Instant::now() + after;
    let resolve = timed(client::resolve(endpoint, deadline, after)).await;
    let mut report =
        ProbeReport { endpoint: endpoint.to_owned(), resolve, connect: None, greeting: None, ready: None, ping: None };
    let Ok(addrs) = &report.resolve.outcome else { return report };
    let connected = timed(client::connect_tcp(addrs, deadline, after)).await;
    match connected.outcome {
        Ok((stream, addr)) => {
            report.connect = Some(Step { outcome: Ok(addr), took: connected.took });
            talk(stream, addr, options, &mut report).await;
        }
        Err(error) => report.connect = Some(Step { outcome: Err(error), took: connected.took }),
    }
    report
}

/// The steps behind the TCP connection.
async fn talk(stream: TcpStream, addr: SocketAddr, options: &ProbeOptions, report: &mut ProbeReport) {
    let step_end = || Deadline::after(options.step_timeout);
    let ours = Ours { socket_type: options.socket_type, identity: Bytes::new() };
    let mut link = Link::new(stream, &[], Limits::default().max_command);

    let mut greeting = timed(handshake::greet(&mut link, Side::Connect, step_end())).await;
    if let Err(HandshakeError::Timeout { received, .. }) = &greeting.outcome
        && received.is_empty()
        && let Some(first) = poke(addr, options.step_timeout).await
    {
        greeting.outcome = Err(HandshakeError::NotZmtp { looks_like: Banner::of(&first), first });
    }
    let Ok(greeted) = &report.greeting.insert(greeting).outcome else { return };

    let ready = timed(async {
        let mechanism = handshake::agree(greeted)?;
        let metadata = handshake::exchange_ready(&mut link, &ours, Side::Connect, step_end()).await?;
        let peer = handshake::peer_info(greeted, mechanism, &metadata, options.socket_type)?;
        Ok(ReadyFacts { peer, metadata })
    });
    let ready = ready.await;
    if report.ready.insert(ready).outcome.is_err() {
        return;
    }
    link.open(Limits::default());
    report.ping = Some(timed(ping(&mut link, step_end())).await);
}

async fn ping(link: &mut Link<TcpStream>, deadline: Deadline) -> Result<(), HandshakeError> {
    const CONTEXT: Bytes = Bytes::from_static(b"probe");
    link.outbox.push_command(&Command::Ping { ttl: 0, context: CONTEXT });
    loop {
        match link.decode()? {
            Some(Item::Command(Command::Pong { context })) if context == CONTEXT => return Ok(()),
            Some(Item::Command(command)) => {
                link.react(command);
            }
            Some(Item::Message(_) | Item::Rejected { .. }) => {}
            None => handshake::read_more(link, Stage::Ping, deadline).await?,
        }
    }
}

/// The first bytes of an answer to a line of text, when there is one. `PING` is a command of Redis and NATS, and a bad request in HTTP.
async fn poke(addr: SocketAddr, patience: Duration) -> Option<Bytes> {
    let asked = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"PING\r\n\r\n").await?;
        let mut first = BytesMut::with_capacity(64);
        stream.read_buf(&mut first).await?;
        io::Result::Ok(first.freeze())
    };
    timeout(patience, asked).await.ok()?.ok().filter(|first| !first.is_empty())
}

async fn timed<T, E>(step: impl Future<Output = Result<T, E>>) -> Step<T, E> {
    let begun = Instant::now();
    let outcome = step.await;
    Step { outcome, took: begun.elapsed() }
}
