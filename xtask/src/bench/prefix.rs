//! Time to first token of a prompt that shares its beginning with an earlier one: while that is still in its slot, after the slot went to
//! another prompt, and after the model was unloaded and loaded again.

use anyhow::Result;
use serde_json::json;

use super::Bench;
use super::figure::{Figure, ratios};
use super::setup::{Peer, config, tokens};
use super::stream::{ask, operation};
use crate::random_model::Size;

/// What the prompts share, and what each has of its own behind it, tokens.
const SHARED: usize = 400;
const OWN: usize = 20;
/// The prompt that takes the slot away.
const OTHER: usize = 200;
const CONTEXT: u32 = 1024;
const MODEL: &str = "m";
/// The share of the cold time that is allowed.
const AIM: f64 = 0.25;

/// Seconds to the first token, of all rounds.
#[derive(Default)]
struct Measured {
    cold: Vec<f64>,
    warm: Vec<f64>,
    evicted: Vec<f64>,
    reloaded: Vec<f64>,
    peer_cold: Vec<f64>,
    peer_warm: Vec<f64>,
    peer_evicted: Vec<f64>,
}

pub(super) fn prefix(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for size in [Size::Small, Size::Large] {
        figures.extend(of_model(bench, size)?);
    }
    Ok(figures)
}

fn of_model(bench: &Bench, size: Size) -> Result<Vec<Figure>> {
    let model = bench.model(size)?;
    // With one slot, any other prompt takes it away.
    let engine = format!("slots = 1\ncontext_length = {CONTEXT}");
    let server = bench.server("prefix", &config(bench, &engine, "", &[(MODEL, model.as_path(), "")]))?;
    let peer = Peer::start(bench, "prefix", &model, 1, CONTEXT)?;
    let (port, args) = (server.http_port, json!({"model": MODEL}));
    operation(port, "load_model", &args)?;
    first(port, &tokens(1, OTHER))?;

    let mut measured = Measured::default();
    for round in 0..bench.rounds {
        eprintln!("bench: {}, round {} of {}", size.name(), round + 1, bench.rounds);
        let prompts = Prompts(1000 * (round as u64 + 1));
        measured.cold.push(first(port, &prompts.with(1))?);
        measured.warm.push(first(port, &prompts.with(2))?);
        first(port, &prompts.other())?;
        measured.evicted.push(first(port, &prompts.with(3))?);
        operation(port, "unload_model", &args)?;
        operation(port, "load_model", &args)?;
        measured.reloaded.push(first(port, &prompts.with(4))?);
        if let Some(Peer { port, .. }) = peer {
            measured.peer_cold.push(first(port, &prompts.with(1))?);
            measured.peer_warm.push(first(port, &prompts.with(2))?);
            first(port, &prompts.other())?;
            measured.peer_evicted.push(first(port, &prompts.with(3))?);
        }
    }
    server.stop()?;
    Ok(measured.figures(size))
}

/// The prompts of a round.
struct Prompts(u64);

impl Prompts {
    /// What is shared, and behind it what belongs to `number` alone.
    fn with(&self, number: u64) -> Vec<u64> {
        [tokens(self.0, SHARED), tokens(self.0 + number, OWN)].concat()
    }

    fn other(&self) -> Vec<u64> {
        tokens(self.0 + 999, OTHER)
    }
}

fn first(port: u16, prompt: &[u64]) -> Result<f64> {
    ask(port, "/v1/completions", json!({"model": MODEL, "prompt": prompt, "max_tokens": 2, "temperature": 0}))?.first()
}

impl Measured {
    fn figures(&self, size: Size) -> Vec<Figure> {
        let name = |what: &str| format!("{}, first token: {what}", size.name());
        let share = |what: &str, times: &[f64], cold: &[f64]| Figure::median(name(what), "x", &ratios(times, cold));
        let cold: Vec<f64> = self.cold.iter().map(|seconds| seconds * 1e3).collect();
        let mut figures = vec![
            Figure::median(name(&format!("cold, {} tokens", SHARED + OWN)), "ms", &cold),
            share("prefix in its slot / cold", &self.warm, &self.cold).at_most(AIM),
            share("slot evicted / cold", &self.evicted, &self.cold).at_most(AIM),
            share("model unloaded and loaded / cold", &self.reloaded, &self.cold).at_most(AIM),
        ];
        if !self.peer_cold.is_empty() {
            figures.push(share("cold / llama-server's cold", &self.cold, &self.peer_cold));
            figures.push(share("llama-server: prefix in its slot / cold", &self.peer_warm, &self.peer_cold));
            figures.push(share("llama-server: slot evicted / cold", &self.peer_evicted, &self.peer_cold));
        }
        figures
    }
}
