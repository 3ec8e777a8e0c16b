//! `cargo xtask ci`: every check, each with its time. All of them use the dev profile and the whole workspace, so llama.cpp is
//! compiled once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::run::{cargo, check, command, root, target_dir};
use crate::server::free_ports;

/// What scripts/test-docker.sh ends with where no Docker engine can run; it has said why.
const CANNOT_RUN: i32 = 77;

enum Outcome {
    Passed,
    NotRun,
}

type Step = fn() -> Result<Outcome>;

pub(crate) fn ci() -> Result<()> {
    let steps: [(&str, Step); 9] = [
        ("fmt", || passed(check(cargo(&["fmt", "--all", "--check"])))),
        ("tidy", || passed(crate::tidy::tidy())),
        ("deny", || passed(deny())),
        ("clippy", || {
            passed(check(cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])))
        }),
        ("build", || passed(check(cargo(&["build", "--workspace", "--quiet"])))),
        ("test", || passed(check(cargo(&["test", "--workspace", "--quiet"])))),
        ("score", || passed(crate::demo_model::score())),
        ("demo", || passed(demo())),
        ("docker", docker),
    ];
    let mut table: Vec<(&str, &str, Duration)> = Vec::new();
    let mut failure = None;
    for (name, step) in steps {
        println!("── {name}");
        let begun = Instant::now();
        let outcome = step();
        let word = match &outcome {
            Ok(Outcome::Passed) => "ok",
            Ok(Outcome::NotRun) => "NOT RUN (see above)",
            Err(_) => "FAILED",
        };
        table.push((name, word, begun.elapsed()));
        if let Err(error) = outcome {
            failure = Some((name, error));
            break;
        }
    }
    println!("\nstep        time  result");
    for (name, word, took) in &table {
        println!("{name:8} {:6.1} s  {word}", took.as_secs_f64());
    }
    match failure {
        Some((name, error)) => bail!("{name}: {error:#}"),
        None => Ok(()),
    }
}

/// Licences, sources and bans of `deny.toml`. Advisories are left out: they need a download that this check must not depend on.
pub(crate) fn deny() -> Result<()> {
    let Some(program) = cargo_deny() else {
        bail!(
            "cargo-deny is missing: run scripts/setup-test.sh (`make test` does), or `cargo install --locked cargo-deny`"
        );
    };
    check(command(program, &["--log-level", "warn", "check", "licenses", "bans", "sources"]))
}

fn cargo_deny() -> Option<PathBuf> {
    let in_venv = root().join(".venv/bin/cargo-deny");
    let in_path = std::env::var_os("PATH")?;
    std::iter::once(in_venv)
        .chain(std::env::split_paths(&in_path).map(|folder| folder.join("cargo-deny")))
        .find(|program| program.is_file())
}

/// `make demo` as a newcomer has it, on free ports, ended after the first chat.
fn demo() -> Result<()> {
    let ports: [u16; 3] = free_ports()?;
    let mut demo = command("scripts/demo.sh", &[]);
    demo.env("DEMO_EXIT", "1").env("DATA_DIR", target_dir().join("demo-test"));
    for (name, port) in ["AGENT_PORT", "HEALTH_PORT", "HTTP_PORT"].into_iter().zip(ports) {
        demo.env(name, port.to_string());
    }
    check(demo)
}

fn docker() -> Result<Outcome> {
    let status = command("scripts/test-docker.sh", &[]).status()?;
    match status.code() {
        Some(0) => Ok(Outcome::Passed),
        Some(CANNOT_RUN) => Ok(Outcome::NotRun),
        _ => bail!("scripts/test-docker.sh ended with {status}"),
    }
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}
