//! The main port: one frame of JSON in, one frame of JSON out, whatever comes in. Every message gets exactly one reply; a peer that
//! leaves cancels its requests, since their futures are dropped with its connection.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use mms_protocol::dialect::{Dialect, encode_batch, refused};
use mms_protocol::{Call, ErrorCode, Inbound, Profile, Refusal, decode, encode};
use mms_zmtp::{Frames, Handler, Rejected, Request, Server};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Gateway, json_bytes, now, panicked};
use crate::limits::WireLimits;
use crate::predictions::Caller;

/// Requests of one batch that are in work together.
const BATCH_WIDTH: usize = 8;
/// Longer frames are parsed away from the threads that serve connections.
const PARSE_INLINE: usize = 256 << 10;
/// When a message may be sent again for which there was no memory.
const NO_ROOM_RETRY_MS: u64 = 1000;

/// Serves the operations in `profile`'s words until `shutdown`, then lets running requests finish.
pub async fn serve_main(
    listener: TcpListener,
    gateway: Gateway,
    profile: Profile,
    limits: WireLimits,
    shutdown: CancellationToken,
) {
    Server::new(MainPort { gateway, profile }, limits.zmtp()).serve(listener, shutdown).await;
}

struct MainPort {
    gateway: Gateway,
    profile: Profile,
}

impl Handler for MainPort {
    async fn handle(&self, request: Request) -> Frames {
        let caller = request.peer.addr.map_or_else(Caller::default, Caller::of);
        let reply = match AssertUnwindSafe(self.answer(request.body, &caller)).catch_unwind().await {
            Ok(reply) => reply,
            Err(_) => encode(self.profile, &refused(panicked()).envelope, Err(&panicked()), now()),
        };
        vec![json_bytes(&reply)]
    }
}

impl MainPort {
    async fn answer(&self, body: Result<Frames, Rejected>, caller: &Caller) -> Value {
        let frame = match body.map_err(|rejected| not_kept(&rejected)).and_then(only_frame) {
            Ok(frame) => frame,
            Err(refusal) => return self.single(refused(refusal), caller).await,
        };
        match self.decode(frame).await {
            Inbound::Single(call) => self.single(*call, caller).await,
            Inbound::Batch(calls) => {
                let one = |call: Call| async move {
                    let envelope = call.envelope.clone();
                    (envelope, self.single(call, caller).await)
                };
                encode_batch(stream::iter(calls).map(one).buffered(BATCH_WIDTH).collect().await)
            }
        }
    }

    async fn single(&self, call: Call, caller: &Caller) -> Value {
        let dialect = dialect_name(call.envelope.dialect);
        let result = self.gateway.perform_for(caller, self.profile, dialect, call.operation).await;
        encode(self.profile, &call.envelope, result.as_ref(), now())
    }

    async fn decode(&self, frame: Bytes) -> Inbound {
        let profile = self.profile;
        if frame.len() <= PARSE_INLINE {
            return decode(profile, &frame);
        }
        match tokio::task::spawn_blocking(move || decode(profile, &frame)).await {
            Ok(inbound) => inbound,
            Err(_) => Inbound::Single(Box::new(refused(panicked()))),
        }
    }
}

/// The name of a dialect in metrics.
fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::JsonRpc => "json_rpc",
        Dialect::Method => "method",
        Dialect::Action => "action",
        Dialect::Command => "command",
        Dialect::Type => "type",
        Dialect::ModelRequest => "model_request",
    }
}

fn only_frame(frames: Frames) -> Result<Bytes, Refusal> {
    match <[Bytes; 1]>::try_from(frames) {
        Ok([frame]) => Ok(frame),
        Err(frames) if frames.is_empty() => Ok(Bytes::new()),
        Err(frames) => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!(
                "Invalid request format: the message has {} frames, send one frame holding one JSON object",
                frames.len()
            ),
        )
        .with("frames", frames.len())),
    }
}

fn not_kept(rejected: &Rejected) -> Refusal {
    let refusal = |code| Refusal::new(code, rejected.to_string());
    match *rejected {
        Rejected::Oversized { len, limit } => {
            refusal(ErrorCode::TooLarge).with("bytes", len).with("limit_bytes", limit)
        }
        Rejected::TooManyFrames { frames, limit } => {
            refusal(ErrorCode::TooLarge).with("frames", frames).with("limit_frames", limit)
        }
        Rejected::NoRoom { len, .. } => {
            refusal(ErrorCode::QueueFull).with("bytes", len).with("retry_after_ms", NO_ROOM_RETRY_MS)
        }
    }
}
