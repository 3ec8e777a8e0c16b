//! How a refusal looks over HTTP, outside of OpenAI's interface: the status, the suite's error object, and when to come back.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mms_protocol::dialect::refused;
use mms_protocol::{ErrorCode, Profile, Refusal, encode};

use crate::gateway::now;

/// Seconds after which to come back when a refusal does not say.
const RETRY_AFTER_S: u64 = 1;

/// The status of each code. Time that was up before the model began means "later", with how far the load is in the details.
pub(crate) fn status(refusal: &Refusal) -> StatusCode {
    match refusal.code {
        ErrorCode::InvalidJson
        | ErrorCode::InvalidRequest
        | ErrorCode::MissingArgument
        | ErrorCode::InvalidArgument
        | ErrorCode::ContextExceeded => StatusCode::BAD_REQUEST,
        ErrorCode::UnknownOperation | ErrorCode::ModelNotFound => StatusCode::NOT_FOUND,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::ModelBroken | ErrorCode::LoadFailed | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::WorkerDied => StatusCode::BAD_GATEWAY,
        ErrorCode::Quarantined
        | ErrorCode::InsufficientMemory
        | ErrorCode::Cancelled
        | ErrorCode::ShuttingDown
        | ErrorCode::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Timeout => match refusal.details.get("phase").and_then(serde_json::Value::as_str) {
            Some("generating") | None => StatusCode::GATEWAY_TIMEOUT,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

/// `Retry-After` for the statuses that mean "later".
pub(crate) fn retry_after(refusal: &Refusal) -> Option<(HeaderName, HeaderValue)> {
    let status = status(refusal);
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let figure = |key: &str| refusal.details.get(key).and_then(serde_json::Value::as_f64);
    let seconds = figure("retry_after_ms").map(|ms| ms / 1000.0).or_else(|| figure("load_remaining_s"));
    let seconds = seconds.map_or(RETRY_AFTER_S, |seconds| seconds.ceil().max(1.0) as u64);
    Some((header::RETRY_AFTER, HeaderValue::from(seconds)))
}

/// The refusal as the suite's own interface shows it.
pub(crate) fn response(refusal: &Refusal) -> Response {
    let body = encode(Profile::Suite, &refused(refusal.clone()).envelope, Err(refusal), now());
    with_status(status(refusal), refusal, body)
}

/// `body` with a status of its own choice, and `Retry-After` where it belongs.
pub(crate) fn with_status(status: StatusCode, refusal: &Refusal, body: serde_json::Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().extend(retry_after(refusal));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_error_status() {
        for code in ErrorCode::ALL {
            let status = status(&Refusal::new(code, ""));
            assert!(status.is_client_error() || status.is_server_error(), "{code:?} is {status}");
        }
    }

    #[test]
    fn later_means_with_a_time() {
        let seconds = |refusal: Refusal| retry_after(&refusal).map(|(_, value)| value.to_str().unwrap().to_owned());
        let full = Refusal::new(ErrorCode::QueueFull, "full");
        assert_eq!(seconds(full.clone()).as_deref(), Some("1"));
        assert_eq!(seconds(full.with("retry_after_ms", 2100)).as_deref(), Some("3"));
        assert_eq!(seconds(Refusal::new(ErrorCode::ShuttingDown, "bye")).as_deref(), Some("1"));
        assert_eq!(seconds(Refusal::new(ErrorCode::ModelNotFound, "none")), None);
        let late = |phase: &str| Refusal::new(ErrorCode::Timeout, "late").with("phase", phase);
        let loading = late("loading").with("load_remaining_s", 4.2);
        assert_eq!((status(&loading), seconds(loading).as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("5")));
        assert_eq!((status(&late("generating")), seconds(late("generating"))), (StatusCode::GATEWAY_TIMEOUT, None));
    }
}
