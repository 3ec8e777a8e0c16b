//! From the bytes of tokens to text that may leave: whole UTF-8 characters only, and nothing that is, or may yet become, a stop
//! string. What comes out does not depend on how the bytes were cut into tokens.
//!
//! The stop string that is complete first ends the text; of several that are complete at the same byte, the longest. Bytes that
//! are no UTF-8 become U+FFFD, and a character that is still incomplete at the end is dropped.

/// Puts whole characters together from the bytes of tokens.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The beginning of a character, at most 3 bytes.
    partial: Vec<u8>,
}

impl Utf8 {
    /// A character has begun and is not complete.
    pub(crate) fn is_amid(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Appends to `out` the characters that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.partial.extend_from_slice(bytes);
        let mut rest = self.partial.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    self.partial.clear();
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(bad) = error.error_len() else {
                        let incomplete = self.partial.len() - after.len();
                        self.partial.drain(..incomplete);
                        return;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
    }
}

/// Ends a text before the first of its stop strings.
#[derive(Debug)]
pub(crate) struct Stops {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl Stops {
    /// Empty stop strings are ignored.
    pub(crate) fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new(), stopped: false }
    }

    /// Takes more of the text and appends to `out` what may leave. True: a stop string is complete, the text has ended.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.stopped {
            return true;
        }
        self.held.push_str(text);
        if let Some(start) = self.first_stop() {
            out.push_str(&self.held[..start]);
            self.held.clear();
            self.stopped = true;
            return true;
        }
        let keep = self.held.len() - self.possible_stop();
        out.push_str(&self.held[..keep]);
        self.held.drain(..keep);
        false
    }

    /// The text goes no further: what was held back is no stop string after all.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Where the stop string begins that is complete first.
    fn first_stop(&self) -> Option<usize> {
        let ends = self.stops.iter().filter_map(|stop| self.held.find(stop).map(|start| (start + stop.len(), start)));
        ends.min().map(|(_end, start)| start)
    }

    /// Length of the longest end of `held` with which a stop string begins.
    fn possible_stop(&self) -> usize {
        self.stops.iter().map(|stop| possible_start(&self.held, stop)).max().unwrap_or(0)
    }
}

/// Length of the longest end of `text` that is a beginning of `word`, but not all of it.
pub(crate) fn possible_start(text: &str, word: &str) -> usize {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    let most = text.len().min(word.len().saturating_sub(1));
    (1..=most).rev().find(|&n| text[text.len() - n..] == word[..n]).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Stops, Utf8};

    /// Everything that comes out of `pieces`, checked piece by piece, and whether a stop string ended it.
    fn run(stops: &[String], pieces: &[&[u8]]) -> (String, bool) {
        let (mut utf8, mut stream) = (Utf8::default(), Stops::new(stops.iter().cloned()));
        let mut all = String::new();
        for piece in pieces {
            let mut text = String::new();
            utf8.push(piece, &mut text);
            if stream.push(&text, &mut all) {
                return (all, true);
            }
        }
        stream.finish(&mut all);
        (all, false)
    }

    fn check(stops: &[&str], pieces: &[&str], expect: &str) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        assert_eq!(run(&stops, &pieces).0, expect);
    }

    #[test]
    fn stop_strings() {
        check(&[], &["a", "b"], "ab");
        check(&["b"], &["a", "b", "c"], "a");
        check(&["END"], &["the E", "N", "D of it"], "the ");
        check(&["END"], &["the E", "N", "d of it"], "the ENd of it");
        check(&["aab"], &["a", "a", "a", "b"], "a");
        check(&["\n\n", "\nUser:"], &["hi\n", "User", ":"], "hi");
        check(&[""], &["a"], "a");
        check(&["never"], &["nev"], "nev");
        check(&["abcd", "bc"], &["abcd"], "a");
        check(&["abcd", "bc"], &["a", "b", "c", "d"], "a");
        check(&["é"], &["caf", "é", "s"], "caf");
    }

    #[test]
    fn held_text_does_not_leave_early() {
        let mut stream = Stops::new(["###".to_owned()]);
        let mut out = String::new();
        assert!(!stream.push("a##", &mut out));
        assert_eq!(out, "a");
        assert!(!stream.push("b", &mut out));
        assert_eq!(out, "a##b");
    }

    #[test]
    fn characters_leave_whole() {
        let mut stream = Utf8::default();
        let mut out = String::new();
        for byte in "🙂".as_bytes().iter().take(3) {
            stream.push(&[*byte], &mut out);
            assert_eq!(out, "");
        }
        stream.push(&[0x82], &mut out);
        assert_eq!(out, "🙂");
        assert!(!stream.is_amid());
        stream.push(&[0xf0, 0x9f], &mut out);
        assert!(stream.is_amid());
        assert_eq!(out, "🙂");
    }

    /// The rule of the module's first paragraph, the slow way: character by character.
    fn reference(stops: &[String], bytes: &[u8]) -> (String, bool) {
        let complete = match bytes.utf8_chunks().last() {
            Some(last) if std::str::from_utf8(last.invalid()).is_err_and(|error| error.error_len().is_none()) => {
                &bytes[..bytes.len() - last.invalid().len()]
            }
            _ => bytes,
        };
        let mut text = String::new();
        for character in String::from_utf8_lossy(complete).chars() {
            text.push(character);
            let ending = stops.iter().filter(|stop| !stop.is_empty() && text.ends_with(stop.as_str()));
            if let Some(longest) = ending.map(String::len).max() {
                text.truncate(text.len() - longest);
                return (text, true);
            }
        }
        (text, false)
    }

    proptest! {
        #[test]
        fn cutting_into_tokens_changes_nothing(
            bytes in prop_oneof![
                "[abé🙂\\n]{0,40}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec(prop_oneof![Just(0xf0_u8), Just(0x9f), Just(0x99), Just(0x82), Just(b'a')], 0..40),
            ],
            stops in proptest::collection::vec("[abé🙂\\n]{0,4}", 0..4),
            cuts in proptest::collection::vec(0_usize..41, 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (text, stopped) = run(&stops, &pieces);
            prop_assert_eq!((text.clone(), stopped), reference(&stops, &bytes));
            for stop in stops.iter().filter(|stop| !stop.is_empty()) {
                prop_assert!(!text.contains(stop.as_str()));
            }
        }
    }
}
