//! The arguments of `mms predict`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Target;

/// `mms predict`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PredictCommand {
    /// What to do [default: print what the server foresees]
    #[command(subcommand)]
    pub action: Option<PredictAction>,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// What can be done about uses to come.
#[derive(Debug, Subcommand)]
pub(crate) enum PredictAction {
    /// Load models ahead of requests, as far as there is free memory
    Preload {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        models: Vec<String>,
        /// Which server.
        #[command(flatten)]
        target: Target,
    },
    /// Play a trace of uses through the predictor and through simpler rules; needs no server
    Replay(ReplayArgs),
    /// Make a trace of uses by chance; needs no server
    Trace {
        /// What it is like
        #[arg(value_enum)]
        kind: TraceKind,
        /// The same seed gives the same trace
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// How long it is
        #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=60))]
        days: u32,
    },
}

/// `mms predict replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// One use in a line, in the order of time: {"time": epoch seconds, "model": "id"}, besides perhaps "client": "name" and "mb": memory of
    /// the model; `-` reads standard input
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,
    /// Models that are kept in memory at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub keep: u32,
    /// What they may take together, MiB [default: anything]
    #[arg(long, value_name = "MB", value_parser = positive)]
    pub budget: Option<f64>,
    /// Time that a load takes, seconds
    #[arg(long, value_name = "SECONDS", value_parser = not_negative, default_value = "2")]
    pub load: f64,
    /// Time between two choices while nothing happens, seconds
    #[arg(long, value_name = "SECONDS", value_parser = positive, default_value = "60")]
    pub every: f64,
    /// How far the predictor looks ahead, seconds
    #[arg(long, value_name = "SECONDS", value_parser = positive, default_value = "300")]
    pub lookahead: f64,
    /// The old rule's hour, and the predictor's memory for frequency, seconds
    #[arg(long, value_name = "SECONDS", value_parser = positive, default_value = "3600")]
    pub window: f64,
    /// How likely a use must be for the rule that keeps only what is likely, 0 to 1
    #[arg(long, value_name = "P", value_parser = part, default_value = "0.5")]
    pub min_probability: f64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Kinds of traces.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum TraceKind {
    /// Models that are wanted at their times of day
    Daily,
    /// Agents that go through their chains of models
    Chains,
    /// Requests by chance; how often a model is wanted drifts
    Random,
}

fn number(text: &str, must_be: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && fits(*number));
    number.ok_or_else(|| must_be.to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, "must be a number above 0, at most 1e9", |number| number > 0.0 && number <= 1e9)
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "must be a number from 0 to 86400", |number| (0.0..=86_400.0).contains(&number))
}

fn part(text: &str) -> Result<f64, String> {
    number(text, "must be a number from 0 to 1", |number| (0.0..=1.0).contains(&number))
}
