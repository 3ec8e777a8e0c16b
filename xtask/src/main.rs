//! `cargo xtask`: what continuous integration, the Makefile and people run, so that all three run the same.

mod bench;
mod ci;
mod demo_model;
mod faults;
mod random_model;
mod run;
mod server;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Chores of the Model Manager Suite's repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// All checks and tests, in the order in which they fail fastest
    Ci,
    /// Rules that compilers do not check: crate edges, module docs, file length, leftovers
    Tidy,
    /// Licences, sources and banned crates, with cargo-deny
    Deny,
    /// The built-in model: train it, or score it through a running server
    DemoModel(demo_model::Args),
    /// A model of a usual shape with random weights, for measuring
    RandomModel(random_model::Args),
    /// Random faults under load, for as long as wanted
    Faults(faults::Args),
    /// How fast the server is, beside what it is compared with, in one run
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Ci => ci::ci(),
        Task::Tidy => tidy::tidy(),
        Task::Deny => ci::deny(),
        Task::DemoModel(args) => demo_model::run(&args),
        Task::RandomModel(args) => random_model::run(&args),
        Task::Faults(args) => faults::run(&args),
        Task::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
