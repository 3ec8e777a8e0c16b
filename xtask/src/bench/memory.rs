//! What models were estimated to take before their first load, beside what their processes were measured to hold: after the load, and
//! with an answer behind them.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::figure::Figure;
use super::setup::{config, tokens};
use super::stream::{ask, operation};
use crate::random_model::Size;
use crate::server::Server;

const MODELS: [(&str, Size); 2] = [("130m", Size::Small), ("1.1b", Size::Large)];
const CONTEXTS: [u32; 3] = [512, 4096, 16_384];
const CACHES: [&str; 2] = ["f16", "q8_0"];
/// Of what was measured, percent.
const AIM: f64 = 5.0;
/// The server measures each second.
const MEASURED_AGAIN: Duration = Duration::from_millis(2500);
/// So many that the largest step is computed, where the machine is fast enough for one.
const PROMPT: usize = 500;

/// One way to load a model.
struct Row {
    id: String,
    size: Size,
    settings: String,
    /// Tokens of a prompt that fits.
    prompt: usize,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, size) in MODELS {
        for context in CONTEXTS {
            for cache in CACHES {
                let settings =
                    format!("context_length = {context}\ncache_type_k = \"{cache}\"\ncache_type_v = \"{cache}\"");
                let prompt = PROMPT.min(context as usize - 12);
                rows.push(Row { id: format!("{name}-{context}-{cache}"), size, settings, prompt });
            }
        }
    }
    rows
}

pub(crate) fn memory(bench: &Bench) -> Result<Vec<Figure>> {
    let files = [bench.model(Size::Small)?, bench.model(Size::Large)?];
    let rows = rows();
    let entries: Vec<_> = rows
        .iter()
        .map(|row| (row.id.as_str(), files[usize::from(row.size == Size::Large)].as_path(), row.settings.as_str()))
        .collect();
    let server = bench.server("memory", &config(bench, "", "[memory]\nbudget = \"90%\"", &entries))?;
    let mut figures = Vec::new();
    for (number, row) in (1..).zip(&rows) {
        eprintln!("bench: {}", row.id);
        operation(server.http_port, "load_model", &json!({"model": row.id}))?;
        let loaded = Seen::of(&server, &row.id)?;
        let prompt = tokens(number, row.prompt);
        let request = json!({"model": row.id, "prompt": prompt, "max_tokens": 8, "temperature": 0});
        ask(server.http_port, "/v1/completions", request)?;
        sleep(MEASURED_AGAIN);
        let worked = Seen::of(&server, &row.id)?;
        operation(server.http_port, "unload_model", &json!({"model": row.id}))?;
        figures.push(Figure::new(format!("{}: estimated", row.id), "MiB", loaded.estimated));
        figures.push(Figure::new(format!("{}: measured after the load", row.id), "MiB", loaded.measured));
        figures.push(Figure::new(format!("{}: measured after an answer", row.id), "MiB", worked.measured));
        let off = loaded.off().abs().max(worked.off().abs());
        figures.push(Figure::new(format!("{}: estimate off by, the worse of both", row.id), "%", off).at_most(AIM));
    }
    server.stop()?;
    Ok(figures)
}

/// What the server shows of a model, MiB.
struct Seen {
    estimated: f64,
    measured: f64,
}

impl Seen {
    fn of(server: &Server, id: &str) -> Result<Self> {
        let reply = operation(server.http_port, "list_models", &json!({}))?;
        let models = reply["models"].as_array().context("list_models tells no models")?;
        let model = models.iter().find(|model| model["model_id"] == id).with_context(|| format!("no model {id}"))?;
        ensure!(model["estimate_source"] == "plan", "{id} was not planned: {model}");
        let figure = |key: &str| figure(model, key);
        let (estimated, error) = (figure("estimated_vram_mb")?, figure("estimate_error_mb")?);
        // What was measured of the load, without KV states that were put aside since.
        Ok(Self { estimated, measured: estimated + error })
    }

    /// Percent of what was measured; above 0: more was measured than estimated.
    fn off(&self) -> f64 {
        (self.measured - self.estimated) / self.measured * 100.0
    }
}

fn figure(model: &Value, key: &str) -> Result<f64> {
    model[key].as_f64().with_context(|| format!("no {key}: {model}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_ways_to_load() {
        let rows = rows();
        let ids: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!((rows.len(), ids.len()), (12, 12));
        assert!(rows.iter().all(|row| (row.prompt + 8) < 512));
    }

    #[test]
    fn an_error_is_part_of_what_was_measured() {
        assert_eq!(Seen { estimated: 90.0, measured: 100.0 }.off(), 10.0);
        assert_eq!(Seen { estimated: 110.0, measured: 100.0 }.off(), -10.0);
    }
}
