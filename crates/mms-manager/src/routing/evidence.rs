//! What is known of models from experience: how fast they answered real requests, and how far evaluations trust them.
//!
//! Speed is kept as sums that fade: each answer multiplies what came before by [`FADE`], so about the last 20 answers count.
//!
//! ```text
//! latency  = 200 x (time of prompts / tokens computed of them) + 100 x (time of answers / their tokens)
//! trust    = mean of the last 10 trust scores, each taken as 0 to 1
//! ```
//!
//! The time that a request waited, and that of loads, is no part of it: loading is what residency stands for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fold;

/// What one more answer leaves of those before.
const FADE: f64 = 0.95;
/// The request that all are compared by: tokens of its prompt...
const PROMPT_TOKENS: f64 = 200.0;
/// ... and of its answer.
const ANSWER_TOKENS: f64 = 100.0;
/// Evaluations of a model that count: its last.
pub const EVALUATIONS: usize = 10;
/// Models that can have evaluations; clients choose these names.
const MAX_EVALUATED: usize = 4096;

/// The figures of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answered {
    /// Tokens of the prompt that were computed, cached ones left out.
    pub prompt_tokens: u32,
    /// Time for them, milliseconds.
    pub prompt_ms: f64,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Time for them, milliseconds.
    pub predicted_ms: f64,
}

/// The speed of one model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Speed {
    prompt_tokens: f64,
    prompt_ms: f64,
    tokens: f64,
    predicted_ms: f64,
    requests: u32,
}

impl Speed {
    fn note(&mut self, answer: &Answered) {
        let times = [answer.prompt_ms, answer.predicted_ms];
        if times.iter().any(|ms| !ms.is_finite() || *ms < 0.0) {
            return;
        }
        self.prompt_tokens = FADE * self.prompt_tokens + f64::from(answer.prompt_tokens);
        self.prompt_ms = FADE * self.prompt_ms + answer.prompt_ms;
        self.tokens = FADE * self.tokens + f64::from(answer.tokens);
        self.predicted_ms = FADE * self.predicted_ms + answer.predicted_ms;
        self.requests = self.requests.saturating_add(1);
    }

    /// Milliseconds for the request that all are compared by.
    pub fn latency_ms(&self) -> Option<f64> {
        let known = self.prompt_tokens > 0.0 && self.tokens > 0.0;
        known.then(|| {
            PROMPT_TOKENS * self.prompt_ms / self.prompt_tokens + ANSWER_TOKENS * self.predicted_ms / self.tokens
        })
    }

    /// Answers that were measured.
    pub fn requests(&self) -> u32 {
        self.requests
    }
}

/// What evaluations say of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trust {
    sum: f64,
    count: u32,
}

impl Trust {
    /// Of these scores.
    pub(crate) fn of<'a>(scores: impl IntoIterator<Item = &'a f64>) -> Option<Self> {
        let trust = scores.into_iter().take(EVALUATIONS).fold(Self { sum: 0.0, count: 0 }, |trust, score| Self {
            sum: trust.sum + score.clamp(0.0, 1.0),
            count: trust.count + 1,
        });
        (trust.count > 0).then_some(trust)
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }

    /// How many they are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The mean, drawn towards 0.5 as two evaluations of 0.5 would: few evaluations move it little.
    pub(crate) fn cautious(trust: Option<Self>) -> f64 {
        let Self { sum, count } = trust.unwrap_or(Self { sum: 0.0, count: 0 });
        (sum + 1.0) / (f64::from(count) + 2.0)
    }
}

/// Names the evaluations that were known at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// The experience with all models. Front doors, the task and whoever reads the evaluation store add to it; routing reads it.
#[derive(Debug, Default)]
pub struct Evidence {
    known: Mutex<Known>,
}

/// What is known at one moment.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By id.
    speeds: HashMap<String, Speed>,
    /// By the name that was evaluated, folded; newest first.
    trust: BTreeMap<String, VecDeque<f64>>,
    /// Grows with each evaluation.
    evaluated: u64,
}

impl Known {
    pub(crate) fn speed(&self, id: &str) -> Option<Speed> {
        self.speeds.get(id).copied()
    }

    /// Of the model of this id, or by one of its other names.
    pub(crate) fn trust(&self, id: &str, aliases: &[String]) -> Option<Trust> {
        if self.trust.is_empty() {
            return None;
        }
        let names = std::iter::once(id).chain(aliases.iter().map(String::as_str));
        names.into_iter().find_map(|name| self.trust.get(&fold(name))).and_then(Trust::of)
    }
}

impl Evidence {
    /// A model has answered.
    pub fn answered(&self, model: &str, answer: &Answered) {
        let mut known = self.known();
        match known.speeds.get_mut(model) {
            Some(speed) => speed.note(answer),
            None => known.speeds.entry(model.to_owned()).or_default().note(answer),
        }
    }

    /// A model was evaluated, under this name. NaN and infinities do not count.
    pub fn evaluated(&self, name: &str, trust_score: f64) {
        if !trust_score.is_finite() {
            return;
        }
        let mut known = self.known();
        known.evaluated += 1;
        if known.trust.len() >= MAX_EVALUATED && !known.trust.contains_key(&fold(name)) {
            return;
        }
        let scores = known.trust.entry(fold(name)).or_default();
        scores.push_front(trust_score);
        scores.truncate(EVALUATIONS);
    }

    /// To be taken before the evaluation store is read.
    pub fn mark(&self) -> Mark {
        Mark(self.known().evaluated)
    }

    /// What the evaluation store has: names and their last scores, newest first. `false`: there were evaluations since `mark`, which
    /// it may lack, so nothing was changed.
    pub fn replace_trust(&self, mark: Mark, stored: impl IntoIterator<Item = (String, Vec<f64>)>) -> bool {
        let mut trust: BTreeMap<String, VecDeque<f64>> = BTreeMap::new();
        for (name, scores) in stored {
            let finite = scores.into_iter().filter(|score| score.is_finite()).take(EVALUATIONS);
            trust.entry(fold(&name)).or_insert_with(|| finite.collect());
        }
        let mut known = self.known();
        if known.evaluated != mark.0 {
            return false;
        }
        known.trust = trust;
        true
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is whole by itself.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answered, EVALUATIONS, Evidence, Trust};

    fn answer(prompt_tokens: u32, prompt_ms: f64, tokens: u32, predicted_ms: f64) -> Answered {
        Answered { prompt_tokens, prompt_ms, tokens, predicted_ms }
    }

    #[test]
    fn latency_is_that_of_one_length_whatever_was_asked() {
        let evidence = Evidence::default();
        evidence.answered("short", &answer(10, 20.0, 5, 50.0));
        evidence.answered("long", &answer(1000, 2000.0, 500, 5000.0));
        let known = evidence.known();
        for model in ["short", "long"] {
            assert_eq!(
                known.speed(model).and_then(|speed| speed.latency_ms()),
                Some(200.0 * 2.0 + 100.0 * 10.0),
                "{model}"
            );
        }
        assert_eq!(known.speed("other"), None);
    }

    #[test]
    fn late_answers_count_more_than_early_ones() {
        let evidence = Evidence::default();
        for _ in 0..100 {
            evidence.answered("m", &answer(100, 100.0, 100, 100.0));
        }
        for _ in 0..40 {
            evidence.answered("m", &answer(100, 1000.0, 100, 1000.0));
        }
        let speed = evidence.known().speed("m").unwrap();
        assert!(speed.latency_ms().unwrap() > 2500.0, "{speed:?}");
        assert_eq!(speed.requests(), 140);
    }

    #[test]
    fn what_cannot_be_a_time_changes_nothing() {
        let evidence = Evidence::default();
        evidence.answered("m", &answer(10, f64::NAN, 5, 50.0));
        evidence.answered("m", &answer(0, 0.0, 5, 50.0));
        let speed = evidence.known().speed("m").unwrap();
        assert_eq!((speed.latency_ms(), speed.requests()), (None, 1), "all of the prompt was in the cache");
    }

    #[test]
    fn the_last_trust_scores_count_under_any_name_of_the_model() {
        let evidence = Evidence::default();
        for _ in 0..EVALUATIONS {
            evidence.evaluated("Phi.gguf", 0.0);
        }
        for _ in 0..EVALUATIONS / 2 {
            evidence.evaluated("phi", 1.0);
        }
        evidence.evaluated("other", 7.0);
        evidence.evaluated("other", f64::INFINITY);
        let known = evidence.known();
        let trust = known.trust("PHI", &[]).unwrap();
        assert_eq!((trust.mean(), trust.count()), (0.5, EVALUATIONS as u32));
        assert_eq!(known.trust("sub/phi", &["Phi".to_owned()]), Some(trust));
        assert_eq!(known.trust("other", &[]).map(|trust| (trust.mean(), trust.count())), Some((1.0, 1)), "1 at most");
        assert_eq!(known.trust("nobody", &[]), None);
    }

    #[test]
    fn few_evaluations_move_trust_little() {
        let cautious = |scores: &[f64]| Trust::cautious(Trust::of(scores));
        assert_eq!(cautious(&[]), 0.5);
        assert_eq!(cautious(&[1.0]), 2.0 / 3.0);
        assert!(cautious(&[1.0; 10]) > 0.9 && cautious(&[0.0; 10]) < 0.1);
    }

    #[test]
    fn what_the_store_has_replaces_what_is_known_unless_that_is_newer() {
        let evidence = Evidence::default();
        evidence.evaluated("old", 1.0);
        let mark = evidence.mark();
        assert!(evidence.replace_trust(mark, [("m".to_owned(), vec![0.25, f64::NAN])]));
        assert_eq!(evidence.known().trust("old", &[]), None);
        assert_eq!(evidence.known().trust("m", &[]).map(|trust| trust.mean()), Some(0.25));
        evidence.evaluated("m", 0.75);
        assert!(!evidence.replace_trust(mark, []));
        assert_eq!(evidence.known().trust("m", &[]).map(|trust| trust.mean()), Some(0.5));
    }
}
