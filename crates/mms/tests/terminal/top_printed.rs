//! What is printed when there is no terminal, or when it is asked for.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Server, mms, wait_until};

const MODEL: &str = "mms-demo";

fn model(report: &Value) -> &Value {
    report["models"].as_array().unwrap().iter().find(|model| model["model_id"] == MODEL).unwrap()
}

#[test]
fn once_prints_a_table() {
    let server = Server::start("");
    server.ok(&["models", "load", MODEL]);
    // The output is a pipe here, so `--once` need not be said.
    for args in [&["top", "--once", "--interval", "0.1"][..], &["top", "--interval", "0.1"]] {
        let printed = server.ok(args);
        for part in ["server  ready, up", &server.main, "0.0 tokens/s", "DEVICE", "cpu", "MODEL", "mms-demo  loaded"] {
            assert!(printed.contains(part), "{part:?} is missing in\n{printed}");
        }
        assert!(printed.contains(&server.workers()[0].to_string()), "{printed}");
        assert!(!printed.contains('\u{1b}'), "nothing for a terminal: {printed:?}");
    }
}

#[test]
fn json_tells_what_models_do_while_they_do_it() {
    let server = Server::start("[engine]\nthreads = 1\n");
    server.ok(&["models", "load", MODEL]);
    let report = server.json(&["top", "--interval", "0.1"]);
    assert_eq!(report["ready"], true);
    assert!(report["devices"][0]["budget_mb"].as_f64() > Some(0.0), "{report:#}");
    assert!(report["devices"][0]["measured_mb"].as_f64() > Some(0.0), "{report:#}");
    let demo = model(&report);
    assert_eq!(
        (&demo["state"], &demo["requests"], &demo["tokens_per_second"]),
        (&"loaded".into(), &0.into(), &0.0.into())
    );
    assert!(demo["measured_mb"].as_f64() > Some(0.0) && demo["unload_in_s"].as_f64() > Some(0.0), "{report:#}");

    // One answer after the other, so hot that each goes on to its limit.
    let hot = ["generate", "Tell me about models.", "-n", "400", "-t", "5", "--top-k", "0", "--top-p", "1", "--json"];
    let (mut last, mut answers) = (Value::Null, 0);
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut answers = 0;
            while !enough.load(Ordering::Relaxed) {
                server.ok(&hot);
                answers += 1;
            }
            answers
        });
        wait_until("tokens of an answer under way", || {
            last = server.json(&["top", "--interval", "0.1"]);
            let demo = model(&last);
            let figure = |key: &str| demo[key].as_f64() > Some(0.0);
            busy.is_finished() || demo["active"] == 1 && figure("tokens_per_second") && figure("completion_tokens")
        });
        enough.store(true, Ordering::Relaxed);
        answers = busy.join().unwrap();
    });
    assert_eq!(last["totals"]["active"], 1);
    // They are in the metrics, too.
    let metrics = metrics(&server);
    let line = metrics.lines().find(|line| line.starts_with("mms_model_generated_tokens_total{model=\"mms-demo\"}"));
    let tokens: u64 = line.unwrap_or_else(|| panic!("{metrics}")).rsplit(' ').next().unwrap().parse().unwrap();
    assert!(tokens >= model(&last)["completion_tokens"].as_u64().unwrap(), "{tokens}: {last}");
    assert!(metrics.contains(&format!("mms_model_requests_total{{model=\"mms-demo\"}} {answers}\n")), "{metrics}");
}

fn metrics(server: &Server) -> String {
    let http = mms_client::HttpClient::new(&server.http).unwrap();
    let reply = tokio::runtime::Runtime::new().unwrap().block_on(http.get("/metrics")).unwrap();
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[test]
fn watch_prints_a_document_in_a_line_until_it_is_ended() {
    let mut server = Server::start("");
    let mut command = server.command(&["top", "--watch", "--json", "--interval", "0.05", "--timeout", "0.5"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["totals"]["tokens_per_second"], Value::Null, "one look shows no speed");
    assert_eq!(next()["totals"]["tokens_per_second"], 0.0);
    server.signal(Signal::TERM);
    server.wait();
    let told = loop {
        let line = next();
        if line.get("error").is_some() {
            break line;
        }
    };
    assert_eq!(told["endpoint"], server.main.as_str());
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nobody_there_gives_3_and_nonsense_2() {
    let output = mms().args(["top", "--endpoint", "tcp://127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    for args in
        [&["top", "--once", "--watch"][..], &["top", "--interval", "0"], &["top", "--watch", "--endpoint", "ftp://x"]]
    {
        assert_eq!(mms().args(args).output().unwrap().status.code(), Some(2), "{args:?}");
    }
}
