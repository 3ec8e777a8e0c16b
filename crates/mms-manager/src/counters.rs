//! Counters since the start: atomics that any thread raises and [`Counters::stats`] reads together.

use std::sync::atomic::{AtomicU64, Ordering};

use mms_protocol::view::Stats;

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What [`Stats`] shows, and how many events were lost.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests answered, refusals included.
    pub requests: Counter,
    /// Requests refused.
    pub errors: Counter,
    /// Requests for embeddings that ended well.
    pub embeddings: Counter,
    /// Models that had to go for another one.
    pub evictions: Counter,
    /// Generations that ended well.
    pub generations: Counter,
    /// Tokens of their prompts.
    pub prompt_tokens: Counter,
    /// Tokens that they produced.
    pub completion_tokens: Counter,
    /// Loads that ended well.
    pub models_loaded: Counter,
    /// Workers ended on purpose.
    pub models_unloaded: Counter,
    /// Loads that failed.
    pub load_failures: Counter,
    /// Workers that died after they had loaded.
    pub worker_deaths: Counter,
    /// Generations started again after their worker died.
    pub retries: Counter,
    /// Times that models had grown over the budget.
    pub over_budget: Counter,
    /// Rows written to `performance_metrics`; the store's owner raises it.
    pub performance_logs: Counter,
    /// Rows written to `model_evaluation_scores`; the store's owner raises it.
    pub trust_score_updates: Counter,
    /// Predictions answered.
    pub predictions_made: Counter,
    /// Events that nobody took in time.
    pub events_dropped: Counter,
}

impl Counters {
    /// Counts one answered request of a front door.
    pub fn request(&self, ok: bool) {
        self.requests.increment();
        if !ok {
            self.errors.increment();
        }
    }

    /// All numbers together.
    pub fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.get(),
            errors: self.errors.get(),
            embeddings: self.embeddings.get(),
            evictions: self.evictions.get(),
            generations: self.generations.get(),
            prompt_tokens: self.prompt_tokens.get(),
            completion_tokens: self.completion_tokens.get(),
            models_loaded: self.models_loaded.get(),
            models_unloaded: self.models_unloaded.get(),
            load_failures: self.load_failures.get(),
            worker_deaths: self.worker_deaths.get(),
            retries: self.retries.get(),
            performance_logs: self.performance_logs.get(),
            trust_score_updates: self.trust_score_updates.get(),
            predictions_made: self.predictions_made.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn a_refused_request_is_a_request_and_an_error() {
        let counters = Counters::default();
        counters.request(true);
        counters.request(false);
        counters.prompt_tokens.add(7);
        let stats = counters.stats();
        assert_eq!((stats.requests, stats.errors, stats.prompt_tokens), (2, 1, 7));
    }
}
