//! HTTP: one router for the HTTP port and the health port. Probes, metrics, OpenAI's interface under `/v1`, and every operation with
//! JSON arguments under `/api/v1`.
//!
//! No response carries CORS headers, and bodies must be declared as JSON, so that a web page of a stranger cannot use the server
//! through its visitor's browser; [`hosts`] closes the last way, names that are made to point at this machine.

mod body;
mod error;
mod events;
mod hosts;
mod native;
mod openai;
mod probes;

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures::FutureExt;
use mms_protocol::{ErrorCode, Refusal};

use self::body::BodyLimits;
use crate::gateway::{Gateway, panicked};
use crate::limits::WireLimits;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// What every handler works with.
#[derive(Clone)]
struct Http {
    gateway: Gateway,
    body: BodyLimits,
}

/// All routes, for requests to any host.
pub fn router(gateway: Gateway, limits: &WireLimits) -> Router {
    router_for(gateway, limits, false)
}

/// All routes; on a `loopback` address only for requests that name this machine.
pub(crate) fn router_for(gateway: Gateway, limits: &WireLimits, loopback: bool) -> Router {
    let http = Http { gateway, body: BodyLimits::new(limits) };
    let routes = Router::new()
        .merge(probes::routes())
        .merge(events::routes())
        .merge(openai::routes())
        .merge(native::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    let routes = if loopback { hosts::guard(routes, &limits.trusted_hosts) } else { routes };
    routes.layer(from_fn_with_state(http.clone(), around)).with_state(http)
}

/// Around every handler: a request id, a reply even when the handler panics, a count.
async fn around(State(http): State<Http>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let id = request_id(request.headers());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = answered(&uri, next.run(request)).await;
    response.headers_mut().insert(REQUEST_ID, id.clone());
    let status = response.status();
    http.gateway.metrics.http(&route, status.as_u16());
    tracing::debug!(%method, path = uri.path(), status = status.as_u16(), request_id = ?id, "HTTP request");
    response
}

/// The response of `handler`, also when it panics.
async fn answered(uri: &Uri, handler: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(handler).catch_unwind().await.unwrap_or_else(|_| refuse(uri, None, &panicked()))
}

/// The client's own id when it is a sane one, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    headers.get(REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let mut text = uuid::Uuid::encode_buffer();
        let text: &str = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
    })
}

async fn no_such_path(method: Method, uri: Uri) -> Response {
    let text = format!("Unknown path: {method} {}; GET / names the endpoints", uri.path());
    refuse(&uri, Some(StatusCode::NOT_FOUND), &Refusal::new(ErrorCode::UnknownOperation, text))
}

async fn no_such_method(method: Method, uri: Uri) -> Response {
    let text = format!("{} does not take the method {method}; the header Allow names those that it takes", uri.path());
    refuse(&uri, Some(StatusCode::METHOD_NOT_ALLOWED), &Refusal::new(ErrorCode::InvalidRequest, text))
}

/// A refusal in the shape of the interface that the path belongs to.
fn refuse(uri: &Uri, status: Option<StatusCode>, refusal: &Refusal) -> Response {
    let openai = uri.path() == "/v1" || uri.path().starts_with("/v1/");
    let mut response = if openai { openai::error::response(refusal) } else { error::response(refusal) };
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_in_the_shape_of_its_interface() {
        for (path, key) in [("/v1/chat/completions", "type"), ("/api/v1/ping", "code")] {
            let response = answered(&Uri::from_static(path), async { panic!("a fault of ours") }).await;
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(body["error"].get(key).is_some(), "{body}");
            assert!(!body.to_string().contains("a fault of ours"), "what went wrong inside is for the log");
        }
    }
}
