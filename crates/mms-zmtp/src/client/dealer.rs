//! Many requests at a time over one connection, told apart by an id in their envelopes.

use std::time::Duration;

use crate::{ClientOptions, ConnectError, Frames, PeerInfo, RequestError};

/// A DEALER peer. Clones share the connection; a task of its own serves it and ends with the last clone.
#[derive(Debug, Clone)]
pub struct Dealer {}

impl Dealer {
    /// Connects to `tcp://host:port` or `host:port`.
    pub async fn connect(_endpoint: &str, _options: ClientOptions) -> Result<Self, ConnectError> {
        unimplemented!()
    }

    /// Sends `body` and waits for the body of its reply; others can be sent meanwhile. A lost connection fails what waits
    /// with [`RequestError::Closed`], and the connection is not made again.
    pub async fn request(&self, _body: Frames, _timeout: Duration) -> Result<Frames, RequestError> {
        unimplemented!()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        unimplemented!()
    }

    /// The server, as it presented itself.
    pub fn peer(&self) -> &PeerInfo {
        unimplemented!()
    }
}
