//! `mms bench`: how fast a server answers: time to first token and tokens per second at several numbers of streams, and for a suite
//! the times of loads and swaps. Every prompt begins differently, so that none is answered from another's cache. Ctrl-C ends it, and what
//! was measured until then is printed.

mod door;
mod levels;
mod loads;
mod prompt;
mod report;

use std::cell::RefCell;

use mms_client::ClientError;
use serde_json::{Map, Value};

use self::door::Door;
use self::levels::Load;
use self::prompt::Prompts;
use self::report::Report;
use super::ask::{PATIENT, QUICK, Server};
use crate::cli::{BenchArgs, Over};
use crate::exit::Failure;
use crate::output::Progress;

/// Answers of the warm-up are not longer than this.
const WARM_UP_TOKENS: u32 = 8;

pub(super) async fn run(args: &BenchArgs) -> Result<(), Failure> {
    let server = Server::of(&args.target)?;
    let door = door(args, &server)?;
    let model = model(args, &server, &door).await?;
    let report = RefCell::new(Report::new(&door, &model, args));
    let progress = server.output.progress("warming up");
    let bench = Bench { args, server: &server, door: &door, model: &model, report: &report, progress: &progress };
    let outcome = tokio::select! {
        outcome = bench.measure() => outcome,
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            report.borrow_mut().interrupted = true;
            Err(Failure::CTRL_C)
        }
    };
    drop(progress);
    let mut report = report.into_inner();
    if let Err(failure) = &outcome {
        report.note(failure.to_string());
    }
    // With nothing measured the reason is all there is to say.
    if outcome.is_ok() || !report.is_empty() {
        server.output.either(&report.json(), || report.text())?;
    }
    outcome?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(Failure::Requests { failed, all: report.requests() }),
    }
}

fn door(args: &BenchArgs, server: &Server) -> Result<Door, Failure> {
    let key = match &args.api_key_env {
        None => None,
        Some(name) => {
            let key = std::env::var(name);
            Some(key.map_err(|error| Failure::Usage(format!("--api-key-env {name}: {error}")))?)
        }
    };
    let timeout = server.timeout(PATIENT);
    match (&args.url, args.over) {
        (Some(url), _) => Ok(Door::http(url, "", key.as_deref(), timeout)?),
        (None, Over::Http) => Ok(Door::http(&server.endpoints.http, "/v1", key.as_deref(), timeout)?),
        (None, Over::Zmq) => Ok(Door::zmq(&server.endpoints.main, timeout)),
    }
}

/// The model that was named; else the one that the suite takes for `fast`, or the first of an endpoint.
async fn model(args: &BenchArgs, server: &Server, door: &Door) -> Result<String, Failure> {
    if let Some(model) = &args.model {
        return Ok(model.clone());
    }
    if args.url.is_some() {
        return Ok(door.first_model().await?);
    }
    let status = server.call("status", Map::new(), QUICK).await?;
    let fast = status.get("routing_policy").and_then(|policy| policy.get("fast")).and_then(Value::as_str);
    fast.map(str::to_owned).ok_or_else(|| Failure::Usage("the server has no model; name one with --model".to_owned()))
}

/// What is measured, and where it is noted while it goes on.
struct Bench<'a> {
    args: &'a BenchArgs,
    server: &'a Server,
    door: &'a Door,
    model: &'a str,
    report: &'a RefCell<Report>,
    progress: &'a Progress,
}

impl Bench<'_> {
    async fn measure(&self) -> Result<(), Failure> {
        let prompts = RefCell::new(self.warm_up().await?);
        let parts = self.args.concurrency.len() + usize::from(self.args.loads);
        for (index, &concurrency) in self.args.concurrency.iter().enumerate() {
            self.step(&format!("{concurrency} at once"), index, parts);
            let (requests, tokens) = (self.args.requests, self.args.tokens);
            let load = Load { door: self.door, model: self.model, prompts: &prompts, concurrency, requests, tokens };
            load.run(self.report).await;
            if !self.report.borrow().last_level_answered() {
                let why = format!("no request was answered at concurrency {concurrency}, so no more were sent");
                self.report.borrow_mut().note(why);
                return Ok(());
            }
        }
        if self.args.loads {
            self.step("loads and swaps", parts - 1, parts);
            loads::run(self.args, self.server, self.model, self.report).await?;
        }
        Ok(())
    }

    /// Loads the model, and finds how many words make up the wanted number of tokens. Its failure is that of the command.
    async fn warm_up(&self) -> Result<Prompts, ClientError> {
        let mut prompts = Prompts::new(self.args.prompt_tokens);
        let mut connection = self.door.connect().await?;
        // The second prompt is of about the wanted length already; its count makes the guess good.
        for _ in 0..2 {
            let sample = connection.ask(self.model, &prompts.next(), self.args.tokens.min(WARM_UP_TOKENS)).await?;
            prompts.learn(sample.usage.map(|usage| usage.prompt_tokens));
        }
        Ok(prompts)
    }

    fn step(&self, what: &str, index: usize, parts: usize) {
        self.progress.part(index as f64 / parts.max(1) as f64, what);
    }
}
