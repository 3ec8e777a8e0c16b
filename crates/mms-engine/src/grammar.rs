//! What an answer may look like, as a grammar over bytes; pure code, no llama.cpp. Grammars come from GBNF text ([`gbnf`]) or from
//! JSON schemas ([`crate::schema`]), are compiled into rules over bytes here, and are followed by a [`matcher::Matcher`].
//!
//! Everything about them comes from strangers, so everything has a bound: the size of the text, the size after repetitions are written
//! out, and the work for one token. A rule that begins with itself would never end and is refused.

pub(crate) mod gbnf;
pub(crate) mod matcher;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

use std::collections::HashMap;

use llama_cpp_2::token::LlamaToken;
use regex_syntax::utf8::Utf8Sequences;

/// What a rule stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Exactly this.
    Text(String),
    /// One character of these ranges.
    Class(Vec<(char, char)>),
    /// One byte of these ranges, which need not be part of a character. Never 0xff: it marks tokens.
    Byte(Vec<(u8, u8)>),
    /// One token, whatever its text is.
    Token(LlamaToken),
    /// One token without a text, of those that do not end an answer.
    Textless,
    /// One after the other.
    Sequence(Vec<Expr>),
    /// One of them.
    Choice(Vec<Expr>),
    /// At least so many, and at most.
    Repeat(Box<Expr>, u32, Option<u32>),
    /// What the rule stands for.
    Rule(RuleId),
}

/// A rule of [`Rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleId(usize);

/// Rules by name, to be compiled.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    names: Vec<String>,
    bodies: Vec<Option<Expr>>,
    by_name: HashMap<String, RuleId>,
}

/// Why there is no grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrammarError {
    /// It is written wrongly.
    #[error("line {line} of the grammar: {what}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A name without a rule.
    #[error("the grammar uses the rule `{0}`, but does not define it")]
    Undefined(String),
    /// Nothing to begin with.
    #[error("the grammar has no rule `root`")]
    NoRoot,
    /// The rule can begin with itself.
    #[error(
        "the rule `{0}` of the grammar can begin with itself (left recursion); write it so that something comes before it"
    )]
    LeftRecursion(String),
    /// No text fits.
    #[error("no text can fit the grammar")]
    Nothing,
    /// Over a bound.
    #[error(
        "the grammar is too large with its repetitions written out (more than {MOST_ELEMENTS} elements); reduce its repetitions"
    )]
    TooLarge,
    /// Following it takes too much work.
    #[error("the grammar is too ambiguous to be followed; simplify its nested or neighbouring repetitions")]
    TooAmbiguous,
}

/// A compiled grammar.
#[derive(Debug)]
pub(crate) struct Grammar {
    elements: Vec<Element>,
    sets: Vec<ByteSet>,
    /// For each rule where its alternatives begin.
    alternatives: Vec<Vec<u32>>,
    root: u32,
    /// Tokens that it names.
    tokens: Vec<LlamaToken>,
    /// Somewhere in it a token without a text may come.
    textless: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    /// A byte of the set at this place.
    Byte(u32),
    Rule(u32),
    /// Of an alternative.
    End,
}

/// Bytes as bits.
type ByteSet = [u64; 4];

/// Elements of a compiled grammar: some 3 MB.
const MOST_ELEMENTS: usize = 400_000;

/// Begins the bytes that stand for a token as such; no text contains it.
const TOKEN_MARK: u8 = 0xff;

/// How any token without a text is seen by a grammar. No vocabulary has that many tokens.
const TEXTLESS: [u8; 4] = [TOKEN_MARK; 4];

/// How a token that a grammar names is seen by it.
fn token_bytes(token: LlamaToken) -> [u8; 4] {
    let [_, a, b, c] = token.0.to_be_bytes();
    [TOKEN_MARK, a, b, c]
}

impl Rules {
    /// The rule of this name, which must be defined at some time.
    pub(crate) fn named(&mut self, name: &str) -> RuleId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = RuleId(self.bodies.len());
        self.names.push(name.to_owned());
        self.bodies.push(None);
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// A rule without a name that anybody could know, to be defined.
    pub(crate) fn fresh(&mut self) -> RuleId {
        let id = RuleId(self.bodies.len());
        self.names.push(String::new());
        self.bodies.push(None);
        id
    }

    /// The same with its body.
    pub(crate) fn add(&mut self, body: Expr) -> Expr {
        let id = self.fresh();
        self.define(id, body);
        Expr::Rule(id)
    }

    pub(crate) fn is_defined(&self, rule: RuleId) -> bool {
        self.bodies[rule.0].is_some()
    }

    /// Of several definitions the last counts.
    pub(crate) fn define(&mut self, rule: RuleId, body: Expr) {
        self.bodies[rule.0] = Some(body);
    }

    /// Compiles what can be reached; `root` is where texts begin.
    pub(crate) fn compile(&self, root: RuleId) -> Result<Grammar, GrammarError> {
        let mut compiler = Compiler {
            elements: Vec::new(),
            sets: Vec::new(),
            set_index: HashMap::new(),
            classes: HashMap::new(),
            alternatives: vec![Vec::new(); self.bodies.len()],
            names: self.names.clone(),
            tokens: Vec::new(),
            textless: false,
        };
        for (index, body) in self.bodies.iter().enumerate() {
            let Some(body) = body else { return Err(GrammarError::Undefined(self.names[index].clone())) };
            compiler.rule(index, body)?;
        }
        compiler.check_left_recursion()?;
        let Compiler { elements, sets, alternatives, mut tokens, textless, .. } = compiler;
        tokens.sort_unstable();
        tokens.dedup();
        let grammar = Grammar { elements, sets, alternatives, root: index(root.0), tokens, textless };
        Ok(grammar)
    }
}

struct Compiler {
    elements: Vec<Element>,
    sets: Vec<ByteSet>,
    set_index: HashMap<ByteSet, u32>,
    /// Rules of classes of characters that are more than a byte.
    classes: HashMap<Vec<(char, char)>, Element>,
    alternatives: Vec<Vec<u32>>,
    /// Of the rule that each rule belongs to.
    names: Vec<String>,
    tokens: Vec<LlamaToken>,
    textless: bool,
}

impl Compiler {
    fn rule(&mut self, rule: usize, body: &Expr) -> Result<(), GrammarError> {
        let one = std::slice::from_ref(body);
        let choices = if let Expr::Choice(choices) = body { choices.as_slice() } else { one };
        for choice in choices {
            let mut sequence = Vec::new();
            self.sequence(rule, choice, &mut sequence)?;
            self.alternative(rule, &sequence)?;
        }
        Ok(())
    }

    fn alternative(&mut self, rule: usize, sequence: &[Element]) -> Result<(), GrammarError> {
        self.alternatives[rule].push(index(self.elements.len()));
        self.elements.extend_from_slice(sequence);
        self.elements.push(Element::End);
        self.check_size(0)
    }

    fn check_size(&self, more: usize) -> Result<(), GrammarError> {
        if self.elements.len() + more > MOST_ELEMENTS { Err(GrammarError::TooLarge) } else { Ok(()) }
    }

    /// A rule without a name of its own.
    fn new_rule(&mut self, of: usize) -> usize {
        self.alternatives.push(Vec::new());
        self.names.push(self.names[of].clone());
        self.alternatives.len() - 1
    }

    fn sequence(&mut self, rule: usize, expr: &Expr, out: &mut Vec<Element>) -> Result<(), GrammarError> {
        match expr {
            Expr::Text(text) => self.bytes(text.as_bytes(), out),
            Expr::Byte(ranges) => {
                let mut bytes = [0; 4];
                ranges.iter().for_each(|&(from, to)| (from..=to).for_each(|byte| insert(&mut bytes, byte)));
                out.push(Element::Byte(self.set(bytes)));
            }
            Expr::Token(token) => {
                self.tokens.push(*token);
                self.bytes(&token_bytes(*token), out);
            }
            Expr::Textless => {
                self.textless = true;
                self.bytes(&TEXTLESS, out);
            }
            Expr::Class(ranges) => {
                let element = self.class(rule, ranges)?;
                out.push(element);
            }
            Expr::Sequence(parts) => {
                for part in parts {
                    self.sequence(rule, part, out)?;
                }
            }
            Expr::Choice(_) => {
                let new = self.new_rule(rule);
                self.rule(new, expr)?;
                out.push(Element::Rule(index(new)));
            }
            Expr::Repeat(what, least, most) => self.repeat(rule, what, (*least, *most), out)?,
            Expr::Rule(id) => out.push(Element::Rule(index(id.0))),
        }
        self.check_size(out.len())
    }

    fn bytes(&mut self, bytes: &[u8], out: &mut Vec<Element>) {
        for &byte in bytes {
            out.push(Element::Byte(self.set(single(byte))));
        }
    }

    /// `x{2,4}` is `x x rest2`, with `rest2 ::= x rest1 |` and `rest1 ::= x |`; without an end it is `rest ::= x rest |`.
    fn repeat(
        &mut self,
        rule: usize,
        what: &Expr,
        (least, most): (u32, Option<u32>),
        out: &mut Vec<Element>,
    ) -> Result<(), GrammarError> {
        let mut body = Vec::new();
        self.sequence(rule, what, &mut body)?;
        if body.len() > 1 {
            let new = self.new_rule(rule);
            self.alternative(new, &body)?;
            body = vec![Element::Rule(index(new))];
        }
        let Some(&one) = body.first() else { return Ok(()) };
        let least = least as usize;
        self.check_size(out.len() + least)?;
        out.extend(std::iter::repeat_n(one, least));
        let rest = match most {
            None => {
                let rest = self.new_rule(rule);
                self.alternative(rest, &[one, Element::Rule(index(rest))])?;
                self.alternative(rest, &[])?;
                Some(rest)
            }
            Some(most) => {
                let mut rest = None;
                for _ in least..most as usize {
                    let new = self.new_rule(rule);
                    match rest {
                        None => self.alternative(new, &[one])?,
                        Some(rest) => self.alternative(new, &[one, Element::Rule(index(rest))])?,
                    }
                    self.alternative(new, &[])?;
                    rest = Some(new);
                }
                rest
            }
        };
        out.extend(rest.map(|rest| Element::Rule(index(rest))));
        Ok(())
    }

    fn class(&mut self, rule: usize, ranges: &[(char, char)]) -> Result<Element, GrammarError> {
        if let Some(&known) = self.classes.get(ranges) {
            return Ok(known);
        }
        let mut single_bytes = [0; 4];
        let mut longer = Vec::new();
        for &(from, to) in ranges {
            for sequence in Utf8Sequences::new(from, to) {
                match sequence.as_slice() {
                    [range] => (range.start..=range.end).for_each(|byte| insert(&mut single_bytes, byte)),
                    ranges => longer.push(ranges.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()),
                }
            }
        }
        let element = if longer.is_empty() {
            Element::Byte(self.set(single_bytes))
        } else {
            let new = self.new_rule(rule);
            if single_bytes != [0; 4] {
                let set = self.set(single_bytes);
                self.alternative(new, &[Element::Byte(set)])?;
            }
            for sequence in longer {
                let mut bytes = Vec::new();
                for (from, to) in sequence {
                    let mut set = [0; 4];
                    (from..=to).for_each(|byte| insert(&mut set, byte));
                    bytes.push(Element::Byte(self.set(set)));
                }
                self.alternative(new, &bytes)?;
            }
            Element::Rule(index(new))
        };
        self.classes.insert(ranges.to_vec(), element);
        Ok(element)
    }

    fn set(&mut self, set: ByteSet) -> u32 {
        let next = index(self.sets.len());
        *self.set_index.entry(set).or_insert_with(|| {
            self.sets.push(set);
            next
        })
    }

    /// A matcher keeps a stack of what is still to come. It would grow without end where a rule can begin with itself and something is
    /// to come after that; where nothing is, the stack stays as it is.
    fn check_left_recursion(&self) -> Result<(), GrammarError> {
        let edges = self.beginnings();
        let component = components(&edges);
        for (from, edges) in edges.iter().enumerate() {
            if edges.iter().any(|&(to, grows)| grows && component[to] == component[from]) {
                return Err(GrammarError::LeftRecursion(self.names[from].clone()));
            }
        }
        Ok(())
    }

    /// For each rule the rules with which it can begin, and whether something comes after them.
    fn beginnings(&self) -> Vec<Vec<(usize, bool)>> {
        let empty = self.can_be_empty();
        let mut edges = vec![Vec::new(); self.alternatives.len()];
        for (rule, alternatives) in self.alternatives.iter().enumerate() {
            for &start in alternatives {
                for pair in self.elements[start as usize..].windows(2) {
                    let Element::Rule(to) = pair[0] else { break };
                    edges[rule].push((to as usize, pair[1] != Element::End));
                    if !empty[to as usize] {
                        break;
                    }
                }
            }
        }
        edges
    }

    fn can_be_empty(&self) -> Vec<bool> {
        // Whoever waits for a rule is looked at again when that turns out to be one that can be empty.
        let mut users = vec![Vec::new(); self.alternatives.len()];
        let mut todo = Vec::new();
        for (rule, alternatives) in self.alternatives.iter().enumerate() {
            for &start in alternatives {
                let body = self.elements[start as usize..].iter().take_while(|element| **element != Element::End);
                for element in body {
                    let Element::Rule(used) = element else { break };
                    users[*used as usize].push(rule);
                }
            }
            todo.push(rule);
        }
        let mut empty = vec![false; self.alternatives.len()];
        while let Some(rule) = todo.pop() {
            let is_empty = |start: &u32| {
                let body = self.elements[*start as usize..].iter().take_while(|element| **element != Element::End);
                let mut body = body;
                body.all(|element| matches!(element, Element::Rule(used) if empty[*used as usize]))
            };
            if !empty[rule] && self.alternatives[rule].iter().any(is_empty) {
                empty[rule] = true;
                todo.extend(&users[rule]);
            }
        }
        empty
    }
}

/// The strongly connected component of each node, without recursion: grammars can be deep.
fn components(edges: &[Vec<(usize, bool)>]) -> Vec<usize> {
    let mut order = Vec::with_capacity(edges.len());
    let mut seen = vec![false; edges.len()];
    for start in 0..edges.len() {
        let mut path = if seen[start] { Vec::new() } else { vec![(start, 0)] };
        seen[start] = true;
        while let Some((node, next)) = path.last_mut() {
            match edges[*node].get(*next) {
                Some(&(to, _)) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[to], true) {
                        path.push((to, 0));
                    }
                }
                None => {
                    order.push(*node);
                    path.pop();
                }
            }
        }
    }
    let mut reversed = vec![Vec::new(); edges.len()];
    for (from, edges) in edges.iter().enumerate() {
        edges.iter().for_each(|&(to, _)| reversed[to].push(from));
    }
    let mut component = vec![usize::MAX; edges.len()];
    for &start in order.iter().rev() {
        let mut todo = vec![start];
        while let Some(node) = todo.pop() {
            if component[node] == usize::MAX {
                component[node] = start;
                todo.extend(&reversed[node]);
            }
        }
    }
    component
}

fn single(byte: u8) -> ByteSet {
    let mut set = [0; 4];
    insert(&mut set, byte);
    set
}

fn insert(set: &mut ByteSet, byte: u8) {
    set[usize::from(byte >> 6)] |= 1 << (byte & 63);
}

fn contains(set: &ByteSet, byte: u8) -> bool {
    set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
}

/// Sizes are bounded far below this.
fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
