//! The suite's own client of a running server: one request at a time over ZMTP, and HTTP with server-sent events. The command
//! line, the readiness probe, the tests and later the parity runs all use this one.

mod address;
mod error;
mod http;
mod zmtp;

pub use error::ClientError;
pub use http::{HttpClient, HttpReply, SseLines};
pub use zmtp::{Client, refusal_in};
