//! `POST /v1/completions`: continues a text as it stands. Without `max_tokens` it stops after 16 tokens, as OpenAI's does.

use mms_protocol::Refusal;
use mms_protocol::args::Args;
use mms_protocol::call::MAX_PROMPT_BYTES;
use mms_protocol::generate::Prompt;
use serde_json::{Map, Value, json};

use super::params::{self, Asked, NotOffered, is_empty};

const DEFAULT_MAX_TOKENS: u32 = 16;

const OWN: [&str; 1] = ["prompt"];

const NOT_OFFERED: [NotOffered; 5] = [
    ("echo", |value| *value == json!(false)),
    ("suffix", |value| value == ""),
    ("best_of", |value| *value == json!(1)),
    ("logprobs", |_| false),
    ("logit_bias", is_empty),
];

pub(super) fn read(object: &Map<String, Value>) -> Result<Asked, Refusal> {
    params::check_names(object, &OWN, &NOT_OFFERED)?;
    let args = Args::of_request(object)?;
    let prompt = prompt(&args)?;
    let limit = params::token_limit(&args, "max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS);
    params::common(&args, Prompt::Raw(prompt), Some(limit))
}

fn prompt(args: &Args<'_>) -> Result<String, Refusal> {
    const MUST_BE: &str = "a string that is not empty, or an array with one such string";
    let Some(value) = args.get("prompt") else {
        return Err(params::missing("prompt", "prompt is required: the text to continue"));
    };
    let text = match value {
        Value::String(text) => Some(text),
        Value::Array(items) => match items.as_slice() {
            [Value::String(text)] => Some(text),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    match text {
        Some(text) if text.len() > MAX_PROMPT_BYTES => {
            let text = format!("prompt has {} bytes, at most {MAX_PROMPT_BYTES} are possible", text.len());
            Err(params::refused("prompt", &text))
        }
        Some(text) if !text.is_empty() => Ok(text.clone()),
        Some(_) | None => Err(Refusal::invalid("prompt", MUST_BE, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(extra: Value) -> Result<Asked, Refusal> {
        let mut object = json!({"model": "m", "prompt": "once"});
        for (key, value) in extra.as_object().unwrap() {
            object[key] = value.clone();
        }
        read(object.as_object().unwrap())
    }

    #[test]
    fn a_text_as_it_stands() {
        for prompt in [json!("once"), json!(["once"])] {
            let spec = asked(json!({"prompt": prompt})).ok().unwrap().args.spec;
            assert_eq!((spec.prompt, spec.max_tokens), (Prompt::Raw("once".to_owned()), Some(16)));
        }
        assert_eq!(asked(json!({"max_tokens": 3})).ok().unwrap().args.spec.max_tokens, Some(3));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (extra, param) in [
            (json!({"prompt": null}), "prompt"),
            (json!({"prompt": ""}), "prompt"),
            (json!({"prompt": ["a", "b"]}), "prompt"),
            (json!({"prompt": [1, 2]}), "prompt"),
            (json!({"echo": true}), "echo"),
            (json!({"suffix": "end"}), "suffix"),
            (json!({"best_of": 2}), "best_of"),
            (json!({"logprobs": 0}), "logprobs"),
            (json!({"messages": []}), "messages"),
        ] {
            let refusal = asked(extra.clone()).err().unwrap_or_else(|| panic!("accepted: {extra}"));
            assert_eq!(refusal.details["argument"], param, "{extra}");
        }
        assert!(asked(json!({"echo": false, "suffix": "", "best_of": 1, "logprobs": null})).is_ok());
    }
}
