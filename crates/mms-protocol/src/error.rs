//! Why a request was not done. One [`Refusal`] travels from wherever it arose to the front door, which translates its code
//! exhaustively: ZMQ and JSON-RPC in [`crate::dialect`], HTTP in the gateway, exit codes in the command line.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The kind of refusal; the snake_case name is what clients see in `error.code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The bytes are not JSON (also: not UTF-8, empty, nested too deep).
    InvalidJson,
    /// JSON, but not a request: no object, or nothing in it names an operation.
    InvalidRequest,
    /// No such operation.
    UnknownOperation,
    /// A required argument is missing.
    MissingArgument,
    /// An argument is of the wrong type or out of its range.
    InvalidArgument,
    /// The message has more bytes or frames than the listener accepts.
    TooLarge,
    /// No model of that name in the catalogue.
    ModelNotFound,
    /// The model's file is broken or incomplete.
    ModelBroken,
    /// The model could not be loaded.
    LoadFailed,
    /// The model has failed repeatedly and is tried again later.
    Quarantined,
    /// The memory budget cannot hold the model.
    InsufficientMemory,
    /// The prompt does not fit into the model's context.
    ContextExceeded,
    /// Too many requests wait already; `retry_after_ms` says when to come back.
    QueueFull,
    /// The request's time was up.
    Timeout,
    /// The client went away, or the model was unloaded by force.
    Cancelled,
    /// The worker process of the model died while it worked on this.
    WorkerDied,
    /// The server is ending and takes no new work.
    ShuttingDown,
    /// The evaluation store cannot be used now: off, locked, read-only, damaged, no space. Nothing was kept.
    StoreUnavailable,
    /// A fault of the server.
    Internal,
}

impl ErrorCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 19] = [
        Self::InvalidJson,
        Self::InvalidRequest,
        Self::UnknownOperation,
        Self::MissingArgument,
        Self::InvalidArgument,
        Self::TooLarge,
        Self::ModelNotFound,
        Self::ModelBroken,
        Self::LoadFailed,
        Self::Quarantined,
        Self::InsufficientMemory,
        Self::ContextExceeded,
        Self::QueueFull,
        Self::Timeout,
        Self::Cancelled,
        Self::WorkerDied,
        Self::ShuttingDown,
        Self::StoreUnavailable,
        Self::Internal,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidRequest => "invalid_request",
            Self::UnknownOperation => "unknown_operation",
            Self::MissingArgument => "missing_argument",
            Self::InvalidArgument => "invalid_argument",
            Self::TooLarge => "too_large",
            Self::ModelNotFound => "model_not_found",
            Self::ModelBroken => "model_broken",
            Self::LoadFailed => "load_failed",
            Self::Quarantined => "quarantined",
            Self::InsufficientMemory => "insufficient_memory",
            Self::ContextExceeded => "context_exceeded",
            Self::QueueFull => "queue_full",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::WorkerDied => "worker_died",
            Self::ShuttingDown => "shutting_down",
            Self::StoreUnavailable => "store_unavailable",
            Self::Internal => "internal",
        }
    }

    /// The code of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// JSON-RPC 2.0's number: the reserved ones where they fit, else one of the server's range.
    pub fn json_rpc(self) -> i64 {
        match self {
            Self::InvalidJson => -32700,
            Self::InvalidRequest => -32600,
            Self::UnknownOperation => -32601,
            Self::MissingArgument | Self::InvalidArgument => -32602,
            Self::Internal => -32603,
            Self::TooLarge => -32001,
            Self::ModelNotFound => -32002,
            Self::ModelBroken => -32003,
            Self::LoadFailed => -32004,
            Self::Quarantined => -32005,
            Self::InsufficientMemory => -32006,
            Self::ContextExceeded => -32007,
            Self::QueueFull => -32008,
            Self::Timeout => -32009,
            Self::Cancelled => -32010,
            Self::WorkerDied => -32011,
            Self::ShuttingDown => -32012,
            Self::StoreUnavailable => -32013,
        }
    }

    /// The `error_code` that clients of the model request know.
    pub fn model_request(self) -> &'static str {
        match self {
            Self::MissingArgument => "MISSING_MODEL_ID",
            Self::ModelNotFound => "MODEL_NOT_FOUND",
            Self::InsufficientMemory => "INSUFFICIENT_VRAM",
            Self::InvalidJson
            | Self::InvalidRequest
            | Self::UnknownOperation
            | Self::InvalidArgument
            | Self::TooLarge
            | Self::ModelBroken
            | Self::LoadFailed
            | Self::Quarantined
            | Self::ContextExceeded
            | Self::QueueFull
            | Self::Timeout
            | Self::Cancelled
            | Self::WorkerDied
            | Self::ShuttingDown
            | Self::StoreUnavailable
            | Self::Internal => "PROCESSING_ERROR",
        }
    }
}

/// A request that was not done, with everything a caller needs to mend it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind.
    pub code: ErrorCode,
    /// What happened, on what, why, and what to do, in one line.
    pub message: String,
    /// Figures behind the message, such as `prompt_tokens` and `context_length`.
    pub details: Map<String, Value>,
}

impl Refusal {
    /// A refusal without figures.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Map::new() }
    }

    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// A required argument is missing; `text` is what clients match on.
    pub fn missing(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::MissingArgument, text)
    }

    /// An argument cannot be used, for the reason that `text` gives.
    pub fn argument(name: &str, text: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, text).with("argument", shortened(name))
    }

    /// A required argument is missing; unlike [`Refusal::missing`] the refusal names it.
    pub fn missing_argument(name: &str, text: impl Into<String>) -> Self {
        Self::missing(text).with("argument", shortened(name))
    }

    /// An argument cannot be used: `"max_tokens must be an integer from 1 to 1048576, got -1"`.
    pub fn invalid(name: &str, must_be: &str, got: &Value) -> Self {
        let mut shown = got.to_string();
        if shown.len() > 60 {
            let end = (0..=57).rev().find(|&at| shown.is_char_boundary(at)).unwrap_or(0);
            shown.truncate(end);
            shown.push_str("...");
        }
        Self::new(ErrorCode::InvalidArgument, format!("{name} must be {must_be}, got {shown}")).with("argument", name)
    }
}

/// The beginning of a name that a client chose.
pub fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}
