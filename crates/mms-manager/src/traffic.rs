//! What each model is asked for and what it gives, while it gives it: tokens count as its worker says them, not when the answer ends.

use std::collections::HashMap;
use std::sync::Arc;

use mms_protocol::view::Traffic;
use mms_protocol::worker::{RequestId, ToHost};

use crate::counters::Counter;

/// The counters behind [`Traffic`].
#[derive(Debug, Default)]
pub struct ModelCounters {
    pub(crate) requests: Counter,
    pub(crate) errors: Counter,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    completion_tokens: Counter,
}

impl ModelCounters {
    /// All numbers together.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.get(),
            errors: self.errors.get(),
            prompt_tokens: self.prompt_tokens.get(),
            cached_tokens: self.cached_tokens.get(),
            completion_tokens: self.completion_tokens.get(),
        }
    }
}

/// Counts what one worker says that it computes.
#[derive(Debug)]
pub(crate) struct Tally {
    counters: Arc<ModelCounters>,
    /// Tokens that were counted of each generation under way.
    under_way: HashMap<RequestId, u32>,
}

impl Tally {
    pub(crate) fn new(counters: Arc<ModelCounters>) -> Self {
        Self { counters, under_way: HashMap::new() }
    }

    /// The worker has said this.
    pub(crate) fn hear(&mut self, message: &ToHost) {
        match message {
            ToHost::Started { prompt_tokens, cached_tokens, .. } => {
                self.counters.prompt_tokens.add((*prompt_tokens).into());
                self.counters.cached_tokens.add((*cached_tokens).into());
            }
            ToHost::Text { id, tokens, .. } | ToHost::ToolCall { id, tokens, .. } => {
                let counted = self.under_way.entry(*id).or_default();
                self.counters.completion_tokens.add(tokens.saturating_sub(*counted).into());
                *counted = (*counted).max(*tokens);
            }
            ToHost::Finished { id, usage, .. } => {
                let counted = self.under_way.remove(id).unwrap_or_default();
                self.counters.completion_tokens.add(usage.completion_tokens.saturating_sub(counted).into());
            }
            ToHost::Failed { id, .. } => drop(self.under_way.remove(id)),
            ToHost::Embedded { prompt_tokens, .. } => self.counters.prompt_tokens.add((*prompt_tokens).into()),
            ToHost::Hello(_)
            | ToHost::Loading { .. }
            | ToHost::Loaded(_)
            | ToHost::LoadFailed { .. }
            | ToHost::Planned(_)
            | ToHost::Heartbeat(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mms_protocol::generate::{FinishReason, Timings, Usage};
    use mms_protocol::worker::{GenerateFailure, ToHost};

    use super::{ModelCounters, Tally};

    #[test]
    fn tokens_count_once_and_as_soon_as_they_are_said() {
        let counters = Arc::new(ModelCounters::default());
        let mut tally = Tally::new(Arc::clone(&counters));
        let text = |id, tokens| ToHost::Text { id, text: "x".to_owned(), tokens, logprobs: Vec::new() };
        tally.hear(&ToHost::Started { id: 1, prompt_tokens: 10, cached_tokens: 4, left_out: 0 });
        for message in [text(1, 2), text(2, 5), text(1, 3)] {
            tally.hear(&message);
        }
        let now = counters.traffic();
        assert_eq!((now.prompt_tokens, now.cached_tokens, now.completion_tokens), (10, 4, 8));
        // What is held back until the end is told with the end.
        let usage = Usage { prompt_tokens: 10, completion_tokens: 7, cached_tokens: 4 };
        tally.hear(&ToHost::Finished {
            id: 1,
            reason: FinishReason::Stop,
            usage,
            timings: Timings::default(),
            tokens: Vec::new(),
        });
        tally.hear(&ToHost::Failed { id: 2, failure: GenerateFailure::Cancelled });
        assert_eq!(counters.traffic().completion_tokens, 12);
        assert!(tally.under_way.is_empty(), "nothing is kept of what has ended");
    }
}
