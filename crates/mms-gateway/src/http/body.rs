//! Reading a JSON object from a request: bounded in bytes and time before anything is parsed, and in the bytes of all bodies together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use mms_protocol::{ErrorCode, Refusal, json};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::gateway::panicked;
use crate::limits::WireLimits;

/// Longer bodies are parsed away from the threads that serve connections.
const PARSE_INLINE: usize = 256 << 10;
/// Most bytes over the limit that are read past before the connection is given up instead.
const MAX_DRAINED: u64 = 256 << 20;

/// Bytes of each body that need no share of [`BodyLimits::room`].
const FREE: usize = 64 << 10;
/// How many bodies of the largest size find room at once.
const ROOM: u64 = 8;
/// When a body may be sent again for which there was no room.
const NO_ROOM_RETRY_MS: u64 = 1000;

/// How much a body may hold, how long it may take, and what is left for all bodies that are being read.
#[derive(Debug, Clone)]
pub(super) struct BodyLimits {
    bytes: u64,
    time: Duration,
    room: Arc<Semaphore>,
}

impl BodyLimits {
    pub(super) fn new(limits: &WireLimits) -> Self {
        let bytes = limits.max_request_bytes;
        let room = usize::try_from(bytes.saturating_mul(ROOM)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { bytes, time: limits.body_timeout, room: Arc::new(Semaphore::new(room)) }
    }
}

/// The body as a JSON object. An absent body is an empty object.
pub(super) async fn object(request: Request, limits: &BodyLimits) -> Result<Map<String, Value>, Refusal> {
    let (parts, body) = request.into_parts();
    let (bytes, _share) = read(&parts.headers, body, limits).await?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    if !is_json(&parts.headers) {
        let text = "Invalid request: the body must be JSON, sent with the header Content-Type: application/json";
        return Err(Refusal::new(ErrorCode::InvalidRequest, text));
    }
    let value = if bytes.len() <= PARSE_INLINE {
        parse(&bytes)
    } else {
        tokio::task::spawn_blocking(move || parse(&bytes)).await.unwrap_or_else(|_| Err(panicked()))
    };
    match value? {
        Value::Object(object) => Ok(object),
        other => Err(Refusal::invalid("body", "a JSON object", &other).with("argument", Value::Null)),
    }
}

async fn read<'l>(
    headers: &HeaderMap,
    body: Body,
    limits: &'l BodyLimits,
) -> Result<(Bytes, Option<SemaphorePermit<'l>>), Refusal> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let most = limits.bytes.saturating_add(MAX_DRAINED);
    let asks_first = headers.contains_key(header::EXPECT);
    match announced {
        Some(bytes) if bytes > most || (bytes > limits.bytes && asks_first) => Err(too_large(bytes, limits.bytes)),
        Some(_) | None => tokio::time::timeout(limits.time, collect(body, limits, most)).await.unwrap_or_else(|_| {
            let text = format!("the request's body was not complete within {} ms", limits.time.as_millis());
            Err(Refusal::new(ErrorCode::Timeout, text))
        }),
    }
}

/// The whole body, and its share of the room. One for which there is no room is read past, up to `most` bytes: a client that is still
/// sending would otherwise see a broken connection instead of the refusal.
async fn collect(
    mut body: Body,
    limits: &BodyLimits,
    most: u64,
) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Refusal> {
    let mut kept = Some((BytesMut::new(), None));
    let mut total: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::new(ErrorCode::InvalidRequest, format!("the request's body could not be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len() as u64;
        if total > most {
            break;
        }
        kept = kept.filter(|_| total <= limits.bytes).and_then(|(mut bytes, share)| {
            let share = enlarge(share, bytes.len() + data.len(), limits)?;
            bytes.extend_from_slice(&data);
            Some((bytes, share))
        });
    }
    match kept {
        Some((bytes, share)) => Ok((bytes.freeze(), share)),
        None if total > limits.bytes => Err(too_large(total, limits.bytes)),
        None => {
            let text =
                format!("no room now for a body of {total} bytes: many large ones are being read; send it again");
            let refusal = Refusal::new(ErrorCode::QueueFull, text);
            Err(refusal.with("bytes", total).with("retry_after_ms", NO_ROOM_RETRY_MS))
        }
    }
}

/// `share`, enlarged for a body of `bytes` so far. `None`: there is no room.
fn enlarge<'l>(
    share: Option<SemaphorePermit<'l>>,
    bytes: usize,
    limits: &'l BodyLimits,
) -> Option<Option<SemaphorePermit<'l>>> {
    let held = share.as_ref().map_or(0, SemaphorePermit::num_permits);
    let Some(more) = bytes.saturating_sub(FREE).checked_sub(held).filter(|more| *more > 0) else { return Some(share) };
    let more = limits.room.try_acquire_many(u32::try_from(more).ok()?).ok()?;
    Some(Some(match share {
        Some(mut share) => {
            share.merge(more);
            share
        }
        None => more,
    }))
}

fn too_large(bytes: u64, limit: u64) -> Refusal {
    let text = format!("the body of {bytes} bytes is larger than the limit of {limit} bytes");
    Refusal::new(ErrorCode::TooLarge, text).with("bytes", bytes).with("limit_bytes", limit)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    json::parse(bytes).map_err(|error| {
        Refusal::new(ErrorCode::InvalidJson, format!("Invalid JSON: {}", json::explain(bytes, &error)))
    })
}
