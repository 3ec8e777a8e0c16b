//! What can go wrong, as types: on the wire, in the handshake, when connecting, and with one request.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;

use crate::{SocketType, probe::Banner};

/// A message that was read past and not kept, since it broke a limit or found no room. Its sender can still be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// More bytes than allowed.
    #[error("the message of {len} bytes is larger than the limit of {limit} bytes")]
    Oversized {
        /// Bytes of the message, as far as they were announced.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// More frames than allowed.
    #[error("the message of {frames} frames has more than the limit of {limit} frames")]
    TooManyFrames {
        /// Frames of the message, envelope included.
        frames: u64,
        /// The limit.
        limit: usize,
    },
    /// The memory that all connections share for large messages was used up while this one came. It may be sent again later.
    #[error(
        "no room now for the message of {len} bytes: the {budget} bytes for large messages of all peers are in use"
    )]
    NoRoom {
        /// Bytes of the message, as far as they were announced.
        len: u64,
        /// The shared memory.
        budget: u64,
    },
}

/// Bytes that are not ZMTP. The connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The first ten bytes are not a ZMTP signature.
    #[error("not a ZMTP greeting, it begins with {}", first.escape_ascii())]
    NotZmtp {
        /// What came instead.
        first: Bytes,
    },
    /// The peer speaks ZMTP 1 or 2.
    #[error("the peer speaks ZMTP {0}, at least 3 is needed (libzmq 4 or later)")]
    OldVersion(u8),
    /// A frame with flags that no version defines.
    #[error("frame with the invalid flags 0x{0:02x}")]
    BadFlags(u8),
    /// A command with a length over the limit.
    #[error("command of {len} bytes, the limit is {limit}")]
    CommandTooLong {
        /// Its announced length.
        len: u64,
        /// The limit.
        limit: usize,
    },
    /// A command that cannot be read.
    #[error("malformed {0} command")]
    BadCommand(&'static str),
    /// A message in place of READY.
    #[error("a message came before the handshake was complete")]
    EarlyMessage,
    /// A message so long that reading past it was given up.
    #[error("{0}, too long to read past it")]
    Undrainable(Rejected),
}

/// How far a handshake had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the peer's 64 greeting bytes were complete.
    Greeting,
    /// Before the peer's READY.
    Ready,
    /// Connected, waiting for a PONG.
    Ping,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Greeting => "greeting",
            Self::Ready => "READY",
            Self::Ping => "PONG",
        })
    }
}

/// Why two peers did not come to terms.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer is something else than ZeroMQ.
    #[error("the peer does not speak ZMTP but {looks_like}; its first bytes: {}", first.escape_ascii())]
    NotZmtp {
        /// Its first bytes.
        first: Bytes,
        /// What they look like.
        looks_like: Banner,
    },
    /// The peer asks for a mechanism that we do not speak.
    #[error("the peer requires the security mechanism {mechanism}, only NULL is supported")]
    PeerMechanism {
        /// Such as `CURVE`.
        mechanism: String,
    },
    /// The peer's socket type cannot talk to ours.
    #[error("the peer's socket is of type {peer}, which cannot talk to {ours}")]
    PeerSocketType {
        /// The peer's type as it named it.
        peer: String,
        /// Our type.
        ours: SocketType,
    },
    /// The peer refused us with an ERROR command.
    #[error("the peer refused the connection: {reason}")]
    PeerRefused {
        /// The reason it gave.
        reason: String,
    },
    /// The peer closed the connection in mid-handshake.
    #[error("the peer closed the connection before its {stage} was complete")]
    Closed {
        /// What was still missing.
        stage: Stage,
    },
    /// The peer was silent, or too slow.
    #[error("no complete {stage} from the peer within {} ms", after.as_millis())]
    Timeout {
        /// What was still missing.
        stage: Stage,
        /// What had come of it.
        received: Bytes,
        /// The time that it had.
        after: Duration,
    },
    /// What the peer sent is not valid ZMTP.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint cannot be understood.
    #[error("bad endpoint {endpoint:?}: {why}")]
    BadEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The host name has no address.
    #[error("cannot resolve {host}: {source}")]
    ResolveFailed {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody listens there.
    #[error("connection to {addr} refused: nobody listens there")]
    Refused {
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be reached for another reason.
    #[error("cannot reach {addr}: {source}")]
    Unreachable {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The TCP connection was not established in time.
    #[error("no TCP connection to {addr} within {} ms", after.as_millis())]
    ConnectTimeout {
        /// The address.
        addr: SocketAddr,
        /// The time that it had.
        after: Duration,
    },
    /// Connected, but the ZMTP handshake failed.
    #[error("ZMTP handshake with {addr}: {source}")]
    Handshake {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: HandshakeError,
    },
}

/// Why a request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No reply in time.
    #[error("no reply within {} ms", after.as_millis())]
    Timeout {
        /// The time that it had.
        after: Duration,
    },
    /// The peer closed the connection before it replied.
    #[error("the peer closed the connection")]
    Closed,
    /// The reply broke one of our limits.
    #[error("reply refused: {0}")]
    Rejected(Rejected),
    /// The peer sent what is not ZMTP, or no reply to a request of ours.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection had been lost and could not be made again.
    #[error("reconnecting: {0}")]
    Reconnect(#[from] ConnectError),
}
