//! Reads llama.cpp's grammar notation: rules `name ::= alternatives`, with literals, classes of characters, `.`, tokens such as
//! `<[1000]>` or `<think>`, groups, and the repetitions `*`, `+`, `?`, `{m}`, `{m,}` and `{m,n}`. Comments begin with `#`. A rule goes
//! on in the next line inside a group, after `|`, and before `|`.

use llama_cpp_2::token::LlamaToken;

use super::{Expr, Grammar, GrammarError, Rules};

/// Groups within groups.
const MOST_DEPTH: usize = 100;
/// Of text.
const MOST_BYTES: usize = 1 << 20;
/// Repetitions of one item; more do not fit into a compiled grammar anyway.
const MOST_TIMES: u32 = 100_000;

/// Finds the token that is spelled like this, if it is a single one.
pub(crate) type TokenNamed<'a> = &'a dyn Fn(&str) -> Option<LlamaToken>;

/// Compiles `text`, whose start symbol is `root`.
pub(crate) fn grammar(text: &str, token_named: TokenNamed<'_>) -> Result<Grammar, GrammarError> {
    if text.len() > MOST_BYTES {
        let what = format!("it has {} bytes; the limit is {MOST_BYTES}", text.len());
        return Err(GrammarError::Syntax { line: 1, what });
    }
    let mut rules = Rules::default();
    let mut reader = Reader { text, at: 0, rules: &mut rules, token_named };
    reader.rules()?;
    let root = rules.named("root");
    if !rules.is_defined(root) {
        return Err(GrammarError::NoRoot);
    }
    rules.compile(root)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    rules: &'a mut Rules,
    token_named: TokenNamed<'a>,
}

impl Reader<'_> {
    fn rules(&mut self) -> Result<(), GrammarError> {
        self.space(true);
        while !self.rest().is_empty() {
            let name = self.name().ok_or_else(|| self.error("a rule's name is expected"))?;
            self.space(false);
            if !self.eat("::=") {
                return Err(self.error(&format!("`::=` is expected after the name `{name}`")));
            }
            self.space(true);
            let body = self.alternatives(0)?;
            if !self.rest().is_empty() && !self.rest().starts_with(['\r', '\n']) {
                return Err(self.error(&format!("nothing is expected before {}", self.found())));
            }
            let rule = self.rules.named(&name);
            self.rules.define(rule, body);
            self.space(true);
        }
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Expr, GrammarError> {
        if depth > MOST_DEPTH {
            return Err(self.error(&format!("groups are nested more than {MOST_DEPTH} deep")));
        }
        let mut choices = vec![self.sequence(depth)?];
        loop {
            let before = self.at;
            self.space(true);
            if !self.eat("|") {
                if depth == 0 {
                    self.at = before;
                }
                break;
            }
            self.space(true);
            choices.push(self.sequence(depth)?);
        }
        Ok(if choices.len() == 1 { choices.remove(0) } else { Expr::Choice(choices) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Expr, GrammarError> {
        let mut items: Vec<Expr> = Vec::new();
        while let Some(next) = self.rest().chars().next() {
            let item = match next {
                '"' => self.literal()?,
                '[' => self.class()?,
                '.' => {
                    self.at += 1;
                    Expr::Class(vec![('\0', char::MAX)])
                }
                '<' => self.token()?,
                '!' => return Err(self.error("tokens that are excluded (`!<...>`) are not supported")),
                '(' => {
                    self.at += 1;
                    self.space(true);
                    let inner = self.alternatives(depth + 1)?;
                    if !self.eat(")") {
                        return Err(self.error(&format!("`)` is expected, not {}", self.found())));
                    }
                    inner
                }
                '*' | '+' | '?' | '{' => {
                    let (least, most) = self.repetition()?;
                    let Some(item) = items.pop() else {
                        return Err(self.error("something to repeat is expected before `*`, `+`, `?` or `{`"));
                    };
                    Expr::Repeat(Box::new(item), least, most)
                }
                _ => match self.name() {
                    Some(name) => Expr::Rule(self.rules.named(&name)),
                    None => break,
                },
            };
            items.push(item);
            self.space(depth > 0);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::Sequence(items) })
    }

    fn repetition(&mut self) -> Result<(u32, Option<u32>), GrammarError> {
        for (sign, meaning) in [("*", (0, None)), ("+", (1, None)), ("?", (0, Some(1)))] {
            if self.eat(sign) {
                return Ok(meaning);
            }
        }
        self.at += 1;
        self.space(false);
        let least = self.number()?;
        self.space(false);
        let mut most = Some(least);
        if self.eat(",") {
            self.space(false);
            most = if self.rest().starts_with('}') { None } else { Some(self.number()?) };
            self.space(false);
        }
        if !self.eat("}") {
            return Err(self.error("`}` is expected"));
        }
        if most.is_some_and(|most| most < least) {
            return Err(self.error(&format!("a repetition of at least {least} and at most {}", most.unwrap_or(0))));
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Result<u32, GrammarError> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let text = &self.rest()[..digits];
        match text.parse::<u32>() {
            Ok(number) if number <= MOST_TIMES => {
                self.at += digits;
                Ok(number)
            }
            _ if digits == 0 => Err(self.error("a number is expected in a repetition")),
            _ => Err(self.error(&format!("{text} repetitions; the limit is {MOST_TIMES}"))),
        }
    }

    fn literal(&mut self) -> Result<Expr, GrammarError> {
        self.at += 1;
        let mut text = String::new();
        while !self.eat("\"") {
            text.push(self.character("a literal")?);
        }
        Ok(Expr::Text(text))
    }

    fn class(&mut self) -> Result<Expr, GrammarError> {
        self.at += 1;
        let excludes = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let from = self.character("a class of characters")?;
            let rest = self.rest();
            let to = if rest.starts_with('-') && !rest.starts_with("-]") {
                self.at += 1;
                self.character("a class of characters")?
            } else {
                from
            };
            if to < from {
                return Err(self.error(&format!("the range {from:?}-{to:?} is empty")));
            }
            ranges.push((from, to));
        }
        if ranges.is_empty() {
            return Err(self.error("an empty class of characters"));
        }
        let ranges = normalized(ranges);
        Ok(Expr::Class(if excludes { complement(&ranges) } else { ranges }))
    }

    /// `<[id]>`, or the text of a token in angle brackets, which belong to it.
    fn token(&mut self) -> Result<Expr, GrammarError> {
        let Some(end) = self.rest().find('>') else { return Err(self.error("`>` is missing after `<`")) };
        let text = &self.rest()[..=end];
        let id = text.strip_prefix("<[").and_then(|text| text.strip_suffix("]>"));
        let token = match id {
            Some(id) => id.parse().ok().map(LlamaToken).filter(|token| (0..1 << 24).contains(&token.0)),
            None => (self.token_named)(text),
        };
        let token = token.ok_or_else(|| self.error(&format!("`{text}` is not one token of this model")))?;
        self.at += end + 1;
        Ok(Expr::Token(token))
    }

    /// The next character of a literal or class, with escapes read.
    fn character(&mut self, of: &str) -> Result<char, GrammarError> {
        let mut characters = self.rest().chars();
        let first = characters.next().ok_or_else(|| self.error(&format!("{of} does not end")))?;
        if first != '\\' {
            self.at += first.len_utf8();
            return Ok(first);
        }
        let escape = characters.next().ok_or_else(|| self.error(&format!("{of} does not end")))?;
        let hex = |digits: usize| {
            let code = self.rest().get(2..2 + digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            code.and_then(char::from_u32).map(|character| (character, 2 + digits))
        };
        let read = match escape {
            'x' => hex(2),
            'u' => hex(4),
            'U' => hex(8),
            't' => Some(('\t', 2)),
            'r' => Some(('\r', 2)),
            'n' => Some(('\n', 2)),
            '\\' | '"' | '[' | ']' | '-' | '^' => Some((escape, 2)),
            _ => None,
        };
        let (character, length) =
            read.ok_or_else(|| self.error(&format!("the escape `\\{escape}` is not known or not complete")))?;
        self.at += length;
        Ok(character)
    }

    fn name(&mut self) -> Option<String> {
        let is_part = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let length = self.rest().bytes().take_while(is_part).count();
        let name = self.rest()[..length].to_owned();
        self.at += length;
        (length > 0).then_some(name)
    }

    fn space(&mut self, and_lines: bool) {
        loop {
            let rest = self.rest();
            let white = rest.len()
                - rest.trim_start_matches(|c| matches!(c, ' ' | '\t') || (and_lines && matches!(c, '\r' | '\n'))).len();
            self.at += white;
            if self.rest().starts_with('#') {
                self.at += self.rest().find(['\r', '\n']).unwrap_or(self.rest().len());
            } else if white == 0 {
                return;
            }
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn found(&self) -> String {
        match self.rest().chars().next() {
            None => "the end".to_owned(),
            Some(character) => format!("{character:?}"),
        }
    }

    fn error(&self, what: &str) -> GrammarError {
        let line = self.text[..self.at].matches('\n').count() + 1;
        GrammarError::Syntax { line, what: what.to_owned() }
    }
}

/// Sorted, without overlaps.
pub(crate) fn normalized(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let mut out: Vec<(char, char)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match out.last_mut() {
            Some(last) if u32::from(from) <= u32::from(last.1) + 1 => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

/// All other characters; `ranges` are [`normalized`].
pub(crate) fn complement(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let mut out = Vec::new();
    let mut next = Some('\0');
    for &(from, to) in ranges {
        if let (Some(start), Some(end)) = (next, before(from))
            && start <= end
        {
            out.push((start, end));
        }
        next = after(to);
    }
    out.extend(next.map(|start| (start, char::MAX)));
    out
}

fn before(character: char) -> Option<char> {
    match character {
        '\u{e000}' => Some('\u{d7ff}'),
        other => u32::from(other).checked_sub(1).and_then(char::from_u32),
    }
}

fn after(character: char) -> Option<char> {
    match character {
        '\u{d7ff}' => Some('\u{e000}'),
        other => char::from_u32(u32::from(other) + 1),
    }
}
