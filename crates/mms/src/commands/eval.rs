//! `mms eval`: metrics and evaluations of models, logged and looked at.

mod check;
mod export;
mod schema;
mod score;
mod suite;
mod tasks;

use mms_client::Client;
use serde_json::{Map, Value, json};

use super::ask::{QUICK, Server, args, text};
use crate::cli::{EvalAction, EvalCompare, EvalKind, EvalLog, EvalPage, EvalTimes, Target};
use crate::exit::Failure;
use crate::output::table;

pub(super) async fn run(action: &EvalAction) -> Result<(), Failure> {
    match action {
        EvalAction::Log(command) => log(&command.what).await,
        EvalAction::Metrics(wanted) => {
            let given = filter([("agent_name", &wanted.agent), ("metric_name", &wanted.metric)], &wanted.times);
            show(&wanted.target, EvalKind::Metrics, given, &wanted.page).await
        }
        EvalAction::Show(wanted) => {
            let given = filter([("model_name", &wanted.model), ("cycle_id", &wanted.cycle)], &wanted.times);
            show(&wanted.target, EvalKind::Evaluations, given, &wanted.page).await
        }
        EvalAction::Compare(wanted) => compare(wanted).await,
        EvalAction::Export(command) => export::run(command).await,
        EvalAction::Run(command) => tasks::run(command).await,
    }
}

impl EvalKind {
    /// The operation, and the key of the rows in its reply.
    fn operation(self) -> (&'static str, &'static str) {
        match self {
            Self::Metrics => ("get_performance_metrics", "metrics"),
            Self::Evaluations => ("get_model_evaluation_scores", "scores"),
        }
    }

    /// Keys of a row; the first is its id.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Metrics => &["metric_id", "timestamp", "agent_name", "metric_name", "value", "context"],
            Self::Evaluations => &[
                "evaluation_id",
                "evaluation_timestamp",
                "model_name",
                "cycle_id",
                "trust_score",
                "accuracy",
                "f1_score",
                "avg_latency_ms",
                "comparison_data",
            ],
        }
    }
}

async fn log(what: &EvalLog) -> Result<(), Failure> {
    let (target, operation, key, given) = match what {
        EvalLog::Metric { agent, name, value, metadata, target } => {
            let mut given = args([
                ("agent_name", agent.as_str().into()),
                ("metric_name", name.as_str().into()),
                ("value", (*value).into()),
            ]);
            given.extend(json_given("metadata", metadata.as_deref())?);
            (target, "log_performance_metric", "metric_id", given)
        }
        EvalLog::Evaluation { model, cycle, trust, accuracy, f1, latency_ms, data, target } => {
            let mut given = args([
                ("model_name", model.as_str().into()),
                ("cycle_id", cycle.as_str().into()),
                ("trust_score", (*trust).into()),
            ]);
            let figures = [("accuracy", accuracy), ("f1_score", f1), ("avg_latency_ms", latency_ms)];
            given.extend(figures.into_iter().filter_map(|(key, figure)| Some((key.to_owned(), (*figure)?.into()))));
            let data = json_given("data", data.as_deref())?;
            given.extend(data.map(|(_, value)| ("comparison_data".to_owned(), value)));
            (target, "log_model_evaluation", "evaluation_id", given)
        }
    };
    let server = Server::of(target)?;
    let reply = server.call(operation, given, QUICK).await?;
    let id = text(&reply, key);
    Ok(server.output.either(&json!({ key: id }), || id.to_owned())?)
}

/// JSON on the command line, under the name of its flag.
fn json_given(flag: &str, given: Option<&str>) -> Result<Option<(String, Value)>, Failure> {
    let Some(given) = given else { return Ok(None) };
    let value = serde_json::from_str(given).map_err(|error| Failure::Usage(format!("--{flag} is no JSON: {error}")))?;
    Ok(Some((flag.to_owned(), value)))
}

/// The filters that the user gave.
fn filter(names: [(&str, &Option<String>); 2], times: &EvalTimes) -> Map<String, Value> {
    let times = [("start_time", &times.since), ("end_time", &times.until)];
    let given = names.into_iter().chain(times);
    given.filter_map(|(key, value)| Some((key.to_owned(), value.as_deref()?.into()))).collect()
}

/// Reads what fits, newest first, page by page.
struct Pages {
    client: Client,
    kind: EvalKind,
    given: Map<String, Value>,
    ended: bool,
}

impl Pages {
    async fn of(server: &Server, kind: EvalKind, given: Map<String, Value>) -> Result<Self, Failure> {
        Ok(Self { client: server.connect(QUICK).await?, kind, given, ended: false })
    }

    /// At most so many further rows; a page may end before. `None` when there are no more.
    async fn next(&mut self, most: usize) -> Result<Option<Vec<Value>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let (operation, key) = self.kind.operation();
        self.given.insert("limit".to_owned(), most.into());
        let mut reply = self.client.call(operation, self.given.clone()).await?;
        match reply.remove("next_cursor") {
            Some(cursor @ Value::String(_)) => drop(self.given.insert("cursor".to_owned(), cursor)),
            _ => self.ended = true,
        }
        match reply.remove(key) {
            Some(Value::Array(rows)) => Ok(Some(rows)),
            _ => Ok(Some(Vec::new())),
        }
    }

    /// Where to go on.
    fn cursor(&self) -> Option<&str> {
        self.given.get("cursor").and_then(Value::as_str).filter(|_| !self.ended)
    }
}

/// The newest `most` rows, and the cursor of those after them.
async fn rows(
    server: &Server,
    kind: EvalKind,
    given: Map<String, Value>,
    most: u32,
) -> Result<(Vec<Value>, Option<String>), Failure> {
    let mut pages = Pages::of(server, kind, given).await?;
    let mut found = Vec::new();
    while found.len() < most as usize
        && let Some(page) = pages.next(most as usize - found.len()).await?
    {
        found.extend(page);
    }
    Ok((found, pages.cursor().map(str::to_owned)))
}

async fn show(target: &Target, kind: EvalKind, mut given: Map<String, Value>, page: &EvalPage) -> Result<(), Failure> {
    given.extend(page.cursor.as_deref().map(|cursor| ("cursor".to_owned(), cursor.into())));
    let server = Server::of(target)?;
    let (found, next) = rows(&server, kind, given, page.limit).await?;
    let (_, key) = kind.operation();
    server.output.either(&json!({ key: found, "next_cursor": next }), || {
        // Ids and data are long, and for programs.
        let columns = &kind.columns()[1..kind.columns().len() - 1];
        let titles: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let shown = found.iter().map(|row| columns.iter().map(|column| rounded(column, row.get(column))).collect());
        if found.is_empty() { "nothing is kept that fits".to_owned() } else { table(&titles, shown.collect(), &[]) }
    })?;
    if let Some(next) = next.filter(|_| !server.output.is_json()) {
        eprintln!("there is more: --cursor {next}");
    }
    Ok(())
}

/// As a table and CSV have it; times in UTC.
fn cell(column: &str, value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::Number(seconds)) if column.ends_with("timestamp") => {
            mms_protocol::time::iso_utc(seconds.as_f64().unwrap_or_default())
        }
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// As a person reads a figure.
fn rounded(column: &str, value: Option<&Value>) -> String {
    match value.and_then(Value::as_f64).filter(|_| FIGURES.contains(&column)) {
        Some(figure) => format!("{figure:.4}"),
        None => cell(column, value),
    }
}

/// The columns of an evaluation that are measures of a model.
const FIGURES: [&str; 4] = ["trust_score", "accuracy", "f1_score", "avg_latency_ms"];

/// Means of the last evaluations of each model, side by side.
async fn compare(wanted: &EvalCompare) -> Result<(), Failure> {
    let server = Server::of(&wanted.target)?;
    let mut models = Vec::new();
    for model in &wanted.models {
        let given = filter([("model_name", &Some(model.clone())), ("cycle_id", &wanted.cycle)], &wanted.times);
        let (found, _) = rows(&server, EvalKind::Evaluations, given, wanted.last).await?;
        let mut means = args([("model_name", model.as_str().into()), ("evaluations", found.len().into())]);
        means.extend(FIGURES.map(|key| {
            let figures: Vec<f64> = found.iter().filter_map(|row| row[key].as_f64()).collect();
            let mean = (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64);
            (key.to_owned(), json!(mean))
        }));
        let last = found.first().map(|row| row["evaluation_timestamp"].clone());
        means.insert("last_timestamp".to_owned(), last.unwrap_or_default());
        models.push(means);
    }
    Ok(server.output.either(&json!({ "models": models }), || {
        let titles: Vec<&str> = std::iter::once("").chain(wanted.models.iter().map(String::as_str)).collect();
        let lines = ["evaluations"].into_iter().chain(FIGURES).chain(["last_timestamp"]).map(|key| {
            let figure = |model: &Map<String, Value>| match &model[key] {
                Value::Null => "-".to_owned(),
                figure => rounded(key, Some(figure)),
            };
            std::iter::once(key.to_owned()).chain(models.iter().map(figure)).collect()
        });
        let right: Vec<usize> = (1..titles.len()).collect();
        table(&titles, lines.collect(), &right)
    })?)
}
