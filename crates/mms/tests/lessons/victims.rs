//! Memory under pressure: who has to go, who must not, and what whoever finds no room is told.

use mms_client::HttpClient;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::asking::{ask, eventually, generates, load, memory_for, model, worker_pid};
use crate::models::{asking, folder, long};
use crate::support::{PATIENCE, Server, is_alive, send};

const ENGINE: &str = "[engine]\nslots = 2\nthreads = 1\nkv_store_mb = 4\n";

/// A server with memory for so many of its models.
async fn with_memory_for(residents: f64, more: &str, copies: &[&str]) -> Server {
    let budget = memory_for(ENGINE, residents).await;
    let config = format!("{ENGINE}{more}[memory]\nbudget = \"{budget} MB\"\nreserve_mb = 0\n");
    Server::start_in(folder(&config, copies), &[])
}

/// An eviction victim was busy, or pinned, or the model just asked for: here who needs room waits for one that is idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_victim_is_neither_busy_nor_pinned() {
    let server =
        with_memory_for(2.0, "[[model]]\nid = \"pinned\"\npinned = true\n", &["pinned", "busy", "wanted"]).await;
    let pinned = load(&server, "pinned").await;
    let busy = load(&server, "busy").await;
    // Held, so that it is busy for as long as this test looks.
    send(busy, Signal::STOP);
    let running = asking(&server, long("busy", 8));
    eventually("work", async || model(&server, "busy").await["active_requests"] == 1).await;
    let waiting = asking(&server, long("wanted", 8));
    eventually("the newcomer to wait", async || model(&server, "wanted").await["queued_requests"] == 1).await;
    generates(&server, "pinned").await;
    assert_eq!(worker_pid(&server, "busy").await, Some(busy), "a busy model is no victim");
    assert_eq!(worker_pid(&server, "wanted").await, None, "never over the budget");
    send(busy, Signal::CONT);
    for (who, reply) in [("the busy one", running.await.unwrap()), ("the one that waited", waiting.await.unwrap())] {
        assert_eq!(reply["status"], "success", "{who}: {reply}");
    }
    assert!(!is_alive(busy), "it made room when it was idle");
    assert_eq!(worker_pid(&server, "pinned").await, Some(pinned));
    server.stop();
}

/// `keep_alive -1` and `pinned` were not respected: they are, by idleness and by newcomers, and if all is pinned the newcomer is told.
#[tokio::test(flavor = "multi_thread")]
async fn if_all_is_pinned_the_newcomer_gets_a_refusal_with_figures() {
    let pinned = "[[model]]\nid = \"one\"\npinned = true\n[[model]]\nid = \"two\"\npinned = true\n";
    let server = with_memory_for(2.0, pinned, &["one", "two", "newcomer"]).await;
    let pids = [load(&server, "one").await, load(&server, "two").await];
    let reply = ask(&server.main, &json!({"action": "load_model", "model": "newcomer"})).await;
    let error = &reply["error"];
    assert_eq!(error["code"], "insufficient_memory", "{reply}");
    assert!(error["needed_mb"].as_f64() > error["free_mb"].as_f64(), "{reply}");
    assert!(error["budget_mb"].as_f64() > Some(0.0), "{reply}");
    let holders = error["holders"].as_object().unwrap();
    assert!(holders.contains_key("one") && holders.contains_key("two"), "who holds the memory: {reply}");
    let body = json!({"model": "newcomer", "messages": [{"role": "user", "content": "Hello!"}]});
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let reply = http.post_json("/v1/chat/completions", &body).await.unwrap();
    assert!(reply.status >= 500, "{reply:?}");
    assert!(reply.json().unwrap()["error"]["message"].as_str().unwrap().contains("needs about"), "{reply:?}");
    for (id, pid) in ["one", "two"].into_iter().zip(pids) {
        assert_eq!(worker_pid(&server, id).await, Some(pid), "{id} is pinned");
        generates(&server, id).await;
    }
    server.stop();
}

/// `keep_alive -1` was forgotten by the idle timer.
#[tokio::test(flavor = "multi_thread")]
async fn a_keep_alive_of_minus_one_outlives_idleness() {
    let server = Server::start_in(folder("[models]\nidle_unload_s = 1\n", &["kept", "idle"]), &[]);
    let request = json!({"action": "generate", "model": "kept", "prompt": "Hello!", "max_tokens": 2, "keep_alive": -1});
    assert_eq!(ask(&server.main, &request).await["status"], "success");
    let kept = worker_pid(&server, "kept").await.unwrap();
    let idle = load(&server, "idle").await;
    eventually("the idle one to leave", async || worker_pid(&server, "idle").await.is_none()).await;
    assert_eq!(worker_pid(&server, "kept").await, Some(kept));
    // Unload leaves nothing behind: what a process had comes back with its end.
    assert!(!is_alive(idle));
    server.stop();
}

/// The next model started before the memory of the last one was back: a worker begins only after the one before it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_model_starts_after_the_last_one_is_gone() {
    let server = with_memory_for(1.0, "", &["a", "b"]).await;
    let mut last = load(&server, "a").await;
    for next in ["b", "a", "b"] {
        let answer = asking(&server, long(next, 4));
        let mut pid = None;
        eventually("the next worker", async || {
            pid = worker_pid(&server, next).await;
            pid.is_some()
        })
        .await;
        assert!(!is_alive(last), "both in memory at once");
        assert_eq!(answer.await.unwrap()["status"], "success");
        last = pid.unwrap();
    }
    server.stop();
}

/// The target of an eviction was asked for while it was leaving; models took turns at every request; one of them starved.
#[tokio::test(flavor = "multi_thread")]
async fn models_that_take_turns_are_all_served_without_a_swap_for_each_request() {
    const EACH: u64 = 12;
    let server = with_memory_for(1.0, "", &["a", "b", "c"]).await;
    let mut replies = JoinSet::new();
    for number in 0..EACH {
        for id in ["a", "b", "c"] {
            let (endpoint, mut request) = (server.main.clone(), long(id, 4));
            request["request_id"] = number.into();
            replies.spawn(async move { ask(&endpoint, &request).await });
        }
    }
    while let Some(reply) = replies.join_next().await {
        let reply = reply.unwrap();
        assert_eq!(reply["status"], "success", "{reply}");
    }
    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    let loads = stats["metrics"]["models_loaded"].as_u64().unwrap();
    assert!((3..=EACH).contains(&loads), "{loads} loads for {} requests", 3 * EACH);
    server.stop();
}
