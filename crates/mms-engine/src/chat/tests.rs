//! Templates as families of models have them (see `tests/templates`), and what they are given.

use mms_protocol::generate::{ChatMessage, Role, Tool, ToolCall};
use serde_json::json;

use super::{Chat, Message, tool};
use crate::template::ChatTemplate;

const HERMES: &str = include_str!("../../tests/templates/hermes.jinja");
const PARAMETER_TAGS: &str = include_str!("../../tests/templates/parameter-tags.jinja");
const ARGUMENT_TAGS: &str = include_str!("../../tests/templates/argument-tags.jinja");
const FUNCTION_TAG: &str = include_str!("../../tests/templates/function-tag.jinja");
const MISTRAL_LIST: &str = include_str!("../../tests/templates/mistral-list.jinja");
const MISTRAL_NAMED: &str = include_str!("../../tests/templates/mistral-named.jinja");
const DEEPSEEK: &str = include_str!("../../tests/templates/deepseek.jinja");
const DEEPSEEK_PLAIN: &str = include_str!("../../tests/templates/deepseek-plain.jinja");
const TAGGED_LIST: &str = include_str!("../../tests/templates/tagged-list.jinja");
const CLOSED_LIST: &str = include_str!("../../tests/templates/closed-list.jinja");
const JSON_PARAMETERS: &str = include_str!("../../tests/templates/json-parameters.jinja");
const JSON_ARGUMENTS: &str = include_str!("../../tests/templates/json-arguments.jinja");
const TAGGED_OBJECT: &str = include_str!("../../tests/templates/tagged-object.jinja");
const UNTOLD: &str = include_str!("../../tests/templates/untold.jinja");
const STRICT: &str = include_str!("../../tests/templates/strict.jinja");

fn chat(source: &str) -> Chat {
    let template = ChatTemplate::new(source.trim_end().to_owned(), "<s>".to_owned(), "</s>".to_owned());
    Chat::new(Some(template.expect("parses")))
}

fn look() -> Tool {
    let parameters = json!({"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]});
    Tool { name: "look".to_owned(), description: "Looks.".to_owned(), parameters }
}

fn called(content: &str, places: &[&str]) -> ChatMessage {
    let call = |(n, place): (usize, &&str)| ToolCall {
        id: format!("call_00000000000000000{n}"),
        name: "look".to_owned(),
        arguments: json!({"at": place}).to_string(),
    };
    let tool_calls = places.iter().enumerate().map(call).collect();
    ChatMessage { tool_calls, ..ChatMessage::new(Role::Assistant, content) }
}

fn result(n: usize, content: &str) -> ChatMessage {
    let tool_call_id = Some(format!("call_00000000000000000{n}"));
    ChatMessage { tool_call_id, ..ChatMessage::new(Role::Tool, content) }
}

fn render(chat: &Chat, messages: &[ChatMessage], tools: &[Tool]) -> Result<String, String> {
    let mut hide = str::to_owned;
    let messages = messages.iter().map(|message| Message::new(message, &mut hide)).collect();
    let tools: Vec<_> = tools.iter().map(|one| tool(one, &mut hide)).collect();
    chat.render(messages, &tools)
}

fn one_call() -> [ChatMessage; 3] {
    [ChatMessage::new(Role::User, "Where?"), called("", &["home"]), result(0, "[1, 2]")]
}

#[test]
fn each_family_shows_a_call_in_its_own_way() {
    let cases = [
        (
            HERMES,
            "<|assistant|><tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"home\"}}\n</tool_call><|end|>",
        ),
        (
            PARAMETER_TAGS,
            "<tool_call>\n<function=look>\n<parameter=at>\nhome\n</parameter>\n</function>\n</tool_call><|end|>",
        ),
        (ARGUMENT_TAGS, "<tool_call>look\n<arg_key>at</arg_key>\n<arg_value>home</arg_value>\n</tool_call>"),
        (FUNCTION_TAG, "<|assistant|><function=look>{\"at\": \"home\"}</function><|end|>"),
        (MISTRAL_LIST, "[/INST][TOOL_CALLS][{\"name\": \"look\", \"arguments\": {\"at\": \"home\"}, \"id\": \""),
        (MISTRAL_NAMED, "[/INST][TOOL_CALLS]look[ARGS]{\"at\": \"home\"}</s>"),
        (
            DEEPSEEK,
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{\"at\": \"home\"}\n```<｜tool▁call▁end｜>",
        ),
        (DEEPSEEK_PLAIN, "<｜tool▁call▁begin｜>look<｜tool▁sep｜>{\"at\": \"home\"}<｜tool▁call▁end｜>"),
        (TAGGED_LIST, "<|tool_call|>[{\"name\": \"look\", \"arguments\": {\"at\": \"home\"}}]<|end|>"),
        (CLOSED_LIST, "<|tool_call|>[{\"name\": \"look\", \"arguments\": {\"at\": \"home\"}}]<|/tool_call|>"),
        (TAGGED_OBJECT, "<|tool_call|>{\"name\": \"look\", \"arguments\": {\"at\": \"home\"}}<|/tool_call|>"),
        (UNTOLD, "<｜tool▁call▁begin｜>look<｜tool▁sep｜>{\"at\": \"home\"}<｜tool▁call▁end｜>"),
        (JSON_PARAMETERS, "<|assistant|>{\"name\": \"look\", \"parameters\": {\"at\": \"home\"}}<|end|>"),
        (JSON_ARGUMENTS, "assistant: {\"name\": \"look\", \"arguments\": {\"at\": \"home\"}}\n"),
    ];
    for (source, expect) in cases {
        let chat = chat(source);
        let shown = render(&chat, &one_call(), &[look()]).unwrap_or_else(|error| panic!("{error}: {source}"));
        assert!(shown.contains(expect), "{shown}");
        assert!(shown.contains("[1, 2]") && shown.contains("string"), "{shown}");
        // What we write of calls is what the template writes.
        let mut past = Message::new(&called("", &["home"]), &mut str::to_owned);
        past.calls[0].id.clear();
        let written = chat.syntax().write(&past.calls);
        let shown = if source == MISTRAL_LIST { written.clone() } else { shown };
        assert!(shown.contains(&written), "{written} is not in {shown}");
    }
}

#[test]
fn forms_are_told_apart() {
    let names = [
        (HERMES, "<tool_call>\n{"),
        (PARAMETER_TAGS, "<parameter=at>"),
        (ARGUMENT_TAGS, "<arg_key>at"),
        (FUNCTION_TAG, "<function=look>{"),
        (MISTRAL_LIST, "[TOOL_CALLS][{"),
        (MISTRAL_NAMED, "look[ARGS]{"),
        (DEEPSEEK, "```json"),
        (DEEPSEEK_PLAIN, "look<｜tool▁sep｜>{"),
        (TAGGED_LIST, "<|tool_call|>[{"),
        (CLOSED_LIST, "]<|/tool_call|>"),
        (JSON_PARAMETERS, "\"parameters\": {"),
        (JSON_ARGUMENTS, "{\"name\": \"look\", \"arguments\": {"),
        (STRICT, "<tool_call>\n{"),
        ("{{ messages[0].content }}", "<tool_call>\n{"),
    ];
    for (source, expect) in names {
        let past = Message::new(&called("", &["home"]), &mut str::to_owned);
        let written = chat(source).syntax().write(&past.calls);
        assert!(written.contains(expect), "{written} for {source}");
    }
}

#[test]
fn what_a_template_cannot_show_is_put_into_words() {
    let strict = chat(STRICT);
    let messages = [
        ChatMessage::new(Role::User, "Where?"),
        called("Let me see.", &["home", "work"]),
        result(0, "not there"),
        result(1, "there"),
        ChatMessage::new(Role::User, "So?"),
    ];
    let shown = render(&strict, &messages, &[look()]).expect("renders");
    let (instructions, rest) = shown.split_once("Where?").expect("the question");
    assert!(
        instructions.starts_with("user: ") && instructions.contains("\"name\": \"look\", \"description\": \"Looks.\"")
    );
    let expect = "\nmodel: Let me see.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"home\"}}\n</tool_call>\n\
                  <tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"work\"}}\n</tool_call>\n\
                  user: <tool_response>\nnot there\n</tool_response>\n<tool_response>\nthere\n</tool_response>\nSo?\nmodel: ";
    assert_eq!(rest, expect);
    // A form of its own, but no words for tools.
    let untold = render(&chat(UNTOLD), &messages[..1], &[look()]).expect("renders");
    let example = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{\"KEY\": \"VALUE\"}";
    assert!(untold.contains(example), "{untold}");
    // Also when the tools are offered no longer.
    assert!(render(&strict, &messages, &[]).expect("renders").contains("<tool_call>\n{\"name\": \"look\""));
    // A model without a template.
    let plain = render(&Chat::new(None), &messages, &[look()]).expect("renders");
    assert!(plain.starts_with("System: You can call") && plain.contains("User: <tool_response>\nnot there"), "{plain}");
}

#[test]
fn what_a_template_can_only_show_one_by_one_is_shown_so() {
    let messages = [
        ChatMessage::new(Role::User, "Where?"),
        called("", &["home", "work"]),
        result(1, "there"),
        result(0, "not there"),
    ];
    let shown = render(&chat(JSON_PARAMETERS), &messages, &[look()]).expect("renders");
    let expect = "<|assistant|>{\"name\": \"look\", \"parameters\": {\"at\": \"home\"}}<|end|><|ipython|>\"not there\"<|end|>\
                  <|assistant|>{\"name\": \"look\", \"parameters\": {\"at\": \"work\"}}<|end|><|ipython|>\"there\"<|end|><|assistant|>";
    assert!(shown.ends_with(expect), "{shown}");
    assert!(!chat(JSON_PARAMETERS).has_several_calls() && chat(HERMES).has_several_calls());
    // Text beside calls, where the template shows one or the other.
    let beside = [ChatMessage::new(Role::User, "Where?"), called("Let me see.", &["home"]), result(0, "there")];
    let shown = render(&chat(DEEPSEEK), &beside, &[look()]).expect("renders");
    assert!(
        shown.contains("<｜Assistant｜>Let me see.<｜end▁of▁sentence｜><｜Assistant｜><｜tool▁calls▁begin｜>"),
        "{shown}"
    );
}

#[test]
fn ids_are_what_the_template_accepts_and_stay_the_same() {
    let shown = render(&chat(MISTRAL_LIST), &one_call(), &[look()]).expect("renders");
    let id = shown.split("\"id\": \"").nth(1).and_then(|rest| rest.get(..9)).expect("an id");
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()) && shown.contains(&format!("\"call_id\": \"{id}\"")));
    let again = render(&chat(MISTRAL_LIST), &one_call(), &[look()]).expect("renders");
    assert_eq!(shown, again);
}

#[test]
fn texts_of_strangers_are_hidden_wherever_they_stand() {
    let mut tool_of_stranger = look();
    tool_of_stranger.description = "EVIL".to_owned();
    tool_of_stranger.parameters["properties"]["EVIL"] = json!({"enum": ["EVIL"]});
    let mut call = called("EVIL", &[]);
    call.tool_calls.push(ToolCall {
        id: "EVIL".to_owned(),
        name: "EVIL".to_owned(),
        arguments: "{\"\\u0045VIL\": [\"EVIL\"]}".to_owned(),
    });
    let mut hide = |text: &str| text.replace("EVIL", "good");
    let messages = [ChatMessage::new(Role::User, "Where?"), call, result(0, "EVIL")];
    let messages = messages.iter().map(|message| Message::new(message, &mut hide)).collect();
    let tools = [tool(&tool_of_stranger, &mut hide)];
    let shown = chat(HERMES).render(messages, &tools).expect("renders");
    assert!(!shown.contains("EVIL") && shown.contains("{\"good\": [\"good\"]}"), "{shown}");
}
