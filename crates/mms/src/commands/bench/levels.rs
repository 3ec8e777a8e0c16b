//! One level: so many streams, each asking again as soon as it is answered, until the level's requests are used up.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures::future::join_all;
use mms_client::ClientError;

use super::door::{Connection, Door};
use super::prompt::Prompts;
use super::report::Report;

/// A stream whose requests failed so often one after the other sends no more.
const GIVE_UP: u32 = 3;

/// What one answered request showed.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// From the request to the first text; `None`: the answer was empty.
    pub(super) first_token: Option<Duration>,
    /// From the first text to the last.
    pub(super) decoding: Duration,
    /// From the request to the end of the answer.
    pub(super) total: Duration,
    /// Token counts, when the server tells them.
    pub(super) usage: Option<Usage>,
}

/// Token counts of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
    /// Of the prompt's, those that needed no work.
    pub(super) cached_tokens: u32,
}

impl Sample {
    /// The answer has ended, its last text having come at `last_text`.
    pub(super) fn ended(self, begun: Instant, last_text: Option<Instant>) -> Self {
        let total = begun.elapsed();
        let first = begun + self.first_token.unwrap_or(total);
        Self { decoding: last_text.map_or(Duration::ZERO, |last| last.saturating_duration_since(first)), total, ..self }
    }

    /// Tokens per second after the first token.
    pub(super) fn speed(&self) -> Option<f64> {
        let tokens = f64::from(self.usage?.completion_tokens) - 1.0;
        let seconds = self.decoding.as_secs_f64();
        (tokens >= 1.0 && seconds > 0.0).then(|| tokens / seconds)
    }

    /// Tokens of the prompt per second until the first token, waiting included.
    pub(super) fn prompt_speed(&self) -> Option<f64> {
        let usage = self.usage?;
        let seconds = self.first_token?.as_secs_f64();
        let tokens = f64::from(usage.prompt_tokens.saturating_sub(usage.cached_tokens));
        (tokens > 0.0 && seconds > 0.0).then(|| tokens / seconds)
    }
}

/// What a level does.
pub(super) struct Load<'a> {
    pub(super) door: &'a Door,
    pub(super) model: &'a str,
    pub(super) prompts: &'a RefCell<Prompts>,
    pub(super) concurrency: u32,
    pub(super) requests: u32,
    pub(super) tokens: u32,
}

impl Load<'_> {
    /// Runs the level; each outcome is noted as it comes.
    pub(super) async fn run(&self, report: &RefCell<Report>) {
        report.borrow_mut().begin_level(self.concurrency);
        // Every stream has something to do.
        let left = Cell::new(self.requests.max(self.concurrency));
        let begun = Instant::now();
        join_all((0..self.concurrency).map(|_| self.stream(&left, begun, report))).await;
    }

    async fn stream(&self, left: &Cell<u32>, begun: Instant, report: &RefCell<Report>) {
        let mut connection = None;
        let mut failures = 0;
        while left.get() > 0 && failures < GIVE_UP {
            left.set(left.get() - 1);
            let outcome = self.request(&mut connection).await;
            failures = if outcome.is_ok() { 0 } else { failures + 1 };
            report.borrow_mut().add(begun.elapsed(), outcome);
        }
    }

    async fn request<'c>(&'c self, connection: &mut Option<Connection<'c>>) -> Result<Sample, ClientError> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.door.connect().await?),
        };
        let prompt = self.prompts.borrow_mut().next();
        connection.ask(self.model, &prompt, self.tokens).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_leave_out_the_first_token_and_what_was_cached() {
        let usage = Usage { prompt_tokens: 100, completion_tokens: 11, cached_tokens: 20 };
        let sample = Sample {
            first_token: Some(Duration::from_secs(2)),
            decoding: Duration::from_secs(5),
            total: Duration::from_secs(7),
            usage: Some(usage),
        };
        assert_eq!((sample.speed(), sample.prompt_speed()), (Some(2.0), Some(40.0)));
        let unknown = Sample { usage: None, ..sample.clone() };
        assert_eq!((unknown.speed(), unknown.prompt_speed()), (None, None));
        let single = Sample { usage: Some(Usage { completion_tokens: 1, ..usage }), ..sample };
        assert_eq!(single.speed(), None);
    }
}
