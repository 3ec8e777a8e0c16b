//! Tokens per second through the suite, over ZeroMQ and HTTP, beside a plain llama.cpp loop in the same worker program that decodes as
//! many streams in one batch; and what guessing tokens adds.

use anyhow::Result;
use serde_json::json;

use super::Bench;
use super::figure::{Figure, ratios};
use super::setup::{Load, Peer, Speed, config, target};
use super::stream::operation;
use crate::random_model::Size;

/// Sequences of the server, and context of each.
const SLOTS: u32 = 8;
const CONTEXT: u32 = 1024;
/// Tokens of each prompt, about: the plain loop gets as many as there turned out to be.
const PROMPT: u64 = 24;
/// Streams, tokens of each answer, and the share of the plain loop's speed that the suite should reach.
const LEVELS: [(u32, u32, f64); 3] = [(1, 96, 0.97), (4, 64, 0.95), (8, 64, 0.95)];
/// The model with and without guesses.
const OFF: &str = "off";
const AUTO: &str = "auto";

/// One level in all rounds.
#[derive(Default)]
struct Measured {
    plain: Vec<Speed>,
    zmq: Vec<Speed>,
    http: Vec<Speed>,
    auto: Vec<Speed>,
    peer: Vec<Speed>,
}

pub(super) fn throughput(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for size in [Size::Small, Size::Large] {
        figures.extend(of_model(bench, size)?);
    }
    Ok(figures)
}

fn of_model(bench: &Bench, size: Size) -> Result<Vec<Figure>> {
    let model = bench.model(size)?;
    let models = [(OFF, model.as_path(), ""), (AUTO, model.as_path(), "speculation = \"auto\"")];
    let engine = format!("slots = {SLOTS}\ncontext_length = {CONTEXT}");
    let server = bench.server("throughput", &config(bench, &engine, "", &models))?;
    let peer = Peer::start(bench, "throughput", &model, SLOTS, CONTEXT)?;
    let (zmq, http) = (target(&server, "zmq"), target(&server, "http"));
    let (zmq, http) = (zmq.each_ref().map(String::as_str), http.each_ref().map(String::as_str));
    for id in [OFF, AUTO] {
        operation(server.http_port, "load_model", &json!({"model": id}))?;
    }
    // The first answers are slower than all others.
    let warm = Load { streams: 1, prompt_tokens: PROMPT, tokens: 8 };
    let prompt_tokens = warm.asked(bench, &zmq, OFF)?.prompt_tokens;

    let mut levels: [Measured; LEVELS.len()] = Default::default();
    for round in 0..bench.rounds {
        for (measured, (streams, tokens, _)) in levels.iter_mut().zip(LEVELS) {
            eprintln!("bench: {}, round {} of {}, {streams} streams", size.name(), round + 1, bench.rounds);
            let load = Load { streams, prompt_tokens: PROMPT, tokens };
            let plain = Load { prompt_tokens, ..load };
            // Whatever else the machine does hits all of them, and none is always the first.
            for turn in 0..3 {
                match (turn + round) % 3 {
                    0 => measured.plain.push(plain.plain(bench, &model, CONTEXT)?),
                    1 => measured.zmq.push(load.asked(bench, &zmq, OFF)?),
                    _ => measured.http.push(load.asked(bench, &http, OFF)?),
                }
            }
            if streams < SLOTS {
                measured.auto.push(load.asked(bench, &http, AUTO)?);
            }
            if let Some(peer) = &peer {
                measured.peer.push(load.asked(bench, &peer.target().each_ref().map(String::as_str), "any")?);
            }
        }
    }
    server.stop()?;
    Ok(levels
        .iter()
        .zip(LEVELS)
        .flat_map(|(measured, (streams, _, aim))| measured.figures(size, streams, aim))
        .collect())
}

impl Measured {
    fn figures(&self, size: Size, streams: u32, aim: f64) -> Vec<Figure> {
        let of = |speeds: &[Speed]| speeds.iter().map(|speed| speed.whole).collect::<Vec<f64>>();
        let one = |speeds: &[Speed]| speeds.iter().map(|speed| speed.decoding).collect::<Vec<f64>>();
        let streams = if streams == 1 { "1 stream".to_owned() } else { format!("{streams} streams") };
        let name = |what: &str| format!("{}, {streams}: {what}", size.name());
        let ratio =
            |what: &str, value: &[Speed], to: &[Speed]| Figure::median(name(what), "x", &ratios(&of(value), &of(to)));
        let mut figures = vec![
            Figure::median(name("plain loop, prompts included"), "tokens/s", &of(&self.plain)),
            ratio("ZeroMQ / plain loop", &self.zmq, &self.plain).at_least(aim),
            ratio("HTTP / plain loop", &self.http, &self.plain).at_least(aim),
            Figure::median(
                name("HTTP / plain loop, after the first token"),
                "x",
                &ratios(&one(&self.http), &one(&self.plain)),
            ),
        ];
        if !self.auto.is_empty() {
            figures.push(ratio("speculation auto / off", &self.auto, &self.http).at_least(aim));
        }
        if !self.peer.is_empty() {
            figures.push(ratio("HTTP / llama-server", &self.http, &self.peer));
        }
        figures
    }
}
