//! `cargo xtask faults`: the random faults of `crates/mms/tests/faults`, for longer than the tests have time for, and again with the
//! seed of a run that failed.

use anyhow::Result;

use crate::run::{cargo, check};

/// How long, with how many, and which choices.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Minutes under load
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Clients at once
    #[arg(long, default_value_t = 32)]
    clients: u64,
    /// Repeats the choices of the run that printed it; another one each time when not given
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut test = cargo(&["test", "--quiet", "-p", "mms", "--test", "faults", "--", "--nocapture"]);
    test.env("MMS_FAULTS_SECONDS", ((args.minutes * 60.0).max(5.0) as u64).to_string());
    test.env("MMS_FAULTS_CLIENTS", args.clients.to_string());
    if let Some(seed) = args.seed {
        test.env("MMS_FAULTS_SEED", seed.to_string());
    }
    check(test)
}
