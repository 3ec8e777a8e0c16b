//! Text up to a word, as rules of a grammar: the states of an Aho-Corasick automaton over bytes, each a rule. With them an answer may
//! be any text until it begins to call a tool, and must be a call from there on.

use std::collections::VecDeque;

use super::syntax::Part;
use crate::grammar::{Expr, RuleId, Rules};

/// 0xff is in no text and marks tokens in grammars.
const LAST_BYTE: u8 = 0xfe;

/// What text consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer, which may end at any place and have tokens without a text.
    Answer,
    /// Something that must be ended by one of the words.
    Value,
}

struct Node {
    next: Vec<(u8, usize)>,
    fail: usize,
    /// Word that is complete here.
    word: Option<usize>,
}

/// Any text up to the first of `words`, each with what comes after it.
pub(super) fn until(rules: &mut Rules, words: &[(&str, Expr)], kind: Kind) -> Expr {
    Expr::Rule(states(rules, words, kind).root)
}

struct States {
    root: RuleId,
    /// Where a byte leads from the beginning, if not back to it.
    first: Vec<(u8, Expr)>,
}

fn states(rules: &mut Rules, words: &[(&str, Expr)], kind: Kind) -> States {
    let nodes = automaton(words);
    let ids: Vec<RuleId> = nodes.iter().map(|_| rules.fresh()).collect();
    let leads_to = |node: usize| match nodes[node].word {
        Some(word) => words[word].1.clone(),
        None => Expr::Rule(ids[node]),
    };
    for (at, node) in nodes.iter().enumerate().filter(|(_, node)| node.word.is_none()) {
        // Beside its own ways on, a node has those of the ends of its text.
        let mut ways: Vec<(u8, usize)> = node.next.clone();
        let mut fail = at;
        while fail != 0 {
            fail = nodes[fail].fail;
            for &(byte, to) in &nodes[fail].next {
                if ways.iter().all(|(known, _)| *known != byte) {
                    ways.push((byte, to));
                }
            }
        }
        let ways: Vec<(u8, Expr)> = ways.into_iter().map(|(byte, to)| (byte, leads_to(to))).collect();
        let body = state(&ways, &Expr::Rule(ids[0]), Expr::Rule(ids[at]), kind);
        rules.define(ids[at], body);
    }
    for (id, _) in ids.iter().zip(&nodes).filter(|(_, node)| node.word.is_some()) {
        rules.define(*id, Expr::Sequence(Vec::new()));
    }
    let first = nodes[0].next.iter().map(|&(byte, to)| (byte, leads_to(to))).collect();
    States { root: ids[0], first }
}

/// One state: these bytes lead somewhere, all others to `otherwise`.
fn state(ways: &[(u8, Expr)], otherwise: &Expr, here: Expr, kind: Kind) -> Expr {
    let mut choices: Vec<Expr> =
        ways.iter().map(|(byte, to)| Expr::Sequence(vec![Expr::Byte(vec![(*byte, *byte)]), to.clone()])).collect();
    let others: Vec<(u8, u8)> =
        (0..=LAST_BYTE).filter(|byte| ways.iter().all(|(known, _)| known != byte)).map(|byte| (byte, byte)).collect();
    choices.push(Expr::Sequence(vec![Expr::Byte(others), otherwise.clone()]));
    if kind == Kind::Answer {
        choices.push(Expr::Sequence(Vec::new()));
        choices.push(Expr::Sequence(vec![Expr::Textless, here]));
    }
    Expr::Choice(choices)
}

fn automaton(words: &[(&str, Expr)]) -> Vec<Node> {
    let mut nodes = vec![Node { next: Vec::new(), fail: 0, word: None }];
    for (word, (text, _)) in words.iter().enumerate() {
        let mut at = 0;
        for byte in text.bytes() {
            at = match step(&nodes, at, byte) {
                Some(to) => to,
                None => {
                    let new = nodes.len();
                    nodes.push(Node { next: Vec::new(), fail: 0, word: None });
                    nodes[at].next.push((byte, new));
                    new
                }
            };
        }
        nodes[at].word.get_or_insert(word);
    }
    let mut todo: VecDeque<usize> = nodes[0].next.iter().map(|(_, to)| *to).collect();
    while let Some(at) = todo.pop_front() {
        for (byte, to) in nodes[at].next.clone() {
            let mut fail = nodes[at].fail;
            while fail != 0 && step(&nodes, fail, byte).is_none() {
                fail = nodes[fail].fail;
            }
            let fail = step(&nodes, fail, byte).unwrap_or(0);
            nodes[to].fail = fail;
            nodes[to].word = nodes[to].word.or(nodes[fail].word);
            todo.push_back(to);
        }
    }
    nodes
}

fn step(nodes: &[Node], at: usize, byte: u8) -> Option<usize> {
    nodes[at].next.iter().find(|(known, _)| *known == byte).map(|(_, to)| *to)
}

/// An answer that is a call when it begins with `head` and one of `names` (each with what comes after it), and text otherwise;
/// calls begin with `words` wherever they stand.
pub(super) fn at_start(rules: &mut Rules, head: &str, names: &[(&str, Expr)], words: &[(&str, Expr)]) -> Expr {
    let States { root, first } = states(rules, words, Kind::Answer);
    let free = Expr::Rule(root);
    // Names are told apart byte by byte, too.
    let trie = automaton(names);
    let ids: Vec<RuleId> = trie.iter().map(|_| rules.fresh()).collect();
    for (at, node) in trie.iter().enumerate() {
        let lead = |to: usize| Expr::Rule(ids[to]);
        let body = match node.word {
            Some(word) => names[word].1.clone(),
            None => {
                let mut ways: Vec<(u8, Expr)> = node.next.iter().map(|&(byte, to)| (byte, lead(to))).collect();
                with_first(&mut ways, &first);
                state(&ways, &free, Expr::Rule(ids[at]), Kind::Answer)
            }
        };
        rules.define(ids[at], body);
    }
    let mut next = Expr::Rule(ids[0]);
    let mut bytes = head.bytes().rev().peekable();
    while let Some(byte) = bytes.next() {
        let here = rules.fresh();
        let mut may_be_spaced = bytes.peek().is_none();
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {
            may_be_spaced = true;
        }
        let mut ways = vec![(byte, next)];
        if may_be_spaced {
            ways.extend(b" \t\r\n".map(|blank| (blank, Expr::Rule(here))));
        }
        with_first(&mut ways, &first);
        let body = state(&ways, &free, Expr::Rule(here), Kind::Answer);
        rules.define(here, body);
        next = Expr::Rule(here);
    }
    next
}

fn with_first(ways: &mut Vec<(u8, Expr)>, first: &[(u8, Expr)]) {
    for (byte, to) in first {
        if ways.iter().all(|(known, _)| known != byte) {
            ways.push((*byte, to.clone()));
        }
    }
}

/// What of a call's beginning is left after `word`: the rest of a text, and the parts behind it.
pub(super) fn after<'a>(word: &str, open: &'a str, call: &'a [Part]) -> Option<(&'a str, &'a [Part])> {
    if let Some(rest) = open.strip_prefix(word) {
        return Some((rest, call));
    }
    let (first, rest) = call.split_first()?;
    match *first {
        Part::Text(text) if open.is_empty() => text.strip_prefix(word).map(|left| (left, rest)),
        Part::Optional(text) if open.is_empty() => match text.strip_prefix(word) {
            Some(left) => Some((left, rest)),
            None => after(word, open, rest),
        },
        _ => None,
    }
}
