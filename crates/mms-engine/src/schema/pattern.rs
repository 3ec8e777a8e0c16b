//! Regular expressions as JSON schemas write them (those of JavaScript), for the inside of a JSON string. A pattern holds when any part
//! of the string fits it, so where it is not anchored, anything may stand before or behind.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::text;
use super::text::plain;
use crate::grammar::Expr;

const MOST_BYTES: usize = 10_000;

/// What may stand between the quotes; the error says what about the expression is beyond a grammar.
pub(super) fn characters(expression: &str) -> Result<Expr, String> {
    if expression.len() > MOST_BYTES {
        return Err(format!("it is longer than {MOST_BYTES} bytes"));
    }
    let mut parser = ParserBuilder::new().nest_limit(100).build();
    let hir = parser.parse(&ascii_classes(expression)).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it cannot be read".to_owned(),
    })?;
    anchored(&hir)
}

/// In JavaScript these classes are of ASCII.
fn ascii_classes(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len());
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            other => {
                out.push('\\');
                out.extend(other);
            }
        }
    }
    out
}

fn anchored(hir: &Hir) -> Result<Expr, String> {
    let parts: Vec<&Hir> = match hir.kind() {
        HirKind::Alternation(choices) => {
            return Ok(Expr::Choice(choices.iter().map(anchored).collect::<Result<_, _>>()?));
        }
        HirKind::Capture(capture) => return anchored(&capture.sub),
        HirKind::Concat(parts) => parts.iter().collect(),
        _ => vec![hir],
    };
    let is = |part: Option<&&Hir>, look: Look| part.is_some_and(|part| *part.kind() == HirKind::Look(look));
    let (from_start, to_end) = (is(parts.first(), Look::Start), is(parts.last(), Look::End));
    let mut inner = &parts[usize::from(from_start)..];
    if to_end && !inner.is_empty() {
        inner = &inner[..inner.len() - 1];
    }
    let any = || Expr::Repeat(Box::new(class(&[('\0', char::MAX)])), 0, None);
    let mut exprs = Vec::new();
    if !from_start {
        exprs.push(any());
    }
    for part in inner {
        exprs.push(translate(part)?);
    }
    if !to_end {
        exprs.push(any());
    }
    Ok(Expr::Sequence(exprs))
}

fn translate(hir: &Hir) -> Result<Expr, String> {
    Ok(match hir.kind() {
        HirKind::Empty => Expr::Sequence(Vec::new()),
        HirKind::Literal(literal) => {
            let literal = std::str::from_utf8(&literal.0).map_err(|_| "it is not about characters".to_owned())?;
            Expr::Sequence(literal.chars().map(|character| class(&[(character, character)])).collect())
        }
        HirKind::Class(Class::Unicode(ranges)) => {
            let ranges: Vec<(char, char)> = ranges.iter().map(|range| (range.start(), range.end())).collect();
            if ranges.is_empty() {
                return Err("a class of it is empty".to_owned());
            }
            class(&ranges)
        }
        HirKind::Class(Class::Bytes(ranges)) => {
            let of = |range: &regex_syntax::hir::ClassBytesRange| (char::from(range.start()), char::from(range.end()));
            class(&ranges.iter().map(of).collect::<Vec<_>>())
        }
        HirKind::Look(_) => return Err("an anchor in its middle".to_owned()),
        HirKind::Repetition(repetition) => {
            Expr::Repeat(Box::new(translate(&repetition.sub)?), repetition.min, repetition.max)
        }
        HirKind::Capture(capture) => translate(&capture.sub)?,
        HirKind::Concat(parts) => Expr::Sequence(parts.iter().map(translate).collect::<Result<_, _>>()?),
        HirKind::Alternation(parts) => Expr::Choice(parts.iter().map(translate).collect::<Result<_, _>>()?),
    })
}

/// One character of the ranges: by itself where a JSON string allows that, else escaped.
fn class(ranges: &[(char, char)]) -> Expr {
    let mut themselves = Vec::new();
    for &(from, to) in ranges {
        for (low, high) in plain() {
            let (from, to) = (from.max(low), to.min(high));
            if from <= to {
                themselves.push((from, to));
            }
        }
    }
    let has = |character: char| ranges.iter().any(|(from, to)| (*from..=*to).contains(&character));
    let mut choices = Vec::new();
    if !themselves.is_empty() {
        choices.push(Expr::Class(themselves));
    }
    for code in (0..0x20).chain([0x22, 0x5c]).filter_map(char::from_u32).filter(|&character| has(character)) {
        let escaped = crate::json::dumps(&serde_json::Value::String(code.to_string()));
        choices.push(text(&escaped[1..escaped.len() - 1]));
    }
    Expr::Choice(choices)
}
