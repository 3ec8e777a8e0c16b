//! What a generation is made of, the same for every front door, the manager and the worker: prompt, sampling settings, limits
//! and the figures that come back. Values are validated where bytes become a [`crate::Operation`]; everything behind that edge
//! may rely on the ranges documented here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Tools that the assistant called in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's result: the [`ToolCall::id`] that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Name of the speaker or of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ChatMessage {
    /// A message of text only.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None, name: None }
    }
}

/// A call of a tool, as the model made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Unique in its conversation, such as `call_1f3a...`.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments, JSON text.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// What it does, for the model.
    #[serde(default)]
    pub description: String,
    /// JSON schema of its arguments; an object schema.
    pub parameters: Value,
}

/// Whether the model must call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// It must not; the tools are not shown to it.
    None,
    /// It must call one at least.
    Required,
    /// It must call this one.
    Named(String),
}

/// The tools of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// At least one.
    pub list: Vec<Tool>,
    /// Whether one must be called.
    pub choice: ToolChoice,
    /// Several may be called in one answer.
    pub parallel: bool,
}

/// What the answer must look like; enforced on every token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// A JSON value of this schema.
    JsonSchema(Value),
    /// llama.cpp's grammar notation (GBNF); its start symbol is `root`.
    Grammar(String),
}

/// What the model is asked to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Messages, rendered through the model's own chat template (or a plain `role: text` form when it has none).
    Chat(Vec<ChatMessage>),
    /// Text that is tokenized as it stands.
    Raw(String),
    /// Tokens of the model's own vocabulary, as they stand.
    Tokens(Vec<u32>),
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
    /// What is added to the logit of a token before anything else, by token id; -100 or less forbids the token, 100 or more leaves
    /// nothing beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(u32, f32)>,
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
            logit_bias: Vec::new(),
        }
    }
}

/// An answer as it was generated. The tokens of its text may be others, and then nothing of it would be found in the KV cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Which message of the chat, from 0.
    pub message: u32,
    /// Its tokens. They count only where they make exactly its text.
    pub tokens: Vec<u32>,
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
    /// What the answer must look like. Not together with tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// Tools that the model may call; only with [`Prompt::Chat`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Tools>,
    /// Log probabilities of the chosen tokens, and of so many of the likeliest ones beside each, 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u32>,
    /// So many messages after the system message were said before. Whole turns of them, the oldest first, may be left out where the
    /// context is full.
    #[serde(default)]
    pub history: u32,
    /// Of the history, answers of this model with the tokens that they were generated as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spoken: Vec<Spoken>,
    /// Whose KV state this leaves, to be found when the conversation is to be forgotten. Never used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u64>,
}

impl GenerateSpec {
    /// Continues `prompt` with default settings.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            max_tokens: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            constraint: None,
            tools: None,
            logprobs: None,
            history: 0,
            spoken: Vec::new(),
            label: None,
        }
    }
}

/// A token and how likely it was, as the model saw it before sampling settings changed that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenProb {
    /// Its text; bytes that are no whole characters are replaced.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// One generated token with its alternatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logprob {
    /// The token that was chosen.
    #[serde(flatten)]
    pub chosen: TokenProb,
    /// The likeliest ones, best first; as many as [`GenerateSpec::logprobs`] asked for.
    pub top: Vec<TokenProb>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its answer, or a stop string came.
    Stop,
    /// `max_tokens` reached, or the end of the context.
    Length,
    /// The model called tools and waits for their results.
    ToolCalls,
}

impl FinishReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
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
    /// Tokens that speculative decoding proposed.
    #[serde(default)]
    pub drafted_tokens: u32,
    /// Of them, those that the model agreed with.
    #[serde(default)]
    pub accepted_tokens: u32,
}

/// One text whose embedding is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedInput {
    /// Text, not empty.
    Text(String),
    /// Tokens of the model's own vocabulary, not empty.
    Tokens(Vec<u32>),
}

/// Everything that a worker needs to compute embeddings. Vectors are pooled as the model's settings say and have length 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedSpec {
    /// At least one.
    pub inputs: Vec<EmbedInput>,
    /// Keep only so many leading dimensions, brought to length 1 again. `None`: all.
    pub dimensions: Option<u32>,
}
