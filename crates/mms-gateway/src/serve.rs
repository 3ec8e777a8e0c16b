//! Accepting connections and serving HTTP on them: bounded in number, in time and at the end of the server's life.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::gateway::Gateway;
use crate::http;
use crate::limits::WireLimits;
use crate::peer::Peer;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most clients that are told at once that there is no room; further ones are closed without a word.
const MAX_REFUSALS: usize = 64;
/// What a client that is told so gets to read it.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Largest head of a request; longer ones are answered 431.
const MAX_HEAD: usize = 64 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;

const NO_ROOM: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
    r#"{"status":"error","message":"too many connections","error":{"code":"queue_full","message":"too many connections"}}"#
);

/// Serves the HTTP routes until `shutdown`, then lets running requests finish.
pub async fn serve_http(listener: TcpListener, gateway: Gateway, limits: WireLimits, shutdown: CancellationToken) {
    let server = Arc::new(HttpServer::new(&listener, &gateway, &limits));
    accept(listener, &shutdown, |stream, addr| {
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move {
            match server.slot() {
                Some(_slot) => server.serve_connection(stream, addr, &shutdown).await,
                None => server.refuse(stream).await,
            }
        }
    })
    .await;
}

/// Accepts until `shutdown`, serves each connection in a task of its own, and returns when all have ended.
pub(crate) async fn accept<F, R>(listener: TcpListener, shutdown: &CancellationToken, serve: F)
where
    F: Fn(TcpStream, SocketAddr) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, addr)) => {
                if let Err(error) = mms_zmtp::server::tune_tcp(&stream) {
                    debug!(%addr, %error, "connection lost at once");
                    continue;
                }
                connections.spawn(serve(stream, addr));
            }
            Err(error) => {
                // Such as no free file descriptor: better to wait for one than to end.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// HTTP on connections that somebody accepted.
pub(crate) struct HttpServer {
    router: Router,
    builder: http1::Builder,
    slots: Semaphore,
    refusals: Semaphore,
    /// How long a client may take nothing of its answer.
    patience: Duration,
    drain_timeout: Duration,
}

impl HttpServer {
    pub(crate) fn new(listener: &TcpListener, gateway: &Gateway, limits: &WireLimits) -> Self {
        let loopback = listener.local_addr().is_ok_and(|addr| addr.ip().is_loopback());
        let router = http::router_for(gateway.clone(), limits, loopback);
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // Whether a client that has ended its sending side is gone, is found out by `Peer`.
            .half_close(true)
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        Self {
            router,
            builder,
            slots: Semaphore::new(limits.max_connections),
            refusals: Semaphore::new(MAX_REFUSALS),
            patience: limits.body_timeout,
            drain_timeout: limits.drain_timeout,
        }
    }

    /// Room for one connection.
    pub(crate) fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.try_acquire().ok()
    }

    /// Serves requests until the client leaves; after `shutdown` the one that runs may finish.
    pub(crate) async fn serve_connection(&self, stream: TcpStream, addr: SocketAddr, shutdown: &CancellationToken) {
        let peer = Peer::new(stream);
        let io = TokioIo::new(peer.io(self.patience));
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request| {
            request.extensions_mut().insert(peer.clone());
            let (peer, version) = (peer.clone(), request.version());
            let answer = router.call(request);
            async move {
                peer.unless_gone(version, answer).await.map(|answer| answer.unwrap_or_else(|never| match never {}))
            }
        });
        let mut connection = std::pin::pin!(self.builder.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.drain_timeout, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return debug!(%addr, "connection cut off at the end of the drain"),
                }
            }
        };
        if let Err(error) = ended {
            debug!(%addr, %error, "connection ended");
        }
    }

    /// Tells a client that there is no room for it.
    pub(crate) async fn refuse(&self, mut stream: TcpStream) {
        let Ok(_refusal) = self.refusals.try_acquire() else { return };
        let goodbye = async {
            stream.write_all(NO_ROOM.as_bytes()).await?;
            stream.shutdown().await?;
            // Closing with unread bytes would make the system drop what the client has not read yet.
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await? > 0 {}
            std::io::Result::Ok(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(REFUSAL_PATIENCE, goodbye).await {
            debug!(%error, "a client without room left early");
        }
    }
}
