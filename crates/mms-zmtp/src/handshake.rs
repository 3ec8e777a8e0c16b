//! Greeting and READY, for both sides.
//!
//! ```text
//! 64 greeting bytes both ways ─▶ mechanism agreed? ─▶ NULL: READY both ways ─▶ socket types fit? ─▶ open
//! ```
//! Each side of libzmq closes at once when it sees what it does not want, and what it had still to say is lost. So the connect side, which
//! wants to know why, lets the peer speak first, for a moment at most; the bind side never waits.

use std::{io, time::Duration};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use crate::{
    HandshakeError, Mechanism, PeerInfo, ProtocolError, SocketType, Stage,
    codec::{Command, Greeting, Item, Metadata, Outbox},
    link::Link,
    probe::Banner,
};

/// How much of what a peer sent is shown in an error.
const SHOWN: usize = 64;
/// How long a peer that is refused has to read why.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes of a greeting up to its version.
const VERSION_END: usize = 12;
/// How long the connect side lets the peer speak first.
const HESITATION: Duration = Duration::from_millis(100);

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Bind,
    Connect,
}

/// What we present ourselves as.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    pub(crate) socket_type: SocketType,
    pub(crate) identity: Bytes,
}

impl Ours {
    fn ready(&self) -> Command {
        Command::Ready(vec![
            ("Socket-Type".into(), Bytes::from_static(self.socket_type.name().as_bytes())),
            ("Identity".into(), self.identity.clone()),
        ])
    }
}

/// The whole handshake of one side.
pub(crate) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    ours: &Ours,
    side: Side,
    timeout: Duration,
) -> Result<PeerInfo, HandshakeError> {
    let deadline = Deadline::after(timeout);
    let greeting = greet(link, side, deadline).await?;
    let mechanism = agree(&greeting)?;
    let metadata = exchange_ready(link, ours, side, deadline).await?;
    peer_info(&greeting, mechanism, &metadata, ours.socket_type)
}

/// What a peer is told about a failed handshake, when it can be told.
pub(crate) fn reason(error: &HandshakeError) -> Option<String> {
    match error {
        HandshakeError::PeerMechanism { mechanism } => {
            Some(format!("mechanism {mechanism} is not supported, use NULL"))
        }
        HandshakeError::PeerSocketType { peer, .. } => {
            Some(format!("socket type {peer} cannot be served here, use REQ or DEALER"))
        }
        HandshakeError::Protocol(error @ (ProtocolError::EarlyMessage | ProtocolError::CommandTooLong { .. })) => {
            Some(error.to_string())
        }
        HandshakeError::Timeout { .. } => Some(error.to_string()),
        _ => None,
    }
}

/// Sends our greeting and reads the peer's. The connect side keeps the second half, which names our mechanism, until it has the peer's.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    side: Side,
    deadline: Deadline,
) -> Result<Greeting, HandshakeError> {
    let ours = Greeting::ours(Mechanism::Null).encode();
    let (version, rest) = ours.split_at(VERSION_END);
    link.outbox.push_raw(version);
    let mut held = Held::new(rest.to_vec(), side, link);
    loop {
        match Greeting::decode(&mut link.inbox) {
            Ok(Some(greeting)) => {
                held.release(link);
                return Ok(greeting);
            }
            Ok(None) => held.read_more(link, Stage::Greeting, deadline).await?,
            Err(ProtocolError::NotZmtp { first }) => {
                let looks_like = Banner::of(&first);
                return Err(HandshakeError::NotZmtp { first, looks_like });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends our READY and reads the peer's, on the connect side in the opposite order.
pub(crate) async fn exchange_ready<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    ours: &Ours,
    side: Side,
    deadline: Deadline,
) -> Result<Metadata, HandshakeError> {
    let mut ready = Outbox::default();
    ready.push_command(&ours.ready());
    let mut held = Held::new(ready.copy_to_bytes(ready.remaining()).into(), side, link);
    loop {
        match link.decode()? {
            Some(Item::Command(Command::Ready(metadata))) => {
                held.release(link);
                return Ok(metadata);
            }
            Some(Item::Command(Command::Error(reason))) => return Err(HandshakeError::PeerRefused { reason }),
            Some(Item::Command(_)) => {}
            Some(Item::Message(_) | Item::Rejected { .. }) => return Err(ProtocolError::EarlyMessage.into()),
            None => held.read_more(link, Stage::Ready, deadline).await?,
        }
    }
}

/// Bytes that the connect side holds back until the peer has spoken, or has hesitated for too long.
struct Held(Option<(Vec<u8>, Instant)>);

impl Held {
    fn new<S: AsyncRead + AsyncWrite + Unpin>(bytes: Vec<u8>, side: Side, link: &mut Link<S>) -> Self {
        let mut held = Self(Some((bytes, Instant::now() + HESITATION)));
        if side == Side::Bind {
            held.release(link);
        }
        held
    }

    fn release<S: AsyncRead + AsyncWrite + Unpin>(&mut self, link: &mut Link<S>) {
        if let Some((bytes, _)) = self.0.take() {
            link.outbox.push_raw(&bytes);
        }
    }

    async fn read_more<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        link: &mut Link<S>,
        stage: Stage,
        deadline: Deadline,
    ) -> Result<(), HandshakeError> {
        let Some((_, at)) = &self.0 else { return read_more(link, stage, deadline).await };
        if let Ok(read) = timeout_at(*at, read_more(link, stage, deadline)).await {
            return read;
        }
        self.release(link);
        Ok(())
    }
}

/// The mechanism of a peer's greeting, when it is one of ours.
pub(crate) fn agree(greeting: &Greeting) -> Result<Mechanism, HandshakeError> {
    Mechanism::from_name(&greeting.mechanism)
        .ok_or_else(|| HandshakeError::PeerMechanism { mechanism: greeting.mechanism.clone() })
}

/// The peer as greeting and READY describe it, when its socket type can talk to `ours`.
pub(crate) fn peer_info(
    greeting: &Greeting,
    mechanism: Mechanism,
    metadata: &Metadata,
    ours: SocketType,
) -> Result<PeerInfo, HandshakeError> {
    let property = |name: &str| metadata.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let type_name = property("Socket-Type").map_or(&b""[..], |value| value);
    let socket_type = SocketType::from_name(type_name)
        .filter(|peer| ours.talks_to(*peer))
        .ok_or_else(|| HandshakeError::PeerSocketType { peer: type_name.escape_ascii().to_string(), ours })?;
    let identity = property("Identity").cloned().unwrap_or_default();
    Ok(PeerInfo { version: greeting.version, mechanism, socket_type, identity })
}

/// A point in time, and how long it was to it, for the error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    pub(crate) fn after(after: Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }
}

/// Reads once; the end of the stream and the deadline are errors that name `stage`.
pub(crate) async fn read_more<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    stage: Stage,
    deadline: Deadline,
) -> Result<(), HandshakeError> {
    match timeout_at(deadline.at, link.read()).await {
        Ok(Ok(0)) => Err(HandshakeError::Closed { stage }),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if is_closed(&error) => Err(HandshakeError::Closed { stage }),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let received = Bytes::copy_from_slice(&link.inbox[..link.inbox.len().min(SHOWN)]);
            Err(HandshakeError::Timeout { stage, received, after: deadline.after })
        }
    }
}

/// Whether an error only says that the peer has gone.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}
