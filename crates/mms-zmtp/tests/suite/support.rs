//! A server in this process and a raw peer that sends exactly the bytes it is told.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use mms_zmtp::{
    Frames, Handler, Limits, Mechanism, Request, Server, ServerOptions,
    codec::{Command, Decoder, Greeting, Item, Outbox},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Long enough for a loaded machine; only a hang takes that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this hangs")
}

pub(crate) fn frames(texts: &[&'static str]) -> Frames {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

/// Gives every body back; tells of a limit what it was.
pub(crate) async fn echo(request: Request) -> Frames {
    request.body.unwrap_or_else(|why| vec![why.to_string().into()])
}

pub(crate) struct Running<H> {
    pub(crate) addr: SocketAddr,
    pub(crate) endpoint: String,
    pub(crate) server: Server<H>,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) shutdown: CancellationToken,
    _stop: DropGuard,
}

impl<H: Handler> Running<H> {
    /// Until the server has seen every peer leave.
    pub(crate) async fn deserted(&self) {
        within(async {
            while self.server.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

pub(crate) async fn serve<H: Handler>(handler: H, options: ServerOptions) -> Running<H> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    let shutdown = CancellationToken::new();
    let server = Server::new(handler, options);
    let serving = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve(listener, shutdown).await }
    });
    let _stop = shutdown.clone().drop_guard();
    Running { addr, endpoint: format!("tcp://{addr}"), server, serving, shutdown, _stop }
}

pub(crate) async fn serve_echo() -> Running<impl Handler> {
    serve(echo, ServerOptions::default()).await
}

/// A peer that is driven byte by byte.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: BytesMut,
    decoder: Decoder,
}

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::new(within(TcpStream::connect(addr)).await.expect("connect"))
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        let limits = Limits { max_message: 1 << 30, max_frames: 1 << 20, ..Limits::default() };
        Self { stream, inbox: BytesMut::new(), decoder: Decoder::new(limits) }
    }

    /// Connected as a peer of this socket type, greeting and READY exchanged.
    pub(crate) async fn peer(addr: SocketAddr, socket_type: &'static str, identity: &'static str) -> Self {
        let mut raw = Self::connect(addr).await;
        raw.send(&greeting()).await;
        raw.greeting().await.expect("a greeting");
        raw.send(&ready(socket_type, identity)).await;
        raw.expect_ready().await;
        raw
    }

    pub(crate) async fn dealer(addr: SocketAddr) -> Self {
        Self::peer(addr, "DEALER", "").await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.expect("send");
    }

    pub(crate) async fn greeting(&mut self) -> Option<Greeting> {
        loop {
            if let Some(greeting) = Greeting::decode(&mut self.inbox).expect("a ZMTP greeting") {
                return Some(greeting);
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The next item; `None` at the end of the stream.
    pub(crate) async fn item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.decoder.decode(&mut self.inbox).expect("valid ZMTP") {
                return Some(item);
            }
            if !self.read().await {
                return None;
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Frames {
        match self.item().await {
            Some(Item::Message(frames)) => frames,
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    /// Sends one message and gives the reply.
    pub(crate) async fn ask(&mut self, message: &[&'static str]) -> Frames {
        self.send(&encoded(&frames(message))).await;
        self.message().await
    }

    /// The server's READY has to be next.
    pub(crate) async fn expect_ready(&mut self) {
        assert!(matches!(self.item().await, Some(Item::Command(Command::Ready(_)))), "the server's READY");
    }

    /// The reason of an ERROR command, which must be followed by the end of the stream.
    pub(crate) async fn refusal(&mut self) -> String {
        let Some(Item::Command(Command::Error(reason))) = self.item().await else { panic!("an ERROR was expected") };
        self.expect_end().await;
        reason
    }

    /// Reads until the server closes.
    pub(crate) async fn expect_end(&mut self) {
        while self.read().await {}
    }

    async fn read(&mut self) -> bool {
        within(self.stream.read_buf(&mut self.inbox)).await.is_ok_and(|count| count > 0)
    }
}

pub(crate) fn greeting() -> [u8; 64] {
    Greeting::ours(Mechanism::Null).encode()
}

pub(crate) fn ready(socket_type: &'static str, identity: &'static str) -> Vec<u8> {
    let metadata = vec![("Socket-Type".into(), socket_type.into()), ("Identity".into(), identity.into())];
    command(&Command::Ready(metadata))
}

pub(crate) fn command(command: &Command) -> Vec<u8> {
    let mut outbox = Outbox::default();
    outbox.push_command(command);
    drain(outbox)
}

pub(crate) fn encoded(message: &[Bytes]) -> Vec<u8> {
    let mut outbox = Outbox::default();
    outbox.push_message(message);
    drain(outbox)
}

pub(crate) fn drain(mut outbox: Outbox) -> Vec<u8> {
    let mut bytes = vec![0; outbox.len()];
    bytes::Buf::copy_to_slice(&mut outbox, &mut bytes);
    bytes
}
