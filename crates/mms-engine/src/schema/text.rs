//! Strings as JSON writes them.

use serde_json::{Map, Value};

use super::{Builder, SchemaError, Spacing, error, limits, pattern, text};
use crate::grammar::Expr;
use crate::grammar::gbnf::{complement, normalized};

/// Characters that stand for themselves between quotes.
pub(super) fn plain() -> Vec<(char, char)> {
    complement(&normalized(vec![('\0', '\u{1f}'), ('"', '"'), ('\\', '\\')]))
}

impl Builder<'_> {
    pub(super) fn string(&mut self, schema: &Map<String, Value>, path: &str) -> Result<Expr, SchemaError> {
        self.check_keywords(schema, &["type", "minLength", "maxLength", "pattern"], path)?;
        let (least, most) = limits(schema, "minLength", "maxLength", path)?;
        if most.is_some_and(|most| most < least) {
            return Err(error(path, "`minLength` is more than `maxLength`"));
        }
        let has_length = least > 0 || most.is_some();
        if let Some(expression) = schema.get("pattern") {
            let expression = expression.as_str().ok_or_else(|| error(path, "`pattern` must be a string"))?;
            match pattern::characters(expression) {
                Ok(inner) => {
                    if has_length {
                        self.unenforced("a length beside `pattern`", path)?;
                    }
                    return Ok(quoted(inner));
                }
                Err(what) => self.unenforced(&format!("the pattern {expression:?} ({what})"), path)?,
            }
        }
        let format = schema.get("format").and_then(Value::as_str).and_then(format_pattern);
        if let Some(expression) = format.filter(|_| !has_length) {
            return pattern::characters(expression).map(quoted).map_err(|what| error(path, &what));
        }
        if !has_length {
            return Ok(self.any_string());
        }
        let character = self.character();
        Ok(quoted(Expr::Repeat(Box::new(character), least, most)))
    }

    pub(super) fn any_string(&mut self) -> Expr {
        let character = self.character();
        quoted(Expr::Repeat(Box::new(character), 0, None))
    }

    /// One character of a string. With fixed spacing each has one way to be written, so that a text that was read and written again
    /// stays the same.
    fn character(&mut self) -> Expr {
        let rule = self.rules.named("a character");
        if !self.rules.is_defined(rule) {
            let of = |characters: &str| Expr::Class(normalized(characters.chars().map(|c| (c, c)).collect()));
            let hex = || Expr::Class(vec![('0', '9'), ('A', 'F'), ('a', 'f')]);
            let mut choices = vec![Expr::Class(plain())];
            if self.spacing == Spacing::Fixed {
                choices.push(Expr::Sequence(vec![text("\\"), of("\"\\bfnrt")]));
            } else {
                choices.push(Expr::Sequence(vec![text("\\"), of("\"\\/bfnrt")]));
                // Not half of a pair of surrogates, which is no character.
                let low = Expr::Sequence(vec![of("0123456789abcefABCEF"), hex(), hex(), hex()]);
                let d = Expr::Sequence(vec![of("dD"), of("01234567"), hex(), hex()]);
                choices.push(Expr::Sequence(vec![text("\\u"), Expr::Choice(vec![low, d])]));
            }
            self.rules.define(rule, Expr::Choice(choices));
        }
        Expr::Rule(rule)
    }

    /// A property's name that is none of `names`; of characters that stand for themselves.
    pub(super) fn other_name(&mut self, names: &[String]) -> Expr {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let any = Expr::Repeat(Box::new(Expr::Class(plain())), 0, None);
        let any = self.rules.add(any);
        let inner = self.other_than(&names, &any);
        quoted(inner)
    }

    fn other_than(&mut self, names: &[&str], any: &Expr) -> Expr {
        let mut firsts: Vec<char> = names.iter().filter_map(|name| name.chars().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let taken = complement(&plain()).into_iter().chain(firsts.iter().map(|&c| (c, c))).collect();
        let different = Expr::Class(complement(&normalized(taken)));
        let mut choices = vec![Expr::Sequence(vec![different, any.clone()])];
        if !names.contains(&"") {
            choices.push(Expr::Sequence(Vec::new()));
        }
        for first in firsts.into_iter().filter(|first| plain().iter().any(|(from, to)| (*from..=*to).contains(first))) {
            let rests: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(first)).collect();
            let rest = self.other_than(&rests, any);
            let rest = self.rules.add(rest);
            choices.push(Expr::Sequence(vec![text(&first.to_string()), rest]));
        }
        Expr::Choice(choices)
    }
}

fn quoted(inner: Expr) -> Expr {
    Expr::Sequence(vec![text("\""), inner, text("\"")])
}

/// Formats that an expression describes well; others say nothing about what fits.
fn format_pattern(format: &str) -> Option<&'static str> {
    const DATE: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$";
    const TIME: &str =
        r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
    const BOTH: &str = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
    match format {
        "date" => Some(DATE),
        "time" => Some(TIME),
        "date-time" => Some(BOTH),
        "uuid" => Some("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
        _ => None,
    }
}
