//! Traces: which request comes when, for which model, and how long it is. The same seed gives the same trace, which can so be
//! replayed against a running server too.

use std::time::Duration;

use serde::Serialize;

use crate::catalogue::Priority;
use crate::random::Random;

/// Requests for models that do not fit together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    /// The models.
    pub models: Vec<SimModel>,
    /// What they may take together, MiB.
    pub budget_mb: f64,
    /// How many may be loaded at once; 0: any number.
    pub max_loaded_models: usize,
    /// What the end of a process takes.
    pub end: Duration,
    /// In the order of their time.
    pub arrivals: Vec<Arrival>,
}

/// A model of a trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimModel {
    /// Its name.
    pub id: String,
    /// What it holds, MiB.
    pub memory_mb: f64,
    /// What its load takes.
    pub load: Duration,
    /// What one token of an answer takes.
    pub token: Duration,
    /// Answers at once.
    pub slots: u32,
    /// How much it is wanted in memory.
    pub priority: Priority,
    /// How many of the requests are for it, beside those of the others.
    pub share: u32,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Arrival {
    /// Since the beginning.
    pub at: Duration,
    /// Which of [`Trace::models`].
    pub model: usize,
    /// Length of the answer.
    pub tokens: u32,
}

impl Trace {
    /// Three models with memory for two, asked for in turn by chance: half of the requests for the first, a fifth for the last.
    pub fn mixed(seed: u64, requests: usize) -> Self {
        let model = |id: &str, memory_mb, load_ms, share| SimModel {
            id: id.to_owned(),
            memory_mb,
            load: Duration::from_millis(load_ms),
            token: Duration::from_millis(20),
            slots: 4,
            priority: Priority::Medium,
            share,
        };
        let models = vec![model("a", 400.0, 800, 5), model("b", 500.0, 1000, 3), model("c", 600.0, 1200, 2)];
        Self { models, budget_mb: 1100.0, max_loaded_models: 0, end: Duration::from_millis(50), arrivals: Vec::new() }
            .with_arrivals(seed, requests, Duration::from_millis(250))
    }

    /// Requests at random moments, `gap` apart in the mean, with answers of 4 to 60 tokens, for models by their share.
    #[must_use]
    pub fn with_arrivals(self, seed: u64, requests: usize, gap: Duration) -> Self {
        let mut random = Random::new(seed);
        let shares: u32 = self.models.iter().map(|model| model.share).sum();
        let mut at = Duration::ZERO;
        let mut arrivals = Vec::with_capacity(requests);
        for _ in 0..requests {
            at += gap.mul_f64(random.waits(1.0));
            let mut drawn = (random.part() * f64::from(shares)) as u32;
            let mut model = 0;
            while model + 1 < self.models.len() && drawn >= self.models[model].share {
                drawn -= self.models[model].share;
                model += 1;
            }
            arrivals.push(Arrival { at, model, tokens: 4 + (random.part() * 57.0) as u32 });
        }
        Self { arrivals, ..self }
    }
}
