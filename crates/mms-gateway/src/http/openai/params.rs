//! OpenAI's parameters: read, accepted because they change nothing here, or refused by name. None is ignored silently.

use mms_protocol::args::Args;
use mms_protocol::call::{MAX_NAME_BYTES, MAX_TIMEOUT_MS, MAX_TOKENS};
use mms_protocol::generate::GenerateSpec;
use mms_protocol::generate::Prompt;
use mms_protocol::params::{read_sampling, read_stop};
use mms_protocol::{ErrorCode, GenerateArgs, ModelChoice, Refusal};
use serde_json::{Map, Value};

/// A generation as OpenAI's clients ask for it.
pub(super) struct Asked {
    pub(super) args: GenerateArgs,
    /// The text is wanted piece by piece.
    pub(super) stream: bool,
    /// A stream ends with a chunk of token counts.
    pub(super) include_usage: bool,
}

/// A parameter that we do not offer; some values of it ask for nothing and pass.
pub(super) type NotOffered = (&'static str, fn(&Value) -> bool);

/// Read by [`common`].
const COMMON: [&str; 16] = [
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "n",
    "timeout_ms",
];

/// For the provider's books or caches only; they change no answer.
const HARMLESS: [&str; 7] =
    ["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"];

/// Refuses what is not offered, and what nobody knows. `own`: the parameters of this endpoint alone.
pub(super) fn check_names(
    object: &Map<String, Value>,
    own: &[&str],
    not_offered: &[NotOffered],
) -> Result<(), Refusal> {
    for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let name = name.as_str();
        if COMMON.contains(&name) || HARMLESS.contains(&name) || own.contains(&name) {
            continue;
        }
        match not_offered.iter().find(|(known, _)| *known == name) {
            Some((_, asks_for_nothing)) if asks_for_nothing(value) => {}
            Some(_) => return Err(refused(name, &format!("{name} is not supported by this server; leave it out"))),
            None => return Err(refused(name, &format!("Unrecognized request argument: {}", shortened(name)))),
        }
    }
    Ok(())
}

/// Reads the parameters that all endpoints share. `max_tokens` is what the endpoint reads or defaults to.
pub(super) fn common(args: &Args<'_>, prompt: Prompt, max_tokens: Option<u32>) -> Result<Asked, Refusal> {
    let model = args.string("model", MAX_NAME_BYTES)?.filter(|name| !name.is_empty());
    let model = model.ok_or_else(|| missing("model", "model is required: the id of a model, see GET /v1/models"))?;
    if args.integer("n", 1, u64::from(u32::MAX))?.is_some_and(|n| n != 1) {
        return Err(refused("n", "n must be 1: one answer for each request"));
    }
    let stream = args.boolean("stream")?.unwrap_or(false);
    let include_usage = include_usage(args, stream)?;
    let spec = GenerateSpec {
        max_tokens,
        sampling: read_sampling(args)?,
        stop: read_stop(args)?,
        ..GenerateSpec::new(prompt)
    };
    let timeout_ms = args.integer("timeout_ms", 1, MAX_TIMEOUT_MS)?;
    let args = GenerateArgs { timeout_ms, ..GenerateArgs::new(ModelChoice::Preference(model), spec) };
    Ok(Asked { args, stream, include_usage })
}

/// A limit of tokens under `name`.
pub(super) fn token_limit(args: &Args<'_>, name: &str) -> Result<Option<u32>, Refusal> {
    Ok(args.integer(name, 1, u64::from(MAX_TOKENS))?.map(|n| n as u32))
}

fn include_usage(args: &Args<'_>, stream: bool) -> Result<bool, Refusal> {
    let Some(value) = args.get("stream_options") else { return Ok(false) };
    let Value::Object(options) = value else { return Err(Refusal::invalid("stream_options", "an object", value)) };
    if !stream {
        return Err(refused("stream_options", "stream_options is only allowed when stream is true"));
    }
    let mut include = false;
    for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
        match (name.as_str(), value) {
            ("include_usage", Value::Bool(wanted)) => include = *wanted,
            ("include_usage", other) => {
                return Err(Refusal::invalid("stream_options.include_usage", "true or false", other));
            }
            // Padding against eavesdroppers on a remote connection; without it the text is the same.
            ("include_obfuscation", Value::Bool(_)) => {}
            (other, _) => {
                let name = format!("stream_options.{}", shortened(other));
                return Err(refused(&name, &format!("Unrecognized request argument: {name}")));
            }
        }
    }
    Ok(include)
}

/// A parameter that cannot be used.
pub(super) fn refused(name: &str, text: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, text).with("argument", shortened(name))
}

/// A parameter that is needed.
pub(super) fn missing(name: &str, text: &str) -> Refusal {
    Refusal::missing(text).with("argument", name)
}

fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

/// An empty array or object.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
