//! The messages of a chat, in the shape that OpenAI's clients send: plain text, given as a string or as an array of text parts, and
//! calls of tools with their results.

use serde_json::{Map, Value};

use crate::args::Args;
use crate::call::{MAX_NAME_BYTES, MAX_PROMPT_BYTES};
use crate::error::{Refusal, shortened};
use crate::generate::{ChatMessage, Role, ToolCall};

/// Keys that are read.
const READ: [&str; 5] = ["role", "content", "name", "tool_calls", "tool_call_id"];
/// Keys of an answer that carry nothing for the model that gets it back.
const HARMLESS: [&str; 1] = ["refusal"];

/// Reads `messages`: at least one.
pub fn read_messages(args: &Args<'_>) -> Result<Vec<ChatMessage>, Refusal> {
    match args.get("messages") {
        None => Err(Refusal::missing_argument("messages", "messages is required: an array of {role, content}")),
        Some(Value::Array(items)) if !items.is_empty() => {
            items.iter().enumerate().map(|(at, item)| message(&format!("messages[{at}]"), item)).collect()
        }
        Some(other) => Err(Refusal::invalid("messages", "a non-empty array of {role, content}", other)),
    }
}

fn message(place: &str, item: &Value) -> Result<ChatMessage, Refusal> {
    let Value::Object(message) = item else { return Err(Refusal::invalid(place, "an object {role, content}", item)) };
    check_names(place, message)?;
    let role = role(place, message)?;
    let tool_calls = tool_calls(place, message)?;
    if role != Role::Assistant && !tool_calls.is_empty() {
        let at = format!("{place}.tool_calls");
        return Err(Refusal::argument(&at, format!("{at} belongs to a message of the role assistant")));
    }
    Ok(ChatMessage {
        role,
        content: content(place, message, !tool_calls.is_empty())?,
        tool_calls,
        tool_call_id: short_text(place, message, "tool_call_id")?,
        name: short_text(place, message, "name")?,
    })
}

fn check_names(place: &str, message: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in message.iter().filter(|(_, value)| !value.is_null()) {
        let known = READ.contains(&name.as_str()) || HARMLESS.contains(&name.as_str());
        if !known && !is_empty(value) {
            let at = format!("{place}.{}", shortened(name));
            let text = format!("{at} is not supported by this server: messages are plain text and calls of tools");
            return Err(Refusal::argument(&at, text));
        }
    }
    Ok(())
}

/// An empty array or object.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn role(place: &str, message: &Map<String, Value>) -> Result<Role, Refusal> {
    const MUST_BE: &str = "one of system, developer, user, assistant, tool";
    let at = format!("{place}.role");
    match message.get("role") {
        None | Some(Value::Null) => Err(Refusal::missing_argument(&at, format!("{at} is required: {MUST_BE}"))),
        Some(value) => match value.as_str() {
            Some("system" | "developer") => Ok(Role::System),
            Some("user") => Ok(Role::User),
            Some("assistant") => Ok(Role::Assistant),
            Some("tool") => Ok(Role::Tool),
            _ => Err(Refusal::invalid(&at, MUST_BE, value)),
        },
    }
}

/// `optional`: there is something else to say.
fn content(place: &str, message: &Map<String, Value>, optional: bool) -> Result<String, Refusal> {
    let at = format!("{place}.content");
    let content = match message.get("content") {
        None | Some(Value::Null) if optional => String::new(),
        None | Some(Value::Null) => {
            return Err(Refusal::missing_argument(&at, format!("{at} is required: a string")));
        }
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Result<Vec<_>, _> =
                parts.iter().enumerate().map(|(n, part)| text_part(&format!("{at}[{n}]"), part)).collect();
            texts?.join("\n")
        }
        Some(other) => return Err(Refusal::invalid(&at, "a string or an array of text parts", other)),
    };
    if content.len() > MAX_PROMPT_BYTES {
        let text = format!("{at} has {} bytes, at most {MAX_PROMPT_BYTES} are possible", content.len());
        return Err(Refusal::argument(&at, text));
    }
    Ok(content)
}

fn text_part<'a>(at: &str, part: &'a Value) -> Result<&'a str, Refusal> {
    match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(text))) => Ok(text),
        (Some("text") | None, _) => Err(Refusal::invalid(at, "{\"type\": \"text\", \"text\": string}", part)),
        (Some(kind), _) => {
            let text = format!("{at} is of type {}, only text is supported by this server", shortened(kind));
            Err(Refusal::argument(at, text))
        }
    }
}

fn tool_calls(place: &str, message: &Map<String, Value>) -> Result<Vec<ToolCall>, Refusal> {
    let at = format!("{place}.tool_calls");
    match message.get("tool_calls") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(calls)) => {
            calls.iter().enumerate().map(|(n, call)| tool_call(&format!("{at}[{n}]"), call)).collect()
        }
        Some(other) => Err(Refusal::invalid(&at, "an array of calls", other)),
    }
}

fn tool_call(at: &str, call: &Value) -> Result<ToolCall, Refusal> {
    const MUST_BE: &str =
        "{\"id\": string, \"type\": \"function\", \"function\": {\"name\": string, \"arguments\": string}}";
    let refuse = || Refusal::invalid(at, MUST_BE, call);
    let text = |value: Option<&Value>, most: usize| {
        value.and_then(Value::as_str).filter(|text| text.len() <= most).map(str::to_owned)
    };
    let kind = call.get("type").filter(|kind| !kind.is_null());
    if kind.is_some_and(|kind| kind != "function") {
        return Err(refuse());
    }
    let function = call.get("function").ok_or_else(refuse)?;
    // Some clients give the arguments back as the object that they parsed them into.
    let arguments = match function.get("arguments") {
        Some(object @ Value::Object(_)) => Some(object.to_string()),
        other => text(other, MAX_PROMPT_BYTES),
    };
    Ok(ToolCall {
        id: text(call.get("id"), MAX_NAME_BYTES).ok_or_else(refuse)?,
        name: text(function.get("name"), MAX_NAME_BYTES).ok_or_else(refuse)?,
        arguments: arguments.ok_or_else(refuse)?,
    })
}

fn short_text(place: &str, message: &Map<String, Value>, key: &str) -> Result<Option<String>, Refusal> {
    match message.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_NAME_BYTES => Ok(Some(text.clone())),
        Some(other) => {
            let must_be = format!("a string of at most {MAX_NAME_BYTES} bytes");
            Err(Refusal::invalid(&format!("{place}.{key}"), &must_be, other))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> Result<Vec<ChatMessage>, Refusal> {
        let object = json!({"messages": messages});
        read_messages(&Args::of_request(object.as_object().unwrap())?)
    }

    #[test]
    fn a_conversation_with_a_tool() {
        let call =
            json!({"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": 1}"}});
        let read = read(json!([
            {"role": "developer", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
            {"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]},
            {"role": "tool", "content": "d", "tool_call_id": "call_1"},
            {"role": "assistant", "content": "c", "tool_calls": [], "annotations": []},
        ]))
        .unwrap();
        let roles: Vec<Role> = read.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Assistant]);
        let contents: Vec<&str> = read.iter().map(|message| message.content.as_str()).collect();
        assert_eq!(contents, ["be short", "a\nb", "", "d", "c"]);
        let called = ToolCall { id: "call_1".to_owned(), name: "look".to_owned(), arguments: "{\"at\": 1}".to_owned() };
        assert_eq!(read[2].tool_calls, [called]);
        assert_eq!((read[1].name.as_deref(), read[3].tool_call_id.as_deref()), (Some("Ann"), Some("call_1")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        for (messages, place) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!([5]), "messages[0]"),
            (json!([{"content": "hi"}]), "messages[0].role"),
            (json!([{"role": "wizard", "content": "hi"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "assistant", "content": null, "tool_calls": []}]), "messages[0].content"),
            (json!([{"role": "user", "content": "hi"}, {"role": "user", "content": 5}]), "messages[1].content"),
            (json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]), "messages[0].content[0]"),
            (json!([{"role": "user", "content": "a", "tool_calls": [call]}]), "messages[0].tool_calls"),
            (json!([{"role": "assistant", "tool_calls": [{"id": "1"}]}]), "messages[0].tool_calls[0]"),
            (json!([{"role": "assistant", "tool_calls": 1}]), "messages[0].tool_calls"),
            (
                json!([{"role": "assistant", "content": "a", "function_call": {"name": "f"}}]),
                "messages[0].function_call",
            ),
            (json!([{"role": "tool", "content": "a", "tool_call_id": 7}]), "messages[0].tool_call_id"),
        ] {
            let refusal = read(messages.clone()).expect_err(&messages.to_string());
            assert_eq!(refusal.details["argument"], place, "{messages}");
        }
    }
}
