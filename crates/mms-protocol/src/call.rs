//! The operations: their names, their arguments and how arguments are read and checked. An operation is added here, with its
//! reply in [`crate::reply`], and appears on every front door.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::Args;
use crate::dialect::Profile;
use crate::error::{ErrorCode, Refusal};
use crate::generate::{ChatMessage, GenerateSpec, Prompt, Role, Sampling};

/// Longest accepted model name, bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest accepted prompt or system prompt, bytes.
pub const MAX_PROMPT_BYTES: usize = 8 * 1024 * 1024;
/// Most stop strings in one request.
pub const MAX_STOP_STRINGS: usize = 16;
/// Longest stop string, bytes.
pub const MAX_STOP_BYTES: usize = 256;
/// Most tokens one request may ask for.
pub const MAX_TOKENS: u32 = 1 << 20;
/// Longest `timeout_ms`: one day.
pub const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

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
    /// The resident models.
    GetLoadedModelsStatus,
    /// The memory budget.
    GetMemoryStatus,
    /// Counters since the start.
    GetStats,
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
    /// Given back in the reply. It names no history: each request stands for itself, whatever was said under the same id before.
    pub conversation_id: Option<String>,
    /// Ends the request with [`ErrorCode::Timeout`], milliseconds from its arrival; loading counts. `None`: the server's limit.
    pub timeout_ms: Option<u64>,
}

impl Operation {
    /// Every operation's name, in the order of the documentation.
    pub const NAMES: [&'static str; 12] = [
        "ping",
        "health_check",
        "status",
        "list_models",
        "get_model_status",
        "load_model",
        "unload_model",
        "generate",
        "generate_text",
        "get_loaded_models_status",
        "get_memory_status",
        "get_stats",
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
            Self::GetLoadedModelsStatus => "get_loaded_models_status",
            Self::GetMemoryStatus => "get_memory_status",
            Self::GetStats => "get_stats",
        }
    }

    /// Reads the operation called `name` (in any case) with its arguments. `None`: there is no such operation.
    pub fn read(name: &str, args: &Args<'_>, profile: Profile) -> Option<Result<Self, Refusal>> {
        let operation = match name.to_ascii_lowercase().as_str() {
            "ping" => Ok(Self::Ping),
            "health_check" | "health" => Ok(Self::HealthCheck),
            "status" => Ok(Self::Status),
            "list_models" => Ok(Self::ListModels),
            "get_model_status" => required_model(args).map(|model| Self::GetModelStatus { model }),
            "load_model" => LoadArgs::read(args).map(Self::LoadModel),
            "unload_model" => required_model(args).map(|model| Self::UnloadModel { model }),
            "generate" => GenerateArgs::read(args, profile).map(Self::Generate),
            "generate_text" => GenerateArgs::read_text(args).map(Self::GenerateText),
            "get_loaded_models_status" => Ok(Self::GetLoadedModelsStatus),
            "get_memory_status" => Ok(Self::GetMemoryStatus),
            "get_stats" => Ok(Self::GetStats),
            _ => return None,
        };
        Some(operation)
    }
}

impl LoadArgs {
    /// Loads `model` wherever it goes best.
    pub fn of(model: impl Into<String>) -> Self {
        Self { model: model.into(), device: None, quantization_level: None }
    }

    /// Reads `model`, `device`, `quantization_level`.
    pub fn read(args: &Args<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            model: required_model(args)?,
            device: args.string("device", MAX_NAME_BYTES)?,
            quantization_level: args.string("quantization_level", MAX_NAME_BYTES)?,
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
        let prompt = args.string("prompt", MAX_PROMPT_BYTES)?.filter(|text| !text.is_empty());
        let prompt = prompt.ok_or_else(|| Refusal::missing(missing))?;
        let system = args.string("system_prompt", MAX_PROMPT_BYTES)?.filter(|text| !text.is_empty());
        let raw = args.boolean("raw")?.unwrap_or(false);
        if raw && system.is_some() {
            return Err(Refusal::new(
                ErrorCode::InvalidArgument,
                "system_prompt cannot be used with raw: a raw prompt goes to the model as it stands",
            ));
        }
        let prompt = if raw {
            Prompt::Raw(prompt)
        } else {
            let system = system.map(|content| ChatMessage { role: Role::System, content });
            Prompt::Chat(system.into_iter().chain([ChatMessage { role: Role::User, content: prompt }]).collect())
        };
        let max_tokens = args.integer("max_tokens", 1, u64::from(MAX_TOKENS))?.map_or(max_tokens, |n| n as u32);
        Ok(Self {
            choice,
            spec: GenerateSpec {
                prompt,
                max_tokens: Some(max_tokens),
                sampling: read_sampling(args)?,
                stop: read_stop(args)?,
            },
            conversation_id: args.string("conversation_id", MAX_NAME_BYTES)?,
            timeout_ms: args.integer("timeout_ms", 1, MAX_TIMEOUT_MS)?,
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

/// Reads the sampling settings under llama.cpp's names; the ranges are those of [`Sampling`].
pub fn read_sampling(args: &Args<'_>) -> Result<Sampling, Refusal> {
    let default = Sampling::default();
    Ok(Sampling {
        temperature: args.number("temperature", 0.0, 5.0)?.unwrap_or(default.temperature),
        top_p: args.positive_number("top_p", 1.0)?.unwrap_or(default.top_p),
        top_k: args.integer("top_k", 0, 1 << 20)?.map_or(default.top_k, |n| n as u32),
        min_p: args.number("min_p", 0.0, 1.0)?.unwrap_or(default.min_p),
        repeat_penalty: args.positive_number("repeat_penalty", 10.0)?.unwrap_or(default.repeat_penalty),
        repeat_last_n: args.integer("repeat_last_n", 0, 1 << 20)?.map_or(default.repeat_last_n, |n| n as u32),
        presence_penalty: args.number("presence_penalty", -2.0, 2.0)?.unwrap_or(default.presence_penalty),
        frequency_penalty: args.number("frequency_penalty", -2.0, 2.0)?.unwrap_or(default.frequency_penalty),
        seed: read_seed(args)?,
    })
}

/// Reads `seed`: any 64-bit integer, as OpenAI's clients send; -1 means "at random". llama.cpp's seeds have 32 bits, and its largest
/// one means "at random" as well, so larger ones are folded into what is left.
fn read_seed(args: &Args<'_>) -> Result<Option<u32>, Refusal> {
    let Some(value) = args.get("seed") else { return Ok(None) };
    let bits = value.as_u64().or_else(|| value.as_i64().map(|seed| seed as u64));
    match bits {
        Some(u64::MAX) if value.as_i64() == Some(-1) => Ok(None),
        Some(bits) => Ok(Some(((bits >> 32) as u32 ^ bits as u32).min(u32::MAX - 1))),
        None => Err(Refusal::invalid("seed", "a 64-bit integer", value)),
    }
}

/// Reads `stop`: a string or an array of strings; empty strings are refused.
pub fn read_stop(args: &Args<'_>) -> Result<Vec<String>, Refusal> {
    const MUST_BE: &str = "a string or an array of at most 16 non-empty strings of at most 256 bytes each";
    let Some(value) = args.get("stop") else { return Ok(Vec::new()) };
    let refuse = || Refusal::invalid("stop", MUST_BE, value);
    let list = match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => {
            many.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().ok_or_else(refuse)?
        }
        _ => return Err(refuse()),
    };
    let fits = list.len() <= MAX_STOP_STRINGS && list.iter().all(|s| !s.is_empty() && s.len() <= MAX_STOP_BYTES);
    if fits { Ok(list) } else { Err(refuse()) }
}
