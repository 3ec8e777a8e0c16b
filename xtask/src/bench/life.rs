//! The life of a server: start to ready, memory when ready, first token and speed of the built-in model.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::Bench;
use super::figure::Figure;
use super::stream::ask;
use crate::server::Server;

/// Starts that are measured.
const STARTS: usize = 5;

pub(super) fn life(bench: &Bench) -> Result<Vec<Figure>> {
    let (mut ready, mut resident, mut first, mut speed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (server, took) = bench.started("life", "")?;
        ready.push(millis(took));
        resident.push(server.resident_mb()?);
        let (first_token, per_second) = first_answer(&server)?;
        first.push(millis(first_token));
        speed.push(per_second);
        server.stop()?;
    }
    Ok(vec![
        Figure::median("start to ready, no model resident", "ms", &ready).at_most(150.0),
        Figure::median("resident memory when ready", "MB", &resident).at_most(25.0),
        Figure::median("start to first token, built-in model", "ms", &first).at_most(1000.0),
        Figure::median("built-in model, one stream", "tokens/s", &speed),
    ])
}

/// Asks at once and streams: time of the first text since the server's start, and tokens per second from then on.
fn first_answer(server: &Server) -> Result<(Duration, f64)> {
    let body = json!({
        "model": "mms-demo",
        "messages": [{"role": "user", "content": "What is this product?"}],
        "temperature": 0, "max_tokens": 128,
    });
    let answer = ask(server.http_port, "/v1/chat/completions", body)?;
    let first = *answer.texts.first().context("the answer holds no text")?;
    Ok((first.duration_since(server.started()), answer.speed()))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
