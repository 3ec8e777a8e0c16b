//! What a generation is made of, the same for every front door, the manager and the worker: prompt, sampling settings, limits
//! and the figures that come back. Values are validated where bytes become a [`crate::Operation`]; everything behind that edge
//! may rely on the ranges documented here.

use serde::{Deserialize, Serialize};

/// Who speaks in a chat message. Templates see the lower-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person or agent who asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool that the model called.
    Tool,
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said, plain text.
    pub content: String,
}

/// What the model is asked to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Messages, rendered through the model's own chat template (or a plain `role: text` form when it has none).
    Chat(Vec<ChatMessage>),
    /// Text that is tokenized as it stands.
    Raw(String),
}

/// How the next token is chosen. Names and meanings are llama.cpp's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 to 5; 0 takes the likeliest token always. Default 0.7.
    pub temperature: f32,
    /// Above 0 to 1; 1 switches it off. Default 0.95.
    pub top_p: f32,
    /// 0 switches it off. Default 40.
    pub top_k: u32,
    /// 0 to 1; 0 switches it off. Default 0.05.
    pub min_p: f32,
    /// Above 0 to 10; 1 switches it off. Default 1.0.
    pub repeat_penalty: f32,
    /// How many of the last tokens the three penalties look at; 0 switches them off. Default 64.
    pub repeat_last_n: u32,
    /// -2 to 2; 0 switches it off. Default 0.
    pub presence_penalty: f32,
    /// -2 to 2; 0 switches it off. Default 0.
    pub frequency_penalty: f32,
    /// The same seed, settings and prompt give the same text. Default: drawn at random for each request.
    pub seed: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
        }
    }
}

/// Everything that a worker needs to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateSpec {
    /// What to continue.
    pub prompt: Prompt,
    /// Most tokens to generate, at least 1. `None`: up to the end of the context.
    pub max_tokens: Option<u32>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Generation ends before any of these strings; they are not part of the text.
    pub stop: Vec<String>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its answer, or a stop string came.
    Stop,
    /// `max_tokens` reached, or the end of the context.
    Length,
}

impl FinishReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Token counts of one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// How many of the prompt's tokens were already in the KV cache and not computed again.
    pub cached_tokens: u32,
}

/// Where the time of one generation went, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Waiting in the worker for a free slot.
    pub queue_ms: f64,
    /// Computing the prompt.
    pub prompt_ms: f64,
    /// Computing the answer.
    pub predicted_ms: f64,
    /// Generated tokens per second of `predicted_ms`.
    pub predicted_per_second: f64,
}
