//! `cargo xtask bench`: how fast the server is, in one run, as ratios to something that is measured beside it: a bare libzmq server, a
//! plain llama.cpp loop, the same request without what is measured, another policy. docs/benchmarks.md tells how each is measured.

mod conversation;
mod figure;
mod life;
mod memory;
mod prefix;
mod prompt_beside_streams;
mod setup;
mod stream;
mod swaps;
mod throughput;
mod trace;
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};

pub(crate) use figure::Figure;

use crate::random_model::{self, Size};
use crate::run::{cargo, check, command, root, target_dir};
use crate::server::Server;

/// What is measured, and how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these parts
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of each part; what is compared alternates, the median of all rounds counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = rounds)]
    rounds: usize,
    /// Seconds of each measurement of the wire
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// Threads of each model [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    threads: Option<u32>,
    /// Where the models with random weights are, or are made [default: target/bench/models]
    #[arg(long, value_name = "FOLDER")]
    models_dir: Option<PathBuf>,
    /// Measure `mms` and `mms-worker` of this folder [default: they are built in release]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// An llama-server (of llama.cpp) that gets the same requests
    #[arg(long, value_name = "FILE")]
    peer_llama_server: Option<PathBuf>,
    /// Print one JSON object only
    #[arg(long)]
    json: bool,
    /// Measure nothing; write the figures of the last run into docs/benchmarks.md
    #[arg(long)]
    record: bool,
}

fn rounds(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|rounds| (1..=1000).contains(rounds)).ok_or_else(|| "must be from 1 to 1000".to_owned())
}

/// The parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests that need no model, against a bare libzmq server
    Wire,
    /// Start, memory, first token
    Life,
    /// Tokens per second beside a plain llama.cpp loop
    Throughput,
    /// First token of prompts that begin as an earlier one
    Prefix,
    /// First token of a conversation's turns
    Conversation,
    /// A long prompt that arrives while answers are streamed
    PromptBesideStreams,
    /// One model takes another's place
    Swaps,
    /// Scheduling of a mixed trace, simulated and live
    Trace,
    /// What models take, beside what was estimated
    Memory,
}

impl Part {
    fn measure(self, bench: &Bench) -> Result<Vec<Figure>> {
        match self {
            Self::Wire => wire::wire(bench),
            Self::Life => life::life(bench),
            Self::Throughput => throughput::throughput(bench),
            Self::Prefix => prefix::prefix(bench),
            Self::Conversation => conversation::conversation(bench),
            Self::PromptBesideStreams => prompt_beside_streams::prompt_beside_streams(bench),
            Self::Swaps => swaps::swaps(bench),
            Self::Trace => trace::trace(bench),
            Self::Memory => memory::memory(bench),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What all parts use.
pub(crate) struct Bench {
    /// Folder of `mms` and `mms-worker`.
    programs: PathBuf,
    /// Whether programs are built in release for the run.
    release: bool,
    models: PathBuf,
    rounds: usize,
    seconds: f64,
    threads: u32,
    peer: Option<PathBuf>,
}

impl Bench {
    fn new(args: &Args) -> Result<Self> {
        let programs = match &args.programs {
            Some(folder) => std::path::absolute(folder).with_context(|| format!("no folder {}", folder.display()))?,
            None => {
                check(cargo(&["build", "--release", "--quiet"]))?;
                target_dir().join("release")
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let models = args.models_dir.clone().unwrap_or_else(|| target_dir().join("bench/models"));
        let models = std::path::absolute(&models).with_context(|| format!("no folder {}", models.display()))?;
        Ok(Self {
            programs,
            release: args.programs.is_none(),
            models,
            rounds: args.rounds,
            seconds: args.seconds,
            threads: args.threads.unwrap_or(cores),
            peer: args.peer_llama_server.clone(),
        })
    }

    /// The worker program.
    pub(crate) fn worker(&self) -> PathBuf {
        self.programs.join("mms-worker")
    }

    /// The model of this size, made when it is missing.
    pub(crate) fn model(&self, size: Size) -> Result<PathBuf> {
        let path = self.models.join(format!("random-{}.gguf", size.name()));
        if !path.is_file() {
            eprintln!("bench: making {}", path.display());
            random_model::make(size, &path)?;
        }
        Ok(path)
    }

    /// A server that is ready, with nothing left of an earlier one, and with `config` as its configuration file.
    pub(crate) fn server(&self, name: &str, config: &str) -> Result<Server> {
        let data = data(name);
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("could not empty {}", data.display()))?;
        }
        Ok(self.started(name, config)?.0)
    }

    /// The same, with the data of the one before; and how long it took to be ready.
    fn started(&self, name: &str, config: &str) -> Result<(Server, Duration)> {
        let data = data(name);
        std::fs::create_dir_all(&data).with_context(|| format!("could not make {}", data.display()))?;
        let file = data.join("mms.toml");
        std::fs::write(&file, config).with_context(|| format!("could not write {}", file.display()))?;
        let mut server = Server::start_with(&self.programs.join("mms"), &data, &["--config", &shown(&file)])?;
        let took = server.ready().with_context(|| format!("see {}", data.join("server.log").display()))?;
        Ok((server, took))
    }
}

/// Where a server of the bench has its files.
fn data(name: &str) -> PathBuf {
    target_dir().join("bench/data").join(name)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let path = target_dir().join("bench.json");
    if args.record {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("nothing was measured: {}", path.display()))?;
        return record(&serde_json::from_str(&text)?);
    }
    let bench = Bench::new(args)?;
    if !args.json {
        println!("{}", figure::head());
    }
    let (mut parts, mut failed) = (Vec::new(), Vec::new());
    for &part in Part::value_variants().iter().filter(|part| args.only.is_empty() || args.only.contains(part)) {
        let name = part.name();
        eprintln!("bench: {name}");
        let begun = Instant::now();
        let (figures, error) = match part.measure(&bench) {
            Ok(figures) => (figures, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        if !args.json {
            figures.iter().for_each(|figure| println!("{}", figure.line()));
        }
        if let Some(error) = &error {
            eprintln!("bench: {name} FAILED: {error}");
            failed.push(name.clone());
        }
        parts.push(json!({
            "part": name,
            "seconds": begun.elapsed().as_secs_f64(),
            "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
            "error": error,
        }));
    }
    let settings = json!({
        "rounds": bench.rounds, "seconds": bench.seconds, "threads": bench.threads,
        "release": bench.release, "peer": bench.peer,
    });
    let report = json!({"host": host(), "settings": settings, "parts": parts});
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("could not write {}", path.display()))?;
    if args.json {
        println!("{report}");
    } else {
        println!("{}; written to {}", summary(&report), path.display());
    }
    if failed.is_empty() { Ok(()) } else { bail!("could not be measured: {}", failed.join(", ")) }
}

fn figures(report: &Value) -> impl Iterator<Item = &Value> {
    let parts = report["parts"].as_array().into_iter().flatten();
    parts.flat_map(|part| part["figures"].as_array().into_iter().flatten())
}

fn summary(report: &Value) -> String {
    let count = |met: bool| figures(report).filter(|figure| figure["met"] == met).count();
    format!("{} aims met, {} not met", count(true), count(false))
}

fn host() -> Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name").map(|rest| rest.trim_start_matches([' ', '\t', ':'])));
    let commit = command("git", &["rev-parse", "--short", "HEAD"]).output().ok();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    json!({
        "cpu": model,
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(0),
        "commit": commit,
    })
}

/// The lines of docs/benchmarks.md between which the figures of a run stand.
const MARKS: (&str, &str) = ("<!-- figures: cargo xtask bench --record -->", "<!-- end of figures -->");

/// Writes the figures of a run into docs/benchmarks.md.
fn record(report: &Value) -> Result<()> {
    let path = root().join("docs/benchmarks.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let (before, rest) = text.split_once(MARKS.0).with_context(|| format!("no line {}", MARKS.0))?;
    let (_, after) = rest.split_once(MARKS.1).with_context(|| format!("no line {}", MARKS.1))?;
    let text = format!("{before}{}\n\n{}\n{}{after}", MARKS.0, markdown(report), MARKS.1);
    std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    println!("{}: {}", path.display(), summary(report));
    Ok(())
}

fn markdown(report: &Value) -> String {
    let (host, settings) = (&report["host"], &report["settings"]);
    let built = if settings["release"] == true { "release build" } else { "not a release build" };
    let mut text = format!(
        "{}, {} cores, {built}, {} rounds, {} threads for each model: {}.\n",
        host["cpu"].as_str().unwrap_or("unknown processor"),
        host["cores"],
        settings["rounds"],
        settings["threads"],
        summary(report),
    );
    for part in report["parts"].as_array().into_iter().flatten() {
        let name = part["part"].as_str().unwrap_or_default();
        text.push_str(&format!("\n### {name}\n\n"));
        match part["error"].as_str() {
            Some(error) => text.push_str(&format!("Not measured: {error}\n")),
            None => {
                text.push_str("| figure | median | rounds from, to | aim |\n|---|---|---|---|\n");
                for figure in part["figures"].as_array().into_iter().flatten() {
                    text.push_str(&figure::markdown(figure));
                    text.push('\n');
                }
            }
        }
    }
    text
}
