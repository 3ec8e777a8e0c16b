//! Guessing what comes next from what was there before: pure decisions, no llama.cpp.
//!
//! Answers repeat their prompt (code that is edited, text that is quoted) and themselves. The longest earlier occurrence of the newest
//! tokens tells what followed them then; the model checks several such tokens in one step, which costs less than a step for each as
//! long as a step is bound by reading the weights. Whether that is so, and how often guesses are right, is measured ([`Gauge`],
//! [`Luck`]), since a wrong guess only costs time.

use std::time::Duration;

/// Fewer equal tokens than this are a coincidence.
const LEAST_MATCH: usize = 3;
/// More equal tokens than this do not make a guess better.
const LONGEST_MATCH: usize = 16;
/// How far back occurrences are looked for, so that looking takes microseconds.
const LOOK_BACK: usize = 32_768;

/// Appends to `guesses` at most `most` tokens that may follow `past` and `next`.
pub(crate) fn guess<T: Copy + PartialEq>(past: &[T], next: T, most: usize, guesses: &mut Vec<T>) {
    let past = &past[past.len().saturating_sub(LOOK_BACK)..];
    let length = |end: usize| {
        let before = past[..end].iter().rev().zip(past.iter().rev());
        1 + before.take(LONGEST_MATCH - 1).take_while(|(a, b)| a == b).count()
    };
    let occurrences = past.iter().enumerate().filter(|(_, token)| **token == next).map(|(end, _)| (length(end), end));
    let Some((matched, end)) = occurrences.max() else { return };
    if matched < LEAST_MATCH {
        return;
    }
    // What is guessed may itself be continued: the repetition may be shorter than the guess.
    let start = guesses.len();
    for at in end + 1..=end + most {
        let token = match at.checked_sub(past.len()) {
            None => past[at],
            Some(0) => next,
            Some(after) => guesses[start + after - 1],
        };
        guesses.push(token);
    }
}

/// How often the guesses for one answer were right.
#[derive(Debug)]
pub(crate) struct Luck {
    /// Of the guesses that were checked.
    right: f64,
    /// Occasions until the next try, and the length of the pause after that.
    pause: u32,
    next_pause: u32,
}

const FIRST_PAUSE: u32 = 16;
const LONGEST_PAUSE: u32 = 256;
/// Tokens that are guessed to find out whether guessing pays.
const TRIAL: usize = 3;

impl Default for Luck {
    fn default() -> Self {
        Self { right: 0.5, pause: 0, next_pause: FIRST_PAUSE }
    }
}

impl Luck {
    /// Takes note of `drafted` guesses, the first `accepted` of which were right. What follows a wrong guess says nothing.
    pub(crate) fn record(&mut self, drafted: usize, accepted: usize) {
        for checked in 0..drafted.min(accepted + 1) {
            self.right += (f64::from(u8::from(checked < accepted)) - self.right) * 0.1;
        }
    }
}

/// What steps of answers cost, with and without guesses.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Seconds of a step without guesses, by the number of answers.
    plain: Vec<Option<f64>>,
    /// Seconds for each guess.
    extra: Option<f64>,
    /// Steps with guesses since the last one without.
    guessed: u32,
}

/// A gain that is smaller than this is within what the measuring errs.
const LEAST_GAIN: f64 = 1.05;
/// After so many steps with guesses, one without is measured again.
const REMEASURE: u32 = 32;

impl Gauge {
    /// Takes note of a step of `answers` with `guesses` tokens more.
    pub(crate) fn record(&mut self, answers: usize, guesses: usize, took: Duration) {
        let took = took.as_secs_f64();
        let mix = |before: Option<f64>, now: f64| Some(before.map_or(now, |before| before + (now - before) * 0.2));
        if self.plain.len() <= answers {
            self.plain.resize(answers + 1, None);
        }
        if guesses == 0 {
            self.plain[answers] = mix(self.plain[answers], took);
            self.guessed = 0;
        } else {
            self.guessed += 1;
            if let Some(plain) = self.plain[answers] {
                self.extra = mix(self.extra, ((took - plain) / guesses as f64).max(0.0));
            }
        }
    }

    /// Whether the next step should have no guesses, so that there is something to compare with.
    pub(crate) fn wants_plain(&self, answers: usize) -> bool {
        self.guessed >= REMEASURE || self.plain.get(answers).copied().flatten().is_none()
    }

    /// How many of `most` tokens to guess for an answer with this luck, in a step of so many answers.
    pub(crate) fn worthwhile(&self, answers: usize, luck: &mut Luck, most: usize) -> usize {
        let plain = self.plain.get(answers).copied().flatten();
        let (Some(plain), Some(extra)) = (plain, self.extra) else { return most.min(TRIAL) };
        let (mut best, mut best_rate) = (0, answers as f64 / plain * LEAST_GAIN);
        let (mut expected, mut all_right) = (0.0, 1.0);
        for guesses in 1..=most {
            all_right *= luck.right;
            expected += all_right;
            let rate = (answers as f64 + expected) / (plain + extra * guesses as f64);
            if rate > best_rate {
                (best, best_rate) = (guesses, rate);
            }
        }
        if best > 0 {
            (luck.pause, luck.next_pause) = (0, FIRST_PAUSE);
            return best;
        }
        if luck.pause > 0 {
            luck.pause -= 1;
            return 0;
        }
        luck.pause = luck.next_pause;
        luck.next_pause = (luck.next_pause * 2).min(LONGEST_PAUSE);
        most.min(TRIAL)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Gauge, LEAST_MATCH, Luck, guess};

    fn check(text: &str, most: usize, expect: &str) {
        let bytes = text.as_bytes();
        let mut guesses = Vec::new();
        guess(&bytes[..bytes.len() - 1], bytes[bytes.len() - 1], most, &mut guesses);
        assert_eq!(String::from_utf8(guesses).expect("ASCII"), expect, "{text}");
    }

    #[test]
    fn guesses_are_what_followed_before() {
        check("the cat sat. the cat", 5, " sat.");
        check("abcX abcY abc", 1, "Y");
        // The longer match wins over the newer one.
        check("a long dog! my dog? a long dog", 1, "!");
        check("abcabc", 7, "abcabca");
        check("aaaa", 3, "aaa");
        check("no such thing", 5, "");
        check("x", 5, "");
        check("abcabc", 0, "");
    }

    /// Steps of 20 ms and `extra` ms for each guess; how many are guessed in the end.
    fn settle(extra: u64, right: bool, answers: usize) -> usize {
        let (mut gauge, mut luck) = (Gauge::default(), Luck::default());
        let mut tried = Vec::new();
        for _ in 0..2000 {
            let guesses = if gauge.wants_plain(answers) { 0 } else { gauge.worthwhile(answers, &mut luck, 8) };
            tried.push(guesses);
            luck.record(guesses, if right { guesses } else { 0 });
            gauge.record(answers, guesses, Duration::from_millis(20 + extra * guesses as u64));
        }
        tried.iter().rev().take(200).sum()
    }

    #[test]
    fn guessing_goes_on_only_where_it_pays() {
        assert!(settle(3, true, 1) > 1400);
        assert!(settle(3, true, 4) > 1400);
        assert!(settle(3, false, 1) <= 6);
        // As dear as a step of its own.
        assert!(settle(20, true, 1) <= 6);
    }

    proptest! {
        #[test]
        fn a_guess_continues_an_occurrence(past in "[ab]{0,40}", next in "[ab]", most in 0_usize..10) {
            let (past, next) = (past.as_bytes(), next.as_bytes()[0]);
            let mut guesses = Vec::new();
            guess(past, next, most, &mut guesses);
            prop_assert!(guesses.is_empty() || guesses.len() == most);
            if !guesses.is_empty() {
                let whole = [past, &[next], &guesses].concat();
                let known = [past, &[next]].concat();
                let tail = &known[known.len() - LEAST_MATCH..];
                let found = (LEAST_MATCH..known.len()).any(|end| {
                    &known[end - LEAST_MATCH..end] == tail && whole[end..].starts_with(&guesses)
                });
                prop_assert!(found);
            }
        }
    }
}
