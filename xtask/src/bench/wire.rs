//! The wire against a bare libzmq REP echo server: same load generator (libzmq REQ clients, as pyzmq has them), server in a process of
//! its own, rounds alternate.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Bench;
use super::figure::{Figure, ratios};
use crate::run::{cargo, check, command, target_dir};
use crate::server::free_ports;

const PING: &str = r#"{"action":"ping"}"#;
const HEALTH_CHECK: &str = r#"{"action":"health_check"}"#;

/// The load generator and echo server of `bench/`.
struct Tool {
    program: PathBuf,
    seconds: f64,
}

/// One kind of load in all rounds.
#[derive(Default)]
struct Measured {
    p50_us: Vec<f64>,
    per_second: Vec<f64>,
}

impl Measured {
    fn add(&mut self, result: &Value) {
        self.p50_us.push(result["p50_us"].as_f64().unwrap_or(f64::NAN));
        self.per_second.push(result["per_second"].as_f64().unwrap_or(f64::NAN));
    }
}

impl Tool {
    fn build(folder: &Path, seconds: f64) -> Result<Self> {
        let mut build = cargo(&["build", "--release", "--quiet", "--manifest-path", "bench/Cargo.toml"]);
        build.env("CARGO_TARGET_DIR", folder);
        check(build)?;
        Ok(Self { program: folder.join("release/mms-bench"), seconds })
    }

    fn load(&self, endpoint: &str, clients: usize, request: &str) -> Result<Value> {
        let seconds = self.seconds.to_string();
        let clients = clients.to_string();
        let words =
            ["load", "--endpoint", endpoint, "--clients", &clients, "--seconds", &seconds, "--request", request];
        let output = command(&self.program, &words).output().context("could not start the load generator")?;
        if !output.status.success() {
            bail!("load generator: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("the load generator printed no JSON")
    }

    fn echo(&self) -> Result<(Echo, String)> {
        let [port] = free_ports()?;
        let endpoint = format!("tcp://127.0.0.1:{port}");
        let child = command(&self.program, &["echo", "--endpoint", &endpoint])
            .stdin(Stdio::null())
            .spawn()
            .context("could not start the echo server")?;
        Ok((Echo(child), endpoint))
    }
}

/// The echo server; ends with the value.
struct Echo(Child);

impl Drop for Echo {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("could not end the echo server {}: {error}", self.0.id());
        }
    }
}

pub(super) fn wire(bench: &Bench) -> Result<Vec<Figure>> {
    let tool = Tool::build(&target_dir().join("bench"), bench.seconds)?;
    let (_echo, echo) = tool.echo()?;
    let server = bench.server("wire", "")?;
    let suite = server.endpoint();
    let [mut echo_one, mut ping_one, mut health_one, mut echo_many, mut ping_many, mut health_many] =
        [const { Measured { p50_us: Vec::new(), per_second: Vec::new() } }; 6];
    for _ in 0..bench.rounds {
        for (into, endpoint, clients, request) in [
            (&mut echo_one, &echo, 1, PING),
            (&mut ping_one, &suite, 1, PING),
            (&mut health_one, &suite, 1, HEALTH_CHECK),
            (&mut echo_many, &echo, 16, PING),
            (&mut ping_many, &suite, 16, PING),
            (&mut health_many, &suite, 16, HEALTH_CHECK),
        ] {
            into.add(&tool.load(endpoint, clients, request)?);
        }
    }
    server.stop()?;
    let time = |name: &str, of: &Measured| Figure::median(format!("{name}, 1 client, p50"), "us", &of.p50_us);
    let times = |name: &str, of: &Measured| {
        Figure::median(format!("{name} p50 / echo p50"), "x", &ratios(&of.p50_us, &echo_one.p50_us)).at_most(1.3)
    };
    let rate = |name: &str, of: &Measured| Figure::median(format!("{name}, 16 clients"), "requests/s", &of.per_second);
    let rates = |name: &str, of: &Measured| {
        let ratios = ratios(&of.per_second, &echo_many.per_second);
        Figure::median(format!("{name} rate / echo rate, 16 clients"), "x", &ratios).at_least(0.8)
    };
    Ok(vec![
        time("libzmq echo", &echo_one),
        time("ping", &ping_one),
        time("health_check", &health_one),
        times("ping", &ping_one),
        times("health_check", &health_one),
        rate("libzmq echo", &echo_many),
        rate("ping", &ping_many),
        rate("health_check", &health_many),
        rates("ping", &ping_many),
        rates("health_check", &health_many),
    ])
}
