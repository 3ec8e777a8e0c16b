//! Calls of tools: how models write them ([`syntax`]), how an answer is held to that form and to the tools' schemas ([`grammar`]), and
//! how calls are told from text while the answer comes in ([`recognizer`]). Pure code, no llama.cpp. What a chat template is given is in
//! [`crate::chat`].

mod cursor;
mod grammar;
mod json;
mod recognizer;
mod syntax;
#[cfg(test)]
mod tests;
mod trigger;

pub(crate) use grammar::grammar;
pub(crate) use recognizer::{Piece, Recognizer};
pub(crate) use syntax::{HERMES, PastCall, Syntax};

use mms_protocol::generate::ToolCall;

/// A call with an id that no other one has.
pub(crate) fn call(name: String, arguments: String) -> ToolCall {
    ToolCall { id: format!("call_{}", uuid::Uuid::new_v4().simple()), name, arguments }
}
