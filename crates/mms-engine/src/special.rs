//! Keeps what people write in a chat from being read as the model's control tokens.
//!
//! A chat template writes control tokens such as `<|im_end|>` between the messages, so its result is tokenized with special tokens
//! recognized. A message that contains such a text could then end its own turn and speak as another role. Before rendering, each
//! control token's text inside a message is therefore replaced by one private-use character; after rendering, those characters are
//! turned back into text that is tokenized without special tokens. Messages without such texts, nearly all, are left alone.
//!
//! In the same way an answer whose tokens are known is marked at both ends. Where the template shows it as it is, its tokens stand in the
//! prompt as they were generated.

use std::borrow::Cow;

use llama_cpp_2::token::LlamaToken;

/// The texts of a model's control tokens, to be found quickly.
#[derive(Debug, Default)]
pub(crate) struct ControlTokens {
    /// By first byte, longest first.
    by_first_byte: Vec<Vec<String>>,
}

/// What was replaced in the messages of one request.
#[derive(Debug, Default)]
pub(crate) struct Replaced(Vec<Entry>);

/// What a placeholder stands for.
#[derive(Debug)]
enum Entry {
    Text(String),
    /// Before an answer of this text, whose tokens are known. The next entry is its end.
    Begin(String, Vec<LlamaToken>),
    End,
}

/// A part of a rendered prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Control tokens are recognized.
    Template(&'a str),
    /// Plain text, whatever it looks like.
    Plain(&'a str),
    /// An answer as it was generated.
    Spoken(&'a [LlamaToken]),
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

    /// A control token stands at the beginning of this text.
    pub(crate) fn begins(&self, text: &str) -> bool {
        text.chars()
            .next()
            .is_some_and(|first| placeholder_index(first).is_none() && self.found_at(text, first).is_some())
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
        let is_it = |entry: &Entry| matches!(entry, Entry::Text(known) if known == text);
        let index = self.0.iter().position(is_it).unwrap_or_else(|| {
            self.0.push(Entry::Text(text.to_owned()));
            self.0.len() - 1
        });
        placeholder(index)
    }

    /// Marks an answer that is shown as `text` and has these tokens.
    pub(crate) fn mark(&mut self, text: &str, tokens: Vec<LlamaToken>) -> String {
        if self.0.len() + 2 >= PLACEHOLDERS {
            return text.to_owned();
        }
        self.0.extend([Entry::Begin(text.to_owned(), tokens), Entry::End]);
        format!("{}{text}{}", placeholder(self.0.len() - 2), placeholder(self.0.len() - 1))
    }

    /// Splits a rendered prompt into what the template wrote, what stood for control tokens' texts in messages, and marked answers.
    /// `None`: an answer is not shown as it is, or not as it followed its prompt.
    pub(crate) fn split<'a>(&'a self, rendered: &'a str) -> Option<Vec<Part<'a>>> {
        let mut parts = Vec::new();
        let mut start = 0;
        let mut at = 0;
        while let Some(character) = rendered[at..].chars().next().filter(|_| !self.0.is_empty()) {
            let index = placeholder_index(character);
            let Some((index, entry)) = index.and_then(|index| Some((index, self.0.get(index)?))) else {
                at += character.len_utf8();
                continue;
            };
            if start < at {
                parts.push(Part::Template(&rendered[start..at]));
            }
            let behind = &rendered[at + character.len_utf8()..];
            let rest = match entry {
                Entry::Text(text) => {
                    parts.push(Part::Plain(text));
                    behind
                }
                Entry::Begin(text, tokens) => {
                    let rest = behind.strip_prefix(text.as_str())?.strip_prefix(placeholder(index + 1))?;
                    // A template that writes a space takes the answer's own one off.
                    if text.starts_with(char::is_whitespace) && rendered[..at].ends_with(char::is_whitespace) {
                        return None;
                    }
                    parts.push(Part::Spoken(tokens));
                    rest
                }
                Entry::End => return None,
            };
            at = rendered.len() - rest.len();
            start = at;
        }
        if start < rendered.len() {
            parts.push(Part::Template(&rendered[start..]));
        }
        Some(parts)
    }
}

fn placeholder(index: usize) -> char {
    // More distinct texts than placeholders cannot come from a real vocabulary; the rest share the last one's place.
    let index = u32::try_from(index.min(PLACEHOLDERS - 1)).unwrap_or(0);
    char::from_u32(FIRST_PLACEHOLDER + index).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn placeholder_index(character: char) -> Option<usize> {
    let index = usize::try_from(u32::from(character).checked_sub(FIRST_PLACEHOLDER)?).ok()?;
    (index < PLACEHOLDERS).then_some(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ControlTokens, LlamaToken, Part, Replaced};

    fn tokens() -> ControlTokens {
        ControlTokens::new(["<s>", "<|end|>", "<|endoftext|>", "[INST]"].map(str::to_owned))
    }

    #[test]
    fn only_control_tokens_are_replaced() {
        let mut replaced = Replaced::default();
        assert_eq!(tokens().hide("1 < 2 and a[I] <|", &mut replaced), "1 < 2 and a[I] <|");
        assert_eq!(replaced.split("<|end|>x"), Some(vec![Part::Template("<|end|>x")]));
    }

    #[test]
    fn the_longest_token_is_found_and_comes_back() {
        let mut replaced = Replaced::default();
        let hidden = tokens().hide("a<|endoftext|><s>b", &mut replaced).into_owned();
        let rendered = format!("<s>{hidden}<|end|>");
        let parts = replaced.split(&rendered);
        let expect =
            [Part::Template("<s>a"), Part::Plain("<|endoftext|>"), Part::Plain("<s>"), Part::Template("b<|end|>")];
        assert_eq!(parts, Some(expect.into()));
    }

    #[test]
    fn a_marked_answer_is_its_tokens_where_it_is_shown_as_it_is() {
        let answer = [LlamaToken(5), LlamaToken(6)];
        let marked = |text: &str| {
            let mut replaced = Replaced::default();
            let hidden = tokens().hide(text, &mut replaced).into_owned();
            let marked = replaced.mark(&hidden, answer.into());
            (replaced, marked)
        };
        let (replaced, text) = marked("a <s> b");
        let whole = format!("<s>{text}<|end|>");
        let expect = vec![Part::Template("<s>"), Part::Spoken(&answer), Part::Template("<|end|>")];
        assert_eq!(replaced.split(&whole), Some(expect));
        assert_eq!(replaced.split("not shown"), Some(vec![Part::Template("not shown")]));
        // A template that shows a part of it, or changes it.
        for shown in [&text[4..], &text[..text.len() - 4], &text.replace("a ", "A "), &text.replace(' ', "")] {
            assert_eq!(replaced.split(shown), None, "{shown}");
        }
        let (replaced, text) = marked(" a");
        assert!(replaced.split(&format!("[INST]{text}")).is_some());
        assert_eq!(replaced.split(&format!("[INST] {text}")), None, "with one space too many");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_special(content in "(<s>|<\\|end\\|>|[a<|>\\[\u{100000}\u{100001}\u{10fffd}é]){0,12}") {
            let mut replaced = Replaced::default();
            let hidden = tokens().hide(&content, &mut replaced).into_owned();
            let mut whole = String::new();
            for part in replaced.split(&hidden).expect("nothing is marked") {
                match part {
                    Part::Spoken(_) => prop_assert!(false, "nothing is marked"),
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
