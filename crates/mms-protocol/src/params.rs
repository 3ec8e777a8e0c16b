//! Reading of the arguments that every door shares: sampling, stop strings, constraints, inputs of embeddings. Ranges are those that
//! [`crate::generate`] documents.

use serde_json::Value;

use crate::args::Args;
use crate::call::MAX_PROMPT_BYTES;
use crate::error::{ErrorCode, Refusal};
use crate::generate::{Constraint, EmbedInput, Sampling};

/// Most stop strings in one request.
pub const MAX_STOP_STRINGS: usize = 16;
/// Longest stop string, bytes.
pub const MAX_STOP_BYTES: usize = 256;
/// Most texts in one request for embeddings.
pub const MAX_EMBED_INPUTS: usize = 2048;
/// Longest vectors that may be asked for.
pub const MAX_DIMENSIONS: u32 = 1 << 20;
/// Most entries of `logit_bias`.
pub const MAX_LOGIT_BIASES: usize = 1024;
/// Longest grammar or JSON schema, bytes.
pub const MAX_CONSTRAINT_BYTES: usize = 256 * 1024;
/// Most alternatives to each token that `logprobs` may ask for.
pub const MAX_LOGPROBS: u32 = 20;
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
        logit_bias: read_logit_bias(args)?,
    })
}

/// Reads `logit_bias`: an object from token id to a number from -100 to 100, as OpenAI's clients send it.
fn read_logit_bias(args: &Args<'_>) -> Result<Vec<(u32, f32)>, Refusal> {
    const MUST_BE: &str = "an object of at most 1024 token ids, each with a number from -100 to 100";
    let Some(value) = args.get("logit_bias") else { return Ok(Vec::new()) };
    let entry = |(id, bias): (&String, &Value)| {
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias))?;
        Some((id.parse().ok()?, bias as f32))
    };
    let biases = value
        .as_object()
        .filter(|map| map.len() <= MAX_LOGIT_BIASES)
        .and_then(|map| map.iter().map(entry).collect::<Option<Vec<_>>>());
    biases.ok_or_else(|| Refusal::invalid("logit_bias", MUST_BE, value))
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

/// Reads `input`: a text, an array of texts, an array of token ids, or an array of such arrays, as OpenAI's clients send them.
pub fn read_embed_inputs(args: &Args<'_>) -> Result<Vec<EmbedInput>, Refusal> {
    const MUST_BE: &str = "a non-empty text, or an array of at most 2048 non-empty texts or arrays of token ids";
    let value = args.get("input").ok_or_else(|| Refusal::missing("input required"))?;
    let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let tokens = |value: &Value| -> Option<EmbedInput> {
        let ids: Option<Vec<u32>> = value.as_array()?.iter().map(token).collect();
        ids.filter(|ids| !ids.is_empty()).map(EmbedInput::Tokens)
    };
    let text = |value: &Value| {
        let text = value.as_str().filter(|text| !text.is_empty() && text.len() <= MAX_PROMPT_BYTES)?;
        Some(EmbedInput::Text(text.to_owned()))
    };
    let one = |value: &Value| text(value).or_else(|| tokens(value));
    let inputs = match one(value) {
        Some(input) => Some(vec![input]),
        None => value.as_array().and_then(|list| list.iter().map(one).collect::<Option<Vec<_>>>()),
    };
    inputs
        .filter(|inputs| !inputs.is_empty() && inputs.len() <= MAX_EMBED_INPUTS)
        .ok_or_else(|| Refusal::invalid("input", MUST_BE, value))
}

/// Reads `grammar` (GBNF), `json_schema` (an object) and `json` (true: any JSON object); at most one of them.
pub fn read_constraint(args: &Args<'_>) -> Result<Option<Constraint>, Refusal> {
    let grammar =
        args.string("grammar", MAX_CONSTRAINT_BYTES)?.filter(|text| !text.is_empty()).map(Constraint::Grammar);
    let schema = match args.get("json_schema") {
        None => None,
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Some(read_schema("json_schema", schema)?),
        Some(other) => return Err(Refusal::invalid("json_schema", "a JSON schema, an object", other)),
    };
    let json = args.boolean("json")?.unwrap_or(false).then_some(Constraint::JsonObject);
    let mut given = [grammar, schema, json].into_iter().flatten();
    let first = given.next();
    match given.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::new(
            ErrorCode::InvalidArgument,
            "grammar, json_schema and json exclude each other; give one of them",
        )),
    }
}

/// A schema of a bearable size.
pub fn read_schema(name: &str, schema: &Value) -> Result<Constraint, Refusal> {
    if schema.to_string().len() > MAX_CONSTRAINT_BYTES {
        return Err(Refusal::new(
            ErrorCode::TooLarge,
            format!("{name} has more than {MAX_CONSTRAINT_BYTES} bytes; use a smaller schema"),
        ));
    }
    Ok(Constraint::JsonSchema(schema.clone()))
}
