//! `POST /v1/chat/completions`. Without a limit of its own an answer may go on to the end of the context.

use mms_protocol::Refusal;
use mms_protocol::args::Args;
use mms_protocol::generate::Prompt;
use serde_json::{Map, Value, json};

use super::messages;
use super::params::{self, Asked, NotOffered, is_empty};

const OWN: [&str; 2] = ["messages", "max_completion_tokens"];

const NOT_OFFERED: [NotOffered; 15] = [
    ("tools", is_empty),
    ("tool_choice", |value| value == "none" || value == "auto"),
    ("parallel_tool_calls", Value::is_boolean),
    ("functions", is_empty),
    ("function_call", |value| value == "none" || value == "auto"),
    ("response_format", |value| *value == json!({"type": "text"})),
    ("logprobs", |value| *value == json!(false)),
    ("top_logprobs", |value| *value == json!(0)),
    ("logit_bias", is_empty),
    ("modalities", |value| *value == json!(["text"])),
    ("audio", |_| false),
    ("prediction", |_| false),
    ("reasoning_effort", |value| value == "none"),
    ("verbosity", |_| false),
    ("web_search_options", |_| false),
];

pub(super) fn read(object: &Map<String, Value>) -> Result<Asked, Refusal> {
    params::check_names(object, &OWN, &NOT_OFFERED)?;
    let args = Args::of_request(object)?;
    let messages = messages::read(&args)?;
    let limit = match (params::token_limit(&args, "max_completion_tokens")?, params::token_limit(&args, "max_tokens")?)
    {
        (Some(new), Some(old)) if new != old => {
            let text = format!("max_tokens is {old} but max_completion_tokens is {new}; give one of them");
            return Err(params::refused("max_tokens", &text));
        }
        (new, old) => new.or(old),
    };
    params::common(&args, Prompt::Chat(messages), limit)
}

#[cfg(test)]
mod tests {
    use mms_protocol::ModelChoice;
    use mms_protocol::generate::{ChatMessage, Role};

    use super::*;

    fn asked(extra: Value) -> Result<Asked, Refusal> {
        let mut object = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (key, value) in extra.as_object().unwrap() {
            object[key] = value.clone();
        }
        read(object.as_object().unwrap())
    }

    /// The refusal's `param` and message.
    fn refused(extra: Value) -> (String, String) {
        let refusal = asked(extra.clone()).err().unwrap_or_else(|| panic!("accepted: {extra}"));
        (refusal.details["argument"].as_str().unwrap_or_default().to_owned(), refusal.message)
    }

    #[test]
    fn defaults() {
        let asked = asked(json!({})).ok().unwrap();
        assert_eq!(asked.args.choice, ModelChoice::Preference("m".to_owned()));
        assert_eq!(asked.args.spec.max_tokens, None);
        assert_eq!(asked.args.spec.sampling, mms_protocol::generate::Sampling::default());
        assert!(!asked.stream && !asked.include_usage);
    }

    #[test]
    fn every_parameter_arrives() {
        let asked = asked(json!({
            "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repeat_penalty": 1.5,
            "presence_penalty": -1, "frequency_penalty": 2, "seed": 9, "stop": "x", "stream": true, "n": 1,
            "stream_options": {"include_usage": true}, "timeout_ms": 1000, "user": "u", "metadata": {"a": "b"}, "store": false,
        }))
        .ok()
        .unwrap();
        let spec = asked.args.spec;
        assert_eq!((spec.max_tokens, spec.stop), (Some(7), vec!["x".to_owned()]));
        let sampling = spec.sampling;
        assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (0.0, 0.5, 3));
        assert_eq!((sampling.min_p, sampling.repeat_penalty, sampling.seed), (0.1, 1.5, Some(9)));
        assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (-1.0, 2.0));
        assert_eq!(asked.args.timeout_ms, Some(1000));
        assert!(asked.stream && asked.include_usage);
    }

    #[test]
    fn messages_of_every_kind() {
        let asked = asked(json!({"messages": [
            {"role": "developer", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
            {"role": "assistant", "content": "c", "refusal": null, "tool_calls": []},
            {"role": "tool", "content": "d", "tool_call_id": "1"},
        ]}))
        .ok()
        .unwrap();
        let message = |role, content: &str| ChatMessage::new(role, content);
        let expected = vec![
            message(Role::System, "be short"),
            message(Role::User, "a\nb"),
            message(Role::Assistant, "c"),
            message(Role::Tool, "d"),
        ];
        assert_eq!(asked.args.spec.prompt, Prompt::Chat(expected));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let content = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        for (extra, param) in [
            (json!({"model": null}), "model"),
            (json!({"model": 5}), "model"),
            (json!({"messages": null}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": "hi"}), "messages"),
            (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "wizard", "content": "hi"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
            (json!({"messages": [{"role": "user", "content": "a", "tool_calls": [1]}]}), "messages[0].tool_calls"),
            (content(json!(5)), "messages[0].content"),
            (content(json!([{"type": "image_url", "image_url": {}}])), "messages[0].content[0]"),
            (content(json!([{"type": "text"}])), "messages[0].content[0]"),
            (json!({"n": 2}), "n"),
            (json!({"max_tokens": -1}), "max_tokens"),
            (json!({"max_tokens": 5, "max_completion_tokens": 6}), "max_tokens"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"stream_options": {"include_usage": true}}), "stream_options"),
            (json!({"stream": true, "stream_options": {"x": 1}}), "stream_options.x"),
            (json!({"tools": [{"type": "function"}]}), "tools"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"logit_bias": {"1": 2}}), "logit_bias"),
            (json!({"audio": {}}), "audio"),
            (json!({"params": {"temperature": 0}}), "params"),
            (json!({"temprature": 0}), "temprature"),
        ] {
            assert_eq!(refused(extra.clone()).0, param, "{extra}");
        }
    }

    #[test]
    fn values_that_ask_for_nothing_pass() {
        let harmless = json!({
            "tools": [], "tool_choice": "auto", "parallel_tool_calls": true, "response_format": {"type": "text"}, "logprobs": false,
            "top_logprobs": 0, "logit_bias": {}, "modalities": ["text"], "audio": null, "service_tier": "auto",
        });
        assert!(asked(harmless).is_ok());
    }

    #[test]
    fn ranges_and_texts_are_those_of_every_door() {
        let (_, text) = refused(json!({"max_tokens": -1}));
        assert_eq!(text, "max_tokens must be an integer from 1 to 1048576, got -1");
        let (_, text) = refused(json!({"tools": [1]}));
        assert_eq!(text, "tools is not supported by this server; leave it out");
    }
}
