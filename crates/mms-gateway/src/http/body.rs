//! Reading a JSON object from a request: bounded in bytes and time before anything is parsed.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use mms_protocol::{ErrorCode, Refusal, json};
use serde_json::{Map, Value};

use crate::gateway::panicked;

/// Longer bodies are parsed away from the threads that serve connections.
const PARSE_INLINE: usize = 256 << 10;
/// Most bytes over the limit that are read past before the connection is given up instead.
const MAX_DRAINED: u64 = 256 << 20;

/// How much a body may hold, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// The body as a JSON object. An absent body is an empty object.
pub(super) async fn object(request: Request, limits: BodyLimits) -> Result<Map<String, Value>, Refusal> {
    let (parts, body) = request.into_parts();
    let bytes = read(&parts.headers, body, limits).await?;
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

async fn read(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, Refusal> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let most = limits.bytes.saturating_add(MAX_DRAINED);
    let asks_first = headers.contains_key(header::EXPECT);
    match announced {
        Some(bytes) if bytes > most || (bytes > limits.bytes && asks_first) => Err(too_large(bytes, limits.bytes)),
        Some(_) | None => {
            tokio::time::timeout(limits.time, collect(body, limits.bytes, most)).await.unwrap_or_else(|_| {
                let text = format!("the request's body was not complete within {} ms", limits.time.as_millis());
                Err(Refusal::new(ErrorCode::Timeout, text))
            })
        }
    }
}

/// The whole body. One over the limit is read past, up to `most` bytes: a client that is still sending would otherwise see a broken
/// connection instead of the refusal.
async fn collect(mut body: Body, limit: u64, most: u64) -> Result<Bytes, Refusal> {
    let mut kept = BytesMut::new();
    let mut total: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::new(ErrorCode::InvalidRequest, format!("the request's body could not be read: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len() as u64;
        if total > most {
            break;
        } else if total > limit {
            kept = BytesMut::new();
        } else {
            kept.extend_from_slice(&data);
        }
    }
    if total > limit { Err(too_large(total, limit)) } else { Ok(kept.freeze()) }
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
        let why = match std::str::from_utf8(bytes) {
            Err(utf8) => format!("byte {} is not UTF-8", utf8.valid_up_to()),
            Ok(_) => error.to_string(),
        };
        Refusal::new(ErrorCode::InvalidJson, format!("Invalid JSON: {why}"))
    })
}
