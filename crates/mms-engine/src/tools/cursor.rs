//! Follows what may be a call, part by part, as far as it has come.

use mms_protocol::generate::Tool;
use serde_json::{Map, Value};

use super::json::{ObjectScan, Scan};
use super::syntax::{Delimiters, ID, Part, Syntax};
use crate::json::dumps;

/// Longest name of a tool or an argument, bytes.
const MOST_NAME_BYTES: usize = 256;

/// What was found. Places are bytes of what the recognizer holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet.
    Nothing,
    /// A call whose arguments are whole.
    Call { name: String, arguments: String, end: usize },
    /// Calls have ended.
    End { end: usize },
    /// What begins there is no call.
    NoCall { begin: usize },
}

#[derive(Debug)]
pub(super) struct Cursor {
    syntax: &'static Syntax,
    /// Where the call begins that is not whole.
    begin: usize,
    at: usize,
    step: Step,
    name: String,
    arguments: Arguments,
    /// This call has been told of.
    is_told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Open,
    Part(usize),
    After,
}

/// The arguments as far as they have come.
#[derive(Debug, Default)]
struct Arguments {
    scan: ObjectScan,
    /// Bytes behind `at` that were looked at.
    scanned: usize,
    parameters: Map<String, Value>,
    /// Whose value comes.
    parameter: Option<String>,
    /// All of them, JSON.
    whole: Option<String>,
}

/// Why the cursor stands still.
enum Halt {
    /// More must come.
    Wait,
    /// It is not what was expected.
    Wrong,
    /// Nothing more belongs to calls.
    End,
}

enum Match {
    Whole(usize),
    Partial,
    No,
}

impl Cursor {
    pub(super) fn new(syntax: &'static Syntax, begin: usize) -> Self {
        Self {
            syntax,
            begin,
            at: begin,
            step: Step::Open,
            name: String::new(),
            arguments: Arguments::default(),
            is_told: false,
        }
    }

    /// The first `bytes` are held no longer.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.at -= bytes;
        self.begin = self.at;
    }

    pub(super) fn advance(&mut self, held: &str, tools: &[Tool], at_end: bool) -> Found {
        loop {
            match self.one_step(held, tools) {
                Ok(()) => {}
                Err(Halt::Wait) if !at_end => return Found::Nothing,
                // The end of a call that is whole may be missing.
                Err(Halt::Wait) if self.is_told => return Found::End { end: held.len() },
                Err(Halt::Wrong) if self.is_told => return Found::End { end: self.at },
                Err(Halt::End) => return Found::End { end: self.at },
                Err(Halt::Wait | Halt::Wrong) => return Found::NoCall { begin: self.begin },
            }
            if let Some(arguments) = self.arguments.whole.take() {
                self.is_told = true;
                return Found::Call { name: self.name.clone(), arguments, end: self.at };
            }
        }
    }

    fn one_step(&mut self, held: &str, tools: &[Tool]) -> Result<(), Halt> {
        let rest = &held[self.at..];
        let index = match self.step {
            Step::Open => {
                self.at += must(matches(self.syntax.open, rest))?;
                self.step = Step::Part(0);
                return Ok(());
            }
            Step::After => return self.after(rest),
            Step::Part(index) => index,
        };
        let Some(part) = self.syntax.call.get(index) else {
            self.step = Step::After;
            return Ok(());
        };
        match *part {
            Part::Text(text) => self.at += must(matches(text, rest))?,
            Part::Optional(text) => self.at += may(matches(text, rest))?.unwrap_or(0),
            Part::Name => self.name(rest, tools)?,
            Part::Arguments => self.object(rest)?,
            Part::Id => self.id(rest)?,
            Part::Parameters(delimiters) => {
                if self.parameter(rest, delimiters, tools)? {
                    return Ok(());
                }
            }
        }
        if index > 0 && matches!(self.syntax.call[index - 1], Part::Parameters(_)) {
            // Only now there can be no more of them.
            self.arguments.whole = Some(dumps(&Value::Object(std::mem::take(&mut self.arguments.parameters))));
        }
        self.step = Step::Part(index + 1);
        Ok(())
    }

    /// Behind a call: in a list another one or the end, otherwise nothing.
    fn after(&mut self, rest: &str) -> Result<(), Halt> {
        if self.syntax.open.is_empty() {
            return Err(Halt::End);
        }
        if let Some(length) = may(matches(self.syntax.close, rest))? {
            self.at += length;
            return Err(Halt::End);
        }
        let between = self.syntax.between.ok_or(Halt::End)?;
        let length = must(matches(between, rest))?;
        let Self { syntax, at, .. } = *self;
        *self = Self { at: at + length, step: Step::Part(0), ..Self::new(syntax, at) };
        Ok(())
    }

    fn name(&mut self, rest: &str, tools: &[Tool]) -> Result<(), Halt> {
        let text = rest.trim_start();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-';
        let length = text.bytes().take_while(|byte| is_part(byte)).count();
        let name = &text[..length];
        if length == text.len() {
            let may_be = tools.iter().any(|tool| tool.name.starts_with(name));
            return Err(if may_be { Halt::Wait } else { Halt::Wrong });
        }
        if tools.iter().all(|tool| tool.name != name) {
            return Err(Halt::Wrong);
        }
        self.name = name.to_owned();
        self.at += rest.len() - text.len() + length;
        Ok(())
    }

    fn object(&mut self, rest: &str) -> Result<(), Halt> {
        if self.arguments.scanned == 0 {
            let blank = rest.len() - rest.trim_start().len();
            self.at += blank;
        }
        let rest = rest.trim_start();
        for byte in rest.bytes().skip(self.arguments.scanned) {
            self.arguments.scanned += 1;
            match self.arguments.scan.push(byte) {
                Scan::Open => {}
                Scan::Wrong => return Err(Halt::Wrong),
                Scan::Complete => {
                    let text = &rest[..self.arguments.scanned];
                    serde_json::from_str::<Map<String, Value>>(text).map_err(|_| Halt::Wrong)?;
                    self.at += text.len();
                    self.arguments.whole = Some(text.to_owned());
                    return Ok(());
                }
            }
        }
        Err(Halt::Wait)
    }

    fn id(&mut self, rest: &str) -> Result<(), Halt> {
        let Some(length) = may(matches(ID, rest))? else { return Ok(()) };
        let end = rest[length..].find('"').ok_or(Halt::Wait)?;
        self.at += length + end + 1;
        Ok(())
    }

    /// True: there was one, or a part of one. False: there are no more.
    fn parameter(&mut self, rest: &str, delimiters: Delimiters, tools: &[Tool]) -> Result<bool, Halt> {
        let Delimiters { before, between, after } = delimiters;
        if let Some(name) = &self.arguments.parameter {
            let end = after.trim();
            let from = self.arguments.scanned;
            let Some(found) = rest[from..].find(end) else {
                // The end may have begun.
                let mut from = rest.len().saturating_sub(end.len());
                while !rest.is_char_boundary(from) {
                    from -= 1;
                }
                self.arguments.scanned = from;
                return Err(Halt::Wait);
            };
            let length = from + found;
            let mut value = &rest[..length];
            if between.ends_with('\n') {
                value = value.strip_prefix('\n').unwrap_or(value);
            }
            if after.starts_with('\n') {
                value = value.strip_suffix('\n').unwrap_or(value);
            }
            let tool = tools.iter().find(|tool| tool.name == self.name);
            let schema = tool.and_then(|tool| tool.parameters.get("properties")?.get(name));
            let value = typed(value, schema);
            self.arguments.parameters.insert(name.clone(), value);
            self.at += length + end.len();
            self.arguments.scanned = 0;
            self.arguments.parameter = None;
            return Ok(true);
        }
        let Some(length) = may(matches(before, rest))? else { return Ok(false) };
        let rest = &rest[length..];
        let Some(end) = rest.find(['<', '>']) else {
            return Err(if rest.len() > MOST_NAME_BYTES { Halt::Wrong } else { Halt::Wait });
        };
        let name = rest[..end].trim();
        if name.is_empty() || end > MOST_NAME_BYTES {
            return Err(Halt::Wrong);
        }
        let ending = must(matches(between.trim(), &rest[end..]))?;
        self.arguments.parameter = Some(name.to_owned());
        self.at += length + end + ending;
        Ok(true)
    }
}

fn must(found: Match) -> Result<usize, Halt> {
    match found {
        Match::Whole(length) => Ok(length),
        Match::Partial => Err(Halt::Wait),
        Match::No => Err(Halt::Wrong),
    }
}

fn may(found: Match) -> Result<Option<usize>, Halt> {
    match found {
        Match::Whole(length) => Ok(Some(length)),
        Match::Partial => Err(Halt::Wait),
        Match::No => Ok(None),
    }
}

/// Whether `text` begins with `pattern`, in which white space may be written in any way. It may also stand before the pattern.
fn matches(pattern: &str, text: &str) -> Match {
    let mut rest = text;
    for word in pattern.split_ascii_whitespace() {
        rest = rest.trim_start();
        match rest.strip_prefix(word) {
            Some(after) => rest = after,
            None if word.starts_with(rest) => return Match::Partial,
            None => return Match::No,
        }
    }
    Match::Whole(text.len() - rest.len())
}

/// A value that was written without quotes if it is a text.
fn typed(text: &str, schema: Option<&Value>) -> Value {
    let as_text = || Value::String(text.to_owned());
    if schema.is_some_and(is_text) {
        return as_text();
    }
    serde_json::from_str(text.trim()).unwrap_or_else(|_| as_text())
}

/// Values of this schema are texts, and stand as they are.
pub(super) fn is_text(schema: &Value) -> bool {
    let all_text = |values: &Value| values.as_array().is_some_and(|values| values.iter().all(Value::is_string));
    match (schema.get("type"), schema.get("enum"), schema.get("const")) {
        (Some(kind), _, _) => kind == "string",
        (None, Some(values), _) => all_text(values),
        (None, None, Some(value)) => value.is_string(),
        (None, None, None) => ["pattern", "minLength", "maxLength"].iter().any(|key| schema.get(key).is_some()),
    }
}
