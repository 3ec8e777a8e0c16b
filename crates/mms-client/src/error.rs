//! What can go wrong between a client and the server, in terms of what the user can do about it.

use std::time::Duration;

use mms_protocol::Refusal;
use mms_zmtp::{ConnectError, HandshakeError, RequestError};

/// Why a call has no reply, or a refusing one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint cannot be understood.
    #[error("bad endpoint {endpoint:?}: {why}")]
    BadEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody listens there, or the way there is barred.
    #[error("no server at {endpoint}: {why}")]
    Unreachable {
        /// As it was given.
        endpoint: String,
        /// What the system said.
        why: String,
    },
    /// Something listens there, but it is not what was expected.
    #[error("what listens at {endpoint} does not speak {expected} but {speaks}")]
    Foreign {
        /// As it was given.
        endpoint: String,
        /// The protocol of the call.
        expected: &'static str,
        /// What it looks like.
        speaks: String,
    },
    /// No answer in time.
    #[error("no answer from {endpoint} within {} ms ({what})", after.as_millis())]
    Timeout {
        /// As it was given.
        endpoint: String,
        /// The time that it had.
        after: Duration,
        /// What was waited for.
        what: String,
    },
    /// Something accepts connections there, but does not greet as a server does.
    #[error("something listens at {endpoint}, but it did not greet within {} ms ({stage})", after.as_millis())]
    Silent {
        /// As it was given.
        endpoint: String,
        /// The time that it had.
        after: Duration,
        /// How far the handshake came.
        stage: String,
    },
    /// The connection broke, or the answer is not one.
    #[error("{endpoint}: {why}")]
    Protocol {
        /// As it was given.
        endpoint: String,
        /// What came instead of an answer.
        why: String,
    },
    /// The server answered that it will not, or cannot.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ClientError {
    pub(crate) fn of_connect(endpoint: &str, error: ConnectError) -> Self {
        let endpoint = endpoint.to_owned();
        match error {
            ConnectError::BadEndpoint { why, .. } => Self::BadEndpoint { endpoint, why: why.to_owned() },
            ConnectError::ResolveFailed { .. } | ConnectError::Refused { .. } | ConnectError::Unreachable { .. } => {
                Self::Unreachable { endpoint, why: error.to_string() }
            }
            ConnectError::ConnectTimeout { after, .. } => {
                Self::Timeout { endpoint, after, what: "TCP connection".to_owned() }
            }
            ConnectError::Handshake { source, .. } => Self::of_handshake(endpoint, source),
        }
    }

    fn of_handshake(endpoint: String, error: HandshakeError) -> Self {
        match error {
            HandshakeError::NotZmtp { looks_like, .. } => {
                Self::Foreign { endpoint, expected: "ZMTP", speaks: looks_like.to_string() }
            }
            HandshakeError::Timeout { stage, after, .. } => {
                Self::Silent { endpoint, after, stage: format!("ZMTP handshake, {stage}") }
            }
            HandshakeError::PeerMechanism { .. }
            | HandshakeError::PeerSocketType { .. }
            | HandshakeError::PeerRefused { .. }
            | HandshakeError::Closed { .. }
            | HandshakeError::Protocol(_)
            | HandshakeError::Io(_) => Self::Protocol { endpoint, why: format!("ZMTP handshake failed: {error}") },
        }
    }

    pub(crate) fn of_request(endpoint: &str, what: &str, error: RequestError) -> Self {
        let endpoint = endpoint.to_owned();
        match error {
            RequestError::Timeout { after } => Self::Timeout { endpoint, after, what: what.to_owned() },
            RequestError::Reconnect(error) => Self::of_connect(&endpoint, error),
            RequestError::Closed | RequestError::Rejected(_) | RequestError::Protocol(_) | RequestError::Io(_) => {
                Self::Protocol { endpoint, why: format!("{what}: {error}") }
            }
        }
    }
}
