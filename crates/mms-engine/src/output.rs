//! An answer on its way out: the bytes of tokens become text that may leave (see [`crate::text`]), and each token's log probability
//! leaves with the text that the token is part of.
//!
//! A token counts as part of the text when any character of it is: of one that a stop string cuts in two, the log probability is
//! sent; of one behind the cut it is not. What has no text of its own (a control token, the beginning of a character that is never
//! completed) goes out with the next text, or at the end with an empty one. Tokens of calls of tools have none that is sent; stop
//! strings are not looked for in calls.

use std::collections::VecDeque;

use mms_protocol::generate::Logprob;

use crate::text::{Stops, Utf8};
use crate::tools::{Piece, Recognizer};

/// Something that leaves.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// Text with the log probabilities of its tokens. The text is empty only when there are log probabilities to deliver.
    Text { text: String, logprobs: Vec<Logprob> },
    /// A call of a tool, whole.
    Call { name: String, arguments: String },
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Output {
    utf8: Utf8,
    /// Calls of tools are looked for.
    recognizer: Option<Recognizer>,
    calls: usize,
    stops: Stops,
    stopped: bool,
    waiting: VecDeque<Waiting>,
    /// Bytes of text that tokens have become.
    decoded: usize,
    /// Of them, those that have left, or were taken by calls.
    left: usize,
}

/// The log probability of a token whose text has not left.
#[derive(Debug)]
struct Waiting {
    logprob: Logprob,
    /// Where its text begins and ends.
    start: usize,
    end: usize,
    /// Its last bytes belong to the character that begins at `end`.
    is_split: bool,
}

impl Output {
    pub(crate) fn new(stops: impl IntoIterator<Item = String>, recognizer: Option<Recognizer>) -> Self {
        Self {
            utf8: Utf8::default(),
            recognizer,
            calls: 0,
            stops: Stops::new(stops),
            stopped: false,
            waiting: VecDeque::new(),
            decoded: 0,
            left: 0,
        }
    }

    /// Takes the bytes of the next token and appends to `events` what may leave. True: a stop string is complete, nothing follows.
    pub(crate) fn push(&mut self, bytes: &[u8], logprob: Option<Logprob>, events: &mut Vec<Event>) -> bool {
        let mut text = String::new();
        self.utf8.push(bytes, &mut text);
        let start = self.decoded;
        self.decoded += text.len();
        if let Some(logprob) = logprob {
            self.waiting.push_back(Waiting { logprob, start, end: self.decoded, is_split: self.utf8.is_amid() });
        }
        match &mut self.recognizer {
            None => self.say(&text, events),
            Some(recognizer) => {
                let mut pieces = Vec::new();
                recognizer.push(&text, &mut pieces);
                self.take_all(pieces, events);
            }
        }
        self.stopped
    }

    /// No more tokens: everything leaves that has not been cut off.
    pub(crate) fn finish(&mut self, events: &mut Vec<Event>) {
        if let Some(recognizer) = self.recognizer.as_mut().filter(|_| !self.stopped) {
            let mut pieces = Vec::new();
            recognizer.finish(&mut pieces);
            self.take_all(pieces, events);
        }
        let mut text = String::new();
        if !self.stopped {
            self.stops.finish(&mut text);
        }
        self.left += text.len();
        let (left, stopped) = (self.left, self.stopped);
        let rest = self.waiting.drain(..).filter(|waiting| !stopped || waiting.start < left);
        let logprobs: Vec<Logprob> = rest.map(|waiting| waiting.logprob).collect();
        if !text.is_empty() || !logprobs.is_empty() {
            events.push(Event::Text { text, logprobs });
        }
    }

    /// Tools have been called.
    pub(crate) fn has_called(&self) -> bool {
        self.calls > 0
    }

    fn take_all(&mut self, pieces: Vec<Piece>, events: &mut Vec<Event>) {
        for piece in pieces {
            match piece {
                _ if self.stopped => return,
                Piece::Text(text) => self.say(&text, events),
                Piece::Taken(bytes) => self.take(bytes, events),
                Piece::Call { name, arguments } => {
                    self.calls += 1;
                    events.push(Event::Call { name, arguments });
                }
            }
        }
    }

    fn say(&mut self, text: &str, events: &mut Vec<Event>) {
        let mut out = String::new();
        self.stopped = self.stops.push(text, &mut out);
        self.leave(out, events);
    }

    fn leave(&mut self, text: String, events: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        self.left += text.len();
        let left = self.left;
        let is_out = |waiting: &Waiting| waiting.end < left || (waiting.end == left && !waiting.is_split);
        let out = self.waiting.iter().take_while(|waiting| is_out(waiting)).count();
        let logprobs = self.waiting.drain(..out).map(|waiting| waiting.logprob).collect();
        events.push(Event::Text { text, logprobs });
    }

    /// The next `bytes` are no text: what comes before them has ended, and tokens that are no part of it have no log probability.
    fn take(&mut self, bytes: usize, events: &mut Vec<Event>) {
        let mut text = String::new();
        self.stops.finish(&mut text);
        let begin = self.left + text.len();
        let out = self.waiting.iter().take_while(|waiting| waiting.start < begin).count();
        let logprobs: Vec<Logprob> = self.waiting.drain(..out).map(|waiting| waiting.logprob).collect();
        if !text.is_empty() || !logprobs.is_empty() {
            events.push(Event::Text { text, logprobs });
        }
        self.left = begin + bytes;
        let taken = self.waiting.iter().take_while(|waiting| waiting.end <= self.left).count();
        self.waiting.drain(..taken);
    }
}

#[cfg(test)]
mod tests {
    use mms_protocol::generate::{Logprob, TokenProb};
    use proptest::prelude::*;

    use super::{Event, Output};

    fn logprob(bytes: &[u8]) -> Logprob {
        let token = String::from_utf8_lossy(bytes).into_owned();
        Logprob { chosen: TokenProb { token, bytes: bytes.to_vec(), logprob: -1.0 }, top: Vec::new() }
    }

    /// Each message's text with the tokens that came along.
    fn run(stops: &[&str], tokens: &[&[u8]]) -> Vec<(String, Vec<Vec<u8>>)> {
        let mut output = Output::new(stops.iter().map(|stop| (*stop).to_owned()), None);
        let mut events = Vec::new();
        for token in tokens {
            if output.push(token, Some(logprob(token)), &mut events) {
                break;
            }
        }
        output.finish(&mut events);
        let of = |event: Event| match event {
            Event::Text { text, logprobs } => (text, logprobs.into_iter().map(|one| one.chosen.bytes).collect()),
            Event::Call { name, arguments } => panic!("no tools were offered: {name} {arguments}"),
        };
        events.into_iter().map(of).collect()
    }

    fn check(stops: &[&str], tokens: &[&str], expect: &[(&str, &[&str])]) {
        let tokens: Vec<&[u8]> = tokens.iter().map(|token| token.as_bytes()).collect();
        let bytes = |tokens: &[&str]| tokens.iter().map(|token| token.as_bytes().to_vec()).collect::<Vec<_>>();
        let expect: Vec<_> = expect.iter().map(|(text, tokens)| ((*text).to_owned(), bytes(tokens))).collect();
        assert_eq!(run(stops, &tokens), expect);
    }

    #[test]
    fn log_probabilities_leave_with_their_text() {
        check(&[], &["a", "b"], &[("a", &["a"]), ("b", &["b"])]);
        // Held back for a stop string that does not come, and cut by one that does.
        check(&["END"], &["a E", "N", "d"], &[("a ", &[]), ("ENd", &["a E", "N", "d"])]);
        check(&["END"], &["a", "E", "ND"], &[("a", &["a"])]);
        check(&["END"], &["a E", "ND b"], &[("a ", &[]), ("", &["a E"])]);
        // Without text of their own.
        check(&[], &["", "a", ""], &[("a", &["", "a"]), ("", &[""])]);
    }

    #[test]
    fn characters_in_parts() {
        let smile = "🙂".as_bytes();
        let tokens: [&[u8]; 3] = [b"a\xf0\x9f", &smile[2..], &smile[..2]];
        let expect = [
            ("a".to_owned(), vec![]),
            ("🙂".to_owned(), vec![tokens[0].to_vec(), tokens[1].to_vec()]),
            (String::new(), vec![tokens[2].to_vec()]),
        ];
        assert_eq!(run(&[], &tokens), expect);
    }

    proptest! {
        #[test]
        fn none_is_lost_or_sent_twice(
            tokens in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xc3_u8), Just(0xa9)], 0..4), 0..20),
            stop in "[ab]{0,3}",
        ) {
            let tokens: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
            let came = run(&[&stop], &tokens);
            let sent: Vec<Vec<u8>> = came.iter().flat_map(|(_, tokens)| tokens.clone()).collect();
            prop_assert_eq!(&sent[..], &tokens.iter().map(|token| token.to_vec()).collect::<Vec<_>>()[..sent.len()]);
            if stop.is_empty() {
                prop_assert_eq!(sent.len(), tokens.len());
            }
            let text: usize = came.iter().map(|(text, _)| text.len()).sum();
            prop_assert!(stop.is_empty() || text == 0 || !sent.is_empty());
        }
    }
}
