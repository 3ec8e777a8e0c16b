//! OpenAI's parameters: read, accepted because they change nothing here, or refused by name. None is ignored silently.

use mms_protocol::args::Args;
use mms_protocol::call::{MAX_NAME_BYTES, MAX_TIMEOUT_MS, MAX_TOKENS};
use mms_protocol::error::shortened;
use mms_protocol::generate::{Constraint, GenerateSpec, Prompt, Tools};
use mms_protocol::params::{read_sampling, read_stop};
use mms_protocol::{GenerateArgs, KeepAlive, ModelChoice, Refusal};
use serde_json::{Map, Value};

/// Most answers to one request: prompts times `n`.
pub(super) const MAX_CHOICES: usize = 128;

/// A generation as OpenAI's clients ask for it.
#[derive(Debug)]
pub(super) struct Asked {
    /// One for each choice, `n` of the first prompt, `n` of the second...
    pub(super) choices: Vec<GenerateArgs>,
    /// Choices of each prompt.
    pub(super) n: usize,
    /// The text is wanted piece by piece.
    pub(super) stream: bool,
    /// A stream ends with a chunk of token counts.
    pub(super) include_usage: bool,
    /// The answer begins with the prompt.
    pub(super) echo: bool,
    /// Where the constraint stood in the request, when not under the name that the main port has for it.
    pub(super) constraint_name: Option<&'static str>,
}

/// What each endpoint reads by itself.
#[derive(Debug)]
pub(super) struct Own {
    /// At least one.
    pub(super) prompts: Vec<Prompt>,
    /// What the endpoint read or defaults to.
    pub(super) max_tokens: Option<u32>,
    pub(super) constraint: Option<Constraint>,
    pub(super) tools: Option<Tools>,
    pub(super) logprobs: Option<u32>,
}

/// A parameter that we do not offer, and what to do instead; some values of it ask for nothing and pass.
pub(super) struct NotOffered {
    pub(super) name: &'static str,
    pub(super) asks_for_nothing: fn(&Value) -> bool,
    pub(super) instead: &'static str,
}

/// Read by [`common`].
const COMMON: [&str; 21] = [
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
    "logit_bias",
    "stop",
    "stream",
    "stream_options",
    "n",
    "grammar",
    "json_schema",
    "json",
    "timeout_ms",
    "keep_alive",
];

/// For the provider's books or caches only; they change no answer.
const HARMLESS: [&str; 7] =
    ["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"];

/// Leaving it out is all that can be done.
pub(super) const fn not_offered(name: &'static str, asks_for_nothing: fn(&Value) -> bool) -> NotOffered {
    NotOffered { name, asks_for_nothing, instead: "leave it out" }
}

/// Refuses what is not offered, and what nobody knows, of the parameters of a generation. `own`: those of this endpoint alone.
pub(super) fn check_names(
    object: &Map<String, Value>,
    own: &[&str],
    not_offered: &[NotOffered],
) -> Result<(), Refusal> {
    check(object, &[&COMMON, own], not_offered)
}

/// The same for an endpoint that generates nothing.
pub(super) fn check(object: &Map<String, Value>, known: &[&[&str]], not_offered: &[NotOffered]) -> Result<(), Refusal> {
    for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let name = name.as_str();
        if HARMLESS.contains(&name) || known.iter().any(|names| names.contains(&name)) {
            continue;
        }
        match not_offered.iter().find(|parameter| parameter.name == name) {
            Some(parameter) if (parameter.asks_for_nothing)(value) => {}
            Some(parameter) => {
                let text = format!("{name} is not supported by this server; {}", parameter.instead);
                return Err(Refusal::argument(name, text));
            }
            None => {
                return Err(Refusal::argument(name, format!("Unrecognized request argument: {}", shortened(name))));
            }
        }
    }
    Ok(())
}

/// `model`, by which the routing policy's preferences can be asked for, too.
pub(super) fn model(args: &Args<'_>) -> Result<ModelChoice, Refusal> {
    let model = args.string("model", MAX_NAME_BYTES)?.filter(|name| !name.is_empty());
    let required = || Refusal::missing_argument("model", "model is required: the id of a model, see GET /v1/models");
    model.map(ModelChoice::Preference).ok_or_else(required)
}

/// Reads the parameters that the endpoints which generate share.
pub(super) fn common(args: &Args<'_>, own: Own) -> Result<Asked, Refusal> {
    let choice = model(args)?;
    let n = args.integer("n", 1, MAX_CHOICES as u64)?.map_or(1, |n| n as usize);
    let count = own.prompts.len() * n;
    if count > MAX_CHOICES {
        let text =
            format!("{} prompts and n {n} make {count} answers, at most {MAX_CHOICES} are possible", own.prompts.len());
        return Err(Refusal::argument("n", text));
    }
    let stream = args.boolean("stream")?.unwrap_or(false);
    let include_usage = include_usage(args, stream)?;
    let (sampling, stop) = (read_sampling(args)?, read_stop(args)?);
    let (timeout_ms, keep_alive) = (args.integer("timeout_ms", 1, MAX_TIMEOUT_MS)?, KeepAlive::read(args)?);
    let mut choices = Vec::with_capacity(count);
    for prompt in own.prompts {
        for _ in 0..n {
            let mut sampling = sampling.clone();
            sampling.seed = sampling.seed.map(|seed| nth_seed(seed, choices.len()));
            let spec = GenerateSpec {
                max_tokens: own.max_tokens,
                sampling,
                stop: stop.clone(),
                constraint: own.constraint.clone(),
                tools: own.tools.clone(),
                logprobs: own.logprobs,
                ..GenerateSpec::new(prompt.clone())
            };
            choices.push(GenerateArgs { timeout_ms, keep_alive, ..GenerateArgs::new(choice.clone(), spec) });
        }
    }
    Ok(Asked { choices, n, stream, include_usage, echo: false, constraint_name: None })
}

/// The seed of the choice `index`: the given one for the first, another for each further one. The largest number is no seed.
fn nth_seed(seed: u32, index: usize) -> u32 {
    ((u64::from(seed) + index as u64) % u64::from(u32::MAX)) as u32
}

/// A limit of tokens under `name`.
pub(super) fn token_limit(args: &Args<'_>, name: &str) -> Result<Option<u32>, Refusal> {
    Ok(args.integer(name, 1, u64::from(MAX_TOKENS))?.map(|n| n as u32))
}

fn include_usage(args: &Args<'_>, stream: bool) -> Result<bool, Refusal> {
    let Some(value) = args.get("stream_options") else { return Ok(false) };
    let Value::Object(options) = value else { return Err(Refusal::invalid("stream_options", "an object", value)) };
    if !stream {
        return Err(Refusal::argument("stream_options", "stream_options is only allowed when stream is true"));
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
                return Err(Refusal::argument(&name, format!("Unrecognized request argument: {name}")));
            }
        }
    }
    Ok(include)
}

#[cfg(test)]
mod tests {
    use super::nth_seed;

    #[test]
    fn every_choice_has_a_seed_of_its_own() {
        assert_eq!((nth_seed(7, 0), nth_seed(7, 2)), (7, 9));
        assert_eq!((nth_seed(u32::MAX - 1, 0), nth_seed(u32::MAX - 1, 1)), (u32::MAX - 1, 0));
    }
}
