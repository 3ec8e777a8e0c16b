//! Calls of tools, in the form of each family's chat template. The small model was never taught any of it: what it calls, it calls
//! because the grammar holds it to that.

use std::collections::HashSet;

use mms_protocol::generate::{
    ChatMessage, Constraint, FinishReason, GenerateSpec, Prompt, Role, Sampling, Tool, ToolCall, ToolChoice, Tools,
};
use mms_protocol::worker::{EngineSettings, GenerateFailure, LoadSpec, ToHost};
use serde_json::{Value, json};

use crate::support::{Answer, End, Host, ask, demo, demo_model, user};

const TEMPLATES: [(&str, &str); 15] = [
    ("hermes", include_str!("../templates/hermes.jinja")),
    ("parameter-tags", include_str!("../templates/parameter-tags.jinja")),
    ("argument-tags", include_str!("../templates/argument-tags.jinja")),
    ("function-tag", include_str!("../templates/function-tag.jinja")),
    ("mistral-list", include_str!("../templates/mistral-list.jinja")),
    ("mistral-named", include_str!("../templates/mistral-named.jinja")),
    ("deepseek", include_str!("../templates/deepseek.jinja")),
    ("deepseek-plain", include_str!("../templates/deepseek-plain.jinja")),
    ("tagged-list", include_str!("../templates/tagged-list.jinja")),
    ("closed-list", include_str!("../templates/closed-list.jinja")),
    ("json-parameters", include_str!("../templates/json-parameters.jinja")),
    ("json-arguments", include_str!("../templates/json-arguments.jinja")),
    ("tagged-object", include_str!("../templates/tagged-object.jinja")),
    ("untold", include_str!("../templates/untold.jinja")),
    ("strict", include_str!("../templates/strict.jinja")),
];

fn load(path: &str, chat_template: Option<&str>) -> Host {
    let mut host = Host::spawn();
    host.shake_hands();
    let settings = EngineSettings { context_length: 4096, ..EngineSettings::default() };
    let chat_template = chat_template.map(str::to_owned);
    host.load(LoadSpec { path: path.to_owned(), settings, chat_template, ..demo() }).expect("loads");
    host
}

fn with_template(name: &str) -> Host {
    let (_, template) = TEMPLATES.iter().find(|(other, _)| *other == name).expect("a template");
    load(&demo().path, Some(template))
}

fn tools(choice: ToolChoice, parallel: bool) -> Tools {
    let tool =
        |name: &str, parameters: Value| Tool { name: name.to_owned(), description: "Does it.".to_owned(), parameters };
    let list = vec![
        tool(
            "weather",
            json!({"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
                "required": ["city", "days"]}),
        ),
        tool("stop", json!({"type": "object", "properties": {}})),
    ];
    Tools { list, choice, parallel }
}

fn with(tools: Tools, spec: GenerateSpec) -> GenerateSpec {
    GenerateSpec { tools: Some(tools), ..spec }
}

fn hot(seed: u32) -> GenerateSpec {
    let sampling =
        Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(seed), ..Sampling::default() };
    GenerateSpec { sampling, ..ask("What is the weather?", 900) }
}

fn check_call(call: &ToolCall) {
    assert!(call.id.starts_with("call_") && call.id.len() > 20, "{call:?}");
    let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
    match call.name.as_str() {
        "weather" => {
            assert!(arguments["city"] == "Oslo" || arguments["city"] == "Rome", "{call:?}");
            assert!(arguments["days"].as_i64().is_some_and(|days| (1..=7).contains(&days)), "{call:?}");
        }
        "stop" => assert_eq!(arguments, json!({})),
        other => panic!("no such tool: {other}"),
    }
}

fn check_called(name: &str, answer: &Answer) {
    assert_eq!((answer.reason(), answer.text.as_str()), (FinishReason::ToolCalls, ""), "{name}: {answer:?}");
    assert!(!answer.calls.is_empty());
    answer.calls.iter().for_each(check_call);
}

#[test]
fn what_must_be_called_is_called_in_every_form() {
    for (name, template) in TEMPLATES {
        let mut host = load(&demo().path, Some(template));
        let named = ToolChoice::Named("weather".to_owned());
        let specs: Vec<GenerateSpec> = vec![
            with(tools(ToolChoice::Required, false), hot(1)),
            with(tools(ToolChoice::Required, true), hot(2)),
            with(tools(ToolChoice::Required, true), hot(3)),
            with(tools(named.clone(), true), hot(4)),
            with(tools(named, false), ask("What is the weather?", 900)),
        ];
        let answers = host.generate_all(&specs);
        for answer in &answers {
            check_called(name, answer);
        }
        assert_eq!(answers[0].calls.len(), 1, "{name}");
        for answer in &answers[3..] {
            assert!(answer.calls.len() == 1 && answer.calls[0].name == "weather", "{name}: {answer:?}");
        }
        let ids: HashSet<&str> = answers.iter().flat_map(|answer| &answer.calls).map(|call| call.id.as_str()).collect();
        assert_eq!(ids.len(), answers.iter().map(|answer| answer.calls.len()).sum::<usize>(), "{name}: ids are unique");
    }
}

#[test]
fn the_built_in_model_calls_and_answers_when_the_result_is_there() {
    let mut host = load(&demo().path, None);
    let first = host.generate(&with(tools(ToolChoice::Required, false), ask("What is the weather?", 900)));
    check_called("built-in", &first);
    let call = first.calls[0].clone();
    let result = ChatMessage { tool_call_id: Some(call.id.clone()), ..ChatMessage::new(Role::Tool, "It rains.") };
    let asked = ChatMessage { tool_calls: vec![call], ..ChatMessage::new(Role::Assistant, "") };
    let second =
        GenerateSpec { prompt: Prompt::Chat(vec![user("What is the weather?"), asked, result]), ..ask("", 24) };
    let second = host.generate(&with(tools(ToolChoice::Auto, true), second));
    assert!(matches!(second.reason(), FinishReason::Stop | FinishReason::Length), "{second:?}");
    assert!(!second.text.is_empty() && second.calls.is_empty());
    assert!(second.prompt_tokens > first.prompt_tokens);
    assert!(second.cached_tokens > first.prompt_tokens / 2, "the first turn is not computed again");
}

#[test]
fn text_of_a_model_that_may_call_streams_as_ever() {
    let mut host = with_template("hermes");
    let answer =
        host.generate(&with(tools(ToolChoice::Auto, true), GenerateSpec { logprobs: Some(0), ..ask("Hello!", 40) }));
    assert!(answer.calls.is_empty() && answer.pieces.len() > 3, "{answer:?}");
    assert_eq!(answer.logprobs.len(), answer.usage().completion_tokens as usize);
    let stopped = GenerateSpec { stop: vec![answer.text[3..6].to_owned()], ..ask("Hello!", 40) };
    let stopped = host.generate(&with(tools(ToolChoice::Auto, true), stopped));
    assert_eq!((stopped.text.as_str(), stopped.reason()), (&answer.text[..3], FinishReason::Stop));
    // No choice of tools: they are not shown, and nothing is looked for.
    let none = host.generate(&with(tools(ToolChoice::None, true), ask("Hello!", 8)));
    assert_eq!(
        none,
        Answer { end: none.end.clone(), cached_tokens: none.cached_tokens, ..host.generate(&ask("Hello!", 8)) }
    );
}

/// The built-in model with two of its control tokens by other names of the same length.
fn renamed() -> tempfile::NamedTempFile {
    let mut bytes = std::fs::read(demo_model()).expect("the model");
    for (old, new) in [("<|assistant|>", "<|tool_call|>"), ("<|system|>", "<function=")] {
        assert_eq!(old.len(), new.len());
        let places: Vec<usize> = bytes
            .windows(old.len())
            .enumerate()
            .filter(|(_, text)| *text == old.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
    }
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    file
}

/// Likes one token above all; where that may not come, another one does.
fn fond_of(token: u32, spec: GenerateSpec) -> GenerateSpec {
    let sampling = Sampling { logit_bias: vec![(token, 99.0)], ..spec.sampling.clone() };
    GenerateSpec { sampling, ..spec }
}

#[test]
fn a_call_that_a_control_token_begins_is_one_from_there_on() {
    let model = renamed();
    let path = model.path().to_str().expect("UTF-8");
    for (form, token) in [("tagged-list", 5), ("closed-list", 5), ("function-tag", 3)] {
        let (_, template) = TEMPLATES.iter().find(|(other, _)| *other == form).expect("a template");
        let mut host = load(path, Some(template));
        let specs: Vec<GenerateSpec> = (0..4)
            .map(|seed| {
                let spec = GenerateSpec { logprobs: Some(1), ..hot(seed) };
                // What begins each call, and not only the list, would come again and again.
                with(tools(ToolChoice::Auto, token == 5 && seed % 2 == 0), fond_of(token, spec))
            })
            .collect();
        for (index, answer) in host.generate_all(&specs).iter().enumerate() {
            check_called(form, answer);
            assert!(answer.logprobs.is_empty(), "calls have no log probabilities: {answer:?}");
            assert!(index % 2 == 0 || answer.calls.len() == 1, "{answer:?}");
        }
    }
}

#[test]
fn a_call_that_is_cut_off_is_text() {
    let mut host = with_template("hermes");
    let spec = GenerateSpec { max_tokens: Some(12), logprobs: Some(0), ..hot(1) };
    let cut = host.generate(&with(tools(ToolChoice::Named("weather".to_owned()), false), spec));
    assert_eq!((cut.reason(), cut.calls.len()), (FinishReason::Length, 0));
    assert!(cut.text.trim_start().starts_with("<tool_call>"), "{}", cut.text);
    assert_eq!(cut.logprobs.len(), 12);
    let whole: String = cut.logprobs.iter().map(|one| one.chosen.token.as_str()).collect();
    assert_eq!(whole, cut.text);
    // A stop string is one of the text, not of calls.
    let spec = GenerateSpec { stop: vec!["weather".to_owned(), "\"".to_owned()], ..hot(1) };
    check_called("stop strings", &host.generate(&with(tools(ToolChoice::Named("weather".to_owned()), false), spec)));
}

#[test]
fn a_call_comes_before_the_end_and_by_itself() {
    let mut host = with_template("hermes");
    host.start(0, &with(tools(ToolChoice::Required, false), hot(5)));
    let mut seen = Vec::new();
    loop {
        match host.next() {
            ToHost::Started { .. } => seen.push("started"),
            ToHost::ToolCall { call, tokens, .. } => {
                check_call(&call);
                assert!(tokens > 5);
                seen.push("call");
            }
            ToHost::Finished { reason, .. } => {
                assert_eq!(reason, FinishReason::ToolCalls);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["started", "call"]);
}

#[test]
fn tools_that_cannot_be_offered_are_refused_with_the_reason() {
    let mut host = load(&demo().path, None);
    let one = |parameters: Value| {
        let tool = Tool { name: "look".to_owned(), description: String::new(), parameters };
        Tools { list: vec![tool], choice: ToolChoice::Auto, parallel: true }
    };
    let cases = [
        (with(one(json!({"type": "array"})), ask("Hello", 8)), "must be of the type object"),
        (
            with(one(json!({"properties": {"a": {"type": "wishes"}}})), ask("Hello", 8)),
            "tool look: the schema at /properties/a: `wishes` is no type",
        ),
        (with(one(json!({"properties": {"a": {"$ref": "#/nowhere"}}})), ask("Hello", 8)), "which is not there"),
        (
            GenerateSpec { constraint: Some(Constraint::JsonObject), ..with(one(json!({})), ask("Hello", 8)) },
            "exclude each other",
        ),
    ];
    for (spec, expect) in cases {
        match host.generate(&spec).end {
            End::Failed(GenerateFailure::Constraint { message }) => assert!(message.contains(expect), "{message}"),
            end => panic!("{expect}: {end:?}"),
        }
    }
    let raw = GenerateSpec { prompt: Prompt::Raw("Hello".to_owned()), ..ask("", 8) };
    match host.generate(&with(one(json!({})), raw)).end {
        End::Failed(GenerateFailure::Unsupported { message }) => assert!(message.contains("chat"), "{message}"),
        end => panic!("{end:?}"),
    }
}

#[test]
fn many_tools_are_told_apart() {
    let mut host = Host::with(EngineSettings { context_length: 8192, ..EngineSettings::default() });
    let tool = |n: usize| Tool {
        name: format!("tool_{n}"),
        description: String::new(),
        parameters: json!({"type": "object", "properties": {"n": {"const": n}}, "required": ["n"]}),
    };
    let list: Vec<Tool> = (0..30).map(tool).collect();
    for choice in [ToolChoice::Required, ToolChoice::Named("tool_7".to_owned())] {
        let tools = Tools { list: list.clone(), choice, parallel: false };
        let answer = host.generate(&with(tools, ask("Hello", 200)));
        assert_eq!(answer.calls.len(), 1, "{answer:?}");
        let number: usize = answer.calls[0].name["tool_".len()..].parse().expect("a number");
        assert_eq!(answer.calls[0].arguments, format!("{{\"n\": {number}}}"));
    }
}
