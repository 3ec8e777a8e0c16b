//! Traces of uses as servers have them, made by chance from a seed: the same seed gives the same trace. Each begins at midnight.

use std::collections::BTreeMap;

use super::DAY_S;
use super::replay::TraceUse;
use crate::random::Random;

/// What a trace is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Models that are wanted at their times of day.
    Daily,
    /// Agents that go through their chains of models.
    Chains,
    /// Requests by chance; how often a model is wanted drifts.
    Random,
}

/// All of them.
pub const KINDS: [Kind; 3] = [Kind::Daily, Kind::Chains, Kind::Random];

/// Midnight of a Monday.
const BEGIN: f64 = 1_767_571_200.0;
const MODELS: usize = 12;

impl Kind {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Chains => "chains",
            Self::Random => "random",
        }
    }
}

/// A trace of so many days, in the order of its times. Its models are `m01` to `m12`.
pub fn generate(kind: Kind, seed: u64, days: u32) -> Vec<TraceUse> {
    let mut random = Random::new(seed ^ 0x6d6d_7300 ^ kind as u64);
    let mut trace = match kind {
        Kind::Daily => daily(&mut random, days),
        Kind::Chains => chains(&mut random, days),
        Kind::Random => drifting(&mut random, days),
    };
    trace.sort_by(|a, b| a.time.total_cmp(&b.time));
    trace
}

/// What the models of generated traces take, MiB.
pub fn sizes_mb() -> BTreeMap<String, f64> {
    (0..MODELS).map(|model| (name(model), 700.0 * (1 + model * 5 % MODELS) as f64)).collect()
}

fn name(model: usize) -> String {
    format!("m{:02}", model + 1)
}

fn one(time: f64, model: usize, client: Option<String>) -> TraceUse {
    // Milliseconds are enough, and are the same after they were written and read.
    TraceUse { time: (time * 1000.0).round() / 1000.0, model: name(model), client }
}

/// Each model has six appointments a day, between 6 and 22 o'clock, of 5 to 20 minutes. They begin and end up to 5 minutes earlier or
/// later from day to day, and one in ten is left out. Meanwhile the model is asked for every 90 seconds in the mean. Besides, somebody
/// asks for any model about every 30 minutes, day and night.
fn daily(random: &mut Random, days: u32) -> Vec<TraceUse> {
    let mut trace = Vec::new();
    for model in 0..MODELS {
        for _ in 0..6 {
            let begin = (6.0 + 16.0 * random.part()) * 3600.0;
            let length = (5.0 + 15.0 * random.part()) * 60.0;
            for day in 0..days {
                let jitter = |random: &mut Random| (random.part() - 0.5) * 600.0;
                let from = BEGIN + f64::from(day) * DAY_S + begin + jitter(random);
                let until = from + length + jitter(random);
                let left_out = random.part() < 0.1;
                let mut time = from + random.waits(90.0);
                while time < until {
                    if !left_out {
                        trace.push(one(time, model, None));
                    }
                    time += random.waits(90.0);
                }
            }
        }
    }
    by_chance(random, days, 1800.0, |_, random| random.below(MODELS), &mut trace);
    trace
}

/// Six agents work from 8 to 20 o'clock. Each has two chains of three to six models and goes through one of them again and again, the
/// first two times in three; 3 to 30 seconds from step to step, as that step usually takes, give or take a third, 5 minutes in the
/// mean between two rounds. One step in twelve goes to any model, one round in twelve ends early.
fn chains(random: &mut Random, days: u32) -> Vec<TraceUse> {
    let mut trace = Vec::new();
    for agent in 0..6 {
        let chains: Vec<Vec<(usize, f64)>> = (0..2)
            .map(|_| (0..3 + random.below(4)).map(|_| (random.below(MODELS), 3.0 + 27.0 * random.part())).collect())
            .collect();
        for day in 0..days {
            let morning = BEGIN + f64::from(day) * DAY_S + 8.0 * 3600.0;
            let mut time = morning + random.waits(300.0);
            while time < morning + 12.0 * 3600.0 {
                let chain = &chains[usize::from(random.part() > 2.0 / 3.0)];
                let steps = if random.part() < 1.0 / 12.0 { 1 + random.below(chain.len()) } else { chain.len() };
                for &(model, gap) in &chain[..steps] {
                    let model = if random.part() < 1.0 / 12.0 { random.below(MODELS) } else { model };
                    trace.push(one(time, model, Some(format!("agent-{}", agent + 1))));
                    time += gap * (2.0 + 2.0 * random.part()) / 3.0;
                }
                time += random.waits(300.0);
            }
        }
    }
    trace
}

/// A request every 2 minutes in the mean, day and night. The logarithms of the models' shares begin between -1.5 and 1.5 and go up or
/// down by chance, by half in the mean each hour.
fn drifting(random: &mut Random, days: u32) -> Vec<TraceUse> {
    let mut logs: Vec<f64> = (0..MODELS).map(|_| 3.0 * random.part() - 1.5).collect();
    let mut drifted = BEGIN;
    let mut trace = Vec::new();
    let choose = |time: f64, random: &mut Random| {
        while drifted + 600.0 < time {
            drifted += 600.0;
            for log in &mut logs {
                // Pulled back to the middle, so that no model wins for ever.
                *log += (random.part() - 0.5) * 0.7 - *log * 0.01;
            }
        }
        let shares: Vec<f64> = logs.iter().map(|log| log.exp()).collect();
        let mut drawn = random.part() * shares.iter().sum::<f64>();
        let chosen = shares.iter().position(|share| {
            drawn -= share;
            drawn < 0.0
        });
        chosen.unwrap_or(MODELS - 1)
    };
    by_chance(random, days, 120.0, choose, &mut trace);
    trace
}

/// Requests at random moments, so far apart in the mean.
fn by_chance(
    random: &mut Random,
    days: u32,
    mean_s: f64,
    mut choose: impl FnMut(f64, &mut Random) -> usize,
    trace: &mut Vec<TraceUse>,
) {
    let mut time = BEGIN + random.waits(mean_s);
    while time < BEGIN + f64::from(days) * DAY_S {
        let model = choose(time, random);
        trace.push(one(time, model, None));
        time += random.waits(mean_s);
    }
}
