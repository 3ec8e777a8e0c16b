//! The connect side: endpoints, options and the way to an established connection.

mod dealer;
mod dial;
mod req;

use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::dial::{connect_tcp, resolve};
pub use self::{dealer::Dealer, req::Client};
use crate::{Heartbeat, Limits};

/// Bounds and times of [`Client`] and [`Dealer`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What one reply may cost.
    pub limits: Limits,
    /// Time for name resolution and the TCP connection.
    pub connect_timeout: Duration,
    /// Time for greeting and READY together.
    pub handshake_timeout: Duration,
    /// The routing id to present; at most 255 bytes, empty for none.
    pub identity: Bytes,
    /// Put a request id into the envelope, as libzmq's ZMQ_REQ_CORRELATE does ([`Client`] only; a [`Dealer`] always does).
    pub correlate: bool,
    /// PINGs of a [`Dealer`] to a silent server.
    pub heartbeat: Option<Heartbeat>,
    /// Most requests of a [`Dealer`] that wait for their replies; further ones wait to be sent.
    pub max_in_flight: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            limits: Limits { max_message: 256 << 20, ..Limits::default() },
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            identity: Bytes::new(),
            correlate: false,
            heartbeat: None,
            max_in_flight: 1024,
        }
    }
}
