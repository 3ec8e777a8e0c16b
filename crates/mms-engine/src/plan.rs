//! What one batch step computes: pure decisions, no llama.cpp.
//!
//! Every decoding sequence gets its one token first, so that a long prompt never stalls running answers. The rest of the budget goes
//! to prompts in the order in which they were admitted. [`Pace`] keeps a step short in time, not only in tokens: cancelling, the
//! heartbeat and running answers all wait for the end of a step, and on slow hardware 512 tokens of prompt can take half a minute.

use std::time::Duration;

/// What a sequence needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The token that was sampled last.
    Decode,
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
    /// The last of them is followed by sampling.
    pub(crate) output: bool,
}

/// Divides one step. `batch` is the hard limit and at least the number of sequences; `prefill` limits the tokens of prompts.
pub(crate) fn plan(needs: &[(usize, Need)], batch: usize, prefill: usize, shares: &mut Vec<Share>) {
    shares.clear();
    let decoding = needs.iter().filter(|(_, need)| *need == Need::Decode);
    shares.extend(decoding.map(|&(slot, _)| Share { slot, tokens: 1, output: true }));
    let mut budget = batch.saturating_sub(shares.len()).min(prefill.max(1));

    let mut last = None;
    while budget > 0 {
        let waiting = needs.iter().filter_map(|&(slot, need)| match need {
            Need::Prefill { remaining, order } if last.is_none_or(|last| order > last) => {
                Some((order, slot, remaining))
            }
            Need::Prefill { .. } | Need::Decode => None,
        });
        let Some((order, slot, remaining)) = waiting.min() else { return };
        let tokens = remaining.min(budget);
        shares.push(Share { slot, tokens, output: tokens == remaining });
        budget -= tokens;
        last = Some(order);
    }
}

/// How long a step may take while answers are running, and while only prompts are computed.
const STEP_BESIDE_ANSWERS: Duration = Duration::from_millis(250);
const STEP_ALONE: Duration = Duration::from_millis(1500);
/// Prompt tokens in a step before anything was measured, and the fewest ever: below that, prefill becomes inefficient.
const FIRST_PREFILL: usize = 128;
const LEAST_PREFILL: usize = 32;
/// With fewer prompt tokens than this, the time of a step says little about prompts.
const LEAST_MEASURED: usize = 16;

/// How fast this machine computes prompts with this model.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    seconds_per_token: Option<f64>,
}

impl Pace {
    /// Takes note of a step with `prefill` tokens of prompts among `tokens`.
    pub(crate) fn record(&mut self, tokens: usize, prefill: usize, took: Duration) {
        if prefill < LEAST_MEASURED {
            return;
        }
        let now = took.as_secs_f64() / tokens as f64;
        self.seconds_per_token = Some(self.seconds_per_token.map_or(now, |before| (before + now) / 2.0));
    }

    /// Most prompt tokens for the next step.
    pub(crate) fn prefill_budget(&self, answers_running: bool) -> usize {
        let limit = if answers_running { STEP_BESIDE_ANSWERS } else { STEP_ALONE };
        match self.seconds_per_token {
            None => FIRST_PREFILL,
            Some(seconds) => {
                let tokens = (limit.as_secs_f64() / seconds.max(1e-9)) as usize;
                (tokens / LEAST_PREFILL * LEAST_PREFILL).max(LEAST_PREFILL)
            }
        }
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

    fn prompt(remaining: usize, order: u64) -> Need {
        Need::Prefill { remaining, order }
    }

    #[test]
    fn answers_first_then_prompts_in_order() {
        check(&[], 512, 512, &[]);
        check(&[Need::Decode, Need::Decode], 512, 512, &[(0, 1, true), (1, 1, true)]);
        check(&[prompt(600, 1)], 512, 512, &[(0, 512, false)]);
        check(&[prompt(600, 1)], 512, 64, &[(0, 64, false)]);
        check(&[prompt(9, 7), Need::Decode, prompt(5, 3)], 10, 512, &[(1, 1, true), (2, 5, true), (0, 4, false)]);
        check(&[prompt(9, 1), Need::Decode], 2, 512, &[(1, 1, true), (0, 1, false)]);
    }

    #[test]
    fn a_slow_machine_gets_short_steps() {
        let mut pace = Pace::default();
        assert_eq!(pace.prefill_budget(false), 128);
        pace.record(128, 128, Duration::from_secs(6));
        assert_eq!(pace.prefill_budget(true), 32);
        assert_eq!(pace.prefill_budget(false), 32);
        let mut pace = Pace::default();
        pace.record(100, 100, Duration::from_millis(100));
        assert_eq!(pace.prefill_budget(true), 224);
        pace.record(4, 0, Duration::from_secs(9));
        assert_eq!(pace.prefill_budget(true), 224);
    }

    proptest! {
        #[test]
        fn no_step_breaks_the_rules(
            kinds in proptest::collection::vec(proptest::option::of(1_usize..2000), 1..16),
            room in 0_usize..600,
            prefill in 0_usize..600,
        ) {
            let batch = kinds.len() + room;
            let needs: Vec<(usize, Need)> = kinds.iter().enumerate().map(|(slot, kind)| match kind {
                None => (slot, Need::Decode),
                Some(remaining) => (slot, prompt(*remaining, 1000 - slot as u64)),
            }).collect();
            let mut shares = Vec::new();
            plan(&needs, batch, prefill, &mut shares);
            prop_assert!(shares.iter().map(|share| share.tokens).sum::<usize>() <= batch);
            for (slot, need) in &needs {
                let mine: Vec<&Share> = shares.iter().filter(|share| share.slot == *slot).collect();
                prop_assert!(mine.len() <= 1);
                match (need, mine.first()) {
                    (Need::Decode, share) => prop_assert_eq!(share.map(|s| (s.tokens, s.output)), Some((1, true))),
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
