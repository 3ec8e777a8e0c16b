//! One request at a time, as a REQ socket does.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};

use super::dial::dial;
use crate::{
    ClientOptions, ConnectError, Frames, PeerInfo, RequestError, SocketType,
    codec::{Command, Item},
    handshake::is_closed,
    link::Link,
};

/// A REQ peer. It does its I/O in the caller's task; after a timeout, a dropped `request` or a lost connection the next request connects
/// anew, so that a late reply is never taken for a new one. Between requests it does nothing: a server that sends PINGs may drop it
/// meanwhile, and the next request connects anew then too; a [`Dealer`](crate::Dealer) answers always.
#[derive(Debug)]
pub struct Client {
    endpoint: String,
    options: ClientOptions,
    /// Taken out during a request, so that one which does not end well leaves none.
    link: Option<Link<TcpStream>>,
    peer: PeerInfo,
    next_id: u32,
}

impl Client {
    /// Connects to `tcp://host:port` or `host:port`.
    pub async fn connect(endpoint: &str, options: ClientOptions) -> Result<Self, ConnectError> {
        let (link, peer) = dial(endpoint, SocketType::Req, &options).await?;
        Ok(Self { endpoint: endpoint.to_owned(), options, link: Some(link), peer, next_id: 0 })
    }

    /// Sends `body` and waits for the body of its reply.
    pub async fn request(&mut self, body: Frames, patience: Duration) -> Result<Frames, RequestError> {
        let exchange = async {
            let mut link = self.fresh_link().await?;
            let envelope = self.envelope();
            link.outbox.push_reply(&envelope, &body);
            let reply = loop {
                let mut reply = match next_item(&mut link).await? {
                    Item::Message(reply) => reply,
                    Item::Rejected { why, .. } => return Err(RequestError::Rejected(why)),
                    Item::Command(command) => {
                        link.react(command);
                        continue;
                    }
                };
                // What does not carry our envelope is not for us, as with libzmq.
                if reply.starts_with(&envelope) {
                    break reply.split_off(envelope.len());
                }
            };
            self.link = Some(link);
            Ok(reply)
        };
        timeout(patience, exchange).await.unwrap_or(Err(RequestError::Timeout { after: patience }))
    }

    /// Sends a PING and gives the time until its PONG.
    pub async fn ping(&mut self, patience: Duration) -> Result<Duration, RequestError> {
        let begun = Instant::now();
        let exchange = async {
            let mut link = self.fresh_link().await?;
            let context = Bytes::copy_from_slice(&self.id().to_be_bytes());
            link.outbox.push_command(&Command::Ping { ttl: 0, context: context.clone() });
            loop {
                match next_item(&mut link).await? {
                    Item::Command(Command::Pong { context: echoed }) if echoed == context => break,
                    Item::Command(command) => {
                        link.react(command);
                    }
                    Item::Message(_) | Item::Rejected { .. } => {}
                }
            }
            self.link = Some(link);
            Ok(begun.elapsed())
        };
        timeout(patience, exchange).await.unwrap_or(Err(RequestError::Timeout { after: patience }))
    }

    /// The server, as it presented itself.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    fn id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn envelope(&mut self) -> Frames {
        if self.options.correlate {
            vec![Bytes::copy_from_slice(&self.id().to_be_bytes()), Bytes::new()]
        } else {
            vec![Bytes::new()]
        }
    }

    /// The connection when it still stands, else a new one.
    async fn fresh_link(&mut self) -> Result<Link<TcpStream>, RequestError> {
        if let Some(mut link) = self.link.take()
            && tidy(&mut link).await
        {
            return Ok(link);
        }
        let (link, peer) = dial(&self.endpoint, SocketType::Req, &self.options).await?;
        self.peer = peer;
        Ok(link)
    }
}

/// Takes what has come since the last request, without waiting: answers PINGs, drops late messages. False when the peer has left.
async fn tidy(link: &mut Link<TcpStream>) -> bool {
    // Asked of the system itself: the runtime may not have heard yet.
    match SockRef::from(link.stream()).peek(&mut [MaybeUninit::uninit()]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
        Ok(0) | Err(_) => return false,
        Ok(_) => {}
    }
    loop {
        match poll_fn(|cx| Poll::Ready(link.poll_read(cx))).await {
            Poll::Pending => return true,
            Poll::Ready(Ok(0) | Err(_)) => return false,
            Poll::Ready(Ok(_)) => {}
        }
        loop {
            match link.decode() {
                Ok(Some(Item::Command(command))) => {
                    link.react(command);
                }
                Ok(Some(Item::Message(_) | Item::Rejected { .. })) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
}

async fn next_item(link: &mut Link<TcpStream>) -> Result<Item, RequestError> {
    loop {
        if let Some(item) = link.decode()? {
            return Ok(item);
        }
        match link.read().await {
            Ok(0) => return Err(RequestError::Closed),
            Ok(_) => {}
            Err(error) if is_closed(&error) => return Err(RequestError::Closed),
            Err(error) => return Err(error.into()),
        }
    }
}
