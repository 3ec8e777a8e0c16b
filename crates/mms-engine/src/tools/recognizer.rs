//! Tells calls of tools from text while an answer comes in. Text leaves at once; what may become a call is held back until it is one,
//! or turns out to be text after all, also at the end of an answer. What comes out does not depend on how the answer was cut.
//!
//! White space before, between and behind calls is no part of the text.

use std::sync::Arc;

use mms_protocol::generate::Tool;

use super::cursor::{Cursor, Found};
use super::syntax::{Part, Syntax};
use crate::text::possible_start;

/// What has become of a part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// It is text.
    Text(String),
    /// So many bytes are part of calls, or white space beside them.
    Taken(usize),
    /// A tool is called, the arguments are whole. Its bytes were taken before.
    Call {
        /// One of the tools.
        name: String,
        /// A JSON object.
        arguments: String,
    },
}

/// An answer in which tools may be called.
#[derive(Debug)]
pub(crate) struct Recognizer {
    syntax: &'static Syntax,
    tools: Arc<[Tool]>,
    /// Held back.
    held: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So far nothing that is not white space, and the whole answer may be a call.
    Start,
    Text,
    /// `held` may be a call, from the cursor's beginning on.
    Call(Box<Cursor>),
    /// A call has ended; another one may follow, and no text.
    Between,
}

impl Recognizer {
    pub(crate) fn new(syntax: &'static Syntax, tools: Arc<[Tool]>) -> Self {
        let state = if syntax.whole_answer { State::Start } else { State::Text };
        Self { syntax, tools, held: String::new(), state }
    }

    /// Takes more of the answer.
    pub(crate) fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        self.held.push_str(text);
        while self.advance(pieces, false) {}
    }

    /// Nothing follows: what is no whole call is text.
    pub(crate) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        while self.advance(pieces, true) {}
    }

    /// One change of state. False: there is nothing more to say.
    fn advance(&mut self, pieces: &mut Vec<Piece>, at_end: bool) -> bool {
        match &mut self.state {
            State::Start => self.start(pieces, at_end),
            State::Text => self.text(pieces, at_end),
            State::Between => self.between(pieces, at_end),
            State::Call(cursor) => {
                let found = cursor.advance(&self.held, &self.tools, at_end);
                self.found(found, pieces)
            }
        }
    }

    fn start(&mut self, pieces: &mut Vec<Piece>, at_end: bool) -> bool {
        let begin = self.held.len() - self.held.trim_start().len();
        let is_call = match (self.held.as_bytes().get(begin), self.syntax.call) {
            (None, _) if !at_end => return false,
            (None, _) => false,
            (Some(&first), call) => {
                call.iter().any(|part| matches!(part, Part::Text(text) if text.as_bytes()[0] == first))
            }
        };
        self.state = if is_call { State::Call(Box::new(Cursor::new(self.syntax, begin))) } else { State::Text };
        is_call || self.text(pieces, at_end)
    }

    fn text(&mut self, pieces: &mut Vec<Piece>, at_end: bool) -> bool {
        let triggers = self.syntax.triggers;
        let first = triggers.iter().filter_map(|trigger| self.held.find(trigger)).min();
        let held = match first {
            Some(begin) => begin,
            None if at_end => self.held.len(),
            None => {
                let may_begin = triggers.iter().map(|trigger| possible_start(&self.held, trigger)).max();
                self.held.len() - may_begin.unwrap_or(0)
            }
        };
        let text = if first.is_none() && at_end { self.held.len() } else { self.held[..held].trim_end().len() };
        self.say(text, pieces);
        if let Some(begin) = first {
            self.state = State::Call(Box::new(Cursor::new(self.syntax, begin - text)));
        }
        first.is_some()
    }

    fn between(&mut self, pieces: &mut Vec<Piece>, at_end: bool) -> bool {
        let begin = self.held.len() - self.held.trim_start().len();
        if begin < self.held.len() {
            self.state = State::Text;
            return true;
        }
        if at_end {
            self.take(begin, pieces);
        }
        false
    }

    fn found(&mut self, found: Found, pieces: &mut Vec<Piece>) -> bool {
        match found {
            Found::Nothing => false,
            Found::Call { name, arguments, end } => {
                self.take(end, pieces);
                if let State::Call(cursor) = &mut self.state {
                    cursor.taken(end);
                }
                pieces.push(Piece::Call { name, arguments });
                true
            }
            Found::End { end } => {
                self.take(end, pieces);
                self.state = State::Between;
                true
            }
            Found::NoCall { begin } => {
                // What it began with is text; behind that one may begin.
                let first = self.held[begin..].chars().next().map_or(0, char::len_utf8);
                self.say(begin + first, pieces);
                self.state = State::Text;
                true
            }
        }
    }

    fn say(&mut self, bytes: usize, pieces: &mut Vec<Piece>) {
        if bytes == 0 {
            return;
        }
        let text = self.held.drain(..bytes);
        match pieces.last_mut() {
            Some(Piece::Text(before)) => before.extend(text),
            _ => pieces.push(Piece::Text(text.collect())),
        }
    }

    fn take(&mut self, bytes: usize, pieces: &mut Vec<Piece>) {
        if bytes > 0 {
            self.held.drain(..bytes);
            pieces.push(Piece::Taken(bytes));
        }
    }
}
