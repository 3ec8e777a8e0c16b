//! One peer's connection.

use std::io;

use crate::{HandshakeError, ProtocolError};

/// Why a connection ended otherwise than by the peer's leaving or by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// All connections are taken.
    #[error("too many connections, the limit is {0}")]
    TooMany(usize),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer sent what is not ZMTP, or broke a limit for good.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The peer did not answer our PING, or was silent for longer than it had announced.
    #[error("no sign of life from the peer")]
    Dead,
    /// The peer did not read its replies.
    #[error("the peer does not read its replies")]
    NotReading,
    /// Requests were still in work when the time to drain was over.
    #[error("{0} requests unanswered at shutdown")]
    Undrained(usize),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
