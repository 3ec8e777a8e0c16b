//! One model takes another's place in a server with room for one: how long that takes, beside the load into an empty server.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use super::Bench;
use super::figure::{Figure, ratios};
use super::setup::{config, tokens};
use super::stream::{ask, operation};
use crate::random_model::Size;
use crate::server::Server;

const MODELS: [(&str, Size); 2] = [("130m", Size::Small), ("1.1b", Size::Large)];
const AIM: f64 = 1.1;

pub(super) fn swaps(bench: &Bench) -> Result<Vec<Figure>> {
    let files = [bench.model(Size::Small)?, bench.model(Size::Large)?];
    let entries = [(MODELS[0].0, files[0].as_path(), ""), (MODELS[1].0, files[1].as_path(), "")];
    let engine = "context_length = 1024";
    let server = bench.server("swaps", &config(bench, engine, "[limits]\nmax_loaded_models = 1", &entries))?;
    let mut bare: [Vec<f64>; 2] = Default::default();
    let mut swaps: [Vec<f64>; 2] = Default::default();
    // The files are read, and the plans are made, before anything is measured.
    for (id, _) in MODELS {
        load(&server, id)?;
    }
    for round in 0..bench.rounds {
        eprintln!("bench: round {} of {}", round + 1, bench.rounds);
        unload(&server, MODELS[1].0)?;
        for (times, (id, _)) in bare.iter_mut().zip(MODELS) {
            times.push(load(&server, id)?);
            unload(&server, id)?;
        }
        load(&server, MODELS[1].0)?;
        for to in [0, 1] {
            // A model that goes has worked.
            let (from, prompt) = (MODELS[1 - to].0, tokens(round as u64, 100));
            let request = json!({"model": from, "prompt": prompt, "max_tokens": 8, "temperature": 0});
            ask(server.http_port, "/v1/completions", request)?;
            swaps[to].push(load(&server, MODELS[to].0)?);
        }
    }
    server.stop()?;
    let mut figures = Vec::new();
    for to in [0, 1] {
        let (id, from) = (MODELS[to].0, MODELS[1 - to].0);
        let ms: Vec<f64> = bare[to].iter().map(|seconds| seconds * 1e3).collect();
        figures.push(Figure::median(format!("load of {id} into an empty server"), "ms", &ms));
        let name = format!("swap {from} -> {id} / load of {id}");
        figures.push(Figure::median(name, "x", &ratios(&swaps[to], &bare[to])).at_most(AIM));
    }
    Ok(figures)
}

/// Seconds until the model is there.
fn load(server: &Server, id: &str) -> Result<f64> {
    let begun = Instant::now();
    operation(server.http_port, "load_model", &json!({"model": id}))?;
    Ok(begun.elapsed().as_secs_f64())
}

fn unload(server: &Server, id: &str) -> Result<Value> {
    operation(server.http_port, "unload_model", &json!({"model": id}))
}
