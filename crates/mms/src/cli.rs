//! The command line: what can be asked for. What it means is in [`crate::commands`].

mod eval;
mod predict;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use mms_protocol::call::seconds_of;

pub(crate) use eval::{
    EvalAction, EvalCommand, EvalCompare, EvalExport, EvalKind, EvalLog, EvalPage, EvalRun, EvalTimes,
};
pub(crate) use predict::{PredictAction, PredictCommand, ReplayArgs, TraceKind};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a check or a request failed (such as those of smoke), or the output could not be written
  2    mistake in the command line, the configuration, a file of tasks or a trace
  3    no server at the endpoint
  4    the server refused the request
  5    no answer in time
  6    a port is in use
  7    what answers at the endpoint is no model manager
  8    the server could not start for another reason
  129  ended by SIGHUP (top)
  130  ended at once by SIGINT (serve: by a second one)
  143  ended at once by SIGTERM (top; serve: by a second one)";

/// Serves GGUF language models over ZeroMQ and HTTP, and asks such a server.
#[derive(Debug, Parser)]
#[command(name = "mms", version, after_help = EXIT_CODES, max_term_width = 120, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server; it ends with SIGTERM or Ctrl-C, after running requests have finished
    Serve(ServeFlags),
    /// Ask whether a server is there
    Ping(Target),
    /// Check a running server: the calls of the old smoke scripts, plus load and unload
    Smoke(SmokeArgs),
    /// Generate text
    Generate(GenerateCommand),
    /// Compute embeddings of texts
    Embed(EmbedCommand),
    /// Talk to a model; /exit ends, /clear forgets the conversation
    Chat(ChatCommand),
    /// Let the server forget a conversation
    ClearConversation(ClearConversationCommand),
    /// The models of the server
    Models(ModelsCommand),
    /// Which models the server expects to be asked for; traces of uses, and how well they are foreseen
    Predict(PredictCommand),
    /// Resident models, memory and health of the server
    Status(Target),
    /// Which of the server's downstream services answer
    Services(Target),
    /// Watch models, memory and requests of the server, live
    Top(TopArgs),
    /// Follow what the server tells of models and errors, live; Ctrl-C ends it
    Events(EventsArgs),
    /// Measure a server: time to first token and tokens per second at several numbers of streams
    Bench(BenchArgs),
    /// Metrics and evaluations of models: log, look at, compare, export, and run a suite of tasks
    Eval(EvalCommand),
    /// The configuration of `mms serve`
    Config(ConfigCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Settings of the server; each beats its environment variable and the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeFlags {
    /// Configuration file [default: mms.toml, when it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Main port [default: 9901]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Health port, ZeroMQ and HTTP [default: 9902]
    #[arg(long, value_name = "PORT")]
    pub health_port: Option<String>,
    /// HTTP port [default: health port + 1]
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<String>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<String>,
    /// Folders with GGUF files, separated by colons [default: models]
    #[arg(long, value_name = "FOLDERS")]
    pub models_dir: Option<String>,
    /// Folder for the evaluation store and the built-in model [default: data]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<String>,
    /// Status words on the main port: suite or legacy [default: suite]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
}

/// Which server to ask, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Main port of the server [default: tcp://127.0.0.1:9901; MODEL_MANAGER_HOST and MODEL_MANAGER_PORT change it]
    #[arg(long, value_name = "ENDPOINT")]
    pub endpoint: Option<String>,
    /// HTTP port of the server [default: HTTP_PORT, else two above the main port]
    #[arg(long, value_name = "URL")]
    pub http: Option<String>,
    /// Time that the server has to answer, seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `mms smoke`
#[derive(Debug, Args)]
pub(crate) struct SmokeArgs {
    /// The model to load and unload [default: the server's built-in one, else its first]
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// How tokens are chosen; what is not given is left to the server.
#[derive(Debug, Clone, Args)]
pub(crate) struct SamplingArgs {
    /// The model, or a preference of the routing policy [default: fast]
    #[arg(short, long, value_name = "ID")]
    pub model: Option<String>,
    /// Most tokens to generate
    #[arg(short = 'n', long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// 0 takes the likeliest token always
    #[arg(short, long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Nucleus sampling
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Only the K likeliest tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Only tokens at least this likely, relative to the likeliest
    #[arg(long, value_name = "P")]
    pub min_p: Option<f64>,
    /// Above 1: repeated tokens become less likely
    #[arg(long, value_name = "X")]
    pub repeat_penalty: Option<f64>,
    /// The same seed gives the same text
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Instructions above the conversation
    #[arg(short, long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// What an answer must look like.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(crate) struct ConstraintArgs {
    /// The answer is a JSON value of the schema in this file
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// The answer is a JSON object
    #[arg(long)]
    pub json_object: bool,
    /// The answer follows the grammar in this file (GBNF)
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
}

/// `mms embed`
#[derive(Debug, Args)]
pub(crate) struct EmbedCommand {
    /// The texts; `-` reads one from standard input
    #[arg(required = true, value_name = "TEXT")]
    pub texts: Vec<String>,
    /// The model, or a preference of the routing policy [default: embedding]
    #[arg(short, long, value_name = "ID")]
    pub model: Option<String>,
    /// Keep so many leading numbers of each vector
    #[arg(long, value_name = "N")]
    pub dimensions: Option<u32>,
    /// How long the model stays in memory after this request, such as 90, 5m or -1 (for ever)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub keep_alive: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms generate`
#[derive(Debug, Args)]
pub(crate) struct GenerateCommand {
    /// The prompt; `-` reads it from standard input
    pub prompt: String,
    /// Go on with this conversation, which the server keeps, or begin it
    #[arg(short, long, value_name = "ID")]
    pub conversation: Option<String>,
    /// What the answer must look like.
    #[command(flatten)]
    pub constraint: ConstraintArgs,
    /// How long the model stays in memory after this request, such as 90, 5m or -1 (for ever)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub keep_alive: Option<String>,
    /// Print the text while it is generated (over HTTP)
    #[arg(long, conflicts_with = "json")]
    pub stream: bool,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms clear-conversation`
#[derive(Debug, Args)]
pub(crate) struct ClearConversationCommand {
    /// Its id
    #[arg(value_name = "ID")]
    pub conversation: String,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms chat`
#[derive(Debug, Args)]
pub(crate) struct ChatCommand {
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Another OpenAI-compatible endpoint, such as http://host:8080/v1
    #[arg(long, value_name = "URL", conflicts_with_all = ["endpoint", "http", "over", "loads"])]
    pub url: Option<String>,
    /// Environment variable that holds the endpoint's API key
    #[arg(long, value_name = "NAME")]
    pub api_key_env: Option<String>,
    /// The model [default: the suite's choice for `fast`, or the endpoint's first]
    #[arg(short, long, value_name = "ID")]
    pub model: Option<String>,
    /// Port of the suite to ask: http streams, zmq gives whole answers
    #[arg(long, value_enum, default_value_t = Over::Http)]
    pub over: Over,
    /// Streams at once, one level after the other
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: Vec<u32>,
    /// Requests of each level (at least one for each stream)
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests: u32,
    /// Tokens of each prompt, about
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub prompt_tokens: u32,
    /// Most tokens of each answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tokens: u32,
    /// Measure loads too: the model is unloaded and loaded again, which others who use it will notice
    #[arg(long)]
    pub loads: bool,
    /// A second model: also measure how long it takes until one has taken the other's place
    #[arg(long, value_name = "ID", requires = "loads")]
    pub swap_with: Option<String>,
    /// Loads and swaps of each model
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// Port of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Over {
    /// The HTTP port.
    Http,
    /// The main port.
    Zmq,
}

/// `mms models`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ModelsCommand {
    /// What to do with them [default: list]
    #[command(subcommand)]
    pub action: Option<ModelsAction>,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// What can be done with models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsAction {
    /// The catalogue
    List(Target),
    /// Everything about one model
    Show(ModelTarget),
    /// Make a model resident
    Load(ModelTarget),
    /// Take a model out of memory
    Unload(ModelTarget),
    /// Which model the server would take for a kind of task, and why
    Select {
        /// Such as chat, code-generation, or a preference such as quality
        task: String,
        /// Context that it needs, tokens
        #[arg(long, value_name = "TOKENS")]
        context: Option<u32>,
        /// Which server.
        #[command(flatten)]
        target: Target,
    },
}

/// A model of a server.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelTarget {
    /// Its id
    pub model: String,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms top`
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Print what there is to be seen once, as a table, and end; done too when there is no terminal
    #[arg(long, conflicts_with = "watch")]
    pub once: bool,
    /// Print it again and again, with --json one document in a line
    #[arg(long)]
    pub watch: bool,
    /// Time between two looks, seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub interval: Duration,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms events`
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Begin so long ago, such as 90s, 10m or 1h30m, as far as the server keeps events
    #[arg(long, value_name = "TIME", value_parser = ago)]
    pub since: Option<Duration>,
    /// Which server.
    #[command(flatten)]
    pub target: Target,
}

/// `mms config`
#[derive(Debug, Args)]
pub(crate) struct ConfigCommand {
    /// What to do with it.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Find every mistake in a configuration file
    Check {
        /// The file
        #[arg(default_value = crate::config::DEFAULT_FILE)]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the settings that hold, and where each comes from
    Show {
        /// Settings of the server.
        #[command(flatten)]
        flags: ServeFlags,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the documented example file
    Example,
    /// Make a configuration file of the old suite's llm_config.yaml, and tell what was taken, changed and left out
    Import {
        /// The old file
        file: PathBuf,
        /// The new file [default: printed on standard output, the report on standard error]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Overwrite the new file when it is there
        #[arg(long, requires = "output")]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    if number > 0.0 && number <= 86_400.0 {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err("must be above 0 and at most 86400".to_owned())
    }
}

fn ago(text: &str) -> Result<Duration, String> {
    let seconds = seconds_of(text).filter(|seconds| *seconds >= 0.0);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "must be a time such as 90s, 10m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
