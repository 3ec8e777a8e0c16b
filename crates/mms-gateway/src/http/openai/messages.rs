//! The messages of a chat: roles and plain text, given as a string or as an array of text parts.

use mms_protocol::Refusal;
use mms_protocol::args::Args;
use mms_protocol::call::MAX_PROMPT_BYTES;
use mms_protocol::generate::{ChatMessage, Role};
use serde_json::{Map, Value};

use super::params::{is_empty, missing, refused};

/// Keys of a message that carry nothing for a text model; some clients send an assistant's message back as they got it.
const HARMLESS: [&str; 3] = ["name", "tool_call_id", "refusal"];

/// Reads `messages`: at least one.
pub(super) fn read(args: &Args<'_>) -> Result<Vec<ChatMessage>, Refusal> {
    match args.get("messages") {
        None => Err(missing("messages", "messages is required: an array of {role, content}")),
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
    let at = format!("{place}.content");
    let content = match message.get("content") {
        None | Some(Value::Null) => return Err(missing(&at, &format!("{at} is required: a string"))),
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
        return Err(refused(&at, &text));
    }
    Ok(ChatMessage::new(role, content))
}

fn check_names(place: &str, message: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in message.iter().filter(|(_, value)| !value.is_null()) {
        let known = ["role", "content"].contains(&name.as_str()) || HARMLESS.contains(&name.as_str());
        if !known && !is_empty(value) {
            let at = format!("{place}.{}", name.chars().take(80).collect::<String>());
            return Err(refused(&at, &format!("{at} is not supported by this server: messages are plain text")));
        }
    }
    Ok(())
}

fn role(place: &str, message: &Map<String, Value>) -> Result<Role, Refusal> {
    const MUST_BE: &str = "one of system, developer, user, assistant, tool";
    let at = format!("{place}.role");
    match message.get("role") {
        None | Some(Value::Null) => Err(missing(&at, &format!("{at} is required: {MUST_BE}"))),
        Some(value) => match value.as_str() {
            Some("system" | "developer") => Ok(Role::System),
            Some("user") => Ok(Role::User),
            Some("assistant") => Ok(Role::Assistant),
            Some("tool") => Ok(Role::Tool),
            _ => Err(Refusal::invalid(&at, MUST_BE, value)),
        },
    }
}

fn text_part(at: &str, part: &Value) -> Result<String, Refusal> {
    match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(text))) => Ok(text.clone()),
        (Some("text") | None, _) => Err(Refusal::invalid(at, "{\"type\": \"text\", \"text\": string}", part)),
        (Some(kind), _) => {
            let kind: String = kind.chars().take(80).collect();
            Err(refused(at, &format!("{at} is of type {kind}, only text is supported by this server")))
        }
    }
}
