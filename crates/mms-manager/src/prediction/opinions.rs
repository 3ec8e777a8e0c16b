//! The opinions of the experts: for each model the probability that it is the next one asked for.

use std::collections::BTreeMap;

use super::predictor::{EXPERTS, Tracked};
use super::streams::Streams;
use super::{DAY_S, Moment, PredictorSettings};

/// Quarters of an hour in a day.
pub(super) const DAY_BINS: usize = 96;
const BIN_S: f64 = DAY_S / DAY_BINS as f64;
/// How far beside its time of day a use still counts, seconds.
const DAY_KERNEL_S: f64 = 1800.0;
/// Half of a use's weight at its time of day is gone after this time, seconds.
const DAY_HALF_LIFE_S: f64 = 7.0 * DAY_S;
/// Powers of two that the weight of a use may reach, so that sums stay finite.
const MAX_EXPONENT: f64 = 900.0;
/// In the recency of a model: what is added to its age, seconds.
const RECENCY_S: f64 = 30.0;

type OfModel = [f64; EXPERTS.len()];

/// A sum of which half is gone after each half-life.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fading {
    sum: f64,
    at: f64,
}

impl Fading {
    /// One more.
    pub(super) fn add(&mut self, at: f64, half_life_s: f64) {
        self.sum = self.of(at, half_life_s) + 1.0;
        self.at = at;
    }

    /// How often that comes at present, per second.
    pub(super) fn rate(self, at: f64, half_life_s: f64) -> f64 {
        self.of(at, half_life_s) * std::f64::consts::LN_2 / half_life_s
    }

    fn of(self, at: f64, half_life_s: f64) -> f64 {
        self.sum * (-(at - self.at).max(0.0) / half_life_s).exp2()
    }
}

/// The quarter of an hour.
pub(super) fn bin(day_s: f64) -> usize {
    ((day_s / BIN_S) as usize).min(DAY_BINS - 1)
}

/// What a use counts at its time of day, so long after the first use of all: later ones count more, which is the same as that
/// earlier ones fade.
pub(super) fn day_weight(since_origin_s: f64) -> f64 {
    (since_origin_s / DAY_HALF_LIFE_S).clamp(0.0, MAX_EXPONENT).exp2()
}

/// What a time of day is like on the days so far.
pub(super) struct Habits {
    kernel: Vec<(usize, f64)>,
    /// Turns a weighted sum of a model's uses into those expected within the lookahead.
    scale: f64,
}

impl Habits {
    pub(super) fn at(now: Moment, origin: f64, lookahead_s: f64) -> Self {
        let kernel = kernel(now, lookahead_s);
        let kernel_sum: f64 = kernel.iter().map(|(_, weight)| weight).sum();
        // The weight that one use on each day so far would have together.
        let weight = day_weight(now.at - origin);
        let days = DAY_HALF_LIFE_S / DAY_S / std::f64::consts::LN_2 * (weight - 1.0);
        let scale = lookahead_s / BIN_S / (kernel_sum.max(f64::MIN_POSITIVE) * days.max(weight));
        Self { kernel, scale }
    }

    /// Uses within the lookahead of a model with these uses by quarter of an hour.
    pub(super) fn expected(&self, day: &[f64; DAY_BINS]) -> f64 {
        self.kernel.iter().map(|(bin, weight)| day[*bin] * weight).sum::<f64>() * self.scale
    }
}

/// For each model the opinion of each expert.
#[derive(Debug)]
pub(super) struct Opinions(BTreeMap<u32, OfModel>);

impl Opinions {
    pub(super) fn of(
        models: &BTreeMap<u32, Tracked>,
        streams: &Streams,
        settings: PredictorSettings,
        now: Moment,
    ) -> Self {
        // Fading sums are compared at the last use of all, where none of them has vanished yet.
        let latest = models.values().map(|tracked| tracked.last).fold(f64::NEG_INFINITY, f64::max);
        let recency = share(models, |tracked| 1.0 / (now.at - tracked.last + RECENCY_S));
        let recent = share(models, |tracked| tracked.recent.of(latest, settings.window_s));
        let long = share(models, |tracked| tracked.long.of(latest, DAY_S));
        let kernel = kernel(now, settings.lookahead_s);
        let day = share(models, |tracked| kernel.iter().map(|(bin, weight)| tracked.day[*bin] * weight).sum());
        let follows = streams.all.follows(now.at);
        let of_client = streams.clients_follow(now.at);
        let opinions = models.keys().enumerate().map(|(at, number)| {
            let next = |follows: &super::streams::Follows| {
                // What is not said of followers is left to how often each is asked for.
                follows.of(*number) + (1.0 - follows.mass()) * recent[at]
            };
            (*number, [recency[at], recent[at], long[at], day[at], next(&follows), next(&of_client)])
        });
        Self(opinions.collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &OfModel)> {
        self.0.iter().map(|(number, of_model)| (*number, of_model))
    }

    pub(super) fn get(&self, number: u32) -> Option<OfModel> {
        self.0.get(&number).copied()
    }
}

/// Figures of all models as parts of their sum; equal parts when that is nothing.
fn share(models: &BTreeMap<u32, Tracked>, figure: impl Fn(&Tracked) -> f64) -> Vec<f64> {
    let figures: Vec<f64> = models.values().map(figure).collect();
    let sum: f64 = figures.iter().sum();
    if sum > 0.0 && sum.is_finite() {
        figures.into_iter().map(|figure| figure / sum).collect()
    } else {
        vec![1.0 / figures.len().max(1) as f64; figures.len()]
    }
}

/// The quarters of an hour around the middle of what lies ahead, and how much each counts: less the farther away.
fn kernel(now: Moment, lookahead_s: f64) -> Vec<(usize, f64)> {
    let center_s = (now.day_s + lookahead_s / 2.0).rem_euclid(DAY_S);
    let around = (0..DAY_BINS).filter_map(|bin| {
        let apart = ((bin as f64 + 0.5) * BIN_S - center_s).abs();
        let apart = apart.min(DAY_S - apart);
        (apart < DAY_KERNEL_S).then_some((bin, 1.0 - apart / DAY_KERNEL_S))
    });
    around.collect()
}
