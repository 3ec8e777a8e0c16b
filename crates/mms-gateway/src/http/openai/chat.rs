//! `POST /v1/chat/completions`. Without a limit of its own an answer may go on to the end of the context.

use mms_protocol::args::Args;
use mms_protocol::call::TOOLS_AND_CONSTRAINT;
use mms_protocol::conversation::read_conversation_id;
use mms_protocol::generate::Prompt;
use mms_protocol::messages::{is_empty, read_messages};
use mms_protocol::params::MAX_LOGPROBS;
use mms_protocol::tools::read_tools;
use mms_protocol::{GenerateArgs, Refusal};
use serde_json::{Map, Value, json};

use super::format;
use super::params::{self, Asked, NotOffered, Own, not_offered};

const OWN: [&str; 9] = [
    "messages",
    "conversation_id",
    "max_completion_tokens",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "logprobs",
    "top_logprobs",
];

const NOT_OFFERED: [NotOffered; 8] = [
    NotOffered { name: "functions", asks_for_nothing: is_empty, instead: "it has given way to tools; use those" },
    NotOffered {
        name: "function_call",
        asks_for_nothing: |value| value == "none" || value == "auto",
        instead: "it has given way to tool_choice; use that",
    },
    not_offered("modalities", |value| *value == json!(["text"])),
    not_offered("audio", |_| false),
    not_offered("prediction", |_| false),
    not_offered("reasoning_effort", |value| value == "none"),
    not_offered("verbosity", |_| false),
    not_offered("web_search_options", |_| false),
];

pub(super) fn read(object: &Map<String, Value>) -> Result<Asked, Refusal> {
    params::check_names(object, &OWN, &NOT_OFFERED)?;
    let args = Args::of_request(object)?;
    let messages = read_messages(&args)?;
    let (constraint, by_format) = format::read(&args)?;
    let tools = read_tools(&args)?;
    if constraint.is_some() && tools.is_some() {
        return Err(Refusal::argument("tools", TOOLS_AND_CONSTRAINT));
    }
    let own = Own {
        prompts: vec![Prompt::Chat(messages)],
        max_tokens: token_limit(&args)?,
        constraint,
        tools,
        logprobs: logprobs(&args)?,
    };
    let constraint_name = by_format.then_some("response_format");
    let asked = params::common(&args, own)?;
    Ok(Asked { constraint_name, choices: in_conversation(&args, asked.choices)?, ..asked })
}

/// A conversation goes on with one answer.
fn in_conversation(args: &Args<'_>, mut choices: Vec<GenerateArgs>) -> Result<Vec<GenerateArgs>, Refusal> {
    let id = read_conversation_id(args)?;
    match (&id, &mut choices[..]) {
        (_, [only]) => only.conversation_id = id,
        (None, _) => {}
        (Some(_), several) => {
            let text = format!(
                "n must be 1 with a conversation_id, got {}: a conversation goes on with one answer",
                several.len()
            );
            return Err(Refusal::argument("n", text));
        }
    }
    Ok(choices)
}

fn token_limit(args: &Args<'_>) -> Result<Option<u32>, Refusal> {
    match (params::token_limit(args, "max_completion_tokens")?, params::token_limit(args, "max_tokens")?) {
        (Some(new), Some(old)) if new != old => {
            let text = format!("max_tokens is {old} but max_completion_tokens is {new}; give one of them");
            Err(Refusal::argument("max_tokens", text))
        }
        (new, old) => Ok(new.or(old)),
    }
}

/// `logprobs` says whether, `top_logprobs` how many beside each.
fn logprobs(args: &Args<'_>) -> Result<Option<u32>, Refusal> {
    let wanted = args.boolean("logprobs")?.unwrap_or(false);
    match args.integer("top_logprobs", 0, MAX_LOGPROBS.into())? {
        Some(top) if top > 0 && !wanted => {
            Err(Refusal::argument("top_logprobs", "top_logprobs is only allowed when logprobs is true"))
        }
        top => Ok(wanted.then_some(top.unwrap_or(0) as u32)),
    }
}

#[cfg(test)]
mod tests {
    use mms_protocol::ModelChoice;
    use mms_protocol::generate::{ChatMessage, Constraint, Role, ToolChoice};

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
        let asked = asked(json!({})).unwrap();
        let args = &asked.choices[0];
        assert_eq!(args.choice, ModelChoice::Preference("m".to_owned()));
        assert_eq!(args.spec.max_tokens, None);
        assert_eq!(args.spec.sampling, mms_protocol::generate::Sampling::default());
        assert_eq!((&args.spec.constraint, &args.spec.tools, args.spec.logprobs), (&None, &None, None));
        assert!(asked.choices.len() == 1 && !asked.stream && !asked.include_usage);
    }

    #[test]
    fn every_parameter_arrives() {
        let asked = asked(json!({
            "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repeat_penalty": 1.5,
            "presence_penalty": -1, "frequency_penalty": 2, "seed": 9, "stop": ["x"], "stream": true, "n": 2,
            "logit_bias": {"5": -100}, "logprobs": true, "top_logprobs": 3, "keep_alive": "5m",
            "stream_options": {"include_usage": true}, "timeout_ms": 1000, "user": "u", "metadata": {"a": "b"}, "store": false,
        }))
        .unwrap();
        let args = &asked.choices[0];
        let spec = &args.spec;
        assert_eq!((spec.max_tokens, &spec.stop, spec.logprobs), (Some(7), &vec!["x".to_owned()], Some(3)));
        let sampling = &spec.sampling;
        assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (0.0, 0.5, 3));
        assert_eq!((sampling.min_p, sampling.repeat_penalty, sampling.seed), (0.1, 1.5, Some(9)));
        assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (-1.0, 2.0));
        assert_eq!(sampling.logit_bias, [(5, -100.0)]);
        assert_eq!(args.timeout_ms, Some(1000));
        assert!(asked.stream && asked.include_usage && args.keep_alive.is_some());
        let seeds: Vec<_> = asked.choices.iter().map(|args| args.spec.sampling.seed).collect();
        assert_eq!(seeds, [Some(9), Some(10)]);
    }

    #[test]
    fn messages_tools_and_formats() {
        let tools = json!([{"type": "function", "function": {"name": "look"}}]);
        let with_tools = asked(json!({"tools": tools, "tool_choice": "required"})).unwrap();
        let spec = &with_tools.choices[0].spec;
        assert_eq!(spec.prompt, Prompt::Chat(vec![ChatMessage::new(Role::User, "hi")]));
        assert_eq!(spec.tools.as_ref().unwrap().choice, ToolChoice::Required);
        let forced = asked(json!({"response_format": {"type": "json_object"}})).unwrap();
        assert_eq!(forced.choices[0].spec.constraint, Some(Constraint::JsonObject));
        assert_eq!(forced.constraint_name, Some("response_format"));
        let forced = asked(json!({"json": true})).unwrap();
        assert_eq!((&forced.choices[0].spec.constraint, forced.constraint_name), (&Some(Constraint::JsonObject), None));
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
            (content(json!(5)), "messages[0].content"),
            (content(json!([{"type": "image_url", "image_url": {}}])), "messages[0].content[0]"),
            (json!({"n": 0}), "n"),
            (json!({"n": 129}), "n"),
            (json!({"n": 2, "conversation_id": "c"}), "n"),
            (json!({"conversation_id": 5}), "conversation_id"),
            (json!({"conversation_id": "a\nb"}), "conversation_id"),
            (json!({"max_tokens": -1}), "max_tokens"),
            (json!({"max_tokens": 5, "max_completion_tokens": 6}), "max_tokens"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"stream_options": {"include_usage": true}}), "stream_options"),
            (json!({"stream": true, "stream_options": {"x": 1}}), "stream_options.x"),
            (json!({"tools": [{"type": "function"}]}), "tools[0]"),
            (json!({"tools": [{"type": "function", "function": {"name": "a"}}], "json": true}), "tools"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"functions": [{"name": "a"}]}), "functions"),
            (json!({"function_call": {"name": "a"}}), "function_call"),
            (json!({"response_format": {"type": "yaml"}}), "response_format.type"),
            (json!({"logprobs": 3}), "logprobs"),
            (json!({"top_logprobs": 3}), "top_logprobs"),
            (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
            (json!({"logit_bias": {"word": 2}}), "logit_bias"),
            (json!({"reasoning_effort": "high"}), "reasoning_effort"),
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
        let (_, text) = refused(json!({"audio": {}}));
        assert_eq!(text, "audio is not supported by this server; leave it out");
        let (_, text) = refused(json!({"functions": [1]}));
        assert_eq!(text, "functions is not supported by this server; it has given way to tools; use those");
    }
}
