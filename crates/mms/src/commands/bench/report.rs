//! What was measured: noted while it goes on, then shown as a table, or as JSON whose keys are described in docs/cli.md and stay.

use std::collections::BTreeMap;
use std::time::Duration;

use mms_client::ClientError;
use serde_json::{Value, json};

use super::door::Door;
use super::levels::Sample;
use crate::cli::BenchArgs;
use crate::output::{pairs, table};

/// Kinds of errors that are told apart; further ones are counted together.
const MOST_ERRORS: usize = 20;

/// All figures of one run.
#[derive(Debug)]
pub(super) struct Report {
    door: &'static str,
    address: String,
    model: String,
    prompt_tokens: u32,
    tokens: u32,
    levels: Vec<Level>,
    errors: BTreeMap<String, usize>,
    notes: Vec<String>,
    /// Each load of a model.
    pub(super) loads: Vec<(String, Duration)>,
    /// Each swap.
    pub(super) swaps: Vec<Swap>,
    /// Ctrl-C ended it.
    pub(super) interrupted: bool,
}

/// One model took another's place.
#[derive(Debug)]
pub(super) struct Swap {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) took: Duration,
}

/// What one level gave.
#[derive(Debug)]
struct Level {
    concurrency: u32,
    samples: Vec<Sample>,
    failed: usize,
    /// From the level's begin to its latest answer.
    elapsed: Duration,
}

impl Report {
    pub(super) fn new(door: &Door, model: &str, args: &BenchArgs) -> Self {
        Self {
            door: door.name(),
            address: door.address().to_owned(),
            model: model.to_owned(),
            prompt_tokens: args.prompt_tokens,
            tokens: args.tokens,
            levels: Vec::new(),
            errors: BTreeMap::new(),
            notes: Vec::new(),
            loads: Vec::new(),
            swaps: Vec::new(),
            interrupted: false,
        }
    }

    pub(super) fn begin_level(&mut self, concurrency: u32) {
        self.levels.push(Level { concurrency, samples: Vec::new(), failed: 0, elapsed: Duration::ZERO });
    }

    /// A request of the latest level has ended, `elapsed` after the level's begin.
    pub(super) fn add(&mut self, elapsed: Duration, outcome: Result<Sample, ClientError>) {
        let Some(level) = self.levels.last_mut() else { return };
        match outcome {
            Ok(sample) => {
                level.elapsed = elapsed;
                level.samples.push(sample);
            }
            Err(error) => {
                level.failed += 1;
                let known = self.errors.len() < MOST_ERRORS || self.errors.contains_key(&error.to_string());
                let name = if known { error.to_string() } else { "other errors".to_owned() };
                *self.errors.entry(name).or_default() += 1;
            }
        }
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(super) fn last_level_answered(&self) -> bool {
        self.levels.last().is_some_and(|level| !level.samples.is_empty())
    }

    /// Nothing was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.requests() == 0 && self.loads.is_empty()
    }

    pub(super) fn failed(&self) -> usize {
        self.levels.iter().map(|level| level.failed).sum()
    }

    pub(super) fn requests(&self) -> usize {
        self.levels.iter().map(|level| level.samples.len() + level.failed).sum()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "door": self.door,
            "address": self.address,
            "model": self.model,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "interrupted": self.interrupted,
            "levels": self.levels.iter().map(Level::json).collect::<Vec<_>>(),
            "loads": self.load_rows().iter().map(|(model, times)| json!({"model": model, "count": times.len(),
                "ms": spread(times, false)})).collect::<Vec<_>>(),
            "swaps": self.swap_rows().iter().map(|((from, to), times)| json!({"from": from, "to": to,
                "count": times.len(), "ms": spread(times, false)})).collect::<Vec<_>>(),
            "errors": self.errors.iter().map(|(what, count)| json!({"what": what, "count": count})).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = pairs(&[
            ("model", format!("{} at {} ({})", self.model, self.address, self.door)),
            ("asked", format!("prompts of about {} tokens, answers of {}", self.prompt_tokens, self.tokens)),
        ]);
        text.push('\n');
        let titles =
            ["STREAMS", "REQUESTS", "FAILED", "TTFT p50", "p95", "TOKENS/S p50", "p95", "IN ALL", "PROMPT/S p50"];
        let rows = self.levels.iter().map(Level::row).collect();
        text.push_str(&table(&titles, rows, &[0, 1, 2, 3, 4, 5, 6, 7, 8]));
        let times = self.load_rows().into_iter().map(|(model, times)| (format!("load {model}"), times));
        let swaps = self.swap_rows().into_iter().map(|((from, to), times)| (format!("swap {from} -> {to}"), times));
        let rows: Vec<Vec<String>> = times
            .chain(swaps)
            .map(|(what, times)| {
                let (half, most) = (percentile(&times, 0.5), percentile(&times, 0.95));
                vec![what, times.len().to_string(), milliseconds(half), milliseconds(most)]
            })
            .collect();
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(&["", "TIMES", "p50", "p95"], rows, &[1, 2, 3]));
        }
        for (what, count) in &self.errors {
            text.push_str(&format!("\n{count} x {what}\n"));
        }
        if self.levels.iter().any(|level| level.samples.iter().any(|sample| sample.usage.is_none())) {
            text.push_str("\nThe server reports no token counts (usage), so speeds are not known.\n");
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    fn load_rows(&self) -> BTreeMap<&str, Vec<f64>> {
        let mut rows: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (model, took) in &self.loads {
            rows.entry(model).or_default().push(took.as_secs_f64() * 1e3);
        }
        rows
    }

    fn swap_rows(&self) -> BTreeMap<(&str, &str), Vec<f64>> {
        let mut rows: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for swap in &self.swaps {
            rows.entry((&swap.from, &swap.to)).or_default().push(swap.took.as_secs_f64() * 1e3);
        }
        rows
    }
}

impl Level {
    fn first_tokens(&self) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| Some(sample.first_token?.as_secs_f64() * 1e3)).collect()
    }

    fn totals(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.total.as_secs_f64() * 1e3).collect()
    }

    fn speeds(&self) -> Vec<f64> {
        self.samples.iter().filter_map(Sample::speed).collect()
    }

    fn prompt_speeds(&self) -> Vec<f64> {
        self.samples.iter().filter_map(Sample::prompt_speed).collect()
    }

    /// Tokens of all answers; `None` when the server does not tell them.
    fn tokens(&self) -> Option<u64> {
        self.samples.iter().map(|sample| Some(u64::from(sample.usage?.completion_tokens))).sum()
    }

    fn total_speed(&self) -> Option<f64> {
        let seconds = self.elapsed.as_secs_f64();
        self.tokens().filter(|_| seconds > 0.0).map(|tokens| tokens as f64 / seconds)
    }

    fn json(&self) -> Value {
        let usages = || self.samples.iter().filter_map(|sample| sample.usage);
        json!({
            "concurrency": self.concurrency,
            "requests": self.samples.len() + self.failed,
            "failed": self.failed,
            "seconds": self.elapsed.as_secs_f64(),
            "prompt_tokens": usages().map(|usage| u64::from(usage.prompt_tokens)).sum::<u64>(),
            "cached_tokens": usages().map(|usage| u64::from(usage.cached_tokens)).sum::<u64>(),
            "completion_tokens": self.tokens(),
            "ttft_ms": spread(&self.first_tokens(), false),
            "total_ms": spread(&self.totals(), false),
            "stream_tokens_per_second": spread(&self.speeds(), true),
            "total_tokens_per_second": self.total_speed(),
            "prompt_tokens_per_second": spread(&self.prompt_speeds(), true),
        })
    }

    fn row(&self) -> Vec<String> {
        let (first, speeds) = (self.first_tokens(), self.speeds());
        let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        vec![
            self.concurrency.to_string(),
            (self.samples.len() + self.failed).to_string(),
            self.failed.to_string(),
            milliseconds(percentile(&first, 0.5)),
            milliseconds(percentile(&first, 0.95)),
            rate(percentile(&speeds, 0.5)),
            rate(percentile(&speeds, 0.05)),
            rate(self.total_speed()),
            rate(percentile(&self.prompt_speeds(), 0.5)),
        ]
    }
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"))
}

/// The p50 and p95 of values; of speeds the p95 is what 95 % of them reach.
fn spread(values: &[f64], speeds: bool) -> Value {
    json!({"p50": percentile(values, 0.5), "p95": percentile(values, if speeds { 0.05 } else { 0.95 })})
}

/// The value below which `share` of all values lie, nearest rank; `None` of none.
fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!([0.05, 0.5, 0.95, 1.0].map(|share| percentile(&values, share)), [1.0, 10.0, 19.0, 20.0].map(Some));
        assert_eq!((percentile(&[], 0.5), percentile(&[7.0], 0.95)), (None, Some(7.0)));
    }
}
