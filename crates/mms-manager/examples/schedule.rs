//! Plays a mixed trace of three models with memory for two through the server's scheduling and through first come first served with
//! eviction of the least recently used, and prints the figures of both: a table, or with `--json` an object. `--trace` prints the trace
//! itself as JSON, so that it can be replayed against running servers.
//!
//! `cargo run -p mms-manager --example schedule -- [SEED] [REQUESTS] [--json | --trace]`

use mms_manager::sim::{Figures, Trace, baseline, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, numbers): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let seed = numbers.first().map_or(Ok(1), |seed| seed.parse())?;
    let requests = numbers.get(1).map_or(Ok(200), |requests| requests.parse())?;
    let trace = Trace::mixed(seed, requests);
    let (own, other) = (run(&trace).figures(), baseline(&trace).figures());
    match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print(seed, requests, own, other),
        ["--json"] => {
            let figures = serde_json::json!({"seed": seed, "requests": requests, "own": own, "baseline": other});
            println!("{figures:#}");
        }
        ["--trace"] => println!("{:#}", serde_json::to_value(&trace)?),
        _ => return Err("usage: schedule [SEED] [REQUESTS] [--json | --trace]".into()),
    }
    Ok(())
}

fn print(seed: u64, requests: usize, own: Figures, other: Figures) {
    println!("seed {seed}, {requests} requests");
    println!("{:24} {:>10} {:>24}", "", "own", "first come first served");
    for (name, of) in [
        ("loads", (|figures| figures.loads as f64) as fn(Figures) -> f64),
        ("swaps", |figures| figures.swaps as f64),
        ("swaps per request", |figures| figures.swaps_per_request),
        ("wait p50, s", |figures| figures.wait_p50_s),
        ("wait p95, s", |figures| figures.wait_p95_s),
        ("longest wait, s", |figures| figures.wait_max_s),
        ("unanswered", |figures| figures.unanswered as f64),
        ("in all, s", |figures| figures.total_s),
    ] {
        println!("{name:24} {:>10.2} {:>24.2}", of(own), of(other));
    }
}
