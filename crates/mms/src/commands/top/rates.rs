//! Speeds, from counters that only grow: between the newest look and one of some seconds before.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::look::{Look, Traffic};

/// Speeds are those of this time, so that they neither jump with every look nor lag behind.
const WINDOW: Duration = Duration::from_secs(3);

/// Speeds of a server. `None` where there was no earlier look.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    /// The time that they are of.
    pub(super) over: Option<Duration>,
    pub(super) all: Option<Speed>,
    pub(super) models: BTreeMap<String, Speed>,
}

/// Each a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Speed {
    pub(super) requests: f64,
    /// Tokens of prompts that had to be computed.
    pub(super) prompt_tokens: f64,
    pub(super) tokens: f64,
}

/// Remembers the counters of the last looks.
#[derive(Debug, Default)]
pub(super) struct Meter {
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    uptime: f64,
    models: BTreeMap<String, Traffic>,
}

impl Meter {
    /// The speeds at this look.
    pub(super) fn rates(&mut self, look: &Look) -> Rates {
        let newest = Kept { at: look.at, uptime: look.status.uptime, models: look.stats.models.clone() };
        // A server that was started again counts from 0.
        if self.kept.back().is_some_and(|last| last.uptime > newest.uptime) {
            self.kept.clear();
        }
        while self.kept.get(1).is_some_and(|second| newest.at.saturating_duration_since(second.at) >= WINDOW) {
            self.kept.pop_front();
        }
        let rates = self.kept.front().map_or_else(Rates::default, |oldest| between(oldest, &newest));
        self.kept.push_back(newest);
        rates
    }
}

fn between(oldest: &Kept, newest: &Kept) -> Rates {
    let over = newest.at.saturating_duration_since(oldest.at);
    if over.is_zero() {
        return Rates::default();
    }
    let mut all = Speed::default();
    let mut models = BTreeMap::new();
    for (id, now) in &newest.models {
        let then = oldest.models.get(id).copied().unwrap_or_default();
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / over.as_secs_f64();
        let computed = |traffic: Traffic| traffic.prompt_tokens.saturating_sub(traffic.cached_tokens);
        let speed = Speed {
            requests: per_second(now.requests, then.requests),
            prompt_tokens: per_second(computed(*now), computed(then)),
            tokens: per_second(now.completion_tokens, then.completion_tokens),
        };
        all.requests += speed.requests;
        all.prompt_tokens += speed.prompt_tokens;
        all.tokens += speed.tokens;
        models.insert(id.clone(), speed);
    }
    Rates { over: Some(over), all: Some(all), models }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Look, Meter, Rates, Speed};

    #[test]
    fn speeds_are_those_of_the_last_seconds() {
        let (mut meter, begun) = (Meter::default(), Instant::now());
        let mut at = |second, requests| meter.rates(&Look::example(begun + Duration::from_secs(second), requests));
        assert_eq!(at(0, 0), Rates::default(), "one look shows no speed");
        let speed = Speed { requests: 2.0, prompt_tokens: 100.0, tokens: 20.0 };
        let rates = at(1, 2);
        assert_eq!((rates.all, rates.models["mms-demo"]), (Some(speed), speed));
        for second in 2..10 {
            at(second, 2);
        }
        let rates = at(10, 2);
        assert_eq!(rates.over, Some(Duration::from_secs(3)), "what is long past does not count");
        assert_eq!(rates.all, Some(Speed::default()));
    }

    #[test]
    fn a_server_that_was_started_again_counts_from_nothing() {
        let (mut meter, begun) = (Meter::default(), Instant::now());
        meter.rates(&Look::example(begun, 50));
        let restarted = Look::example(begun + Duration::from_secs(1), 1);
        assert_eq!(meter.rates(&restarted), Rates::default());
    }
}
