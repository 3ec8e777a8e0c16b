//! What a chat template can show, found out by rendering small chats with it. Its source alone would tell less: templates mention what
//! they do not use, and refuse shapes of messages that others insist on.

use serde_json::{Value, json};

use crate::template::ChatTemplate;
use crate::tools::{HERMES, Syntax};

/// What has been found out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// How calls are written.
    pub(super) syntax: &'static Syntax,
    /// That is the model's own way.
    pub(super) has_form: bool,
    /// It tells of tools, and in which form they are called is known.
    pub(super) shows_tools: bool,
    /// `None`: it shows no calls.
    pub(super) calls: Option<CallShape>,
    /// It has messages of the role `tool`.
    pub(super) shows_results: bool,
    /// It has system messages.
    pub(super) shows_system: bool,
}

/// The shape in which it shows calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CallShape {
    /// Arguments are JSON texts, not objects.
    pub(super) text_arguments: bool,
    /// A message of nothing but calls has `null` for its content, not an empty text.
    pub(super) null_content: bool,
    /// Ids have nine letters and digits.
    pub(super) short_ids: bool,
    /// Text and calls may be in one message.
    pub(super) beside_text: bool,
    /// Several calls may be in one message.
    pub(super) several: bool,
}

const QUESTION: &str = "probing question";
const WORDS: &str = "probing words";
const RULES: &str = "probing rules";
const RESULT: &str = "probing result";
const FIRST: &str = "probe_first";
const SECOND: &str = "probe_second";
const VALUE: &str = "probing value";

impl Abilities {
    /// Everything is put into words.
    pub(super) fn none() -> Self {
        Self {
            syntax: &HERMES,
            has_form: false,
            shows_tools: false,
            calls: None,
            shows_results: false,
            shows_system: true,
        }
    }
}

pub(super) fn probe(template: &ChatTemplate) -> Abilities {
    let tools = [FIRST, SECOND].map(tool);
    let user = || json!({"role": "user", "content": QUESTION});
    let system = || json!({"role": "system", "content": RULES});
    let shows_system = template.render(&[system(), user()], None).is_ok_and(|text| text.contains(RULES));
    let told = told_of_tools(template, &tools, &[vec![user()], vec![system(), user()]]);
    let probe = Probe { template, tools: told.is_some().then_some(&tools[..]) };
    let shape = probe.shape();
    let call = shape.as_ref().and_then(|shape| probe.call(shape)).unwrap_or_default();
    // Behind the question, so that the description of a tool is not taken for a call.
    let call = call.rfind(QUESTION).map_or("", |at| &call[at..]);
    let source = template.source();
    let marks = [call, told.as_deref().unwrap_or_default(), &source].into_iter().find_map(Syntax::by_marks);
    let syntax = marks.or_else(|| Syntax::by_keys(call)).or_else(|| Syntax::by_keys(&source));
    let calls = shape.map(|shape| CallShape {
        beside_text: probe.shows(&shape, WORDS, &[FIRST], &[WORDS, FIRST]),
        several: probe.shows(&shape, "", &[FIRST, SECOND], &[FIRST, SECOND]),
        ..shape
    });
    let shows_results = calls.as_ref().is_some_and(|shape| probe.shows(shape, "", &[FIRST], &[RESULT]));
    Abilities {
        syntax: syntax.unwrap_or(&HERMES),
        has_form: syntax.is_some(),
        shows_tools: told.is_some() && syntax.is_some(),
        calls,
        shows_results,
        shows_system,
    }
}

/// A prompt that tells of the tools: the template renders another one without them.
fn told_of_tools(template: &ChatTemplate, tools: &[Value], chats: &[Vec<Value>]) -> Option<String> {
    chats.iter().find_map(|chat| {
        let with = template.render(chat, Some(tools)).ok()?;
        let without = template.render(chat, None).ok();
        (without.as_ref() != Some(&with) && with.contains(FIRST)).then_some(with)
    })
}

struct Probe<'a> {
    template: &'a ChatTemplate,
    tools: Option<&'a [Value]>,
}

impl Probe<'_> {
    /// The shape in which calls are seen best.
    fn shape(&self) -> Option<CallShape> {
        for short_ids in [false, true] {
            let shapes = [(false, true), (false, false), (true, true), (true, false)].map(|(text, null)| CallShape {
                text_arguments: text,
                null_content: null,
                short_ids,
                ..CallShape::default()
            });
            let seen = shapes.into_iter().filter_map(|shape| {
                let text = self.call(&shape)?;
                // Content that is not there must not be printed as `None`.
                let nothings = text.to_lowercase().matches("none").count() + text.matches("null").count();
                Some((nothings, shape))
            });
            if let Some((_, best)) = seen.min_by_key(|(nothings, _)| *nothings) {
                return Some(best);
            }
        }
        None
    }

    /// A chat with a call in it, if the call can be seen there.
    fn call(&self, shape: &CallShape) -> Option<String> {
        let with_result = chat(shape, "", &[FIRST]);
        let chats = [&with_result[..], &with_result[..2]];
        chats.into_iter().find_map(|chat| {
            let text = self.template.render(chat, self.tools).ok()?;
            let behind = text.rfind(QUESTION).map_or("", |at| &text[at..]);
            let is_seen = behind.contains(FIRST) && behind.contains(VALUE) && !behind.contains("\\\"needle");
            is_seen.then_some(text)
        })
    }

    fn shows(&self, shape: &CallShape, words: &str, calls: &[&str], expected: &[&str]) -> bool {
        let rendered = self.template.render(&chat(shape, words, calls), self.tools);
        rendered.is_ok_and(|text| {
            let behind = text.rfind(QUESTION).map_or("", |at| &text[at..]);
            expected.iter().all(|part| behind.contains(part))
        })
    }
}

/// A question, calls of these tools, and their results.
fn chat(shape: &CallShape, words: &str, calls: &[&str]) -> Vec<Value> {
    let id = |at: usize| if shape.short_ids { format!("probe000{at}") } else { format!("call_0123456789abcdef{at}") };
    let arguments = json!({"needle": VALUE});
    let arguments = if shape.text_arguments { json!(crate::json::dumps(&arguments)) } else { arguments };
    let call = |(at, name): (usize, &&str)| json!({"id": id(at), "type": "function", "function": {"name": name, "arguments": arguments}});
    let content = if words.is_empty() && shape.null_content { Value::Null } else { json!(words) };
    let tool_calls: Value = calls.iter().enumerate().map(call).collect();
    let mut chat = vec![
        json!({"role": "user", "content": QUESTION}),
        json!({"role": "assistant", "content": content, "tool_calls": tool_calls}),
    ];
    chat.extend(
        calls
            .iter()
            .enumerate()
            .map(|(at, name)| json!({"role": "tool", "content": RESULT, "tool_call_id": id(at), "name": name})),
    );
    chat
}

fn tool(name: &str) -> Value {
    let parameters = json!({"type": "object", "properties": {"needle": {"type": "string", "description": "d"}}, "required": ["needle"]});
    json!({"type": "function", "function": {"name": name, "description": "Probes.", "parameters": parameters}})
}
