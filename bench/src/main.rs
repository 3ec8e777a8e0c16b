//! `mms-bench echo`: a bare libzmq REP server that sends back what it gets. `mms-bench load`: libzmq REQ clients, one thread
//! each, that send one request after the other to whatever listens; prints median, 99th percentile and rate as JSON.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::json;

#[derive(Parser)]
enum Cli {
    /// Answer each request with itself until killed
    Echo {
        #[arg(long)]
        endpoint: String,
    },
    /// Send requests and measure
    Load {
        #[arg(long)]
        endpoint: String,
        #[arg(long, default_value_t = 1)]
        clients: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        #[arg(long, default_value = r#"{"action":"ping"}"#)]
        request: String,
    },
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Echo { endpoint } => echo(&endpoint),
        Cli::Load { endpoint, clients, seconds, request } => {
            load(&endpoint, clients, Duration::from_secs_f64(seconds), request.as_bytes())
        }
    }
}

fn echo(endpoint: &str) -> Result<()> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::REP)?;
    socket.bind(endpoint).with_context(|| format!("could not bind {endpoint}"))?;
    let mut message = zmq::Message::new();
    loop {
        socket.recv(&mut message, 0)?;
        socket.send(&message[..], 0)?;
    }
}

fn load(endpoint: &str, clients: usize, length: Duration, request: &[u8]) -> Result<()> {
    let context = zmq::Context::new();
    let barrier = std::sync::Barrier::new(clients);
    let samples: Vec<Result<Vec<u32>>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..clients).map(|_| scope.spawn(|| client(&context, endpoint, length, request, &barrier))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a client thread panicked"))).collect()
    });
    let mut all: Vec<u32> = Vec::new();
    for sample in samples {
        all.extend(sample?);
    }
    if all.is_empty() {
        bail!("no request was answered within {length:?}");
    }
    all.sort_unstable();
    let at = |share: f64| f64::from(all[((all.len() - 1) as f64 * share) as usize]) / 1000.0;
    println!(
        "{}",
        json!({
            "requests": all.len(),
            "p50_us": at(0.5),
            "p99_us": at(0.99),
            "per_second": all.len() as f64 / length.as_secs_f64(),
        })
    );
    Ok(())
}

/// Round trips in nanoseconds of one REQ client, after a short warm-up.
fn client(
    context: &zmq::Context,
    endpoint: &str,
    length: Duration,
    request: &[u8],
    barrier: &std::sync::Barrier,
) -> Result<Vec<u32>> {
    let socket = context.socket(zmq::REQ)?;
    socket.set_linger(0)?;
    socket.set_rcvtimeo(10_000)?;
    socket.connect(endpoint)?;
    let mut reply = zmq::Message::new();
    let warmed = (0..100).try_for_each(|_| -> Result<()> {
        socket.send(request, 0)?;
        socket.recv(&mut reply, 0).context("no reply within 10 s")
    });
    barrier.wait();
    warmed?;
    let mut samples = Vec::with_capacity(1 << 20);
    let begun = Instant::now();
    while begun.elapsed() < length {
        let sent = Instant::now();
        socket.send(request, 0)?;
        socket.recv(&mut reply, 0).context("no reply within 10 s")?;
        samples.push(sent.elapsed().as_nanos() as u32);
    }
    Ok(samples)
}
