//! A DEALER made of bytes: what it is sent it counts itself, so a second reply to one request cannot hide in a client library.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection on which several requests may be under way. Each carries its number as `request_id`.
pub(crate) struct Pipe {
    stream: TcpStream,
    open: BTreeSet<u64>,
}

impl Pipe {
    /// Connects and shakes hands; `None`: the server took no more connections or closed this one.
    pub(crate) async fn connect(endpoint: &str) -> Option<Self> {
        let address = endpoint.split("://").nth(1)?;
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut hello = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1];
        hello.extend_from_slice(b"NULL");
        hello.resize(64, 0);
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend_from_slice(&6u32.to_be_bytes());
        ready.extend_from_slice(b"DEALER");
        hello.extend_from_slice(&[0x04, ready.len() as u8]);
        hello.extend(ready);
        stream.write_all(&hello).await.ok()?;
        let mut theirs = [0; 64];
        stream.read_exact(&mut theirs).await.ok()?;
        let mut pipe = Self { stream, open: BTreeSet::new() };
        pipe.frame().await?;
        Some(pipe)
    }

    /// Sends a request without waiting for its reply.
    pub(crate) async fn send(&mut self, number: u64, mut request: Value) -> Option<()> {
        request["request_id"] = number.into();
        let body = request.to_string();
        let mut bytes = vec![0x01, 0x00, 0x02];
        bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
        bytes.extend_from_slice(body.as_bytes());
        self.stream.write_all(&bytes).await.ok()?;
        self.open.insert(number);
        Some(())
    }

    /// The next reply, which must be to a request that has none yet. `None`: the server has closed the connection.
    pub(crate) async fn reply(&mut self) -> Option<Value> {
        let (first, delimiter) = self.frame().await?;
        assert!(first & 1 == 1 && delimiter.is_empty(), "a reply begins with the delimiter: {first} {delimiter:?}");
        let (last, body) = self.frame().await?;
        assert_eq!(last & 1, 0, "a reply is one frame");
        let reply: Value = serde_json::from_slice(&body).expect("a reply is JSON");
        let number = reply["request_id"].as_u64().unwrap_or_else(|| panic!("a reply without its request_id: {reply}"));
        assert!(self.open.remove(&number), "a second reply, or one that nobody asked for: {reply}");
        Some(reply)
    }

    /// Requests without a reply.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let flags = self.stream.read_u8().await.ok()?;
        let length =
            if flags & 2 == 2 { self.stream.read_u64().await.ok()? } else { self.stream.read_u8().await.ok()?.into() };
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((flags, body))
    }
}
