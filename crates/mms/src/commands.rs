//! The commands. Each is a file that takes its arguments and says how it ended; how requests travel is in `mms_client`.

mod ask;
mod bench;
mod chat;
mod clear_conversation;
mod config;
mod embed;
mod eval;
mod events;
mod generate;
mod models;
mod ping;
mod predict;
mod services;
mod smoke;
mod status;
mod top;
mod wait;

use std::time::Instant;

use clap::CommandFactory;
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::exit::Failure;
use crate::serve_error::ServeError;
use crate::{app, logging};

/// Does what was asked for.
pub(crate) fn run(command: Command, started: Instant) -> Result<(), Failure> {
    match command {
        Command::Serve(flags) => {
            let config = Config::load(&flags)?;
            logging::start(config.log);
            let runtime = server_runtime()?;
            let outcome = runtime.block_on(app::run(config, started));
            // What still runs must not keep an ended server alive.
            runtime.shutdown_background();
            outcome
        }
        Command::Ping(target) => client_runtime()?.block_on(ping::run(&target)),
        Command::Smoke(args) => client_runtime()?.block_on(smoke::run(&args)),
        Command::Generate(args) => client_runtime()?.block_on(generate::run(&args)),
        Command::Embed(args) => client_runtime()?.block_on(embed::run(&args)),
        Command::Chat(args) => client_runtime()?.block_on(chat::run(&args)),
        Command::ClearConversation(args) => client_runtime()?.block_on(clear_conversation::run(&args)),
        Command::Models(args) => client_runtime()?.block_on(models::run(&args)),
        Command::Predict(args) => client_runtime()?.block_on(predict::run(&args)),
        Command::Events(args) => client_runtime()?.block_on(events::run(&args)),
        Command::Eval(args) => client_runtime()?.block_on(eval::run(&args.action)),
        Command::Bench(args) => client_runtime()?.block_on(bench::run(&args)),
        Command::Top(args) => client_runtime()?.block_on(top::run(&args)),
        Command::Services(target) => client_runtime()?.block_on(services::run(&target)),
        Command::Status(target) => client_runtime()?.block_on(status::run(&target)),
        Command::Config(args) => config::run(&args.action),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mms", &mut script);
            Ok(crate::output::piece(&String::from_utf8_lossy(&script))?)
        }
    }
}

fn server_runtime() -> Result<Runtime, ServeError> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    runtime(Builder::new_multi_thread().worker_threads(cores.clamp(2, 4)))
}

fn client_runtime() -> Result<Runtime, ServeError> {
    runtime(&mut Builder::new_current_thread())
}

fn runtime(builder: &mut Builder) -> Result<Runtime, ServeError> {
    builder.enable_all().build().map_err(|source| ServeError::System { what: "start the runtime", source })
}
