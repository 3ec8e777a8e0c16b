//! Guesses from its first bytes what a peer is that does not speak ZMTP.

/// What first bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Banner {
    /// An HTTP server, or a client that took us for one.
    Http,
    /// A TLS record: the port expects TLS.
    Tls,
    /// An SSH server.
    Ssh,
    /// Redis or another speaker of its protocol.
    Redis,
    /// A NATS server.
    Nats,
    /// ZMTP 1.0, as libzmq 2 speaks it.
    OldZmtp,
    /// Text of some kind.
    Text,
    /// Nothing known.
    Unknown,
}

impl Banner {
    /// What `first`, the first bytes of a peer, looks like.
    pub fn of(first: &[u8]) -> Self {
        let begins = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| first.starts_with(prefix));
        match first {
            _ if begins(&[
                b"HTTP/",
                b"GET ",
                b"POST ",
                b"HEAD ",
                b"PUT ",
                b"OPTIONS ",
                b"DELETE ",
                b"PRI * HTTP/2",
            ]) =>
            {
                Self::Http
            }
            [0x14..=0x17, 0x03, 0x00..=0x04, ..] => Self::Tls,
            _ if begins(&[b"SSH-"]) => Self::Ssh,
            _ if begins(&[b"INFO {"]) => Self::Nats,
            _ if begins(&[b"+PONG", b"-ERR", b"-NOAUTH", b"-DENIED", b"*1\r\n"]) => Self::Redis,
            [0x01, 0x00] | [0x01, 0x00, ..] => Self::OldZmtp,
            _ if !first.is_empty()
                && first.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) =>
            {
                Self::Text
            }
            _ => Self::Unknown,
        }
    }
}

impl std::fmt::Display for Banner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Ssh => "SSH",
            Self::Redis => "Redis",
            Self::Nats => "NATS",
            Self::OldZmtp => "ZMTP 1.0",
            Self::Text => "a text protocol",
            Self::Unknown => "something unknown",
        })
    }
}
