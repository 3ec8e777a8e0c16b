//! Whether an answer is right, and how near it came.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::schema::{Schema, same};

/// What makes an answer right.
#[derive(Debug)]
pub(super) enum Check {
    /// It is one of these texts; white space at the ends does not count.
    OneOf { texts: Vec<String>, ignore_case: bool },
    /// All of these texts are in it.
    Contains { texts: Vec<String>, ignore_case: bool },
    /// The expression is found in it.
    Regex(Regex),
    /// The last number in it is this one, or as near.
    Number { right: f64, tolerance: f64 },
    /// The first label of the suite that it names is the one with this index.
    Label(usize),
    /// It is a JSON value: this one, an object with these fields, of this schema; as far as given.
    Json { expected: Option<Value>, fields: Map<String, Value>, schema: Option<Schema> },
}

impl Check {
    /// Whether an answer is right.
    pub(super) fn accepts(&self, answer: &str, labels: &[String]) -> bool {
        let plain = |text: &str, ignore_case: bool| {
            if ignore_case { text.trim().to_lowercase() } else { text.trim().to_owned() }
        };
        match self {
            Self::OneOf { texts, ignore_case } => {
                let answer = plain(answer, *ignore_case);
                texts.iter().any(|text| plain(text, *ignore_case) == answer)
            }
            Self::Contains { texts, ignore_case } => {
                let answer = plain(answer, *ignore_case);
                texts.iter().all(|text| answer.contains(&plain(text, *ignore_case)))
            }
            Self::Regex(regex) => regex.is_match(answer),
            Self::Number { right, tolerance } => {
                // A sum such as 0.1 + 0.2 is as near as numbers get.
                let slack = f64::EPSILON * 4.0 * right.abs().max(1.0);
                last_number(answer).is_some_and(|number| (number - right).abs() <= tolerance + slack)
            }
            Self::Label(right) => label_in(answer, labels) == Some(*right),
            Self::Json { expected, fields, schema } => json_in(answer).is_some_and(|value| {
                expected.as_ref().is_none_or(|expected| same(expected, &value))
                    && fields.iter().all(|(key, wanted)| value.get(key).is_some_and(|given| same(wanted, given)))
                    && schema.as_ref().is_none_or(|schema| schema.accepts(&value))
            }),
        }
    }

    /// Token F1 of an answer against the expected text that is nearest; `None`: no text is expected.
    pub(super) fn token_f1(&self, answer: &str) -> Option<f64> {
        match self {
            Self::OneOf { texts, .. } => Some(texts.iter().map(|text| token_f1(text, answer)).fold(0.0, f64::max)),
            Self::Contains { .. } | Self::Regex(_) | Self::Number { .. } | Self::Label(_) | Self::Json { .. } => None,
        }
    }
}

/// A JSON value, alone or in a fence of Markdown.
fn json_in(answer: &str) -> Option<Value> {
    let answer = answer.trim();
    let fenced = answer.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = fenced.map_or(answer, |inner| inner.strip_prefix("json").unwrap_or(inner));
    serde_json::from_str(inner).ok()
}

/// The last number in a text, as answers lead up to their result; groups of thousands may be set apart by commas.
fn last_number(text: &str) -> Option<f64> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"-?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
            .expect("the expression is our own")
    });
    let found = NUMBER.find_iter(text).last()?;
    // In `7-5` it is no sign.
    let joined = text[..found.start()].chars().next_back().is_some_and(char::is_alphanumeric);
    let number = found.as_str().replace(',', "");
    number.strip_prefix('-').filter(|_| joined).unwrap_or(&number).parse().ok()
}

/// The index of the label that an answer names first, as a word of its own, whatever the case.
pub(super) fn label_in(answer: &str, labels: &[String]) -> Option<usize> {
    let answer = answer.to_lowercase();
    let is_word = |at: usize, len: usize| {
        let before = answer[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        let after = answer[at + len..].chars().next().is_some_and(char::is_alphanumeric);
        !before && !after
    };
    let found = labels.iter().enumerate().filter_map(|(index, label)| {
        let label = label.to_lowercase();
        let (at, _) = answer.match_indices(&label).find(|(at, _)| is_word(*at, label.len()))?;
        Some((at, std::cmp::Reverse(label.len()), index))
    });
    found.min().map(|(_, _, index)| index)
}

/// F1 of the words that two texts share: lower case, without punctuation.
fn token_f1(expected: &str, answer: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let lower = text.to_lowercase();
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (expected, answer) = (words(expected), words(answer));
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &expected {
        *left.entry(word).or_default() += 1;
    }
    let mut shared = 0_u32;
    for word in &answer {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    match expected.len() + answer.len() {
        0 => 1.0,
        all => 2.0 * f64::from(shared) / all as f64,
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::{Map, json};

    use super::{Check, label_in, last_number, token_f1};

    #[test]
    fn answers_are_judged() {
        let labels = ["negative".to_owned(), "not sure".to_owned(), "not".to_owned()];
        let one_of = |ignore_case| Check::OneOf { texts: vec!["Paris".to_owned(), "Rome".to_owned()], ignore_case };
        let contains = || Check::Contains { texts: vec!["a".to_owned(), "b".to_owned()], ignore_case: false };
        let number = || Check::Number { right: 3.5, tolerance: 0.1 };
        let json = |expected| Check::Json { expected, fields: Map::new(), schema: None };
        let fields =
            || Check::Json { expected: None, fields: Map::from_iter([("a".to_owned(), json!(1))]), schema: None };
        for (check, answer, right) in [
            (one_of(false), " Rome\n", true),
            (one_of(false), "paris", false),
            (one_of(true), "paris", true),
            (one_of(true), "Paris.", false),
            (contains(), "b and a", true),
            (contains(), "only a", false),
            (Check::Regex(Regex::new("^x+$").unwrap()), "xxx", true),
            (Check::Regex(Regex::new("^x+$").unwrap()), "xyx", false),
            (Check::Label(0), "It is Negative, not positive", true),
            (Check::Label(2), "not sure", false),
            (Check::Label(0), "nonnegative", false),
            (number(), "about 3.6 m", true),
            (number(), "3.61", false),
            (number(), "none", false),
            (json(None), "```json\n{\"a\": 1}\n```", true),
            (json(None), "no", false),
            (json(Some(json!({"a": 1}))), "{\"a\": 1.0}", true),
            (json(Some(json!({"a": 1}))), "{\"a\": 2}", false),
            (fields(), "{\"b\": 2, \"a\": 1}", true),
            (fields(), "[1]", false),
        ] {
            assert_eq!(check.accepts(answer, &labels), right, "{check:?} {answer}");
        }
    }

    #[test]
    fn figures() {
        assert_eq!(last_number("is -1,234.5."), Some(-1234.5));
        assert_eq!(last_number("2, or rather .5e1"), Some(5.0));
        assert_eq!(last_number("7-5"), Some(5.0));
        assert_eq!(last_number("none"), None);
        assert_eq!(token_f1("The cat sat.", "the CAT sat"), 1.0);
        assert!((token_f1("the cat sat", "cat") - 0.5).abs() < 1e-9);
        assert_eq!(token_f1("cat", "dog"), 0.0);
        assert_eq!(label_in("straße, NOT", &["not".to_owned()]), Some(0));
    }
}
