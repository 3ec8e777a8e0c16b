//! A long prompt that arrives while answers of the same model are streamed: how long the streams stall, and how much later than alone it
//! has its own first token.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Bench;
use super::figure::{Figure, median, ratios};
use super::setup::{Peer, config};
use super::stream::{Answer, ask, listen};
use crate::random_model::Size;

const STREAMS: usize = 3;
/// Words of the prompt that arrives.
const WORDS: usize = 900;
const CONTEXT: u32 = 4096;
const MODEL: &str = "m";
/// Pieces that each stream has had before the prompt arrives: their gaps are the usual ones.
const USUAL: usize = 40;
/// Rounds take long, and tell much alike.
const MOST_ROUNDS: usize = 3;
/// Longest wait for a stream's next piece.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds, of all rounds.
#[derive(Default)]
struct Measured {
    usual: Vec<f64>,
    longest: Vec<f64>,
    alone: Vec<f64>,
    beside: Vec<f64>,
}

pub(super) fn prompt_beside_streams(bench: &Bench) -> Result<Vec<Figure>> {
    let model = bench.model(Size::Large)?;
    let slots = STREAMS as u32 + 1;
    let engine = format!("slots = {slots}\ncontext_length = {CONTEXT}");
    let server = bench.server("beside", &config(bench, &engine, "", &[(MODEL, model.as_path(), "")]))?;
    let own = rounds(bench, server.http_port)?;
    server.stop()?;
    let mut figures = own.figures("");
    // One after the other: the threads of both would be in each other's way.
    if let Some(peer) = Peer::start(bench, "beside", &model, slots, CONTEXT)? {
        figures.extend(rounds(bench, peer.port)?.figures("llama-server: "));
    }
    Ok(figures)
}

fn rounds(bench: &Bench, port: u16) -> Result<Measured> {
    let mut measured = Measured::default();
    ask(port, "/v1/completions", request("Warm up.".to_owned(), 8))?;
    let rounds = bench.rounds.min(MOST_ROUNDS);
    for round in 0..rounds {
        eprintln!("bench: round {} of {rounds}", round + 1);
        measured.alone.push(ask(port, "/v1/completions", request(prompt(2 * round), 2))?.first()?);
        beside(port, prompt(2 * round + 1), &mut measured)?;
    }
    Ok(measured)
}

fn beside(port: u16, prompt: String, measured: &mut Measured) -> Result<()> {
    let enough = AtomicBool::new(false);
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                let (tell, enough) = (tell.clone(), &enough);
                scope.spawn(move || stream(port, number, &tell, enough))
            })
            .collect();
        drop(tell);
        let asked = wait(&told).and_then(|()| ask(port, "/v1/completions", request(prompt, 2)));
        enough.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for stream in streams {
            match stream.join() {
                Ok(answer) => answers.push(answer?),
                Err(_) => bail!("a stream's thread panicked"),
            }
        }
        let asked = asked?;
        let first = *asked.texts.first().context("the answer holds no text")?;
        let gaps = |from: Instant, to: Instant| answers.iter().flat_map(move |answer| gaps(answer, from, to));
        let begun = answers.iter().map(|answer| answer.asked).min().unwrap_or(asked.asked);
        let usual: Vec<f64> = gaps(begun, asked.asked).collect();
        measured.usual.push(median(&usual));
        measured.longest.push(gaps(asked.asked, first).fold(0.0, f64::max));
        measured.beside.push(asked.first()?);
        Ok(())
    })
}

/// An answer that goes on until there is `enough`; each of its first pieces is told.
fn stream(port: u16, number: usize, tell: &Sender<()>, enough: &AtomicBool) -> Result<Answer> {
    let mut pieces = 0;
    let body = request(format!("Stream {number} tells a long story."), CONTEXT / 2);
    listen(port, "/v1/completions", body, |_| {
        pieces += 1;
        if pieces == USUAL {
            // Who waits has given up when nobody listens.
            _ = tell.send(());
        }
        !enough.load(Ordering::Relaxed)
    })
}

/// Until every stream runs.
fn wait(told: &Receiver<()>) -> Result<()> {
    for _ in 0..STREAMS {
        told.recv_timeout(PATIENCE).context("a stream did not run")?;
    }
    Ok(())
}

/// Seconds between pieces, of those gaps that end between the two moments.
fn gaps(answer: &Answer, from: Instant, to: Instant) -> impl Iterator<Item = f64> + '_ {
    let pairs = answer.texts.windows(2).filter(move |pair| pair[1] > from && pair[1] <= to);
    pairs.map(|pair| pair[1].duration_since(pair[0]).as_secs_f64())
}

fn request(prompt: String, tokens: u32) -> Value {
    json!({"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0})
}

/// So many words that begin with a number of their own.
fn prompt(number: usize) -> String {
    const COMMON: [&str; 12] =
        ["the", "river", "was", "long", "and", "house", "stood", "near", "water", "people", "came", "from"];
    let words = (1..WORDS).map(|index| COMMON[(index * 5 + number * 7 + index / COMMON.len()) % COMMON.len()]);
    format!("{} {}", 7919 * (number + 1), words.collect::<Vec<_>>().join(" "))
}

impl Measured {
    fn figures(&self, whose: &str) -> Vec<Figure> {
        let ms = |seconds: &[f64]| seconds.iter().map(|seconds| seconds * 1e3).collect::<Vec<f64>>();
        let name = |what: &str| format!("{whose}{what}");
        let mut figures = vec![
            Figure::median(name("usual gap between tokens of 3 streams"), "ms", &ms(&self.usual)),
            Figure::median(name("longest gap while the prompt is read"), "ms", &ms(&self.longest)),
            Figure::median(name("longest gap / usual gap"), "x", &ratios(&self.longest, &self.usual)),
            Figure::median(name("prompt of 900 words alone, first token"), "ms", &ms(&self.alone)),
            Figure::median(
                name("prompt beside 3 streams / alone, first token"),
                "x",
                &ratios(&self.beside, &self.alone),
            ),
        ];
        if whose.is_empty() {
            figures[2] = figures[2].clone().at_most(4.0);
            figures[4] = figures[4].clone().at_most(1.5);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_as_many_words_as_they_should_and_differ() {
        assert_eq!(prompt(0).split(' ').count(), WORDS);
        assert_ne!(prompt(0).split(' ').next(), prompt(1).split(' ').next());
    }

    #[test]
    fn gaps_are_those_that_end_in_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let texts = vec![at(0), at(50), at(100), at(400), at(450)];
        let answer = Answer { asked: start, texts, ended: at(450), prompt_tokens: 1, tokens: 5 };
        let ms = |from, to| gaps(&answer, at(from), at(to)).map(|gap| (gap * 1e3).round()).collect::<Vec<_>>();
        assert_eq!(ms(0, 100), [50.0, 50.0]);
        assert_eq!(ms(100, 420), [300.0]);
    }
}
