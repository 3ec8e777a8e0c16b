//! ZMTP 3.1, the wire protocol of ZeroMQ, on tokio: enough of it to serve and to call REQ, DEALER, REP and ROUTER peers.
//!
//! The crate knows no operation: a message is a `Vec<Bytes>`. It speaks to libzmq (3.0 and 3.1 peers) and consists of
//! * [`codec`]: greeting, commands and frames as pure functions over buffers; limits are checked before anything is allocated,
//! * [`Server`]: the bind side. Every request gets one reply, sent back on its own connection, and a peer that leaves cancels its work,
//! * [`Client`] and [`Dealer`]: the connect side, one request at a time or many,
//! * [`probe()`]: what answers at an address, step by step, for diagnosis.
//!
//! ```
//! use mms_zmtp::{Client, ClientOptions, Request, Server, ServerOptions};
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
//! let shutdown = CancellationToken::new();
//! let server = Server::new(
//!     |request: Request| async move { request.body.unwrap_or_else(|why| vec![why.to_string().into()]) },
//!     ServerOptions::default(),
//! );
//! let serving = tokio::spawn({ let shutdown = shutdown.clone(); async move { server.serve(listener, shutdown).await } });
//!
//! let mut client = Client::connect(&endpoint, ClientOptions::default()).await.unwrap();
//! let reply = client.request(vec!["hello".into()], std::time::Duration::from_secs(5)).await.unwrap();
//! assert_eq!(reply, ["hello"]);
//!
//! shutdown.cancel();
//! serving.await.unwrap();
//! # });
//! ```

pub mod client;
pub mod codec;
pub mod error;
mod handshake;
mod limits;
mod link;
mod peer;
pub mod probe;
mod pulse;
pub mod server;

pub use client::{Client, ClientOptions, Dealer};
pub use error::{ConnectError, HandshakeError, ProtocolError, Rejected, RequestError, Stage};
pub use limits::{Heartbeat, Limits};
pub use peer::{Mechanism, PeerInfo, SocketType};
pub use probe::{ProbeOptions, ProbeReport, Step, probe};
pub use server::{Handler, Incoming, Peer, Request, Server, ServerOptions};

/// One message or message body: its frames, in order.
pub type Frames = Vec<bytes::Bytes>;
