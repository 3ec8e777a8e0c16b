//! The operations: their names, their arguments and how arguments are read and checked. An operation is added here, with its
//! reply in [`crate::reply`], and appears on every front door.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::Args;
use crate::conversation::{History, read_conversation_id};
use crate::dialect::Profile;
use crate::error::{ErrorCode, Refusal};
use crate::evaluation::EvaluationOperation;
use crate::generate::{ChatMessage, EmbedSpec, GenerateSpec, Prompt, Role};
use crate::messages::read_messages;
use crate::params::{MAX_DIMENSIONS, MAX_LOGPROBS, read_constraint, read_embed_inputs, read_sampling, read_stop};
use crate::prediction::PredictionOperation;
use crate::select::SelectArgs;
use crate::tools::read_tools;

/// Longest accepted model name, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest accepted prompt or system prompt, bytes.
pub const MAX_PROMPT_BYTES: usize = 8 * 1024 * 1024;
/// Most tokens one request may ask for.
pub const MAX_TOKENS: u32 = 1 << 20;
/// Longest `timeout_ms`: one day.
pub const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

/// Why not both.
pub const TOOLS_AND_CONSTRAINT: &str = "tools cannot be used together with a grammar, a JSON schema or JSON: either would decide what an answer looks like";

/// What the server is asked to do, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Is anybody there?
    Ping,
    /// Counts, memory and state of every model.
    HealthCheck,
    /// Resident models, memory and routing.
    Status,
    /// The catalogue.
    ListModels,
    /// One model of the catalogue.
    GetModelStatus {
        /// Its id.
        model: String,
    },
    /// Make a model resident.
    LoadModel(LoadArgs),
    /// End a model's worker.
    UnloadModel {
        /// Its id.
        model: String,
    },
    /// Generate with the model that the routing policy or the caller names.
    Generate(GenerateArgs),
    /// Generate with a named model.
    GenerateText(GenerateArgs),
    /// Forget a conversation.
    ClearConversation {
        /// Which.
        conversation_id: String,
    },
    /// Embeddings of texts.
    Embed(EmbedArgs),
    /// Every model by its id, and memory.
    GetAllModels,
    /// The resident models.
    GetLoadedModelsStatus,
    /// The memory budget.
    GetMemoryStatus,
    /// Counters since the start.
    GetStats,
    /// The best model for a kind of task.
    SelectModel(SelectArgs),
    /// Whether the configured downstream services answer.
    VerifyServices,
    /// Metrics and evaluations: kept, or given back.
    Evaluation(EvaluationOperation),
    /// Which models will be asked for next.
    Prediction(PredictionOperation),
}

/// Arguments of `load_model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadArgs {
    /// The model's id.
    pub model: String,
    /// Where to load it: `auto` (default), `cpu`, `cuda`... A device that is not there is refused.
    pub device: Option<String>,
    /// Must agree with the file's quantization when given; a GGUF cannot be requantized on loading.
    pub quantization_level: Option<String>,
    /// How long it stays resident without a request, from now on. `None`: as before.
    pub keep_alive: Option<KeepAlive>,
    /// Ends the request with [`ErrorCode::Timeout`], milliseconds from its arrival; the load goes on. `None`: the server's limit.
    pub timeout_ms: Option<u64>,
}

/// How long a model stays resident after its last request. Read as Ollama's clients write it: seconds as a number, or a text such as
/// `"90s"`, `"5m"`, `"1h30m"`; anything negative: for ever; 0: it goes when its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepAlive {
    /// Until somebody unloads it or memory is wanted.
    Forever,
    /// So long.
    For(Duration),
}

impl KeepAlive {
    /// Longest time that is told apart from for ever.
    const LONGEST_S: f64 = 100.0 * 365.0 * 24.0 * 3600.0;

    /// Reads `keep_alive`.
    pub fn read(args: &Args<'_>) -> Result<Option<Self>, Refusal> {
        const MUST_BE: &str = "seconds as a number, or a text such as \"90s\", \"5m\" or \"1h30m\"; negative: for ever";
        let Some(value) = args.get("keep_alive") else { return Ok(None) };
        let seconds = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => seconds_of(text),
            _ => None,
        };
        match seconds {
            Some(seconds) if (0.0..=Self::LONGEST_S).contains(&seconds) => {
                Ok(Some(Self::For(Duration::from_secs_f64(seconds))))
            }
            Some(seconds) if seconds.is_finite() => Ok(Some(Self::Forever)),
            Some(_) | None => Err(Refusal::invalid("keep_alive", MUST_BE, value)),
        }
    }
}

/// `"90"`, `"1.5s"`, `"-1m"`, `"1h30m"` as seconds.
pub fn seconds_of(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    if rest.is_empty() {
        return None;
    }
    if let Some(seconds) = plain_number(rest) {
        return Some(sign * seconds);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_s = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += plain_number(number)? * unit_s;
        rest = tail;
    }
    Some(sign * seconds)
}

/// Digits with at most one point; nothing else that Rust would take for a number.
fn plain_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

/// Which model is to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelChoice {
    /// This one.
    Named(String),
    /// The one that the routing policy has under this name (`fast`, `quality`...), or the model of that name.
    Preference(String),
}

/// Arguments of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateArgs {
    /// Which model.
    pub choice: ModelChoice,
    /// What to do.
    pub spec: GenerateSpec,
    /// Names the conversation that this goes on with; given back in the reply.
    pub conversation_id: Option<String>,
    /// What of the prompt was said before.
    pub history: History,
    /// Ends the request with [`ErrorCode::Timeout`], milliseconds from its arrival; loading counts. `None`: the server's limit.
    pub timeout_ms: Option<u64>,
    /// How long the model stays resident after this request. `None`: as before.
    pub keep_alive: Option<KeepAlive>,
}

impl GenerateArgs {
    /// With the server's limits and nothing else asked for.
    pub fn new(choice: ModelChoice, spec: GenerateSpec) -> Self {
        Self { choice, spec, conversation_id: None, history: History::default(), timeout_ms: None, keep_alive: None }
    }
}

/// Arguments of `embed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedArgs {
    /// Which model.
    pub choice: ModelChoice,
    /// What to do.
    pub spec: EmbedSpec,
    /// As in [`GenerateArgs`].
    pub timeout_ms: Option<u64>,
    /// As in [`GenerateArgs`].
    pub keep_alive: Option<KeepAlive>,
}

impl Operation {
    /// Every operation's name, in the order of the documentation.
    pub const NAMES: [&'static str; 24] = [
        "ping",
        "health_check",
        "status",
        "list_models",
        "get_model_status",
        "load_model",
        "unload_model",
        "generate",
        "generate_text",
        "clear_conversation",
        "embed",
        "get_all_models",
        "get_loaded_models_status",
        "get_memory_status",
        "get_stats",
        "select_model",
        "verify_services",
        "log_performance_metric",
        "get_performance_metrics",
        "log_model_evaluation",
        "get_model_evaluation_scores",
        "predict_models",
        "record_usage",
        "preload_models",
    ];

    /// The name under which it is documented.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::HealthCheck => "health_check",
            Self::Status => "status",
            Self::ListModels => "list_models",
            Self::GetModelStatus { .. } => "get_model_status",
            Self::LoadModel(_) => "load_model",
            Self::UnloadModel { .. } => "unload_model",
            Self::Generate(_) => "generate",
            Self::GenerateText(_) => "generate_text",
            Self::ClearConversation { .. } => "clear_conversation",
            Self::Embed(_) => "embed",
            Self::GetAllModels => "get_all_models",
            Self::GetLoadedModelsStatus => "get_loaded_models_status",
            Self::GetMemoryStatus => "get_memory_status",
            Self::GetStats => "get_stats",
            Self::SelectModel(_) => "select_model",
            Self::VerifyServices => "verify_services",
            Self::Evaluation(operation) => operation.name(),
            Self::Prediction(operation) => operation.name(),
        }
    }

    /// Reads the operation called `name` (in any case) with its arguments. `None`: there is no such operation.
    pub fn read(name: &str, args: &Args<'_>, profile: Profile) -> Option<Result<Self, Refusal>> {
        let name = name.to_ascii_lowercase();
        let operation = match name.as_str() {
            "ping" => Ok(Self::Ping),
            "health_check" | "health" => Ok(Self::HealthCheck),
            "status" => Ok(Self::Status),
            "list_models" => Ok(Self::ListModels),
            "get_model_status" => required_model(args).map(|model| Self::GetModelStatus { model }),
            "load_model" => LoadArgs::read(args).map(Self::LoadModel),
            "unload_model" => required_model(args).map(|model| Self::UnloadModel { model }),
            "generate" => GenerateArgs::read(args, profile).map(Self::Generate),
            "generate_text" => GenerateArgs::read_text(args).map(Self::GenerateText),
            "clear_conversation" => read_conversation_id(args).and_then(|id| {
                let conversation_id = id.ok_or_else(|| Refusal::missing("Missing 'conversation_id' field"))?;
                Ok(Self::ClearConversation { conversation_id })
            }),
            "embed" | "embeddings" => EmbedArgs::read(args).map(Self::Embed),
            "get_all_models" => Ok(Self::GetAllModels),
            "get_loaded_models_status" => Ok(Self::GetLoadedModelsStatus),
            "get_memory_status" => Ok(Self::GetMemoryStatus),
            "get_stats" => Ok(Self::GetStats),
            "select_model" => SelectArgs::read(args).map(Self::SelectModel),
            "verify_services" => Ok(Self::VerifyServices),
            name => match PredictionOperation::read(name, args) {
                Some(operation) => operation.map(Self::Prediction),
                None => EvaluationOperation::read(name, args)?.map(Self::Evaluation),
            },
        };
        Some(operation)
    }
}

impl LoadArgs {
    /// Loads `model` wherever it goes best.
    pub fn of(model: impl Into<String>) -> Self {
        Self { model: model.into(), device: None, quantization_level: None, keep_alive: None, timeout_ms: None }
    }

    /// Reads `model`, `device`, `quantization_level`, `keep_alive`, `timeout_ms`.
    pub fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            model: required_model(args)?,
            device: args.string("device", MAX_NAME_BYTES)?,
            quantization_level: args.string("quantization_level", MAX_NAME_BYTES)?,
            keep_alive: KeepAlive::read(args)?,
            timeout_ms: args.integer("timeout_ms", 1, MAX_TIMEOUT_MS)?,
        })
    }
}

impl GenerateArgs {
    /// Arguments of `generate`: `prompt` required, model by name or by `model_pref` [`fast`], `max_tokens` [256].
    fn read(args: &Args<'_>, profile: Profile) -> Result<Self, Refusal> {
        let missing = match profile {
            Profile::Suite => "prompt required",
            Profile::Legacy => "Missing 'prompt' field",
        };
        let choice = match model(args)? {
            Some(name) => ModelChoice::Named(name),
            None => {
                ModelChoice::Preference(args.string("model_pref", MAX_NAME_BYTES)?.unwrap_or_else(|| "fast".to_owned()))
            }
        };
        Self::with_choice(args, choice, 256, missing)
    }

    /// Arguments of `generate_text`: model and `prompt` required, `max_tokens` [1024].
    fn read_text(args: &Args<'_>) -> Result<Self, Refusal> {
        const MISSING: &str = "model_id and prompt required";
        let name = model(args)?.ok_or_else(|| Refusal::missing(MISSING))?;
        Self::with_choice(args, ModelChoice::Named(name), 1024, MISSING)
    }

    fn with_choice(args: &Args<'_>, choice: ModelChoice, max_tokens: u32, missing: &str) -> Result<Self, Refusal> {
        let prompt = Self::read_prompt(args, missing)?;
        let (constraint, tools) = (read_constraint(args)?, read_tools(args)?);
        match (&prompt, &constraint, &tools) {
            (Prompt::Raw(_) | Prompt::Tokens(_), _, Some(_)) => {
                return Err(Refusal::argument(
                    "tools",
                    "tools cannot be used with raw: the chat template shows them to the model",
                ));
            }
            (_, Some(_), Some(_)) => return Err(Refusal::argument("tools", TOOLS_AND_CONSTRAINT)),
            _ => {}
        }
        let max_tokens = args.integer("max_tokens", 1, u64::from(MAX_TOKENS))?.map_or(max_tokens, |n| n as u32);
        Ok(Self {
            choice,
            spec: GenerateSpec {
                prompt,
                max_tokens: Some(max_tokens),
                sampling: read_sampling(args)?,
                stop: read_stop(args)?,
                constraint,
                tools,
                logprobs: args.integer("logprobs", 0, MAX_LOGPROBS.into())?.map(|n| n as u32),
                history: 0,
                spoken: Vec::new(),
                label: None,
            },
            conversation_id: read_conversation_id(args)?,
            history: History::default(),
            timeout_ms: args.integer("timeout_ms", 1, MAX_TIMEOUT_MS)?,
            keep_alive: KeepAlive::read(args)?,
        })
    }
}

impl GenerateArgs {
    /// `messages`, or `prompt` with what belongs to it.
    fn read_prompt(args: &Args<'_>, missing: &str) -> Result<Prompt, Refusal> {
        let raw = args.boolean("raw")?.unwrap_or(false);
        if args.get("messages").is_some() {
            return match ["prompt", "system_prompt"].into_iter().find(|key| args.get(key).is_some()) {
                Some(key) => {
                    let text = format!("{key} cannot be used with messages: make it one of the messages");
                    Err(Refusal::argument(key, text))
                }
                None if raw => {
                    Err(Refusal::argument("raw", "raw cannot be used with messages: they need the template"))
                }
                None => read_messages(args).map(Prompt::Chat),
            };
        }
        let prompt = args.string("prompt", MAX_PROMPT_BYTES)?.filter(|text| !text.is_empty());
        let prompt = prompt.ok_or_else(|| Refusal::missing(missing))?;
        let system = args.string("system_prompt", MAX_PROMPT_BYTES)?.filter(|text| !text.is_empty());
        if raw && system.is_some() {
            return Err(Refusal::new(
                ErrorCode::InvalidArgument,
                "system_prompt cannot be used with raw: a raw prompt goes to the model as it stands",
            ));
        }
        if raw {
            return Ok(Prompt::Raw(prompt));
        }
        let system = system.map(|content| ChatMessage::new(Role::System, content));
        Ok(Prompt::Chat(system.into_iter().chain([ChatMessage::new(Role::User, prompt)]).collect()))
    }
}

impl EmbedArgs {
    /// Reads `input` (a text or an array of them), the model by name or by `model_pref` [`embedding`], `dimensions`, `timeout_ms`,
    /// `keep_alive`.
    fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        let choice = match model(args)? {
            Some(name) => ModelChoice::Named(name),
            None => ModelChoice::Preference(
                args.string("model_pref", MAX_NAME_BYTES)?.unwrap_or_else(|| "embedding".to_owned()),
            ),
        };
        Ok(Self {
            choice,
            spec: EmbedSpec {
                inputs: read_embed_inputs(args)?,
                dimensions: args.integer("dimensions", 1, MAX_DIMENSIONS.into())?.map(|n| n as u32),
            },
            timeout_ms: args.integer("timeout_ms", 1, MAX_TIMEOUT_MS)?,
            keep_alive: KeepAlive::read(args)?,
        })
    }
}

/// `model_id`, `model_name` and `model` are one argument; the first that is given counts.
pub fn model(args: &Args<'_>) -> Result<Option<String>, Refusal> {
    for key in ["model_id", "model_name", "model"] {
        if let Some(name) = args.string(key, MAX_NAME_BYTES)? {
            return Ok(Some(name).filter(|name| !name.is_empty()));
        }
    }
    Ok(None)
}

fn required_model(args: &Args<'_>) -> Result<String, Refusal> {
    model(args)?.ok_or_else(|| Refusal::missing("model_id required"))
}
