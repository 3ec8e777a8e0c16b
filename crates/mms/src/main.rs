//! `mms`: serves GGUF language models, and asks a server that does.

mod app;
mod builtin;
mod bus;
mod cli;
mod commands;
mod config;
mod draft;
mod evidence;
mod exit;
mod import;
mod logging;
mod notices;
mod output;
mod ports;
mod ready;
mod recorder;
mod serve_error;
mod startup;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = cli::Cli::parse();
    exit::report(commands::run(cli.command, started))
}
