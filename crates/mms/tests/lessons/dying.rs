//! Workers that hang or die in the middle of their work: every request in them has its one answer, they are replaced, and another
//! model keeps answering all the while.

use std::path::PathBuf;

use futures::StreamExt;
use mms_client::HttpClient;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};

use crate::asking::{ask, eventually, generates, load, model, requests, worker_pid};
use crate::models::{Bystander, asking, folder, long};
use crate::support::{PATIENCE, Server, is_alive, send};

/// An answer, or an error that names the worker's end.
fn assert_explained(reply: &Value, says: &str) {
    if reply["status"] != "success" {
        assert_eq!(reply["error"]["code"], "worker_died", "{reply}");
        assert!(reply["message"].as_str().unwrap().contains(says), "{says}: {reply}");
    }
}

/// A stream of this model: whether it has ended well, and the message of the error that ended it otherwise.
async fn stream_of(http: HttpClient, model: &'static str) -> Result<(), String> {
    let body = json!({
        "model": model, "messages": [{"role": "user", "content": "Tell me about models."}], "stream": true, "max_tokens": 600,
        "temperature": 5, "top_k": 0, "top_p": 1, "min_p": 0,
    });
    let mut lines = match http.post_sse("/v1/chat/completions", &body).await.unwrap() {
        Ok(lines) => lines,
        Err(refused) => return Err(refused.json().unwrap()["error"]["message"].as_str().unwrap().to_owned()),
    };
    let mut last = String::new();
    while let Some(line) = lines.next().await {
        last = line.unwrap();
        let event = serde_json::from_str::<Value>(&last).unwrap_or_default();
        if let Some(message) = event["error"]["message"].as_str() {
            return Err(message.to_owned());
        }
    }
    assert_eq!(last, "[DONE]", "a stream that just stops");
    Ok(())
}

/// Streams and plain requests in the model's worker, which is stopped so that all are in it when `end` comes.
async fn everything_in_it_is_answered(server: &Server, end: Option<Signal>, says: &str) {
    let dead = load(server, "victim").await;
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let streams: Vec<_> = (0..2).map(|_| tokio::spawn(stream_of(http.clone(), "victim"))).collect();
    let plain: Vec<_> = (0..6).map(|_| asking(server, long("victim", 300))).collect();
    eventually("all requests at the model", async || requests(server).await >= 8).await;
    let signal = end.unwrap_or(Signal::STOP);
    send(dead, signal);
    if end.is_some() {
        // A fault that is only sent may be taken for a stack that has grown once, and passed over; a true one comes again.
        eventually("its end", async || {
            _ = kill_process(Pid::from_raw(dead as i32).unwrap(), signal);
            !is_alive(dead)
        })
        .await;
    }
    for stream in streams {
        if let Err(message) = stream.await.unwrap() {
            assert!(message.contains(says), "{says}: {message}");
        }
    }
    for reply in plain {
        assert_explained(&reply.await.unwrap(), says);
    }
    eventually("its end", async || !is_alive(dead)).await;
    generates(server, "victim").await;
    assert_ne!(worker_pid(server, "victim").await, Some(dead));
}

/// A worker hung, and only SIGKILL by hand was the cure.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_worker_is_killed_and_replaced_and_all_in_it_are_answered() {
    let config = "[limits]\nheartbeat_timeout_s = 3\n[engine]\nslots = 2\nthreads = 1\n";
    let server = Server::start_in(folder(config, &["victim"]), &[]);
    generates(&server, "mms-demo").await;
    let bystander = Bystander::of(&server, "mms-demo");
    everything_in_it_is_answered(&server, None, "it has said nothing for 3 s and was killed").await;
    bystander.was_served().await;
    server.stop();
}

/// A prompt that the engine reads without end: the worker makes no step any more, is killed, and nobody else notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_in_prefill_is_killed_and_replaced() {
    // Every token of a prompt is a step of its own, so that the worker is certainly reading when it is held.
    let config =
        "[limits]\nheartbeat_timeout_s = 2\n[engine]\nslots = 1\nthreads = 1\nbatch_size = 1\nubatch_size = 1\n";
    let server = Server::start_in(folder(config, &["victim"]), &[]);
    generates(&server, "mms-demo").await;
    let bystander = Bystander::of(&server, "mms-demo");
    let hung = load(&server, "victim").await;
    let mut prompt = long("victim", 8);
    prompt["prompt"] = json!("How do I load a model? ".repeat(45));
    let reading = asking(&server, prompt);
    eventually("the prompt at the model", async || model(&server, "victim").await["active_requests"] == 1).await;
    send(hung, Signal::STOP);
    let queued = asking(&server, long("victim", 8));
    // No text had left yet, so that both begin again in the next worker.
    for reply in [reading.await.unwrap(), queued.await.unwrap()] {
        assert_eq!(reply["status"], "success", "{reply}");
    }
    assert!(!is_alive(hung));
    server.wait_for_log("it has said nothing for 2 s and was killed");
    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    assert_eq!((&stats["metrics"]["worker_deaths"], &stats["metrics"]["retries"]), (&json!(1), &json!(2)), "{stats}");
    bystander.was_served().await;
    server.stop();
}

/// The engine aborted or crashed in the middle of decoding, and took the server with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_aborts_or_crashes_takes_nobody_else_with_it() {
    let server = Server::start_in(folder("[engine]\nslots = 2\nthreads = 1\n", &["victim"]), &[]);
    generates(&server, "mms-demo").await;
    let bystander = Bystander::of(&server, "mms-demo");
    for (signal, says) in [(Signal::ABORT, "SIGABRT"), (Signal::SEGV, "SIGSEGV"), (Signal::BUS, "SIGBUS")] {
        everything_in_it_is_answered(&server, Some(signal), says).await;
    }
    bystander.was_served().await;
    server.stop();
}

/// The kernel's out-of-memory killer ended the wrong process, or the right one without a word to its clients. The worker gets no more
/// memory than it has, and then a prompt of megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_memory_dies_alone() {
    let server = Server::start_in(folder("[engine]\nslots = 2\nthreads = 1\n", &["victim"]), &[]);
    generates(&server, "mms-demo").await;
    let pid = load(&server, "victim").await;
    generates(&server, "victim").await;
    let bystander = Bystander::of(&server, "mms-demo");
    let _limit = Limit::on(pid);
    let mut request = long("victim", 4);
    request["prompt"] = json!("model ".repeat(1 << 20));
    let reply = ask(&server.main, &request).await;
    // The next worker, which is not limited, may have told that the prompt is too long.
    let code = reply["error"]["code"].as_str().unwrap();
    assert!(["worker_died", "context_exceeded"].contains(&code), "{reply}");
    assert!(!is_alive(pid), "it went beyond its limit");
    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    assert!(stats["metrics"]["worker_deaths"].as_u64() >= Some(1), "{stats}");
    bystander.was_served().await;
    generates(&server, "victim").await;
    server.stop();
}

/// A bound on the memory of one process: a control group where one can be made, so that the kernel kills; else a bound on its address
/// space, so that it cannot get more.
struct Limit(Option<PathBuf>);

impl Limit {
    /// Little more than the process has.
    fn on(pid: u32) -> Self {
        const MORE: u64 = 4 << 20;
        let name = format!("mms-test-{pid}");
        let first = PathBuf::from("/sys/fs/cgroup/memory").join(&name);
        let second = PathBuf::from("/sys/fs/cgroup").join(&name);
        // The first kind of control groups counts what is allocated from now on, the second one what was there before too.
        let kinds = [(first, "memory.limit_in_bytes", MORE), (second, "memory.max", resident(pid) + MORE)];
        for (folder, file, bytes) in kinds {
            let made = std::fs::create_dir(&folder)
                .and_then(|()| std::fs::write(folder.join(file), bytes.to_string()))
                .and_then(|()| std::fs::write(folder.join("cgroup.procs"), pid.to_string()));
            match made {
                Ok(()) => return Self(Some(folder)),
                // Not there, or not ours to make.
                Err(_) => drop(std::fs::remove_dir(&folder)),
            }
        }
        let bound = Some(address_space(pid) + MORE);
        let process = Pid::from_raw(pid.try_into().unwrap());
        prlimit(process, Resource::As, Rlimit { current: bound, maximum: bound }).unwrap();
        Self(None)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // Its process is gone by now.
        self.0.as_ref().map(std::fs::remove_dir).transpose().ok();
    }
}

/// Bytes, from what the kernel tells of a process.
fn figure(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

pub(crate) fn resident(pid: u32) -> u64 {
    figure(pid, "VmRSS")
}

fn address_space(pid: u32) -> u64 {
    figure(pid, "VmSize")
}
