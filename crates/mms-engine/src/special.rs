//! Keeps what people write in a chat from being read as the model's control tokens.
//!
//! A chat template writes control tokens such as `<|im_end|>` between the messages, so its result is tokenized with special tokens
//! recognized. A message that contains such a text could then end its own turn and speak as another role. Before rendering, each
//! control token's text inside a message is therefore replaced by one private-use character; after rendering, those characters are
//! turned back into text that is tokenized without special tokens. Messages without such texts, nearly all, are left alone.

use std::borrow::Cow;

/// The texts of a model's control tokens, to be found quickly.
#[derive(Debug, Default)]
pub(crate) struct ControlTokens {
    /// By first byte, longest first.
    by_first_byte: Vec<Vec<String>>,
}

/// What was replaced in the messages of one request.
#[derive(Debug, Default)]
pub(crate) struct Replaced(Vec<String>);

/// A part of a rendered prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Control tokens are recognized.
    Template(&'a str),
    /// Plain text, whatever it looks like.
    Plain(&'a str),
}

/// Supplementary private use area B, of which at most this many are used.
const FIRST_PLACEHOLDER: u32 = 0x10_0000;
const PLACEHOLDERS: usize = 0xfffe;

impl ControlTokens {
    pub(crate) fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let mut by_first_byte = vec![Vec::new(); 256];
        for text in texts {
            if let Some(first) = text.bytes().next() {
                by_first_byte[usize::from(first)].push(text);
            }
        }
        for texts in &mut by_first_byte {
            texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            texts.dedup();
        }
        Self { by_first_byte }
    }

    /// `content` with placeholders for control tokens' texts.
    pub(crate) fn hide<'a>(&self, content: &'a str, replaced: &mut Replaced) -> Cow<'a, str> {
        let mut out = String::new();
        let mut copied = 0;
        let mut at = 0;
        while let Some(character) = content[at..].chars().next() {
            match self.found_at(&content[at..], character) {
                Some(length) => {
                    out.push_str(&content[copied..at]);
                    out.push(replaced.placeholder(&content[at..at + length]));
                    at += length;
                    copied = at;
                }
                None => at += character.len_utf8(),
            }
        }
        if copied == 0 {
            return Cow::Borrowed(content);
        }
        out.push_str(&content[copied..]);
        Cow::Owned(out)
    }

    /// Length of the control token's text, or of the placeholder-like character, with which `rest` begins.
    fn found_at(&self, rest: &str, first: char) -> Option<usize> {
        if placeholder_index(first).is_some() {
            return Some(first.len_utf8());
        }
        let texts = self.by_first_byte.get(usize::from(*rest.as_bytes().first()?))?;
        texts.iter().find(|text| rest.starts_with(text.as_str())).map(String::len)
    }
}

impl Replaced {
    fn placeholder(&mut self, text: &str) -> char {
        let known = self.0.iter().position(|known| known == text);
        let index = known.unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        // More distinct texts than placeholders cannot come from a real vocabulary; the rest share the last one's place.
        let index = u32::try_from(index.min(PLACEHOLDERS - 1)).unwrap_or(0);
        char::from_u32(FIRST_PLACEHOLDER + index).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// Splits a rendered prompt into what the template wrote and what stood for control tokens' texts in messages.
    pub(crate) fn split<'a>(&'a self, rendered: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut start = 0;
        if !self.0.is_empty() {
            for (at, character) in rendered.char_indices() {
                let Some(text) = placeholder_index(character).and_then(|index| self.0.get(index)) else { continue };
                if start < at {
                    parts.push(Part::Template(&rendered[start..at]));
                }
                parts.push(Part::Plain(text));
                start = at + character.len_utf8();
            }
        }
        if start < rendered.len() {
            parts.push(Part::Template(&rendered[start..]));
        }
        parts
    }
}

fn placeholder_index(character: char) -> Option<usize> {
    let index = usize::try_from(u32::from(character).checked_sub(FIRST_PLACEHOLDER)?).ok()?;
    (index < PLACEHOLDERS).then_some(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ControlTokens, Part, Replaced};

    fn tokens() -> ControlTokens {
        ControlTokens::new(["<s>", "<|end|>", "<|endoftext|>", "[INST]"].map(str::to_owned))
    }

    #[test]
    fn only_control_tokens_are_replaced() {
        let mut replaced = Replaced::default();
        assert_eq!(tokens().hide("1 < 2 and a[I] <|", &mut replaced), "1 < 2 and a[I] <|");
        assert_eq!(replaced.split("<|end|>x"), [Part::Template("<|end|>x")]);
    }

    #[test]
    fn the_longest_token_is_found_and_comes_back() {
        let mut replaced = Replaced::default();
        let hidden = tokens().hide("a<|endoftext|><s>b", &mut replaced).into_owned();
        let rendered = format!("<s>{hidden}<|end|>");
        let parts = replaced.split(&rendered);
        let expect =
            [Part::Template("<s>a"), Part::Plain("<|endoftext|>"), Part::Plain("<s>"), Part::Template("b<|end|>")];
        assert_eq!(parts, expect);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_special(content in "(<s>|<\\|end\\|>|[a<|>\\[\u{100000}\u{100001}\u{10fffd}é]){0,12}") {
            let mut replaced = Replaced::default();
            let hidden = tokens().hide(&content, &mut replaced).into_owned();
            let mut whole = String::new();
            for part in replaced.split(&hidden) {
                match part {
                    Part::Plain(text) => whole.push_str(text),
                    Part::Template(text) => {
                        prop_assert!(!text.contains("<s>") && !text.contains("<|end|>"));
                        whole.push_str(text);
                    }
                }
            }
            prop_assert_eq!(whole, content);
        }
    }
}
