//! The shapes of an answer: whole, and in chunks.

use mms_protocol::conversation::ConversationView;
use mms_protocol::generate::{FinishReason, Logprob, Prompt, ToolCall};
use mms_protocol::view::Generation;
use serde_json::{Value, json};

use super::logprobs;
use super::params::Asked;
use crate::gateway::now;

/// Which endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

/// One answer: what all its choices and chunks have in common.
#[derive(Debug)]
pub(super) struct Answer {
    kind: Kind,
    id: String,
    created: u64,
    /// Choices of each prompt.
    n: usize,
    /// What the choices of each prompt begin with; empty: with nothing.
    echo: Vec<String>,
    /// Log probabilities, with so many alternatives.
    logprobs: Option<u32>,
    /// For each choice, the characters that were sent and the tools that were called.
    sent: Vec<Sent>,
}

#[derive(Debug, Clone, Default)]
struct Sent {
    begun: bool,
    characters: usize,
    calls: usize,
}

/// What a chunk carries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'t> {
    /// The answer begins.
    Begin,
    /// More text.
    Text(&'t str, &'t [Logprob]),
    /// A tool is called.
    Call(&'t ToolCall),
    /// It is complete.
    End(FinishReason),
}

impl Answer {
    pub(super) fn new(kind: Kind, asked: &Asked) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Completion => "cmpl",
        };
        let prompts = asked.choices.iter().step_by(asked.n.max(1));
        let text = |prompt: &Prompt| match prompt {
            Prompt::Raw(text) => text.clone(),
            Prompt::Chat(_) | Prompt::Tokens(_) => String::new(),
        };
        Self {
            kind,
            id: format!("{prefix}-{}", uuid::Uuid::new_v4().simple()),
            created: now() as u64,
            n: asked.n.max(1),
            echo: if asked.echo { prompts.map(|args| text(&args.spec.prompt)).collect() } else { Vec::new() },
            logprobs: asked.choices.first().and_then(|args| args.spec.logprobs),
            sent: vec![Sent::default(); asked.choices.len()],
        }
    }

    /// How many choices it has.
    pub(super) fn choices(&self) -> usize {
        self.sent.len()
    }

    /// The whole answer, with a generation for each choice.
    pub(super) fn whole(&self, generations: &[Box<Generation>]) -> Value {
        let choices = generations.iter().enumerate().map(|(index, generation)| match self.kind {
            Kind::Chat => json!({
                "index": index,
                "message": message(generation),
                "logprobs": self.logprobs.map(|_| logprobs::of_chat(&generation.logprobs)),
                "finish_reason": generation.finish_reason.as_str(),
            }),
            Kind::Completion => {
                let top = self.logprobs.is_some_and(|top| top > 0);
                let logprobs = self.logprobs.map(|_| logprobs::of_completion(&generation.logprobs, top, &mut 0));
                json!({
                    "index": index,
                    "text": format!("{}{}", self.echo_of(index), generation.text),
                    "logprobs": logprobs,
                    "finish_reason": generation.finish_reason.as_str(),
                })
            }
        });
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Completion => "text_completion",
        };
        let model = generations.first().map_or("", |generation| &generation.model_id);
        let mut body = self.frame(object, model, choices.collect());
        self.add_figures(&mut body, generations);
        body
    }

    /// The chunks of a piece of the choice `index`: the chunk of the piece, and before it the one of the beginning unless that was
    /// sent.
    pub(super) fn chunks(&mut self, index: usize, model: &str, piece: Piece<'_>) -> Vec<Value> {
        let begun = self.sent.get_mut(index).is_none_or(|sent| std::mem::replace(&mut sent.begun, true));
        let begin = if begun { None } else { self.choice(index, Piece::Begin) };
        let piece = if matches!(piece, Piece::Begin) { None } else { self.choice(index, piece) };
        begin.into_iter().chain(piece).map(|choice| self.frame(self.chunk_object(), model, json!([choice]))).collect()
    }

    /// The chunk of token counts.
    pub(super) fn usage_chunk(&self, generations: &[Box<Generation>]) -> Value {
        let model = generations.first().map_or("", |generation| &generation.model_id);
        let mut chunk = self.frame(self.chunk_object(), model, json!([]));
        self.add_figures(&mut chunk, generations);
        chunk
    }

    fn chunk_object(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        }
    }

    fn choice(&mut self, index: usize, piece: Piece<'_>) -> Option<Value> {
        match self.kind {
            Kind::Chat => Some(self.delta(index, piece)),
            Kind::Completion => self.fragment(index, piece),
        }
    }

    fn delta(&mut self, index: usize, piece: Piece<'_>) -> Value {
        let mut logprobs = Value::Null;
        let (delta, reason) = match piece {
            Piece::Begin => (json!({"role": "assistant", "content": ""}), None),
            Piece::Text(text, tokens) => {
                if self.logprobs.is_some() {
                    logprobs = logprobs::of_chat(tokens);
                }
                (json!({"content": text}), None)
            }
            Piece::Call(call) => {
                let number = self.sent.get(index).map_or(0, |sent| sent.calls);
                if let Some(sent) = self.sent.get_mut(index) {
                    sent.calls += 1;
                }
                let mut call = function_call(call);
                call["index"] = number.into();
                (json!({"tool_calls": [call]}), None)
            }
            Piece::End(reason) => (json!({}), Some(reason.as_str())),
        };
        json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason})
    }

    /// A completion has no beginning of its own, unless it begins with the prompt.
    fn fragment(&mut self, index: usize, piece: Piece<'_>) -> Option<Value> {
        let mut logprobs = Value::Null;
        let (text, reason) = match piece {
            Piece::Begin => match self.echo_of(index) {
                "" => return None,
                prompt => (prompt, None),
            },
            Piece::Text(text, tokens) => {
                if let (Some(top), Some(sent)) = (self.logprobs, self.sent.get_mut(index)) {
                    logprobs = logprobs::of_completion(tokens, top > 0, &mut sent.characters);
                }
                (text, None)
            }
            // Completions have no tools.
            Piece::Call(_) => return None,
            Piece::End(reason) => ("", Some(reason.as_str())),
        };
        Some(json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}))
    }

    fn echo_of(&self, index: usize) -> &str {
        self.echo.get(index / self.n).map_or("", String::as_str)
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

    /// What became of the conversation, where there is one.
    pub(super) fn add_conversation(&self, body: &mut Value, generation: &Generation) {
        if let Some(id) = &generation.conversation_id {
            body["conversation_id"] = json!(id);
            if let Some(ConversationView { turns, turns_left_out }) = generation.conversation {
                body["conversation_turns"] = turns.into();
                body["turns_left_out"] = turns_left_out.into();
            }
        }
    }

    /// The tokens of each prompt count once, whatever came of it how often. Times are told where there is one answer.
    fn add_figures(&self, body: &mut Value, generations: &[Box<Generation>]) {
        let prompts = || generations.iter().step_by(self.n).map(|generation| generation.usage);
        let prompt: u64 = prompts().map(|usage| u64::from(usage.prompt_tokens)).sum();
        let cached: u64 = prompts().map(|usage| u64::from(usage.cached_tokens)).sum();
        let completion: u64 = generations.iter().map(|generation| u64::from(generation.usage.completion_tokens)).sum();
        body["usage"] = json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        });
        if let [only] = generations {
            body["timings"] = timings(only);
            self.add_conversation(body, only);
        }
    }
}

fn message(generation: &Generation) -> Value {
    let mut message = json!({"role": "assistant", "content": generation.text, "refusal": null});
    if !generation.tool_calls.is_empty() {
        if generation.text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = generation.tool_calls.iter().map(function_call).collect();
    }
    message
}

fn function_call(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
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
