//! OpenAI's error object: `{"error": {"message", "type", "param", "code"}}`.

use axum::response::Response;
use mms_protocol::{ErrorCode, Refusal};
use serde_json::{Value, json};

use crate::http::error::{status, with_status};

/// The refusal as OpenAI's clients expect it.
pub(in crate::http) fn response(refusal: &Refusal) -> Response {
    with_status(status(refusal), refusal, object(refusal))
}

/// The body; also sent as an event when a stream breaks off.
pub(super) fn object(refusal: &Refusal) -> Value {
    let param = refusal.details.get("argument").cloned().unwrap_or(Value::Null);
    let mut error = json!({
        "message": refusal.message,
        "type": kind(refusal.code),
        "param": param,
        "code": code(refusal.code),
    });
    let details: serde_json::Map<_, _> =
        refusal.details.iter().filter(|(key, _)| *key != "argument").map(|(k, v)| (k.clone(), v.clone())).collect();
    if !details.is_empty() {
        error["details"] = Value::Object(details);
    }
    json!({"error": error})
}

/// OpenAI's word for the family of errors.
fn kind(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidJson
        | ErrorCode::InvalidRequest
        | ErrorCode::UnknownOperation
        | ErrorCode::MissingArgument
        | ErrorCode::InvalidArgument
        | ErrorCode::TooLarge
        | ErrorCode::ModelNotFound
        | ErrorCode::ContextExceeded => "invalid_request_error",
        ErrorCode::QueueFull => "rate_limit_error",
        ErrorCode::ModelBroken
        | ErrorCode::LoadFailed
        | ErrorCode::Quarantined
        | ErrorCode::InsufficientMemory
        | ErrorCode::Timeout
        | ErrorCode::Cancelled
        | ErrorCode::WorkerDied
        | ErrorCode::ShuttingDown
        | ErrorCode::StoreUnavailable
        | ErrorCode::Internal => "server_error",
    }
}

/// OpenAI's own code where its clients look for one, else ours.
fn code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::ContextExceeded => "context_length_exceeded",
        ErrorCode::UnknownOperation => "unknown_url",
        ErrorCode::InvalidJson
        | ErrorCode::InvalidRequest
        | ErrorCode::MissingArgument
        | ErrorCode::InvalidArgument
        | ErrorCode::TooLarge
        | ErrorCode::ModelNotFound
        | ErrorCode::ModelBroken
        | ErrorCode::LoadFailed
        | ErrorCode::Quarantined
        | ErrorCode::InsufficientMemory
        | ErrorCode::QueueFull
        | ErrorCode::Timeout
        | ErrorCode::Cancelled
        | ErrorCode::WorkerDied
        | ErrorCode::ShuttingDown
        | ErrorCode::StoreUnavailable
        | ErrorCode::Internal => code.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_parameter_and_keeps_the_figures() {
        let refusal = Refusal::invalid("max_tokens", "an integer from 1 to 10", &json!(-1));
        let error = &object(&refusal)["error"];
        assert_eq!(error["param"], "max_tokens");
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["code"], "invalid_argument");
        assert_eq!(error["message"], "max_tokens must be an integer from 1 to 10, got -1");
        assert!(error.get("details").is_none());

        let refusal = Refusal::new(ErrorCode::ContextExceeded, "too long").with("prompt_tokens", 900);
        let error = &object(&refusal)["error"];
        assert_eq!(error["code"], "context_length_exceeded");
        assert_eq!(error["param"], Value::Null);
        assert_eq!(error["details"], json!({"prompt_tokens": 900}));
    }
}
