//! Limits that hold: of memory, of models, of the queue, of time, of what one model does at once.

use futures::StreamExt;
use mms_client::HttpClient;
use mms_store::MetricFilter;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::asking::{answers, ask, eventually, generates, load, model, requests, worker_pid};
use crate::doors::every_door_refuses;
use crate::models::{Bystander, asking, folder, long};
use crate::support::{PATIENCE, Server, is_alive, send};

/// A model that did not fit was tried all the same, or its client waited for ever: it is refused at once, with the figures.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_fit_is_refused_with_figures_on_every_door() {
    let server = Server::start_in(folder("[memory]\nbudget = \"5 MB\"\nreserve_mb = 0\n", &["big"]), &[]);
    for refused in every_door_refuses(&server, "big").await {
        let (door, message) = (&refused.door, &refused.message);
        assert!(message.contains("needs about") && message.contains("the budget is 5 MiB"), "{door}: {message}");
        assert!(message.contains("can never fit"), "{door}: {message}");
        if !refused.details.is_null() {
            assert_eq!(refused.code, "insufficient_memory", "{door}");
            let figure = |key: &str| refused.details[key].as_f64().unwrap_or_else(|| panic!("{door}: no {key}"));
            assert!(figure("needed_mb") > figure("budget_mb") && figure("free_mb") <= 5.0, "{door}: {message}");
            assert!(refused.details["holders"].is_object(), "{door}");
        }
        assert!(refused.status.is_none_or(|status| status == 503), "{door}: {:?}", refused.status);
    }
    assert!(server.workers().is_empty(), "nothing was started for it");
    server.stop();
}

/// As many models as the disk had were kept in memory: at most N are, a newcomer waits for one that is busy, and is refused where all
/// are pinned.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_models_than_allowed_are_in_memory() {
    let config = "[limits]\nmax_loaded_models = 1\n[engine]\nslots = 1\nthreads = 1\n[[model]]\nid = \"pinned\"\npinned = true\n";
    let server = Server::start_in(folder(config, &["first", "second", "pinned"]), &[]);
    let first = load(&server, "first").await;
    // Held, so that it is busy for as long as this test looks.
    send(first, Signal::STOP);
    let running = asking(&server, long("first", 8));
    eventually("work", async || model(&server, "first").await["active_requests"] == 1).await;
    let waiting = asking(&server, long("second", 8));
    eventually("the newcomer to wait", async || model(&server, "second").await["queued_requests"] == 1).await;
    answers(&server).await;
    assert_eq!(worker_pid(&server, "second").await, None);
    send(first, Signal::CONT);
    for reply in [running.await.unwrap(), waiting.await.unwrap()] {
        assert_eq!(reply["status"], "success", "{reply}");
    }
    assert!(!is_alive(first), "it made room when it was idle");
    load(&server, "pinned").await;
    let reply = ask(&server.main, &long("first", 8)).await;
    assert_eq!(reply["error"]["code"], "insufficient_memory", "{reply}");
    assert_eq!((&reply["error"]["max_loaded_models"], &reply["error"]["pinned"]), (&json!(1), &json!(["pinned"])));
    assert_eq!(server.workers().len(), 1);
    server.stop();
}

/// `keep_alive` of a request was ignored: a model that was asked for once with 0 leaves at once, others stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_how_long_its_model_stays() {
    let server = Server::start_in(folder("[models]\nidle_unload_s = 3600\n", &["once", "stays"]), &[]);
    let stays = load(&server, "stays").await;
    let mut request = long("once", 4);
    request["keep_alive"] = json!(0);
    assert_eq!(ask(&server.main, &request).await["status"], "success");
    eventually("it to leave", async || worker_pid(&server, "once").await.is_none()).await;
    request["keep_alive"] = json!("300ms");
    assert_eq!(ask(&server.main, &request).await["status"], "success");
    eventually("it to leave again", async || worker_pid(&server, "once").await.is_none()).await;
    request["keep_alive"] = json!("2h");
    assert_eq!(ask(&server.main, &request).await["status"], "success");
    let entry = model(&server, "once").await;
    assert_eq!(entry["idle_unload_s"], 7200, "{entry}");
    assert!(entry["expires_at"].as_f64() > Some(0.0), "{entry}");
    assert_eq!(worker_pid(&server, "stays").await, Some(stays));
    server.stop();
}

/// A queue without end, or a full one that let clients hang: it refuses at once and says when to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let config = "[limits]\nqueue_per_model = 2\n[engine]\nslots = 1\nthreads = 1\n";
    let server = Server::start_in(folder(config, &["full"]), &[]);
    let worker = load(&server, "full").await;
    generates(&server, "mms-demo").await;
    let bystander = Bystander::of(&server, "mms-demo");
    send(worker, Signal::STOP);
    // Two are given to the worker, two wait.
    let inside: Vec<_> = (0..4).map(|_| asking(&server, long("full", 4))).collect();
    eventually("a full queue", async || model(&server, "full").await["queued_requests"] == 2).await;
    let begun = model(&server, "full").await;
    let reply = ask(&server.main, &long("full", 4)).await;
    assert_eq!(reply["error"]["code"], "queue_full", "{reply}");
    assert!(reply["error"]["retry_after_ms"].as_u64() > Some(0), "{reply}");
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let body = json!({"model": "full", "messages": [{"role": "user", "content": "Hello!"}]});
    let reply = http.post_json("/v1/chat/completions", &body).await.unwrap();
    assert_eq!((reply.status, &reply.json().unwrap()["error"]["code"]), (429, &json!("queue_full")));
    assert!(reply.headers.get("retry-after").unwrap().to_str().unwrap().parse::<u64>().unwrap() >= 1);
    // The worker had not said a word in the meantime: the refusals waited for nothing.
    assert_eq!(model(&server, "full").await["active_requests"], begun["active_requests"]);
    send(worker, Signal::CONT);
    for reply in inside {
        let reply = reply.await.unwrap();
        assert_eq!(reply["status"], "success", "{reply}");
    }
    bystander.was_served().await;
    server.stop();
}

/// A deadline held only once an answer had begun: it holds in the queue and while an answer is written, too (while a model is loaded
/// and while a prompt is read: `progress` and `leaving`).
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_holds_in_the_queue_and_while_an_answer_is_written() {
    let config = "[engine]\nslots = 1\nthreads = 1\n[limits]\nheartbeat_timeout_s = 60\n";
    let server = Server::start_in(folder(config, &["slow"]), &[]);
    let worker = load(&server, "slow").await;
    send(worker, Signal::STOP);
    // Two of them are in the worker, the third is not; none of them can get on.
    let mut asked = Vec::new();
    for number in 0..3 {
        let mut request = long("slow", 900);
        request["timeout_ms"] = json!(if number < 2 { 60_000 } else { 300 });
        asked.push(asking(&server, request));
        eventually("it at the model", async || requests(&server).await == number + 1).await;
    }
    let queued = asked.pop().unwrap().await.unwrap();
    let error = &queued["error"];
    assert_eq!((&error["code"], &error["phase"]), (&json!("timeout"), &json!("queued")), "{queued}");
    assert!(error["retry_after_ms"].as_u64() > Some(0), "{queued}");
    send(worker, Signal::CONT);
    for reply in asked {
        reply.await.unwrap();
    }

    // One that is being written: it has begun, and then its worker is held until its time is up.
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let body = json!({
        "model": "slow", "messages": [{"role": "user", "content": "Tell me about models."}], "stream": true,
        "max_tokens": 100_000, "timeout_ms": 1500, "temperature": 5, "top_k": 0, "top_p": 1, "min_p": 0,
    });
    let mut lines = http.post_sse("/v1/chat/completions", &body).await.unwrap().expect("a stream");
    let (mut begun, mut error) = (false, Value::Null);
    while let Some(line) = lines.next().await {
        let event = serde_json::from_str::<Value>(&line.unwrap()).unwrap_or_default();
        if !begun && event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
            begun = true;
            send(worker, Signal::STOP);
        }
        if event.get("error").is_some() {
            error = event["error"].clone();
        }
    }
    send(worker, Signal::CONT);
    assert!(begun, "it never began");
    assert_eq!(error["code"], "timeout", "{error}");
    assert!(error["message"].as_str().unwrap().contains("was generating"), "{error}");
    eventually("its end in the worker", async || requests(&server).await == 0).await;
    generates(&server, "slow").await;
    server.stop();
}

/// Tokens of the answers of a model in the order in which they ended, as the evaluation store has them.
async fn answers_of(server: &Server, id: &str) -> Vec<f64> {
    let store = mms_store::Store::open(&server.folder().join("data/model_evaluation.db")).unwrap();
    let name = Some("generation_tokens".to_owned());
    let mut rows = store.metrics(MetricFilter { metric_name: name, ..MetricFilter::default() }).await.unwrap().rows;
    rows.retain(|row| row.context.as_ref().is_some_and(|context| context["model_id"] == id));
    // The newest comes first.
    rows.iter().rev().filter_map(|row| row.value).collect()
}

/// A model took on more than it was set up for, or one setting held for all: each has its own number of answers at once.
#[tokio::test(flavor = "multi_thread")]
async fn each_model_answers_as_many_at_once_as_it_is_set_up_for() {
    let config = "[engine]\nthreads = 1\n[[model]]\nid = \"one\"\nslots = 1\n[[model]]\nid = \"two\"\nslots = 2\n";
    let mut server = Server::start_in(folder(config, &["one", "two"]), &[]);
    for (id, slots) in [("one", 1), ("two", 2)] {
        let worker = load(&server, id).await;
        assert_eq!(model(&server, id).await["slots"], slots);
        // Held until both are in it, the long one first.
        send(worker, Signal::STOP);
        let mut asked = Vec::new();
        for (number, tokens) in [(1, 300), (2, 4)] {
            asked.push(asking(&server, long(id, tokens)));
            eventually("it in the worker", async || model(&server, id).await["active_requests"] == number).await;
        }
        send(worker, Signal::CONT);
        for reply in asked {
            let reply = reply.await.unwrap();
            assert_eq!(reply["status"], "success", "{reply}");
        }
    }
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let ([long, short], [first, last]) =
        (two(&answers_of(&server, "one").await), two(&answers_of(&server, "two").await));
    assert!(long > 4.0 && short <= 4.0, "the short one waited for its slot: {long}, {short}");
    assert!(first <= 4.0 && last > 4.0, "the short one had a slot of its own: {first}, {last}");
}

fn two(tokens: &[f64]) -> [f64; 2] {
    tokens.try_into().unwrap_or_else(|_| panic!("two answers: {tokens:?}"))
}
