//! The grammar of an answer in which tools may, or must, be called: text, then calls as the model's own way of writing them wants,
//! with arguments of the tools' schemas. Where a call has begun it goes on as one; after calls there is no more text.

use mms_protocol::generate::{Tool, ToolChoice, Tools};
use serde_json::{Map, Value, json};

use super::cursor::is_text;
use super::syntax::{Delimiters, ID, Part, Syntax};
use super::trigger::{self, Kind, at_start, until};
use crate::grammar::{Expr, Grammar};
use crate::schema::{Builder, Rigor, SchemaError, Spacing};

/// Calls in one answer: a model that is at a loss never ends them by itself.
pub(super) const MOST_CALLS: u32 = 32;

/// Compiles it; the error is one line for a person. `several`: the chat template can show a message with several calls.
pub(crate) fn grammar(tools: &Tools, syntax: &Syntax, several: bool) -> Result<Grammar, String> {
    let is_offered = |tool: &&Tool| match &tools.choice {
        ToolChoice::Named(name) => *name == tool.name,
        ToolChoice::Auto | ToolChoice::Required | ToolChoice::None => true,
    };
    let offered: Vec<(&Tool, Value)> =
        tools.list.iter().filter(is_offered).map(|tool| Ok((tool, schema_of(tool)?))).collect::<Result<_, String>>()?;
    let mut calls = Calls { builder: Builder::new(Rigor::Relax, Spacing::Fixed), syntax, space: None };
    let mut tails = Vec::new();
    for (tool, schema) in &offered {
        tails.push(calls.tail(tool, schema)?);
    }
    let is_named = matches!(tools.choice, ToolChoice::Named(_));
    let one = !tools.parallel || !several || is_named;
    let root = calls.root(&tails, one, tools.choice != ToolChoice::Auto);
    let mut rules = calls.builder.rules;
    let start = rules.named("root");
    rules.define(start, root);
    rules.compile(start).map_err(|error| format!("the tools: {error}"))
}

/// The schema of the arguments: always one of an object. Without properties it means an object without any.
fn schema_of(tool: &Tool) -> Result<Value, String> {
    let mut schema = tool.parameters.as_object().cloned().unwrap_or_default();
    match schema.get("type") {
        None => {
            schema.insert("type".to_owned(), json!("object"));
        }
        Some(kind) if kind == "object" => {}
        Some(kind) => {
            return Err(format!("the parameters of the tool {} must be of the type object, not {kind}", tool.name));
        }
    }
    let has_none = schema.get("properties").and_then(Value::as_object).is_some_and(Map::is_empty);
    if has_none && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    Ok(Value::Object(schema))
}

/// What comes after the name of a tool in its call.
struct Tail {
    name: String,
    /// All of it.
    all: Expr,
    /// Without its first text.
    behind: Expr,
}

struct Calls<'a> {
    builder: Builder<'a>,
    syntax: &'a Syntax,
    space: Option<Expr>,
}

impl<'a> Calls<'a> {
    fn root(&mut self, tails: &[Tail], one: bool, must: bool) -> Expr {
        let syntax = self.syntax;
        let (head, behind_name) = around_name(syntax);
        let named = tails.iter().map(|tail| Expr::Sequence(vec![text(&tail.name), tail.all.clone()])).collect();
        let named = self.builder.rules.add(Expr::Choice(named));
        let rest = self.rest(head, &named, one);
        if must {
            // Some vocabularies begin an answer with a space.
            let space = Expr::Choice(vec![nothing(), text(" "), text("\n")]);
            let open = self.spaced(syntax.open);
            let head = self.parts(head);
            return Expr::Sequence(vec![space, open, head, named, rest]);
        }
        let mut words = Vec::new();
        for word in syntax.triggers {
            let Some((left, parts)) = trigger::after(word, syntax.open, head) else { continue };
            let begun = vec![self.spaced(left), self.parts(parts), named.clone(), rest.clone()];
            words.push((*word, self.builder.rules.add(Expr::Sequence(begun))));
        }
        let head = head.iter().find_map(|part| if let Part::Text(text) = *part { Some(text) } else { None });
        let (Some(head), Some(Part::Text(end)), true) = (head, behind_name.first(), syntax.whole_answer) else {
            return until(&mut self.builder.rules, &words, Kind::Answer);
        };
        // The name must have ended: that of another tool may begin with it.
        let mut names = Vec::new();
        for tail in tails {
            let begun = vec![self.spaced(end.trim_start_matches('"')), tail.behind.clone(), rest.clone()];
            names.push((format!("{}\"", tail.name), self.builder.rules.add(Expr::Sequence(begun))));
        }
        let names: Vec<(&str, Expr)> = names.iter().map(|(name, tail)| (name.as_str(), tail.clone())).collect();
        at_start(&mut self.builder.rules, head, &names, &words)
    }

    /// What comes after the first call.
    fn rest(&mut self, head: &[Part], named: &Expr, one: bool) -> Expr {
        let syntax = self.syntax;
        let close = self.spaced(syntax.close);
        let more = match syntax.between.filter(|_| !one) {
            None => nothing(),
            Some(between) => {
                let another = vec![self.spaced(between), self.parts(head), named.clone()];
                let another = self.builder.rules.add(Expr::Sequence(another));
                Expr::Repeat(Box::new(another), 0, Some(MOST_CALLS - 1))
            }
        };
        self.builder.rules.add(Expr::Sequence(vec![more, close]))
    }

    fn tail(&mut self, tool: &Tool, schema: &'a Value) -> Result<Tail, String> {
        let (_, parts) = around_name(self.syntax);
        let mut sequence = Vec::new();
        for part in parts {
            sequence.push(match *part {
                Part::Arguments => {
                    self.builder.document(schema).map_err(|error| format!("tool {}: {error}", tool.name))?
                }
                Part::Parameters(delimiters) => {
                    self.parameters(schema, delimiters).map_err(|error| format!("tool {}: {error}", tool.name))?
                }
                Part::Text(_) | Part::Optional(_) | Part::Id | Part::Name => self.part(*part),
            });
        }
        let behind = sequence.split_off(sequence.len().min(1));
        let behind = self.builder.rules.add(Expr::Sequence(behind));
        sequence.push(behind.clone());
        let all = self.builder.rules.add(Expr::Sequence(sequence));
        Ok(Tail { name: tool.name.clone(), all, behind })
    }

    /// Arguments in the order of the schema, those that are not required with or without.
    fn parameters(&mut self, schema: &'a Value, delimiters: Delimiters) -> Result<Expr, SchemaError> {
        self.builder.enter(schema);
        let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        if properties.is_empty() && schema.get("additionalProperties") == Some(&Value::Bool(false)) {
            return Ok(nothing());
        }
        let mut sequence = Vec::new();
        for (name, property) in &properties {
            let value = self.value(name, property, delimiters)?;
            let one = self.parameter(text(name), value, delimiters);
            let is_required = required.iter().any(|other| other == name);
            sequence.push(if is_required { one } else { Expr::Repeat(Box::new(one), 0, Some(1)) });
        }
        if properties.is_empty() {
            let letters = Expr::Class(vec![('-', '-'), ('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]);
            let name = Expr::Repeat(Box::new(letters), 1, Some(64));
            let value = until(&mut self.builder.rules, &[(delimiters.after.trim(), nothing())], Kind::Value);
            let one = self.parameter(name, value, delimiters);
            sequence.push(Expr::Repeat(Box::new(one), 0, None));
        }
        Ok(self.builder.rules.add(Expr::Sequence(sequence)))
    }

    fn parameter(&mut self, name: Expr, value: Expr, delimiters: Delimiters) -> Expr {
        let Delimiters { before, between, after } = delimiters;
        let behind = &after[after.trim_end().len()..];
        let parts = vec![self.spaced(before), name, self.spaced(between.trim_end()), value, self.spaced(behind)];
        self.builder.rules.add(Expr::Sequence(parts))
    }

    /// A value with what comes between it and the delimiters, and the delimiter behind it.
    fn value(&mut self, name: &str, property: &Value, delimiters: Delimiters) -> Result<Expr, SchemaError> {
        let Delimiters { between, after, .. } = delimiters;
        let before = text(&between[between.trim_end().len()..]);
        let end = text(after.trim_end());
        if !is_text(property) {
            let value = self.builder.part(property, &format!("/properties/{name}"))?;
            return Ok(Expr::Sequence(vec![before, value, end]));
        }
        let listed = match (property.get("enum"), property.get("const")) {
            (Some(Value::Array(values)), _) => values.iter().filter_map(Value::as_str).map(text).collect(),
            (_, Some(Value::String(value))) => vec![text(value)],
            _ => Vec::new(),
        };
        if !listed.is_empty() {
            return Ok(Expr::Sequence(vec![before, Expr::Choice(listed), end]));
        }
        let limit = |key: &str| property.get(key).and_then(Value::as_u64).and_then(|limit| u32::try_from(limit).ok());
        let (least, most) = (limit("minLength").unwrap_or(0), limit("maxLength"));
        let most = most.filter(|most| *most >= least);
        if least > 0 || most.is_some() {
            // Without the sign that could begin the delimiter.
            let character = Expr::Class(vec![('\0', ';'), ('=', char::MAX)]);
            let characters = Expr::Repeat(Box::new(character), least, most);
            return Ok(Expr::Sequence(vec![before, characters, end]));
        }
        let value = until(&mut self.builder.rules, &[(after.trim(), nothing())], Kind::Value);
        Ok(Expr::Sequence(vec![before, value]))
    }

    fn parts(&mut self, parts: &[Part]) -> Expr {
        Expr::Sequence(parts.iter().map(|part| self.part(*part)).collect())
    }

    fn part(&mut self, part: Part) -> Expr {
        match part {
            Part::Text(text) => self.spaced(text),
            Part::Optional(text) => {
                let whole = self.spaced(text);
                Expr::Repeat(Box::new(whole), 0, Some(1))
            }
            Part::Id => {
                let letters = Expr::Class(vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]);
                let id = vec![self.spaced(ID), Expr::Repeat(Box::new(letters), 1, Some(64)), text("\"")];
                Expr::Repeat(Box::new(Expr::Sequence(id)), 0, Some(1))
            }
            // These depend on the tool.
            Part::Name | Part::Arguments | Part::Parameters(_) => nothing(),
        }
    }

    /// A text in which white space may be written in any way.
    fn spaced(&mut self, pattern: &str) -> Expr {
        let mut sequence = Vec::new();
        for (index, word) in pattern.split(|c: char| c.is_ascii_whitespace()).enumerate() {
            if index > 0 {
                sequence.push(self.space());
            }
            if !word.is_empty() {
                sequence.push(text(word));
            }
        }
        Expr::Sequence(sequence)
    }

    /// Bounded, as white space in JSON is.
    fn space(&mut self) -> Expr {
        if let Some(space) = &self.space {
            return space.clone();
        }
        let blank = Expr::Class(vec![('\t', '\t'), (' ', ' ')]);
        let indented = Expr::Sequence(vec![text("\n"), Expr::Repeat(Box::new(blank), 0, Some(8))]);
        let space = self.builder.rules.add(Expr::Choice(vec![nothing(), text(" "), indented]));
        self.space = Some(space.clone());
        space
    }
}

/// The parts before the tool's name, and those behind it.
fn around_name(syntax: &Syntax) -> (&'static [Part], &'static [Part]) {
    let name = syntax.call.iter().position(|part| *part == Part::Name).unwrap_or(0);
    (&syntax.call[..name], &syntax.call[name + 1..])
}

fn text(text: &str) -> Expr {
    Expr::Text(text.to_owned())
}

fn nothing() -> Expr {
    Expr::Sequence(Vec::new())
}
