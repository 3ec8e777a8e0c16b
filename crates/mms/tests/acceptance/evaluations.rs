//! Metrics and evaluations through the main port: what was acknowledged is there after a kill, rows of the old suite come back with their
//! times, and a database file that cannot be used is told and acknowledges nothing, while everything else is served.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::asking::{answers, ask, eventually, generates};
use crate::support::Server;

const FILE: &str = "data/model_evaluation.db";

/// Runs Python, whose SQLite is another program than ours, until its standard input ends; returns once it has printed a line.
fn python(script: &str, file: &Path) -> Child {
    let script = format!(
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n{script}\nprint('done', flush=True)\nsys.stdin.read()"
    );
    let mut child = Command::new("python3")
        .args(["-c", &script])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "done\n");
    child
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

async fn log(server: &Server, value: usize) -> Value {
    let request = json!({"action": "log_performance_metric", "agent_name": "a", "metric_name": "m", "value": value});
    ask(&server.main, &request).await
}

async fn rows(server: &Server) -> Vec<Value> {
    let reply =
        ask(&server.main, &json!({"action": "get_performance_metrics", "agent_name": "a", "limit": 10_000})).await;
    reply["metrics"].as_array().unwrap_or_else(|| panic!("{reply}")).clone()
}

async fn health(server: &Server) -> Value {
    ask(&server.health, &json!({"action": "health_check"})).await
}

async fn refused(server: &Server, why: &str) {
    for operation in ["log_performance_metric", "log_model_evaluation"] {
        let request = json!({"action": operation, "agent_name": "a", "metric_name": "m", "value": 1, "model_name": "m",
            "cycle_id": "c", "trust_score": 1});
        let reply = ask(&server.main, &request).await;
        assert_eq!(reply["error"]["code"], "store_unavailable", "{reply}");
        assert!(reply["message"].as_str().unwrap().contains(why), "{reply}");
    }
    eventually("the store to tell", async || health(server).await["health_checks"]["evaluation_store"] == false).await;
    let state = health(server).await;
    assert_eq!((&state["ready"], &state["status"]), (&json!(true), &json!("degraded")), "{state}");
    assert!(state["health_details"]["evaluation_store"].as_str().unwrap().contains(why), "{state}");
    generates(server, "mms-demo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("kept");
    let data = data.to_str().unwrap();
    let server = Server::start_in(tempfile::tempdir().unwrap(), &["--data-dir", data]);
    let mut kept = Vec::new();
    for value in 0..50 {
        let reply = log(&server, value).await;
        kept.push(reply["metric_id"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned());
    }
    server.signal(Signal::KILL);
    drop(server);
    let server = Server::start_in(tempfile::tempdir().unwrap(), &["--data-dir", data]);
    let found: Vec<String> =
        rows(&server).await.iter().map(|row| row["metric_id"].as_str().unwrap().to_owned()).collect();
    kept.reverse();
    assert_eq!(found, kept, "newest first");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_old_suite_come_back_with_their_times() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    end(python(
        "c.execute('CREATE TABLE performance_metrics (metric_id TEXT PRIMARY KEY, agent_name TEXT NOT NULL, metric_name TEXT NOT NULL, \
         value REAL NOT NULL, timestamp TIMESTAMP NOT NULL, context TEXT)')\n\
         import datetime, json\n\
         for n, when in enumerate([1714546800, 1714546800.5, 1735732800]):\n    \
         text = datetime.datetime.fromtimestamp(when).isoformat('T ' [n % 2])\n    \
         c.execute('INSERT INTO performance_metrics VALUES (?, ?, ?, ?, ?, ?)', (str(n), 'a', 'm', n, text, json.dumps({'n': n})))",
        &folder.path().join(FILE),
    ));
    let server = Server::start_in(folder, &[]);
    let told: Vec<(Value, Value)> =
        rows(&server).await.iter().map(|row| (row["timestamp"].clone(), row["context"]["n"].clone())).collect();
    let expected =
        [(json!(1_735_732_800.0), json!(2)), (json!(1_714_546_800.5), json!(1)), (json!(1_714_546_800.0), json!(0))];
    assert_eq!(told, expected);
    let between =
        json!({"action": "get_performance_metrics", "start_time": 1_714_546_800, "end_time": 1_714_546_800.25});
    let reply = ask(&server.main, &between).await;
    assert_eq!(reply["metrics"][0]["metric_id"], "0", "{reply}");
    assert_eq!(reply["metrics"].as_array().unwrap().len(), 1, "{reply}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_told_and_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join(FILE), "no pages of SQLite, but long enough to be looked at. ".repeat(50))
        .unwrap();
    let server = Server::start_in(folder, &[]);
    refused(&server, "is not an SQLite database").await;
    let reply = ask(&server.main, &json!({"action": "get_performance_metrics"})).await;
    assert_eq!(reply["error"]["code"], "store_unavailable", "{reply}");
    std::fs::remove_file(server.folder().join(FILE)).unwrap();
    eventually("the store to work again", async || log(&server, 7).await["status"] == "success").await;
    assert_eq!(rows(&server).await[0]["value"], 7.0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_is_told_and_takes_nothing() {
    let server = Server::start("");
    assert_eq!(log(&server, 1).await["status"], "success");
    let locked = python("c.execute('BEGIN IMMEDIATE')", &server.folder().join(FILE));
    refused(&server, "is locked by another process").await;
    // Reading goes on.
    assert_eq!(rows(&server).await.len(), 1);
    answers(&server).await;
    end(locked);
    eventually("the store to work again", async || log(&server, 2).await["status"] == "success").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_has_a_limit_that_is_named() {
    let server = Server::start("");
    let request = |bytes: usize| {
        json!({"action": "log_performance_metric", "agent_name": "a", "metric_name": "m", "value": 1,
            "metadata": {"text": "x".repeat(bytes)}})
    };
    assert_eq!(ask(&server.main, &request(1_000_000)).await["status"], "success");
    let reply = ask(&server.main, &request(1 << 20)).await;
    assert_eq!(reply["message"], "metadata is 1048587 bytes long, at most 1048576 are kept", "{reply}");
    assert_eq!(reply["error"]["argument"], "metadata");
    assert_eq!(rows(&server).await.len(), 1);
    server.stop();
}
