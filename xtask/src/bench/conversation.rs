//! Time to first token of a conversation's turns, whose history the server keeps: the first turn with a long prompt, and the second with a
//! short one, while nothing else has happened, after another conversation had the slot, and after the model was unloaded and loaded again.

use anyhow::Result;
use serde_json::json;

use super::Bench;
use super::figure::{Figure, ratios};
use super::setup::config;
use super::stream::{ask, operation};
use crate::random_model::Size;

/// Words of a first turn; each is a token or more.
const WORDS: usize = 200;
/// Tokens of each answer.
const ANSWER: u32 = 16;
const CONTEXT: u32 = 2048;
const MODEL: &str = "m";
/// The share of the first turn's time that is allowed.
const AIM: f64 = 0.25;

/// Seconds to the first token, of all rounds.
#[derive(Default)]
struct Measured {
    first: Vec<f64>,
    second: Vec<f64>,
    evicted: Vec<f64>,
    reloaded: Vec<f64>,
}

pub(super) fn conversation(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for size in [Size::Small, Size::Large] {
        figures.extend(of_model(bench, size)?);
    }
    Ok(figures)
}

fn of_model(bench: &Bench, size: Size) -> Result<Vec<Figure>> {
    let model = bench.model(size)?;
    // With one slot, any other conversation takes it away.
    let engine = format!("slots = 1\ncontext_length = {CONTEXT}");
    let server = bench.server("conversation", &config(bench, &engine, "", &[(MODEL, model.as_path(), "")]))?;
    let (port, args) = (server.http_port, json!({"model": MODEL}));
    operation(port, "load_model", &args)?;
    turn(port, "other", &words(1))?;

    let mut measured = Measured::default();
    for round in 0..bench.rounds {
        eprintln!("bench: {}, round {} of {}", size.name(), round + 1, bench.rounds);
        let [plain, evicted, reloaded] = ["plain", "evicted", "reloaded"].map(|what| format!("{what}-{round}"));
        for (id, number) in [(&plain, 3), (&evicted, 5), (&reloaded, 7)] {
            measured.first.push(turn(port, id, &words(number + 1000 * (round + 1)))?);
            if id == &plain {
                measured.second.push(turn(port, id, "And then?")?);
            }
        }
        // The third has the slot.
        measured.evicted.push(turn(port, &evicted, "And then?")?);
        operation(port, "unload_model", &args)?;
        operation(port, "load_model", &args)?;
        measured.reloaded.push(turn(port, &reloaded, "And then?")?);
    }
    server.stop()?;
    Ok(measured.figures(size))
}

/// Words of a kind of their own for each number.
fn words(number: usize) -> String {
    let word =
        |at: usize| ["ship", "model", "tree", "server", "answer", "token", "river"][(at * at + number * (at + 1)) % 7];
    let words: Vec<String> = (0..WORDS).map(|at| format!("{} {}", word(at), (number * 7 + at * number) % 10)).collect();
    format!("{number}: {}", words.join(" "))
}

fn turn(port: u16, conversation: &str, text: &str) -> Result<f64> {
    let body = json!({
        "model": MODEL, "messages": [{"role": "user", "content": text}], "conversation_id": conversation,
        "max_tokens": ANSWER, "temperature": 0,
    });
    ask(port, "/v1/chat/completions", body)?.first()
}

impl Measured {
    fn figures(&self, size: Size) -> Vec<Figure> {
        let name = |what: &str| format!("{}, first token: {what}", size.name());
        let firsts: Vec<f64> = self.first.iter().map(|seconds| seconds * 1e3).collect();
        // Each round has three first turns; the second turns belong to one of them each.
        let of = |nth: usize| self.first.iter().copied().skip(nth).step_by(3).collect::<Vec<f64>>();
        let share = |what: &str, times: &[f64], nth: usize| {
            Figure::median(name(what), "x", &ratios(times, &of(nth))).at_most(AIM)
        };
        vec![
            Figure::median(name("first turn"), "ms", &firsts),
            share("second turn / first", &self.second, 0),
            share("second turn, slot evicted / first", &self.evicted, 1),
            share("second turn, model unloaded and loaded / first", &self.reloaded, 2),
        ]
    }
}
