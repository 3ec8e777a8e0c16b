//! `mms eval run`: the tasks of a suite, asked of a model one after the other, judged, and kept as an evaluation. Nothing is kept before
//! the last task, so what is ended half way leaves nothing.

use std::cell::RefCell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mms_client::{Client, ClientError};
use serde_json::{Map, Value, json};

use super::super::ask::{PATIENT, QUICK, Server, args, text};
use super::super::wait::Waiting;
use super::score::{Outcome, Scores};
use super::suite::{self, Suite, Task};
use crate::cli::EvalRun;
use crate::exit::Failure;
use crate::output::{pairs, table};

/// Longest id of a cycle that the server keeps, bytes.
const MAX_CYCLE: usize = 1024;
/// Most tasks that are named below the table.
const NAMED: usize = 10;

pub(super) async fn run(command: &EvalRun) -> Result<(), Failure> {
    let suite = suite::read(&command.suite, command.max_tokens)?;
    let cycle = command.cycle.clone().unwrap_or_else(|| format!("{}-{}", suite.name, now()));
    if cycle.trim().is_empty() || cycle.len() > MAX_CYCLE {
        return Err(Failure::Usage(format!("--cycle must have 1 to {MAX_CYCLE} bytes")));
    }
    let server = Server::of(&command.target)?;
    let mut client = server.connect(PATIENT).await?;
    let outcomes = RefCell::new(Vec::new());
    let outcome = tokio::select! {
        outcome = ask_all(command, &server, &mut client, &suite, &outcomes) => outcome.map(|()| false),
        pressed = tokio::signal::ctrl_c() => pressed.map(|()| true).map_err(Failure::from),
    };
    let interrupted = outcome?;
    let outcomes = outcomes.into_inner();
    if outcomes.is_empty() {
        return Err(Failure::CTRL_C);
    }
    let run = Run { command, suite: &suite, cycle: &cycle, scores: Scores::new(&suite, &outcomes), interrupted };
    let kept =
        if command.no_store || (interrupted && !command.keep_partial) { Ok(None) } else { run.keep(&server).await };
    let mut report = run.report(kept.as_ref().ok().and_then(Option::as_deref));
    report.insert("results".to_owned(), outcomes.iter().map(Outcome::json).collect());
    server.output.either(&Value::Object(report), || run.shown(&kept, &outcomes))?;
    kept?;
    if interrupted {
        return Err(Failure::CTRL_C);
    }
    match command.fail_under {
        Some(least) if run.scores.accuracy < least => Err(Failure::Accuracy { accuracy: run.scores.accuracy, least }),
        Some(_) | None => Ok(()),
    }
}

/// Loads the model, which is no part of anybody's latency, and asks the tasks. A task that is refused or not answered in time counts as
/// wrong; without a server there are no figures.
async fn ask_all(
    command: &EvalRun,
    server: &Server,
    client: &mut Client,
    suite: &Suite,
    outcomes: &RefCell<Vec<Outcome>>,
) -> Result<(), Failure> {
    let mut waiting = Waiting::new(server, &command.model, "loading");
    waiting.during(client.call("load_model", args([("model", command.model.as_str().into())]))).await?;
    drop(waiting);
    client.set_timeout(command.task_timeout);
    let progress = server.output.progress("asking");
    let all = suite.tasks.len();
    for (number, task) in suite.tasks.iter().enumerate() {
        progress.part(number as f64 / all as f64, &format!("{} of {all}: {}", number + 1, task.id));
        let begun = Instant::now();
        let answer = match client.call("generate_text", request(command, task)).await {
            Ok(reply) => Ok(text(&reply, "text").to_owned()),
            Err(error @ (ClientError::Refused(_) | ClientError::Timeout { .. })) => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        outcomes.borrow_mut().push(Outcome::new(task, &suite.labels, answer, begun.elapsed()));
    }
    Ok(())
}

fn request(command: &EvalRun, task: &Task) -> Map<String, Value> {
    let mut request = args([
        ("model", command.model.as_str().into()),
        ("prompt", task.prompt.as_str().into()),
        ("max_tokens", task.max_tokens.into()),
        ("temperature", command.temperature.into()),
        ("seed", command.seed.into()),
    ]);
    request.extend(task.system.as_deref().map(|system| ("system_prompt".to_owned(), system.into())));
    request
}

/// The first ones, and how many more.
fn named(ids: &[String]) -> String {
    let shown = ids[..ids.len().min(NAMED)].join(", ");
    if ids.len() > NAMED { format!("{shown} and {} more", ids.len() - NAMED) } else { shown }
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    mms_protocol::time::iso_utc(since.map_or(0.0, |since| since.as_secs_f64().floor()))
}

/// A run that has ended.
struct Run<'a> {
    command: &'a EvalRun,
    suite: &'a Suite,
    cycle: &'a str,
    scores: Scores,
    interrupted: bool,
}

impl Run<'_> {
    /// Stores the evaluation; gives its id.
    async fn keep(&self, server: &Server) -> Result<Option<String>, Failure> {
        let mut data = self.scores.details();
        data["suite"] = self.suite.name.as_str().into();
        data["tasks_of_suite"] = self.suite.tasks.len().into();
        data["temperature"] = self.command.temperature.into();
        data["seed"] = self.command.seed.into();
        let mut evaluation = args([
            ("model_name", self.command.model.as_str().into()),
            ("cycle_id", self.cycle.into()),
            ("trust_score", self.scores.trust.into()),
            ("accuracy", self.scores.accuracy.into()),
            ("comparison_data", data),
        ]);
        evaluation.extend(self.scores.f1().map(|f1| ("f1_score".to_owned(), f1.into())));
        evaluation.extend(self.scores.latency_ms.map(|[mean, ..]| ("avg_latency_ms".to_owned(), mean.into())));
        let reply = server.call("log_model_evaluation", evaluation, QUICK).await?;
        Ok(Some(text(&reply, "evaluation_id").to_owned()))
    }

    fn report(&self, evaluation_id: Option<&str>) -> Map<String, Value> {
        let mut report = args([
            ("model_name", self.command.model.as_str().into()),
            ("suite", self.suite.name.as_str().into()),
            ("cycle_id", self.cycle.into()),
            ("evaluation_id", json!(evaluation_id)),
            ("interrupted", self.interrupted.into()),
            ("tasks_of_suite", self.suite.tasks.len().into()),
            ("accuracy", self.scores.accuracy.into()),
            ("f1_score", json!(self.scores.f1())),
            ("trust_score", self.scores.trust.into()),
        ]);
        if let Value::Object(details) = self.scores.details() {
            report.extend(details);
        }
        report
    }

    fn shown(&self, kept: &Result<Option<String>, Failure>, outcomes: &[Outcome]) -> String {
        let scores = &self.scores;
        let asked = match self.interrupted {
            true => format!("{} of {}, interrupted", scores.tasks, self.suite.tasks.len()),
            false => scores.tasks.to_string(),
        };
        let mut lines = vec![
            ("model", self.command.model.clone()),
            ("cycle", self.cycle.to_owned()),
            ("tasks", asked),
            ("accuracy", format!("{:.4} ({} right)", scores.accuracy, scores.right)),
        ];
        lines.extend((!scores.failed.is_empty()).then(|| ("failed", named(&scores.failed))));
        lines.extend(scores.token_f1.map(|f1| ("token F1", format!("{f1:.4}"))));
        let of_labels = |(micro, r#macro): (f64, f64)| format!("micro {micro:.4}, macro {macro:.4}", r#macro = r#macro);
        lines.extend(scores.label_f1.map(|f1| ("label F1", of_labels(f1))));
        let latency = |[mean, p50, p95]: [f64; 3]| format!("mean {mean:.1} ms, p50 {p50:.1} ms, p95 {p95:.1} ms");
        lines.extend(scores.latency_ms.map(|figures| ("latency", latency(figures))));
        lines.push(("trust score", format!("{:.4}", scores.trust)));
        lines.push((
            "evaluation",
            match kept {
                Ok(Some(id)) => id.clone(),
                Ok(None) => "not stored".to_owned(),
                Err(failure) => format!("not stored: {failure}"),
            },
        ));
        let rows = outcomes.iter().map(Outcome::row).collect();
        format!("{}\n{}", table(&["TASK", "VERDICT", "MS", "ANSWER"], rows, &[2]), pairs(&lines))
    }
}
