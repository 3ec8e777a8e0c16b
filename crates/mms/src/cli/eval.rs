//! The arguments of `mms eval`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Target, seconds};

/// `mms eval`
#[derive(Debug, Args)]
pub(crate) struct EvalCommand {
    /// What to do.
    #[command(subcommand)]
    pub action: EvalAction,
}

/// What can be done with metrics and evaluations.
#[derive(Debug, Subcommand)]
pub(crate) enum EvalAction {
    /// Record a metric of an agent or an evaluation of a model; prints its id once it is on the disk
    Log(EvalLogCommand),
    /// Evaluations of models, newest first
    Show(EvalShow),
    /// Metrics of agents, newest first
    Metrics(EvalMetrics),
    /// Models side by side: means of their last evaluations
    Compare(EvalCompare),
    /// Everything that fits, all pages, as CSV, or as JSON with --json
    Export(EvalExport),
    /// Ask a model the tasks of a file, judge the answers and keep the figures as an evaluation
    Run(EvalRun),
}

/// `mms eval log`
#[derive(Debug, Args)]
pub(crate) struct EvalLogCommand {
    /// What is recorded.
    #[command(subcommand)]
    pub what: EvalLog,
}

/// What can be recorded.
#[derive(Debug, Subcommand)]
pub(crate) enum EvalLog {
    /// What an agent measured
    Metric {
        /// Who measured it
        agent: String,
        /// What was measured
        name: String,
        /// The figure
        #[arg(value_parser = finite, allow_negative_numbers = true)]
        value: f64,
        /// Further data, a JSON object
        #[arg(long, value_name = "JSON")]
        metadata: Option<String>,
        /// Which server.
        #[command(flatten)]
        target: Target,
    },
    /// How a model did
    Evaluation {
        /// The model
        model: String,
        /// The cycle that it belongs to
        #[arg(long, value_name = "ID")]
        cycle: String,
        /// How far the model is to be trusted; routing expects 0 to 1
        #[arg(long, value_name = "NUMBER", value_parser = finite, allow_negative_numbers = true)]
        trust: f64,
        /// Accuracy
        #[arg(long, value_name = "NUMBER", value_parser = finite, allow_negative_numbers = true)]
        accuracy: Option<f64>,
        /// F1 score
        #[arg(long, value_name = "NUMBER", value_parser = finite, allow_negative_numbers = true)]
        f1: Option<f64>,
        /// Mean latency, milliseconds
        #[arg(long, value_name = "MS", value_parser = finite, allow_negative_numbers = true)]
        latency_ms: Option<f64>,
        /// Further data, a JSON object or array
        #[arg(long, value_name = "JSON")]
        data: Option<String>,
        /// Which server.
        #[command(flatten)]
        target: Target,
    },
}

/// From when to when.
#[derive(Debug, Clone, Args)]
pub(crate) struct EvalTimes {
    /// Not before: epoch seconds or ISO 8601 (without a zone: local time of the server)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Not after
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// How much is shown.
#[derive(Debug, Clone, Args)]
pub(crate) struct EvalPage {
    /// Most rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on where the page before ended: its `next_cursor`, with the same filters
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// `mms eval show`
#[derive(Debug, Args)]
pub(crate) struct EvalShow {
    /// Of this model
    pub model: Option<String>,
    /// Of this cycle
    #[arg(long, value_name = "ID")]
    pub cycle: Option<String>,
    /// From when to when.
    #[command(flatten)]
    pub times: EvalTimes,
    /// How much.
    #[command(flatten)]
    pub page: EvalPage,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms eval metrics`
#[derive(Debug, Args)]
pub(crate) struct EvalMetrics {
    /// Of this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Of this name
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// From when to when.
    #[command(flatten)]
    pub times: EvalTimes,
    /// How much.
    #[command(flatten)]
    pub page: EvalPage,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms eval compare`
#[derive(Debug, Args)]
pub(crate) struct EvalCompare {
    /// The models
    #[arg(required = true, value_name = "MODEL", num_args = 2..=16)]
    pub models: Vec<String>,
    /// Only evaluations of this cycle
    #[arg(long, value_name = "ID")]
    pub cycle: Option<String>,
    /// From when to when.
    #[command(flatten)]
    pub times: EvalTimes,
    /// Last evaluations of each model that count
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub last: u32,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvalKind {
    /// What agents measured
    Metrics,
    /// Evaluations of models
    Evaluations,
}

/// `mms eval export`
#[derive(Debug, Args)]
pub(crate) struct EvalExport {
    /// What
    #[arg(value_enum)]
    pub what: EvalKind,
    /// Of this agent (metrics)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "cycle"])]
    pub agent: Option<String>,
    /// Of this name (metrics)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "cycle"])]
    pub metric: Option<String>,
    /// Of this model (evaluations)
    #[arg(short, long, value_name = "ID")]
    pub model: Option<String>,
    /// Of this cycle (evaluations)
    #[arg(long, value_name = "ID")]
    pub cycle: Option<String>,
    /// From when to when.
    #[command(flatten)]
    pub times: EvalTimes,
    /// File to write, whole or not at all [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite the file when it is there
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms eval run`
#[derive(Debug, Args)]
pub(crate) struct EvalRun {
    /// The model
    pub model: String,
    /// The tasks, a TOML file
    #[arg(long, value_name = "FILE")]
    pub suite: PathBuf,
    /// Cycle of the evaluation [default: name of the suite and the time]
    #[arg(long, value_name = "ID")]
    pub cycle: Option<String>,
    /// Most tokens of each answer [default: the file's, else 128]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_tokens: Option<u32>,
    /// 0 takes the likeliest token always
    #[arg(short, long, value_name = "T", default_value_t = 0.0, value_parser = finite)]
    pub temperature: f64,
    /// Seed of each request
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
    /// Time that each task has to be answered, seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    pub task_timeout: Duration,
    /// Exit code 1 when the accuracy is below this, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub fail_under: Option<f64>,
    /// Only print the figures
    #[arg(long, conflicts_with = "keep_partial")]
    pub no_store: bool,
    /// When Ctrl-C ends it half way, keep the figures of the tasks that were done
    #[arg(long)]
    pub keep_partial: bool,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

fn finite(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| number.is_finite()).ok_or_else(|| "must be a finite number".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| "must be a number from 0 to 1".to_owned())
}
