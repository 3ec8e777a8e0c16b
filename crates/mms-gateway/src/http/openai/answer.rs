//! The shapes of an answer: whole, and in chunks.

use mms_protocol::generate::{FinishReason, Usage};
use mms_protocol::view::Generation;
use serde_json::{Value, json};

use crate::gateway::now;

/// Which endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

/// One answer: what all its chunks have in common.
pub(super) struct Answer {
    kind: Kind,
    id: String,
    created: u64,
}

/// What a chunk carries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'t> {
    /// The answer begins.
    Begin,
    /// More text.
    Text(&'t str),
    /// It is complete.
    End(FinishReason),
}

impl Answer {
    pub(super) fn new(kind: Kind) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Completion => "cmpl",
        };
        Self { kind, id: format!("{prefix}-{}", uuid::Uuid::new_v4().simple()), created: now() as u64 }
    }

    /// The whole answer.
    pub(super) fn whole(&self, generation: &Generation) -> Value {
        let reason = generation.finish_reason.as_str();
        let (object, choice) = match self.kind {
            Kind::Chat => (
                "chat.completion",
                json!({
                    "index": 0,
                    "message": {"role": "assistant", "content": generation.text, "refusal": null},
                    "logprobs": null,
                    "finish_reason": reason,
                }),
            ),
            Kind::Completion => (
                "text_completion",
                json!({"index": 0, "text": generation.text, "logprobs": null, "finish_reason": reason}),
            ),
        };
        let mut body = self.frame(object, &generation.model_id, json!([choice]));
        body["usage"] = usage(generation.usage);
        body["timings"] = timings(generation);
        body
    }

    /// One chunk of a stream. A completion has no beginning of its own.
    pub(super) fn chunk(&self, model: &str, piece: Piece<'_>) -> Option<Value> {
        let (object, choice) = match (self.kind, piece) {
            (Kind::Chat, Piece::Begin) => {
                ("chat.completion.chunk", delta(json!({"role": "assistant", "content": ""}), None))
            }
            (Kind::Chat, Piece::Text(text)) => ("chat.completion.chunk", delta(json!({"content": text}), None)),
            (Kind::Chat, Piece::End(reason)) => ("chat.completion.chunk", delta(json!({}), Some(reason))),
            (Kind::Completion, Piece::Begin) => return None,
            (Kind::Completion, Piece::Text(text)) => ("text_completion", fragment(text, None)),
            (Kind::Completion, Piece::End(reason)) => ("text_completion", fragment("", Some(reason))),
        };
        Some(self.frame(object, model, json!([choice])))
    }

    /// The chunk of token counts.
    pub(super) fn usage_chunk(&self, generation: &Generation) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        let mut chunk = self.frame(object, &generation.model_id, json!([]));
        chunk["usage"] = usage(generation.usage);
        chunk["timings"] = timings(generation);
        chunk
    }

    fn frame(&self, object: &str, model: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": model,
            "system_fingerprint": concat!("mms-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }
}

fn delta(delta: Value, reason: Option<FinishReason>) -> Value {
    json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason.map(FinishReason::as_str)})
}

fn fragment(text: &str, reason: Option<FinishReason>) -> Value {
    json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason.map(FinishReason::as_str)})
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    })
}

fn timings(generation: &Generation) -> Value {
    let timings = generation.timings;
    json!({
        "queue_ms": timings.queue_ms,
        "prompt_ms": timings.prompt_ms,
        "predicted_ms": timings.predicted_ms,
        "predicted_per_second": timings.predicted_per_second,
        "first_token_ms": generation.first_token_ms,
        "total_ms": generation.total_ms,
    })
}
