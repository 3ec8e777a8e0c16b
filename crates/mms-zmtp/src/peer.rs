//! Who is at the other end: socket type, mechanism, identity.

use bytes::Bytes;

/// The ZeroMQ socket types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are ZeroMQ's own")]
pub enum SocketType {
    Req,
    Rep,
    Dealer,
    Router,
    Pub,
    Sub,
    Xpub,
    Xsub,
    Push,
    Pull,
    Pair,
    Client,
    Server,
    Radio,
    Dish,
    Gather,
    Scatter,
    Peer,
    Channel,
}

const NAMES: [(&str, SocketType); 19] = [
    ("REQ", SocketType::Req),
    ("REP", SocketType::Rep),
    ("DEALER", SocketType::Dealer),
    ("ROUTER", SocketType::Router),
    ("PUB", SocketType::Pub),
    ("SUB", SocketType::Sub),
    ("XPUB", SocketType::Xpub),
    ("XSUB", SocketType::Xsub),
    ("PUSH", SocketType::Push),
    ("PULL", SocketType::Pull),
    ("PAIR", SocketType::Pair),
    ("CLIENT", SocketType::Client),
    ("SERVER", SocketType::Server),
    ("RADIO", SocketType::Radio),
    ("DISH", SocketType::Dish),
    ("GATHER", SocketType::Gather),
    ("SCATTER", SocketType::Scatter),
    ("PEER", SocketType::Peer),
    ("CHANNEL", SocketType::Channel),
];

impl SocketType {
    /// The type of this name as READY carries it, such as `DEALER`.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, kind)| *kind)
    }

    /// The name as READY carries it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether ZeroMQ lets these two types talk to each other; only asked for the request and reply types.
    pub fn talks_to(self, peer: SocketType) -> bool {
        use SocketType::{Dealer, Rep, Req, Router};
        match self {
            Req => matches!(peer, Rep | Router),
            Rep => matches!(peer, Req | Dealer),
            Dealer => matches!(peer, Rep | Dealer | Router),
            Router => matches!(peer, Req | Dealer | Router),
            _ => false,
        }
    }
}

impl std::fmt::Display for SocketType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a connection is secured. A new mechanism is a variant here and a branch in `handshake`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mechanism {
    /// Neither authentication nor encryption.
    #[default]
    Null,
}

impl Mechanism {
    /// The mechanism of this name, when we speak it.
    pub fn from_name(name: &str) -> Option<Self> {
        (name == Self::Null.name()).then_some(Self::Null)
    }

    /// The name as the greeting carries it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
        }
    }
}

/// What the handshake told about the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// ZMTP version, such as `(3, 1)`.
    pub version: (u8, u8),
    /// The mechanism that both agreed on.
    pub mechanism: Mechanism,
    /// The peer's socket type.
    pub socket_type: SocketType,
    /// The routing id that the peer chose; empty when it chose none. Not unique, not authenticated.
    pub identity: Bytes,
}
