//! `POST /v1/completions`: continues texts as they stand. Without `max_tokens` it stops after 16 tokens, as OpenAI's does.

use mms_protocol::Refusal;
use mms_protocol::args::Args;
use mms_protocol::call::MAX_PROMPT_BYTES;
use mms_protocol::generate::Prompt;
use mms_protocol::params::{MAX_LOGPROBS, read_constraint};
use serde_json::{Map, Value};

use super::params::{self, Asked, MAX_CHOICES, NotOffered, Own, not_offered};

const DEFAULT_MAX_TOKENS: u32 = 16;

const OWN: [&str; 4] = ["prompt", "echo", "best_of", "logprobs"];

const NOT_OFFERED: [NotOffered; 1] = [not_offered("suffix", |value| value == "")];

pub(super) fn read(object: &Map<String, Value>) -> Result<Asked, Refusal> {
    params::check_names(object, &OWN, &NOT_OFFERED)?;
    let args = Args::of_request(object)?;
    let own = Own {
        prompts: prompts(&args)?,
        max_tokens: Some(params::token_limit(&args, "max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS)),
        constraint: read_constraint(&args)?,
        tools: None,
        logprobs: args.integer("logprobs", 0, MAX_LOGPROBS.into())?.map(|n| n as u32),
    };
    let echo = args.boolean("echo")?.unwrap_or(false);
    if echo && own.logprobs.is_some() {
        let text = "logprobs cannot be used with echo: only generated tokens have log probabilities";
        return Err(Refusal::argument("logprobs", text));
    }
    if echo && own.prompts.iter().any(|prompt| matches!(prompt, Prompt::Tokens(_))) {
        return Err(Refusal::argument("echo", "echo cannot be used with a prompt of tokens: it gives back text"));
    }
    let asked = params::common(&args, own)?;
    match args.integer("best_of", 1, MAX_CHOICES as u64)? {
        Some(best_of) if best_of != asked.n as u64 => {
            let text = format!("best_of must be n ({}): every answer that is generated is given", asked.n);
            Err(Refusal::argument("best_of", text))
        }
        Some(_) | None => Ok(Asked { echo, ..asked }),
    }
}

fn prompts(args: &Args<'_>) -> Result<Vec<Prompt>, Refusal> {
    const MUST_BE: &str = "a string that is not empty, an array of token ids, or an array of 1 to 128 of such";
    let Some(value) = args.get("prompt") else {
        return Err(Refusal::missing_argument("prompt", "prompt is required: the text to continue"));
    };
    let list = match one(value)? {
        Some(prompt) => Some(vec![prompt]),
        None => match value {
            Value::Array(items) => items.iter().map(one).collect::<Result<Option<Vec<_>>, _>>()?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
        },
    };
    list.filter(|list| (1..=MAX_CHOICES).contains(&list.len()))
        .ok_or_else(|| Refusal::invalid("prompt", MUST_BE, value))
}

/// A text or an array of tokens; `None`: neither.
fn one(value: &Value) -> Result<Option<Prompt>, Refusal> {
    let token = |item: &Value| item.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::String(text) if text.len() > MAX_PROMPT_BYTES => {
            let text = format!("prompt has {} bytes, at most {MAX_PROMPT_BYTES} are possible", text.len());
            Err(Refusal::argument("prompt", text))
        }
        Value::String(text) => Ok(Some(text).filter(|text| !text.is_empty()).cloned().map(Prompt::Raw)),
        Value::Array(items) if !items.is_empty() => {
            Ok(items.iter().map(token).collect::<Option<Vec<u32>>>().map(Prompt::Tokens))
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(extra: Value) -> Result<Asked, Refusal> {
        let mut object = json!({"model": "m", "prompt": "once"});
        for (key, value) in extra.as_object().unwrap() {
            object[key] = value.clone();
        }
        read(object.as_object().unwrap())
    }

    #[test]
    fn texts_and_tokens_as_they_stand() {
        let raw = |text: &str| Prompt::Raw(text.to_owned());
        for (prompt, expected) in [
            (json!("once"), vec![raw("once")]),
            (json!(["once", "upon"]), vec![raw("once"), raw("upon")]),
            (json!([5, 6]), vec![Prompt::Tokens(vec![5, 6])]),
            (json!([[5], [6, 7]]), vec![Prompt::Tokens(vec![5]), Prompt::Tokens(vec![6, 7])]),
        ] {
            let asked = asked(json!({"prompt": prompt})).unwrap();
            let prompts: Vec<Prompt> = asked.choices.iter().map(|args| args.spec.prompt.clone()).collect();
            assert_eq!(prompts, expected);
            assert_eq!(asked.choices[0].spec.max_tokens, Some(16));
        }
        let asked = asked(json!({"prompt": ["a", "b"], "n": 2, "best_of": 2, "max_tokens": 3, "logprobs": 2})).unwrap();
        let prompts: Vec<Prompt> = asked.choices.iter().map(|args| args.spec.prompt.clone()).collect();
        assert_eq!((prompts, asked.n), (vec![raw("a"), raw("a"), raw("b"), raw("b")], 2));
        assert_eq!((asked.choices[3].spec.max_tokens, asked.choices[3].spec.logprobs), (Some(3), Some(2)));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (extra, param) in [
            (json!({"prompt": null}), "prompt"),
            (json!({"prompt": ""}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": ["a", ""]}), "prompt"),
            (json!({"prompt": ["a", 5]}), "prompt"),
            (json!({"prompt": [-1]}), "prompt"),
            (json!({"prompt": ["a", "b"], "n": 65}), "n"),
            (json!({"echo": "yes"}), "echo"),
            (json!({"echo": true, "prompt": [1]}), "echo"),
            (json!({"echo": true, "logprobs": 1}), "logprobs"),
            (json!({"suffix": "end"}), "suffix"),
            (json!({"best_of": 2}), "best_of"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"messages": []}), "messages"),
            (json!({"tools": []}), "tools"),
        ] {
            let refusal = asked(extra.clone()).err().unwrap_or_else(|| panic!("accepted: {extra}"));
            assert_eq!(refusal.details["argument"], param, "{extra}");
        }
        assert!(asked(json!({"echo": true, "suffix": "", "best_of": 1, "logprobs": null})).unwrap().echo);
    }
}
