//! Random faults under load: many clients doing everything at once while workers die and hang, files change and the disk fills up.
//! Every request has its one answer, nothing is left over, memory stays flat, the server is ready at the end and ends well. Run it for
//! longer with `cargo xtask faults`; the seed of a failed run repeats its clients' and its faults' choices.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../acceptance/asking.rs"]
mod asking;
mod chaos;
mod clients;
mod dice;
mod raw;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mms_client::HttpClient;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use asking::{answers, ask, eventually, requests};
use chaos::Chaos;
use clients::{SPARED, Tally, Target, Visitor};
use dice::Dice;
use support::{Disk, Server, is_alive};

/// Models in the folder, besides the built-in one; there is memory for fewer.
const MODELS: usize = 5;
/// How each of them is run.
const ENGINE: &str = "[engine]\nslots = 2\nthreads = 1\nkv_store_mb = 4\n";
/// How much larger the server may be at the end than it was after a while, MiB: less than what one leak in each of the many thousand
/// requests adds up to.
const GROWTH_MB: f64 = 24.0;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_its_answer_while_everything_breaks() {
    let seconds = setting("MMS_FAULTS_SECONDS", 20);
    let count = setting("MMS_FAULTS_CLIENTS", 32);
    let seed = setting("MMS_FAULTS_SEED", u64::from(std::process::id()));
    println!("seed {seed}, {count} clients, {seconds} s");
    let evidence = Evidence { seed, tally: Tally::default() };

    let (mut server, disk, good) = start().await;
    let models: Vec<String> = (0..MODELS).map(|number| format!("m{number}")).collect();
    let target = Target {
        main: server.main.clone(),
        health: server.health.clone(),
        http: server.http.clone(),
        models: models.clone(),
    };
    let stop = CancellationToken::new();
    let mut visitors = JoinSet::new();
    for number in 0..count {
        let visitor = Visitor {
            number,
            target: target.clone(),
            dice: Dice::new(seed, number + 1),
            tally: evidence.tally.clone(),
            next_request: 0,
        };
        visitors.spawn(visitor.run(stop.clone()));
    }
    let chaos = Chaos {
        server: &server,
        folder: server.folder().join("models"),
        models,
        good,
        disk,
        dice: Dice::new(seed, 0),
        tally: evidence.tally.clone(),
    };
    let watch = Watch::new(server.pid());
    let chaos_stop = CancellationToken::new();
    tokio::join!(chaos.run(chaos_stop.clone()), watch.run(&server, &chaos_stop), async {
        // A visitor that fails ends the run at once.
        let failed = tokio::time::timeout(Duration::from_secs(seconds), visitors.join_next()).await;
        stop.cancel();
        if let Ok(Some(Err(failed))) = failed {
            chaos_stop.cancel();
            fail(&server, failed);
        }
        while let Some(done) = visitors.join_next().await {
            if let Err(failed) = done {
                fail(&server, failed);
            }
        }
        chaos_stop.cancel();
    });

    let begun = Instant::now();
    eventually("no request to be left", async || requests(&server).await == 0).await;
    eventually("the server to be ready", async || {
        HttpClient::new(&server.http).unwrap().get("/readyz").await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    answers(&server).await;
    let request = json!({"action": "generate", "model": SPARED, "prompt": "Hello!", "max_tokens": 4});
    let reply = ask(&server.main, &request).await;
    assert_eq!(reply["status"], "success", "the spared model answers in the end: {reply}");
    println!("settled in {:.1} s", begun.elapsed().as_secs_f64());

    let (growth, seen) = watch.result();
    server.signal(rustix::process::Signal::TERM);
    let status = server.wait();
    let log = server.log();
    assert!(status.success(), "SIGTERM: {status}\n{}", tail(&log));
    assert!(!log.contains("panicked"), "something panicked:\n{}", lines_with(&log, "panicked"));
    for pid in &seen {
        assert!(!is_alive(*pid), "worker {pid} is left over");
    }
    println!("{} workers came and went; the server grew by {growth:.1} MiB", seen.len());
    assert!(growth < GROWTH_MB, "the server grew by {growth:.1} MiB");
    for (what, least) in [("generate: answered", 10), ("stream: answered", 5), ("pipeline: answered", 5)] {
        assert!(evidence.tally.of(what) >= least, "hardly anything was answered: {:#?}", evidence.tally.all());
    }
}

/// Prints what was seen, also when the test fails.
struct Evidence {
    seed: u64,
    tally: Tally,
}

impl Drop for Evidence {
    fn drop(&mut self) {
        for (what, (count, example)) in self.tally.all() {
            println!("{count:>8}  {what:32} {example}");
        }
        if std::thread::panicking() {
            println!("repeat with: cargo xtask faults --seed {}", self.seed);
        }
    }
}

fn fail(server: &Server, failed: tokio::task::JoinError) -> ! {
    println!("server log, its end:\n{}", tail(&server.log()));
    match failed.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(other) => panic!("{other}"),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn lines_with(log: &str, part: &str) -> String {
    log.lines().filter(|line| line.contains(part)).collect::<Vec<_>>().join("\n")
}

/// A server with more models than memory, and a disk that can be filled.
async fn start() -> (Server, Disk, Vec<u8>) {
    let good = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/mms-demo.gguf")).unwrap();
    let budget_mb = asking::memory_for(ENGINE, 3.0).await;
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    for number in 0..MODELS {
        std::fs::write(models.join(format!("m{number}.gguf")), &good).unwrap();
    }
    let config = format!(
        "[server]\ndrain_timeout_s = 5\nprobe_interval_s = 0.5\n[models]\nrescan_s = 0.2\n{ENGINE}[memory]\nbudget = \"{budget_mb} MB\"\n\
         reserve_mb = 0\n[limits]\nheartbeat_timeout_s = 4\nqueue_per_model = 24\nrequest_timeout_s = 40\n"
    );
    std::fs::write(folder.path().join("mms.toml"), config).unwrap();
    let (server, disk) = Server::start_on_small_disk(folder);
    (server, disk, good)
}

/// The server's memory and its workers, looked at again and again.
struct Watch {
    pid: u32,
    resident_mb: Mutex<Vec<f64>>,
    workers: Arc<Mutex<BTreeSet<u32>>>,
}

impl Watch {
    fn new(pid: u32) -> Self {
        Self { pid, resident_mb: Mutex::default(), workers: Arc::default() }
    }

    async fn run(&self, server: &Server, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
            self.resident_mb.lock().unwrap().extend(kilobytes.map(|kb| kb / 1024.0));
            self.workers.lock().unwrap().extend(server.workers());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Growth from the second quarter of the run to the last, MiB, and the workers that were seen.
    fn result(self) -> (f64, BTreeSet<u32>) {
        let samples = self.resident_mb.into_inner().unwrap();
        let quarter = samples.len() / 4;
        assert!(quarter > 0, "too short to say anything about memory");
        let median = |part: &[f64]| {
            let mut sorted = part.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted[sorted.len() / 2]
        };
        let growth = median(&samples[3 * quarter..]) - median(&samples[quarter..2 * quarter]);
        (growth, self.workers.lock().unwrap().clone())
    }
}
