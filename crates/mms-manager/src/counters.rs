//! Counters since the start: atomics that any thread raises and [`Counters::stats`] reads together.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use mms_protocol::view::{RecentError, Stats, Traffic};
use mms_protocol::{ErrorCode, Refusal};

use crate::traffic::ModelCounters;

/// Errors that are kept to be shown.
const ERRORS_KEPT: usize = 20;
/// Longest message of them, characters.
const MESSAGE_KEPT: usize = 300;

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
    /// Uses of models that were counted for predictions.
    pub usage_records: Counter,
    /// Events that nobody took in time.
    pub events_dropped: Counter,
    /// By model, from its first request on.
    models: Mutex<HashMap<String, Arc<ModelCounters>>>,
    errors_of_late: Mutex<VecDeque<RecentError>>,
}

impl Counters {
    /// Counts one answered request of a front door.
    pub fn request(&self, ok: bool) {
        self.requests.increment();
        if !ok {
            self.errors.increment();
        }
    }

    /// Remembers why a request was refused; a client that left is no error.
    pub fn refused(&self, operation: &'static str, refusal: &Refusal) {
        if refusal.code == ErrorCode::Cancelled {
            return;
        }
        let error = RecentError {
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            operation,
            model_id: refusal.details.get("model_id").and_then(|id| id.as_str()).map(str::to_owned),
            code: refusal.code,
            message: refusal.message.chars().take(MESSAGE_KEPT).collect(),
        };
        let mut kept = self.errors_of_late.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == ERRORS_KEPT {
            kept.pop_front();
        }
        kept.push_back(error);
    }

    /// The last errors, oldest first.
    pub fn recent_errors(&self) -> Vec<RecentError> {
        self.errors_of_late.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// What this model was asked for and gave; `None`: it was asked for nothing.
    pub fn traffic(&self, model: &str) -> Option<Traffic> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.get(model).map(|counters| counters.traffic())
    }

    /// The counters of a model.
    pub(crate) fn of_model(&self, model: &str) -> Arc<ModelCounters> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = models.get(model) {
            return Arc::clone(counters);
        }
        Arc::clone(models.entry(model.to_owned()).or_default())
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
            usage_records: self.usage_records.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mms_protocol::{ErrorCode, Refusal};

    use super::{Counters, ERRORS_KEPT, MESSAGE_KEPT};

    #[test]
    fn a_refused_request_is_a_request_and_an_error() {
        let counters = Counters::default();
        counters.request(true);
        counters.request(false);
        counters.prompt_tokens.add(7);
        let stats = counters.stats();
        assert_eq!((stats.requests, stats.errors, stats.prompt_tokens), (2, 1, 7));
    }

    #[test]
    fn the_last_errors_are_kept_and_none_of_them_is_endless() {
        let counters = Counters::default();
        counters.refused("generate", &Refusal::new(ErrorCode::Cancelled, "left"));
        assert!(counters.recent_errors().is_empty(), "who leaves is no error");
        for number in 0..=ERRORS_KEPT {
            let refusal =
                Refusal::new(ErrorCode::ModelNotFound, format!("{number}{}", "\u{e9}".repeat(2 * MESSAGE_KEPT)));
            counters.refused("generate", &refusal.with("model_id", "m"));
        }
        let kept = counters.recent_errors();
        assert_eq!(kept.len(), ERRORS_KEPT);
        assert!(kept[0].message.starts_with('1') && kept[0].message.chars().count() == MESSAGE_KEPT, "{kept:?}");
        assert_eq!((kept[0].model_id.as_deref(), kept[0].operation), (Some("m"), "generate"));
        assert!(kept[0].at > 0.0);
    }
}
