//! `cargo xtask bench`: the figures of the issue in one run: the wire against a bare libzmq REP echo server (same load generator,
//! libzmq REQ clients as pyzmq has them, server in a process of its own), start-up, memory, first token, tokens per second.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::run::{cargo, check, command, target_dir};
use crate::server::{Server, free_ports};

const PING: &str = r#"{"action":"ping"}"#;
const HEALTH_CHECK: &str = r#"{"action":"health_check"}"#;

/// How long and how often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds; echo and suite alternate, the median of all rounds counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print one JSON object only
    #[arg(long)]
    json: bool,
}

/// One measured figure and what it should be.
struct Figure {
    name: &'static str,
    unit: &'static str,
    value: f64,
    /// The bound, and whether the value must be at most (`true`) or at least (`false`) that.
    target: Option<(f64, bool)>,
}

impl Figure {
    fn met(&self) -> Option<bool> {
        self.target.map(|(bound, at_most)| if at_most { self.value <= bound } else { self.value >= bound })
    }

    fn json(&self) -> Value {
        let target = self.target.map(|(bound, at_most)| json!({"at_most": at_most, "bound": bound}));
        json!({"name": self.name, "unit": self.unit, "value": self.value, "target": target, "met": self.met()})
    }

    fn line(&self) -> String {
        let target = match self.target {
            None => String::new(),
            Some((bound, at_most)) => format!("{} {bound}", if at_most { "at most" } else { "at least" }),
        };
        let verdict = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "NOT MET",
        };
        format!("{:48} {:>12.2} {:12} {:16} {verdict}", self.name, self.value, self.unit, target)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check(cargo(&["build", "--release", "--quiet"]))?;
    let target = target_dir().join("bench");
    let mut build = cargo(&["build", "--release", "--quiet", "--manifest-path", "bench/Cargo.toml"]);
    build.env("CARGO_TARGET_DIR", &target);
    check(build)?;
    let tool = Tool { program: target.join("release/mms-bench"), seconds: args.seconds };

    let mut figures = wire(&tool, args)?;
    figures.extend(life()?);
    let report = json!({
        "host": host(),
        "seconds": args.seconds,
        "rounds": args.rounds,
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
    });
    let path = target_dir().join("bench.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("could not write {}", path.display()))?;
    if args.json {
        println!("{report}");
    } else {
        println!("{:48} {:>12} {:12} {:16}", "figure", "value", "unit", "target");
        for figure in &figures {
            println!("{}", figure.line());
        }
        println!("written to {}", path.display());
    }
    Ok(())
}

/// The load generator and echo server of `bench/`.
struct Tool {
    program: std::path::PathBuf,
    seconds: f64,
}

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

fn wire(tool: &Tool, args: &Args) -> Result<Vec<Figure>> {
    let (_echo, echo) = tool.echo()?;
    let mut server = Server::start(&target_dir().join("release/mms"), &target_dir().join("bench-data"))?;
    server.ready()?;
    let suite = server.endpoint();
    let [mut echo_one, mut ping_one, mut health_one, mut echo_many, mut ping_many, mut health_many] =
        [const { Measured { p50_us: Vec::new(), per_second: Vec::new() } }; 6];
    for _ in 0..args.rounds {
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
    let echo_p50 = median(&echo_one.p50_us);
    let echo_rate = median(&echo_many.per_second);
    let figure = |name, unit, value, target| Figure { name, unit, value, target };
    Ok(vec![
        figure("libzmq echo, 1 client, p50", "us", echo_p50, None),
        figure("ping, 1 client, p50", "us", median(&ping_one.p50_us), None),
        figure("health_check, 1 client, p50", "us", median(&health_one.p50_us), None),
        figure("ping p50 / echo p50", "x", median(&ping_one.p50_us) / echo_p50, Some((1.3, true))),
        figure("health_check p50 / echo p50", "x", median(&health_one.p50_us) / echo_p50, Some((1.3, true))),
        figure("libzmq echo, 16 clients", "requests/s", echo_rate, None),
        figure("ping, 16 clients", "requests/s", median(&ping_many.per_second), None),
        figure("health_check, 16 clients", "requests/s", median(&health_many.per_second), None),
        figure("ping rate / echo rate, 16 clients", "x", median(&ping_many.per_second) / echo_rate, Some((0.8, false))),
        figure(
            "health_check rate / echo rate, 16 clients",
            "x",
            median(&health_many.per_second) / echo_rate,
            Some((0.8, false)),
        ),
    ])
}

/// Start-up, memory, first token and speed of the built-in model; the median of five starts.
fn life() -> Result<Vec<Figure>> {
    let data = target_dir().join("bench-data");
    let (mut ready, mut resident, mut first, mut speed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut server = Server::start(&target_dir().join("release/mms"), &data)?;
        ready.push(millis(server.ready()?));
        resident.push(server.resident_mb()?);
        let (first_token, per_second) = first_answer(&server)?;
        first.push(millis(first_token));
        speed.push(per_second);
        server.stop()?;
    }
    let figure = |name, unit, value, target| Figure { name, unit, value, target };
    Ok(vec![
        figure("start to ready, no model resident", "ms", median(&ready), Some((150.0, true))),
        figure("resident memory when ready", "MB", median(&resident), Some((25.0, true))),
        figure("start to first token, built-in model", "ms", median(&first), Some((1000.0, true))),
        figure("built-in model, one stream", "tokens/s", median(&speed), None),
    ])
}

/// Asks at once and streams: time of the first text since the server's start, and tokens per second from then on.
fn first_answer(server: &Server) -> Result<(Duration, f64)> {
    let body = json!({
        "model": "mms-demo",
        "messages": [{"role": "user", "content": "What is this product?"}],
        "stream": true, "stream_options": {"include_usage": true}, "temperature": 0, "max_tokens": 128,
    })
    .to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", server.http_port)).context("no HTTP port")?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut first = None;
    let mut tokens = 0.0;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let Ok(event) = serde_json::from_str::<Value>(data) else { continue };
        if event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) && first.is_none() {
            first = Some(server.started().elapsed());
        }
        if let Some(count) = event["usage"]["completion_tokens"].as_f64() {
            tokens = count;
        }
    }
    let first = first.context("the stream held no text")?;
    let rest = (server.started().elapsed() - first).as_secs_f64();
    Ok((first, (tokens - 1.0).max(0.0) / rest))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
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
