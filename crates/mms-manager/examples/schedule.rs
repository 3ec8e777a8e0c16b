//! Plays a mixed trace of three models with memory for two through the server's scheduling and through first come first served with
//! eviction of the least recently used, and prints the figures of both as JSON. `--trace` prints the trace itself.
//!
//! `cargo run -p mms-manager --example schedule -- [SEED] [REQUESTS] [--trace]`

use mms_manager::sim::{Trace, baseline, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, numbers): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let seed = numbers.first().map_or(Ok(1), |seed| seed.parse())?;
    let requests = numbers.get(1).map_or(Ok(200), |requests| requests.parse())?;
    let trace = Trace::mixed(seed, requests);
    let json = match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serde_json::json!({
            "seed": seed,
            "requests": requests,
            "own": run(&trace).figures(),
            "baseline": baseline(&trace).figures(),
        }),
        ["--trace"] => serde_json::to_value(&trace)?,
        _ => return Err("usage: schedule [SEED] [REQUESTS] [--trace]".into()),
    };
    println!("{json:#}");
    Ok(())
}
