//! One request at a time, as a REQ socket does.

use std::time::Duration;

use crate::{ClientOptions, ConnectError, Frames, PeerInfo, RequestError};

/// A REQ peer. It does its I/O in the caller's task; after a timeout, a dropped `request` or a lost connection the next request connects
/// anew, so that a late reply is never taken for a new one.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// Connects to `tcp://host:port` or `host:port`.
    pub async fn connect(_endpoint: &str, _options: ClientOptions) -> Result<Self, ConnectError> {
        unimplemented!()
    }

    /// Sends `body` and waits for the body of its reply.
    pub async fn request(&mut self, _body: Frames, _timeout: Duration) -> Result<Frames, RequestError> {
        unimplemented!()
    }

    /// Sends a PING and gives the time until its PONG.
    pub async fn ping(&mut self, _timeout: Duration) -> Result<Duration, RequestError> {
        unimplemented!()
    }

    /// The server, as it presented itself.
    pub fn peer(&self) -> &PeerInfo {
        unimplemented!()
    }
}
