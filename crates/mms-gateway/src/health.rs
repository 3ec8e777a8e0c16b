//! The health port: a connection whose first byte is 0xFF begins a ZMTP greeting and gets the health object for any payload; anything
//! else is HTTP and meets the same router as the HTTP port.

use std::sync::Arc;

use mms_protocol::reply::health_object;
use mms_zmtp::{Frames, Request, Server};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::gateway::{Gateway, json_bytes, now};
use crate::limits::WireLimits;
use crate::serve::{HttpServer, accept};

/// The first byte of every ZMTP greeting, and of no HTTP request.
const ZMTP_SIGNATURE: u8 = 0xFF;

/// Serves health over ZMTP and everything over HTTP until `shutdown`.
pub async fn serve_health(listener: TcpListener, gateway: Gateway, limits: WireLimits, shutdown: CancellationToken) {
    let http = HttpServer::new(&listener, &gateway, &limits);
    let answer = move |_any: Request| {
        let gateway = gateway.clone();
        async move { health_frames(&gateway) }
    };
    let zmtp = Server::new(answer, limits.zmtp());
    let handshake_timeout = limits.handshake_timeout;
    let port = Arc::new((http, zmtp));
    accept(listener, &shutdown, |stream, addr| {
        let (port, shutdown) = (port.clone(), shutdown.clone());
        async move {
            let (http, zmtp) = &*port;
            let Some(_slot) = http.slot() else { return http.refuse(stream).await };
            let first = tokio::select! {
                first = tokio::time::timeout(handshake_timeout, first_byte(&stream)) => first,
                () = shutdown.cancelled() => return,
            };
            match first {
                Err(_) => debug!(%addr, "silent connection closed"),
                Ok(None) => {}
                Ok(Some(ZMTP_SIGNATURE)) => {
                    if let Err(error) = zmtp.serve_connection(stream, addr.into(), shutdown).await {
                        debug!(%addr, %error, "connection ended");
                    }
                }
                Ok(Some(_)) => http.serve_connection(stream, addr, &shutdown).await,
            }
        }
    })
    .await;
}

fn health_frames(gateway: &Gateway) -> Frames {
    let object = health_object(&gateway.manager.health(), now());
    vec![json_bytes(&Value::Object(object))]
}

/// Looks at the first byte without taking it; `None`: the peer has left.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    match stream.peek(&mut byte).await {
        Ok(1..) => Some(byte[0]),
        Ok(0) | Err(_) => None,
    }
}
