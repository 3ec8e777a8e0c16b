//! A mixed trace of three models with memory for two: the server's own policy against first come first served with eviction of the least
//! recently used, both in the simulator of `mms-manager` and against running servers.
//!
//! Live, the server's policy is that of `mms serve` with a budget for two of three copies of a model. The other policy is no mode of the
//! server; here it is what a proxy before single-model servers does: [`proxy`] keeps one queue, in order, and loads and unloads models of
//! a server that has room for all, never more than two at once.

mod proxy;

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::figure::{Figure, quantile, ratios};
use super::setup::{config, tokens};
use super::stream::{Answer, ask, operation};
use crate::random_model::Size;
use crate::run::cargo;
use crate::server::Server;

const REQUESTS: usize = 200;
/// The models of the trace.
const MODELS: [&str; 3] = ["a", "b", "c"];
/// Sequences of each model, as in the trace. One thread for each, as two models answer at once.
const ENGINE: &str = "slots = 4\ncontext_length = 512";
/// Tokens of each prompt.
const PROMPT: usize = 16;
/// What one load and one token take in the trace, seconds.
const LOAD: f64 = 1.0;
const TOKEN: f64 = 0.02;
/// Live rounds take half a minute.
const MOST_ROUNDS: usize = 2;

/// One request of the trace.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    at: Duration,
    model: usize,
    tokens: u32,
}

/// What a policy made of a trace.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    swaps_per_request: f64,
    wait_p95_s: f64,
    wait_max_s: f64,
}

pub(super) fn trace(bench: &Bench) -> Result<Vec<Figure>> {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for seed in 1..=bench.rounds {
        let figures = schedule(bench, seed, "--json")?;
        own.push(Outcome::simulated(&figures["own"])?);
        other.push(Outcome::simulated(&figures["baseline"])?);
    }
    let mut figures = compared("simulated", &own, &other);

    let (mut own, mut other) = (Vec::new(), Vec::new());
    let model = bench.model(Size::Small)?;
    let machine = Machine::measure(bench, &model)?;
    let rounds = bench.rounds.min(MOST_ROUNDS);
    for seed in 1..=rounds {
        let arrivals = arrivals(&schedule(bench, seed, "--trace")?, machine.scale)?;
        eprintln!("bench: round {seed} of {rounds}, time {:.2} of the trace's", machine.scale);
        own.push(played_by_server(bench, &model, &machine, &arrivals)?);
        other.push(played_by_proxy(bench, &model, &arrivals)?);
    }
    figures.extend(compared("live", &own, &other));
    Ok(figures)
}

/// What the simulator's program prints.
fn schedule(bench: &Bench, seed: usize, what: &str) -> Result<Value> {
    let mut words = vec!["run", "--quiet", "-p", "mms-manager", "--example", "schedule"];
    if bench.release {
        words.push("--release");
    }
    let mut run = cargo(&words);
    run.args(["--", &seed.to_string(), &REQUESTS.to_string(), what]);
    let output = run.output().context("could not start the simulator")?;
    ensure!(output.status.success(), "the simulator: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the simulator printed no JSON")
}

fn arrivals(trace: &Value, scale: f64) -> Result<Vec<Arrival>> {
    let list = trace["arrivals"].as_array().context("the trace has no arrivals")?;
    list.iter()
        .map(|arrival| arrival_of(arrival, scale).with_context(|| format!("not an arrival: {arrival}")))
        .collect()
}

fn arrival_of(arrival: &Value, scale: f64) -> Option<Arrival> {
    let at = Duration::new(arrival["at"]["secs"].as_u64()?, u32::try_from(arrival["at"]["nanos"].as_u64()?).ok()?);
    let model = usize::try_from(arrival["model"].as_u64()?).ok().filter(|model| *model < MODELS.len())?;
    Some(Arrival { at: at.mul_f64(scale), model, tokens: u32::try_from(arrival["tokens"].as_u64()?).ok()? })
}

/// What this machine takes for what the trace is made of.
struct Machine {
    /// Of one model, MiB.
    held_mb: f64,
    /// The trace's time is stretched by this, so that loads and answers press as much as in the simulator.
    scale: f64,
}

impl Machine {
    fn measure(bench: &Bench, model: &Path) -> Result<Self> {
        let server = server(bench, model, "")?;
        let begun = Instant::now();
        operation(server.http_port, "load_model", &json!({"model": MODELS[0]}))?;
        let load = begun.elapsed().as_secs_f64();
        let token = 1.0 / ask(server.http_port, "/v1/completions", request(0, 0, 64))?.speed();
        let status = operation(server.http_port, "get_model_status", &json!({"model": MODELS[0]}))?;
        let held_mb =
            status["current_memory_usage_mb"].as_f64().context("the server tells no current_memory_usage_mb")?;
        server.stop()?;
        Ok(Self { held_mb, scale: (load / LOAD).max(token / TOKEN) })
    }
}

/// A server with three copies of the model, each of which was loaded once: plans are made, and the file is in memory.
fn server(bench: &Bench, model: &Path, sections: &str) -> Result<Server> {
    let models = MODELS.map(|id| (id, model, "threads = 1"));
    let server = bench.server("trace", &config(bench, ENGINE, sections, &models))?;
    for id in MODELS {
        operation(server.http_port, "load_model", &json!({"model": id}))?;
        operation(server.http_port, "unload_model", &json!({"model": id}))?;
    }
    Ok(server)
}

fn request(number: usize, model: usize, most: u32) -> Value {
    let prompt = tokens(number as u64 + 1, PROMPT);
    json!({"model": MODELS[model], "prompt": prompt, "max_tokens": most, "temperature": 0})
}

fn played_by_server(bench: &Bench, model: &Path, machine: &Machine, arrivals: &[Arrival]) -> Result<Outcome> {
    let budget = format!("[memory]\nbudget = \"{:.0} MB\"", machine.held_mb * 2.5);
    let server = server(bench, model, &budget)?;
    let port = server.http_port;
    let evictions = || -> Result<u64> {
        let stats = operation(port, "get_stats", &json!({}))?;
        stats["metrics"]["evictions"].as_u64().context("the server tells no evictions")
    };
    let before = evictions()?;
    let waits = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let (tell, told) = channel();
        let begun = Instant::now();
        for (number, &arrival) in arrivals.iter().enumerate() {
            std::thread::sleep((begun + arrival.at).saturating_duration_since(Instant::now()));
            let (tell, came) = (tell.clone(), Instant::now());
            scope.spawn(move || {
                let answer = ask(port, "/v1/completions", request(number, arrival.model, arrival.tokens));
                // Nobody listens any more when another one has failed.
                _ = tell.send(answer.and_then(|answer| wait(&answer, came)));
            });
        }
        drop(tell);
        told.into_iter().collect()
    })?;
    let swaps = evictions()? - before;
    server.stop()?;
    Ok(Outcome::live(swaps, &waits))
}

fn played_by_proxy(bench: &Bench, model: &Path, arrivals: &[Arrival]) -> Result<Outcome> {
    let server = server(bench, model, "")?;
    let (swaps, waits) = proxy::play(server.http_port, arrivals)?;
    server.stop()?;
    Ok(Outcome::live(swaps, &waits))
}

/// From the moment a request came to its first text, seconds.
fn wait(answer: &Answer, came: Instant) -> Result<f64> {
    let first = answer.texts.first().context("the answer holds no text")?;
    Ok(first.duration_since(came).as_secs_f64())
}

impl Outcome {
    fn simulated(figures: &Value) -> Result<Self> {
        let number = |key: &str| figures[key].as_f64().with_context(|| format!("the simulator tells no {key}"));
        ensure!(figures["unanswered"] == 0, "the simulator left requests unanswered");
        Ok(Self {
            swaps_per_request: number("swaps_per_request")?,
            wait_p95_s: number("wait_p95_s")?,
            wait_max_s: number("wait_max_s")?,
        })
    }

    fn live(swaps: u64, waits: &[f64]) -> Self {
        Self {
            swaps_per_request: swaps as f64 / waits.len() as f64,
            wait_p95_s: quantile(waits, 0.95),
            wait_max_s: quantile(waits, 1.0),
        }
    }
}

fn compared(how: &str, own: &[Outcome], other: &[Outcome]) -> Vec<Figure> {
    let all = |of: fn(&Outcome) -> f64, outcomes: &[Outcome]| outcomes.iter().map(of).collect::<Vec<f64>>();
    let pair = |what: &str, unit: &'static str, of: fn(&Outcome) -> f64| {
        let (own, other) = (all(of, own), all(of, other));
        let value = |whose: &str, values: &[f64]| Figure::median(format!("{how}: {what}, {whose}"), unit, values);
        let ratio = Figure::median(format!("{how}: {what}, own / first come first served"), "x", &ratios(&own, &other));
        (value("own", &own), value("first come first served", &other), ratio)
    };
    let (swaps, other_swaps, swap_ratio) = pair("swaps per request", "", |outcome| outcome.swaps_per_request);
    let (p95, other_p95, p95_ratio) = pair("wait p95", "s", |outcome| outcome.wait_p95_s);
    let (longest, other_longest, longest_ratio) = pair("longest wait", "s", |outcome| outcome.wait_max_s);
    vec![
        swaps,
        other_swaps,
        swap_ratio.below(1.0),
        p95,
        other_p95,
        p95_ratio.below(1.0),
        longest,
        other_longest,
        longest_ratio.at_most(1.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_stretched() {
        let trace = json!({"arrivals": [{"at": {"secs": 2, "nanos": 500_000_000}, "model": 1, "tokens": 7}]});
        let all = arrivals(&trace, 2.0).expect("a trace");
        assert_eq!((all[0].at, all[0].model, all[0].tokens), (Duration::from_secs(5), 1, 7));
        let unknown = json!({"arrivals": [{"at": {"secs": 2, "nanos": 0}, "model": 3, "tokens": 7}]});
        assert!(arrivals(&unknown, 1.0).is_err());
    }
}
