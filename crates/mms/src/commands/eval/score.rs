//! The figures of a suite that was run.

use std::time::Duration;

use serde_json::{Value, json};

use super::check::{Check, label_in};
use super::suite::{Suite, Task};

/// Longest part of an answer that is shown in a table, characters.
const SHOWN: usize = 60;
/// Most tasks that are named with an evaluation; what the server keeps with it is limited.
const NAMED: usize = 100;

/// One task, done.
#[derive(Debug)]
pub(super) struct Outcome {
    id: String,
    /// Or why there is none.
    answer: Result<String, String>,
    right: bool,
    /// Where a text was expected.
    token_f1: Option<f64>,
    /// Where a label was expected: that one, and the one that was given.
    label: Option<(usize, Option<usize>)>,
    latency: Duration,
}

impl Outcome {
    /// Judges an answer; none at all is a wrong one.
    pub(super) fn new(task: &Task, labels: &[String], answer: Result<String, String>, latency: Duration) -> Self {
        let given = answer.as_deref().unwrap_or_default();
        let label = match task.check {
            Check::Label(expected) => Some((expected, label_in(given, labels))),
            _ => None,
        };
        let right = answer.is_ok() && task.check.accepts(given, labels);
        Self { id: task.id.clone(), right, token_f1: task.check.token_f1(given), label, latency, answer }
    }

    /// For a machine.
    pub(super) fn json(&self) -> Value {
        json!({"task": self.id, "right": self.right, "token_f1": self.token_f1, "latency_ms": self.latency_ms(),
            "answer": self.answer.as_ref().ok(), "error": self.answer.as_ref().err()})
    }

    /// For a person.
    pub(super) fn row(&self) -> Vec<String> {
        let told = self.answer.as_ref().unwrap_or_else(|why| why);
        let mut shown = told.split_whitespace().collect::<Vec<_>>().join(" ");
        if shown.chars().count() > SHOWN {
            shown = shown.chars().take(SHOWN - 3).chain("...".chars()).collect();
        }
        let verdict = match (&self.answer, self.right) {
            (Err(_), _) => "failed",
            (Ok(_), true) => "right",
            (Ok(_), false) => "wrong",
        };
        vec![self.id.clone(), verdict.to_owned(), format!("{:.1}", self.latency_ms()), shown]
    }

    fn latency_ms(&self) -> f64 {
        self.latency.as_secs_f64() * 1000.0
    }
}

/// The figures of a suite.
#[derive(Debug)]
pub(super) struct Scores {
    pub(super) tasks: usize,
    pub(super) right: usize,
    /// Ids of tasks that got no answer.
    pub(super) failed: Vec<String>,
    pub(super) accuracy: f64,
    /// Mean of the tasks that expect a text.
    pub(super) token_f1: Option<f64>,
    /// Micro and macro F1 of the tasks that expect a label.
    pub(super) label_f1: Option<(f64, f64)>,
    /// Mean, median and 95th percentile of the tasks that were answered, milliseconds.
    pub(super) latency_ms: Option<[f64; 3]>,
    pub(super) trust: f64,
}

impl Scores {
    /// `outcomes`: at least one.
    pub(super) fn new(suite: &Suite, outcomes: &[Outcome]) -> Self {
        let right = outcomes.iter().filter(|outcome| outcome.right).count();
        let token_f1: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.token_f1).collect();
        let labels: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.label).collect();
        let mut latencies: Vec<f64> =
            outcomes.iter().filter(|outcome| outcome.answer.is_ok()).map(Outcome::latency_ms).collect();
        latencies.sort_by(f64::total_cmp);
        let failed = outcomes.iter().filter(|outcome| outcome.answer.is_err());
        Self {
            tasks: outcomes.len(),
            right,
            failed: failed.map(|outcome| outcome.id.clone()).collect(),
            accuracy: right as f64 / outcomes.len().max(1) as f64,
            token_f1: mean(&token_f1),
            label_f1: (!labels.is_empty()).then(|| label_f1(&labels, suite.labels.len())),
            latency_ms: mean(&latencies).map(|mean| [mean, percentile(&latencies, 50), percentile(&latencies, 95)]),
            trust: wilson(right, outcomes.len()),
        }
    }

    /// The one figure that is stored as `f1_score`.
    pub(super) fn f1(&self) -> Option<f64> {
        self.label_f1.map(|(_, r#macro)| r#macro).or(self.token_f1)
    }

    /// The figures that have no column of their own.
    pub(super) fn details(&self) -> Value {
        let [mean, p50, p95] = self.latency_ms.map_or([None; 3], |figures| figures.map(Some));
        let named = &self.failed[..self.failed.len().min(NAMED)];
        json!({"tasks": self.tasks, "right": self.right, "failed": self.failed.len(), "failed_tasks": named,
            "f1": {"token": self.token_f1, "micro": self.label_f1.map(|f1| f1.0), "macro": self.label_f1.map(|f1| f1.1)},
            "latency_ms": {"mean": mean, "p50": p50, "p95": p95}})
    }
}

fn mean(figures: &[f64]) -> Option<f64> {
    (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
}

/// The smallest figure that so many per cent do not exceed; of sorted ones, at least one.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// Micro and macro F1. An answer that names no label is missed for the expected one, and no other's mistake; labels that neither were
/// expected nor given do not count.
fn label_f1(pairs: &[(usize, Option<usize>)], labels: usize) -> (f64, f64) {
    // Of each label: found, given in vain, missed.
    let mut counts = vec![[0_u32; 3]; labels];
    for &(expected, given) in pairs {
        if given == Some(expected) {
            counts[expected][0] += 1;
        } else {
            counts[expected][2] += 1;
            if let Some(given) = given {
                counts[given][1] += 1;
            }
        }
    }
    let f1 = |[found, vain, missed]: [u32; 3]| 2.0 * f64::from(found) / f64::from((2 * found + vain + missed).max(1));
    let used: Vec<[u32; 3]> = counts.into_iter().filter(|counts| *counts != [0; 3]).collect();
    let sum = used.iter().fold([0; 3], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1], sum[2] + counts[2]]);
    let each: Vec<f64> = used.iter().map(|counts| f1(*counts)).collect();
    (f1(sum), mean(&each).unwrap_or_default())
}

/// Lower bound of the Wilson interval (95 %) of a share: what the accuracy is at least, given that so few tasks were tried.
fn wilson(right: usize, all: usize) -> f64 {
    const Z: f64 = 1.96;
    let (n, p) = (all.max(1) as f64, right as f64 / all.max(1) as f64);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((p + Z * Z / (2.0 * n) - spread) / (1.0 + Z * Z / n)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::{label_f1, percentile, wilson};

    #[test]
    fn figures() {
        // The interval as tables have it.
        assert!((wilson(8, 10) - 0.4902).abs() < 1e-3 && wilson(0, 10) == 0.0 && wilson(10, 10) < 1.0);
        let sorted: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!([percentile(&sorted, 50), percentile(&sorted, 95), percentile(&[7.0], 95)], [10.0, 19.0, 7.0]);
    }

    #[test]
    fn f1_of_labels() {
        assert_eq!(label_f1(&[(0, Some(0)), (1, Some(1))], 3), (1.0, 1.0));
        // Label 0: 1 found, 1 missed; label 1: 1 found, 1 in vain; label 2: 1 missed, without another being given.
        let (micro, r#macro) = label_f1(&[(0, Some(0)), (0, Some(1)), (1, Some(1)), (2, None)], 3);
        assert!((micro - 4.0 / 7.0).abs() < 1e-9, "{micro}");
        assert!((r#macro - (2.0 / 3.0 + 2.0 / 3.0) / 3.0).abs() < 1e-9, "{}", r#macro);
    }
}
