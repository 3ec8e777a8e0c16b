//! Keeps an answer within a grammar: says of a token whether it may come next, of all tokens which may, and takes note of the one that
//! came. Tokens are checked one by one as long as the model chooses such as fit by itself; only when it does not are all of them looked at.

use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;
use mms_protocol::generate::Constraint;
use serde_json::json;

use crate::grammar::gbnf::{self, TokenNamed};
use crate::grammar::matcher::{Matcher, Place};
use crate::grammar::tokens::{TokenSet, Tokens};
use crate::grammar::{Grammar, GrammarError};
use crate::schema::{Builder, Rigor, Spacing};

/// Compiles what the caller asked for; the error is one line for a person.
pub(crate) fn grammar(constraint: &Constraint, token_named: TokenNamed<'_>) -> Result<Grammar, String> {
    let of_schema = |schema: &serde_json::Value| {
        let mut builder = Builder::new(Rigor::Refuse, Spacing::Free);
        let whole = builder.document(schema).map_err(|error| error.to_string())?;
        let mut rules = builder.rules;
        let root = rules.named("root");
        rules.define(root, whole);
        rules.compile(root).map_err(|error| format!("the schema: {error}"))
    };
    match constraint {
        Constraint::JsonObject => of_schema(&json!({ "type": "object" })),
        Constraint::JsonSchema(schema) => of_schema(schema),
        Constraint::Grammar(text) => gbnf::grammar(text, token_named).map_err(|error| error.to_string()),
    }
}

/// A grammar and how far the answer has followed it.
#[derive(Debug)]
pub(crate) struct Guard {
    matcher: Matcher,
    tokens: Arc<Tokens>,
}

impl Guard {
    pub(crate) fn new(grammar: Grammar, tokens: Arc<Tokens>) -> Result<Self, GrammarError> {
        Ok(Self { matcher: Matcher::new(Arc::new(grammar))?, tokens })
    }

    /// The token may come next.
    pub(crate) fn allows(&mut self, token: LlamaToken) -> Result<bool, GrammarError> {
        Ok(self.tokens.after(token, &mut self.matcher)? != Place::DEAD)
    }

    /// Puts all tokens that may come next into `allowed`.
    pub(crate) fn all_allowed(&mut self, allowed: &mut TokenSet) -> Result<(), GrammarError> {
        self.tokens.all_allowed(&mut self.matcher, allowed)
    }

    /// The token has come; it must be one that is allowed.
    pub(crate) fn accept(&mut self, token: LlamaToken) -> Result<(), GrammarError> {
        let place = self.tokens.after(token, &mut self.matcher)?;
        self.matcher.accept(place);
        Ok(())
    }

    /// Nothing can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.must_end()
    }
}
