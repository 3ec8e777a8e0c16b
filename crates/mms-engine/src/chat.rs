//! From the messages of a chat, and the tools, to the prompt. What the model's template can show by itself is found out by trying it
//! ([`probe`]), once, when the first request has to do with tools. What it cannot show is put into words: tools into the system
//! message, calls into the assistant's text, results into a message of the user.

mod probe;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use llama_cpp_2::token::LlamaToken;
use mms_protocol::generate::{ChatMessage, Role, Tool};
use serde_json::{Map, Value, json};

use crate::chat::probe::{Abilities, CallShape};
use crate::json::dumps;
use crate::special::Replaced;
use crate::template::{ChatTemplate, render_plain};
use crate::tools::{PastCall, Syntax};

/// How one model is shown chats.
#[derive(Debug)]
pub(crate) struct Chat {
    /// `None`: the plain form.
    template: Option<ChatTemplate>,
    abilities: OnceLock<Abilities>,
}

/// A message whose texts cannot be mistaken for control tokens.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    role: Role,
    content: String,
    calls: Vec<PastCall>,
    tool_call_id: Option<String>,
    name: Option<String>,
}

impl Message {
    /// `hide` changes each text that comes from strangers.
    pub(crate) fn new(message: &ChatMessage, hide: &mut dyn FnMut(&str) -> String) -> Self {
        let mut calls = Vec::new();
        for call in &message.tool_calls {
            let arguments = match call.arguments.trim() {
                "" => json!({}),
                text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            };
            calls.push(PastCall { id: hide(&call.id), name: hide(&call.name), arguments: hidden(&arguments, hide) });
        }
        Self {
            role: message.role,
            content: hide(&message.content),
            calls,
            tool_call_id: message.tool_call_id.as_deref().map(&mut *hide),
            name: message.name.as_deref().map(hide),
        }
    }

    /// Its text is marked as an answer of these tokens.
    pub(crate) fn mark(&mut self, tokens: Vec<LlamaToken>, replaced: &mut Replaced) {
        self.content = replaced.mark(&self.content, tokens);
    }

    fn text(role: Role, content: String) -> Self {
        Self { role, content, calls: Vec::new(), tool_call_id: None, name: None }
    }
}

/// A tool in the shape that templates know.
pub(crate) fn tool(tool: &Tool, hide: &mut dyn FnMut(&str) -> String) -> Value {
    let Tool { name, description, parameters } = tool;
    let shown = json!({"name": name, "description": description, "parameters": parameters});
    json!({"type": "function", "function": hidden(&shown, hide)})
}

fn hidden(value: &Value, hide: &mut dyn FnMut(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(hide(text)),
        Value::Array(items) => items.iter().map(|item| hidden(item, hide)).collect(),
        Value::Object(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (hide(key), hidden(value, hide))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

impl Chat {
    pub(crate) fn new(template: Option<ChatTemplate>) -> Self {
        Self { template, abilities: OnceLock::new() }
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.template.is_none()
    }

    /// How the model writes calls of tools.
    pub(crate) fn syntax(&self) -> &'static Syntax {
        self.abilities().syntax
    }

    /// A message with several calls can be shown.
    pub(crate) fn has_several_calls(&self) -> bool {
        let Abilities { has_form, calls, .. } = self.abilities();
        !has_form || calls.as_ref().is_none_or(|shape| shape.several)
    }

    /// The prompt; the error is one line for a person.
    pub(crate) fn render(&self, messages: Vec<Message>, tools: &[Value]) -> Result<String, String> {
        let has_calls = messages.iter().any(|message| !message.calls.is_empty() || message.role == Role::Tool);
        if tools.is_empty() && !has_calls {
            let shown: Vec<Value> = messages.iter().map(plain).collect();
            return self.render_shown(&shown, None);
        }
        let abilities = self.abilities();
        // Calls are shown in the form in which they are asked for.
        let calls = abilities.calls.as_ref().filter(|_| tools.is_empty() || abilities.has_form);
        let has_results = calls.is_some() && abilities.shows_results;
        let is_told = tools.is_empty() || abilities.shows_tools;
        let messages = if is_told { messages } else { with_instructions(messages, tools, abilities) };
        let messages = calls.map_or_else(|| messages.clone(), |shape| split(messages.clone(), shape));
        let mut shown: Vec<Message> = Vec::new();
        let mut spoken_results = false;
        for mut message in named(messages) {
            if calls.is_none() && !message.calls.is_empty() {
                let called = abilities.syntax.write(&message.calls);
                message.calls.clear();
                message.content = joined(&message.content, &called);
            }
            if message.role == Role::Tool && !has_results {
                let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
                message = Message::text(Role::User, content);
                spoken_results = true;
            }
            match shown.last_mut() {
                // Templates may insist that user and assistant take turns.
                Some(before) if spoken_results && before.role == Role::User && message.role == Role::User => {
                    before.content = joined(&before.content, &message.content);
                }
                _ => shown.push(message),
            }
        }
        let shown: Vec<Value> = shown.iter().map(|message| object(message, calls)).collect();
        self.render_shown(&shown, (is_told && !tools.is_empty()).then_some(tools))
    }

    fn render_shown(&self, messages: &[Value], tools: Option<&[Value]>) -> Result<String, String> {
        match &self.template {
            Some(template) => template.render(messages, tools),
            None => Ok(render_plain(messages)),
        }
    }

    fn abilities(&self) -> &Abilities {
        self.abilities.get_or_init(|| match &self.template {
            Some(template) => {
                let found = probe::probe(template);
                tracing::debug!(?found, "what the chat template can show");
                found
            }
            None => Abilities::none(),
        })
    }
}

/// Tells of the tools in words, and of the form in which they are called.
fn with_instructions(mut messages: Vec<Message>, tools: &[Value], abilities: &Abilities) -> Vec<Message> {
    let has_system = abilities.shows_system;
    let mut text = "You can call these functions, each described by a JSON schema:\n<tools>\n".to_owned();
    for tool in tools {
        text.push_str(&dumps(&tool["function"]));
        text.push('\n');
    }
    let example = PastCall { id: String::new(), name: "NAME".to_owned(), arguments: json!({"KEY": "VALUE"}) };
    text.push_str(
        "</tools>\nTo call one, write its name and its arguments like this, and nothing after the last call:\n",
    );
    text.push_str(&abilities.syntax.write(&[example]));
    text.push_str("\nWhat the function returns comes back to you. Answer without a call where no function helps.");
    let role = if has_system { Role::System } else { Role::User };
    match messages.iter_mut().find(|message| message.role == role) {
        Some(message) if has_system => message.content = joined(&message.content, &text),
        Some(message) => message.content = joined(&text, &message.content),
        None => messages.insert(0, Message::text(role, text)),
    }
    messages
}

/// Parts of messages that this template can only show one after the other become messages.
fn split(messages: Vec<Message>, shape: &CallShape) -> Vec<Message> {
    let mut out = Vec::new();
    let mut rest = messages.into_iter().peekable();
    while let Some(mut message) = rest.next() {
        if !message.calls.is_empty() && !message.content.is_empty() && !shape.beside_text {
            out.push(Message::text(Role::Assistant, std::mem::take(&mut message.content)));
        }
        if message.calls.len() < 2 || shape.several {
            out.push(message);
            continue;
        }
        let mut results = Vec::new();
        while let Some(result) = rest.next_if(|next| next.role == Role::Tool) {
            results.push(result);
        }
        for call in std::mem::take(&mut message.calls) {
            let (its, others) =
                results.into_iter().partition(|result: &Message| result.tool_call_id.as_ref() == Some(&call.id));
            results = others;
            let content = std::mem::take(&mut message.content);
            out.push(Message { calls: vec![call], ..Message::text(Role::Assistant, content) });
            out.extend::<Vec<Message>>(its);
        }
        out.extend(results);
    }
    out
}

/// Results with the names of their tools, which some templates want.
fn named(mut messages: Vec<Message>) -> Vec<Message> {
    let mut names: Map<String, Value> = Map::new();
    for message in &mut messages {
        names.extend(message.calls.iter().map(|call| (call.id.clone(), json!(call.name))));
        let name = message.tool_call_id.as_ref().and_then(|id| names.get(id)?.as_str());
        if message.role == Role::Tool && message.name.is_none() {
            message.name = name.map(str::to_owned);
        }
    }
    messages
}

fn plain(message: &Message) -> Value {
    json!({"role": role_name(message.role), "content": message.content})
}

/// As `transformers` would be given it. Keys are there only with a value, since templates ask whether they are.
fn object(message: &Message, shape: Option<&CallShape>) -> Value {
    let mut object = plain(message);
    let id = |id: &str| if shape.is_some_and(|shape| shape.short_ids) { short_id(id) } else { id.to_owned() };
    if let Some(shape) = shape.filter(|_| !message.calls.is_empty()) {
        let arguments = |value: &Value| match value {
            Value::Object(_) if shape.text_arguments => json!(dumps(value)),
            other => other.clone(),
        };
        let call = |call: &PastCall| {
            let function = json!({"name": call.name, "arguments": arguments(&call.arguments)});
            json!({"id": id(&call.id), "type": "function", "function": function})
        };
        object["tool_calls"] = message.calls.iter().map(call).collect();
        if message.content.is_empty() && shape.null_content {
            object["content"] = Value::Null;
        }
    }
    if message.role == Role::Tool {
        if let Some(of) = &message.tool_call_id {
            object["tool_call_id"] = json!(id(of));
        }
        if let Some(name) = &message.name {
            object["name"] = json!(name);
        }
    }
    object
}

/// Nine letters and digits, the same for the same id: some templates accept no others.
fn short_id(id: &str) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let mut left = hasher.finish();
    let mut letter = || {
        let letter = LETTERS[(left % 62) as usize];
        left /= 62;
        char::from(letter)
    };
    (0..9).map(|_| letter()).collect()
}

fn joined(first: &str, second: &str) -> String {
    if first.is_empty() { second.to_owned() } else { format!("{first}\n{second}") }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

#[cfg(test)]
mod tests;
