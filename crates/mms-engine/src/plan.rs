//! What one batch step computes: pure decisions, no llama.cpp.
//!
//! Every decoding sequence gets its one token first, so that a long prompt never stalls running answers, and then what was guessed to
//! follow it. The rest of the budget goes to prompts in the order in which they were admitted. [`Pace`] keeps a step short in time,
//! not only in tokens: cancelling, the heartbeat and running answers all wait for the end of a step, and on slow hardware 512 tokens
//! of prompt can take half a minute.

use std::time::Duration;

/// What a sequence needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The token that was sampled last, and so many guesses after it.
    Decode { guesses: usize },
    /// Tokens of the prompt that are not in the KV cache yet, at least 1; prompts with a smaller `order` go first.
    Prefill { remaining: usize, order: u64 },
}

/// Tokens of one sequence in the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// The sequence, as it was given to [`plan`].
    pub(crate) slot: usize,
    /// How many of its next tokens.
    pub(crate) tokens: usize,
    /// Sampling follows: after the last token of a prompt, after each token of an answer.
    pub(crate) output: bool,
}

/// Divides one step. `batch` is the hard limit and at least the number of sequences; `prefill` limits the tokens of prompts.
pub(crate) fn plan(needs: &[(usize, Need)], batch: usize, prefill: usize, shares: &mut Vec<Share>) {
    shares.clear();
    let decoding = needs.iter().filter_map(|&(slot, need)| match need {
        Need::Decode { guesses } => Some((slot, guesses)),
        Need::Prefill { .. } => None,
    });
    let mut spare = batch.saturating_sub(decoding.clone().count());
    shares.extend(decoding.map(|(slot, guesses)| {
        let guesses = guesses.min(spare);
        spare -= guesses;
        Share { slot, tokens: 1 + guesses, output: true }
    }));
    let mut budget = spare.min(prefill.max(1));

    let mut last = None;
    while budget > 0 {
        let waiting = needs.iter().filter_map(|&(slot, need)| match need {
            Need::Prefill { remaining, order } if last.is_none_or(|last| order > last) => {
                Some((order, slot, remaining))
            }
            Need::Prefill { .. } | Need::Decode { .. } => None,
        });
        let Some((order, slot, remaining)) = waiting.min() else { return };
        let tokens = remaining.min(budget);
        shares.push(Share { slot, tokens, output: tokens == remaining });
        budget -= tokens;
        last = Some(order);
    }
}

/// How long a step may take while only prompts are computed, and beside answers in any case.
const LONGEST_STEP: Duration = Duration::from_millis(1500);
/// Beside answers: so many times what a step of answers alone takes, but no less than would make a reader wait.
const USUAL_STEPS: f64 = 3.5;
const SHORT_STEP: Duration = Duration::from_millis(30);
/// The same before a step of answers alone was measured.
const STEP_BESIDE_ANSWERS: Duration = Duration::from_millis(250);
/// Prompt tokens in a step before anything was measured, and the steps in which the number grows.
const FIRST_PREFILL: usize = 32;
const GRAIN_ALONE: usize = 32;
/// Tokens of a step beside answers are a multiple of this, those of the answers included: a matrix product takes rows in groups, and
/// each row that is left over costs as much as a whole group. ggml's quickest kernels want 16 of them: with AVX-512, 8 rows of a Q4_K
/// model were measured to cost nearly what 16 do.
const GRAIN: usize = 8;
const LEAST_BESIDE: usize = 2 * GRAIN;
/// With fewer prompt tokens than this, the time of a step says little about prompts.
const LEAST_MEASURED: usize = 8;
/// What small steps cost more for each token than large ones, until it was measured.
const SMALL_STEP_COST: f64 = 1.5;
/// Weight of the newest measurement of steps of answers: they differ little, but a busy machine makes outliers.
const NEWEST: f64 = 0.1;

/// How fast this machine computes with this model.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Seconds for a token of a step that only computes prompts.
    alone: Option<f64>,
    /// Seconds that a token of a prompt adds to a step of answers. It grows with what the prompt's tokens look back at.
    beside: Option<f64>,
    /// Seconds for a step of answers only.
    usual: Option<f64>,
}

impl Pace {
    /// Takes note of a step with `prefill` tokens of prompts among `tokens`.
    pub(crate) fn record(&mut self, tokens: usize, prefill: usize, took: Duration) {
        let took = took.as_secs_f64();
        let mix = |before: Option<f64>, now: f64, weight: f64| {
            Some(before.map_or(now, |before| before + (now - before) * weight))
        };
        if prefill == 0 {
            self.usual = mix(self.usual, took, NEWEST);
        } else if prefill < LEAST_MEASURED {
        } else if prefill == tokens {
            self.alone = mix(self.alone, took / tokens as f64, 0.5);
        } else {
            let added = (took - self.usual.unwrap_or(0.0)).max(took / tokens as f64);
            self.beside = mix(self.beside, added / prefill as f64, 0.5);
        }
    }

    /// Seconds that a token of a prompt takes; `None` before anything was measured.
    pub(crate) fn prompt_token(&self) -> Option<f64> {
        self.alone.or(self.beside)
    }

    /// Most prompt tokens for the next step, beside so many tokens of answers.
    pub(crate) fn prefill_budget(&self, answers: usize) -> usize {
        if answers == 0 {
            let Some(seconds) = self.alone.or(self.beside) else { return FIRST_PREFILL };
            let tokens = (LONGEST_STEP.as_secs_f64() / seconds.max(1e-9)) as usize;
            return (tokens / GRAIN_ALONE * GRAIN_ALONE).max(GRAIN_ALONE);
        }
        let limit = self.usual.map_or(STEP_BESIDE_ANSWERS.as_secs_f64(), |usual| {
            (usual * USUAL_STEPS).clamp(SHORT_STEP.as_secs_f64(), LONGEST_STEP.as_secs_f64())
        });
        let seconds = self.beside.or(self.alone.map(|seconds| seconds * SMALL_STEP_COST));
        let spare = (limit - self.usual.unwrap_or(0.0)).max(0.0);
        let tokens = seconds.map_or(0, |seconds| (spare / seconds.max(1e-9)) as usize);
        let whole = (tokens.saturating_add(answers) / GRAIN * GRAIN).max(LEAST_BESIDE);
        // With many answers the least is more than their own tokens leave.
        whole.saturating_sub(answers).max(GRAIN)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Need, Pace, Share, plan};

    fn check(needs: &[Need], batch: usize, prefill: usize, expect: &[(usize, usize, bool)]) {
        let needs: Vec<(usize, Need)> = needs.iter().copied().enumerate().collect();
        let mut shares = Vec::new();
        plan(&needs, batch, prefill, &mut shares);
        let expect: Vec<Share> = expect.iter().map(|&(slot, tokens, output)| Share { slot, tokens, output }).collect();
        assert_eq!(shares, expect);
    }

    const DECODE: Need = Need::Decode { guesses: 0 };

    fn prompt(remaining: usize, order: u64) -> Need {
        Need::Prefill { remaining, order }
    }

    #[test]
    fn answers_first_then_prompts_in_order() {
        check(&[], 512, 512, &[]);
        check(&[DECODE, DECODE], 512, 512, &[(0, 1, true), (1, 1, true)]);
        check(&[prompt(600, 1)], 512, 512, &[(0, 512, false)]);
        check(&[prompt(600, 1)], 512, 64, &[(0, 64, false)]);
        check(&[prompt(9, 7), DECODE, prompt(5, 3)], 10, 512, &[(1, 1, true), (2, 5, true), (0, 4, false)]);
        check(&[prompt(9, 1), DECODE], 2, 512, &[(1, 1, true), (0, 1, false)]);
        let guessing = Need::Decode { guesses: 4 };
        check(&[guessing, guessing], 512, 512, &[(0, 5, true), (1, 5, true)]);
        check(&[guessing, guessing, prompt(9, 1)], 9, 512, &[(0, 5, true), (1, 4, true)]);
    }

    #[test]
    fn a_slow_machine_gets_short_steps() {
        let mut pace = Pace::default();
        assert_eq!(pace.prefill_budget(0), 32);
        pace.record(32, 32, Duration::from_secs(6));
        assert_eq!((pace.prefill_budget(0), pace.prefill_budget(3)), (32, 13));
        let mut pace = Pace::default();
        pace.record(100, 100, Duration::from_millis(100));
        assert_eq!(pace.prefill_budget(0), 1472);
        // 250 ms of tokens that cost half as much again, in whole groups with that of the one answer.
        assert_eq!(pace.prefill_budget(1), 159);
    }

    #[test]
    fn beside_answers_a_step_follows_what_they_are_used_to() {
        let mut pace = Pace::default();
        pace.record(500, 500, Duration::from_millis(2500));
        for _ in 0..100 {
            pace.record(3, 0, Duration::from_millis(50));
        }
        for _ in 0..20 {
            let budget = pace.prefill_budget(3);
            // 10 ms, and 6 for each token.
            let step = Duration::from_millis(10 + 6 * (budget as u64 + 3));
            pace.record(budget + 3, budget, step);
        }
        assert_eq!(pace.prefill_budget(3), 21);
        // Answers of a small model are so quick that short steps would only waste time.
        let mut pace = Pace::default();
        pace.record(500, 500, Duration::from_millis(50));
        pace.record(1, 0, Duration::from_micros(300));
        assert_eq!(pace.prefill_budget(1), 191);
    }

    proptest! {
        #[test]
        fn no_step_breaks_the_rules(
            kinds in proptest::collection::vec(proptest::option::of(1_usize..2000), 1..16),
            guesses in 0_usize..9,
            room in 0_usize..600,
            prefill in 0_usize..600,
        ) {
            let batch = kinds.len() + room;
            let needs: Vec<(usize, Need)> = kinds.iter().enumerate().map(|(slot, kind)| match kind {
                None => (slot, Need::Decode { guesses }),
                Some(remaining) => (slot, prompt(*remaining, 1000 - slot as u64)),
            }).collect();
            let mut shares = Vec::new();
            plan(&needs, batch, prefill, &mut shares);
            prop_assert!(shares.iter().map(|share| share.tokens).sum::<usize>() <= batch);
            for (slot, need) in &needs {
                let mine: Vec<&Share> = shares.iter().filter(|share| share.slot == *slot).collect();
                prop_assert!(mine.len() <= 1);
                match (need, mine.first()) {
                    (Need::Decode { .. }, share) => {
                        prop_assert!(share.is_some_and(|s| s.output && s.tokens >= 1 && s.tokens <= 1 + guesses));
                    }
                    (Need::Prefill { remaining, .. }, Some(share)) => {
                        prop_assert!(share.tokens >= 1 && share.tokens <= *remaining);
                        prop_assert_eq!(share.output, share.tokens == *remaining);
                    }
                    (Need::Prefill { .. }, None) => {}
                }
            }
            prop_assert!(!shares.is_empty());
            let unfinished = shares.iter().filter(|share| !share.output).count();
            prop_assert!(unfinished <= 1, "only the last prompt of a step may be cut");
        }
    }
}
