//! `mms eval`: what people do with metrics and evaluations on the command line.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Server, send, wait_until};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../eval/demo.toml");

/// Runs a command; gives its exit code, what it printed and what it complained.
fn end_of(server: &Server, args: &[&str]) -> (i32, String, String) {
    let output = server.mms(args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn kept(server: &Server) -> Vec<Value> {
    server.json(&["eval", "show"])["scores"].as_array().unwrap().clone()
}

#[test]
fn the_example_suite_gives_figures_that_are_kept() {
    let server = Server::start("");
    let report = server.json(&["eval", "run", "mms-demo", "--suite", DEMO, "--cycle", "first"]);
    let accuracy = report["accuracy"].as_f64().unwrap();
    assert!((0.6..1.0).contains(&accuracy), "it can most of it, and not all: {report:#}");
    let (right, tasks) = (report["right"].as_f64().unwrap(), report["tasks"].as_f64().unwrap());
    assert!((accuracy - right / tasks).abs() < 1e-9);
    assert!(report["trust_score"].as_f64().unwrap() < accuracy, "few tasks prove little");
    assert!(report["f1"]["macro"].as_f64().unwrap() > 0.5 && report["f1"]["token"].as_f64().unwrap() > 0.5);
    let latency = |key: &str| report["latency_ms"][key].as_f64().unwrap();
    assert!(latency("p50") > 0.0 && latency("p95") >= latency("p50"));
    assert_eq!((&report["failed"], &report["interrupted"]), (&json!(0), &json!(false)));
    assert_eq!(report["results"].as_array().unwrap().len() as f64, tasks);

    let [row] = kept(&server).try_into().unwrap();
    assert_eq!(row["evaluation_id"], report["evaluation_id"]);
    assert_eq!((&row["model_name"], &row["cycle_id"]), (&json!("mms-demo"), &json!("first")));
    for key in ["accuracy", "f1_score", "trust_score"] {
        assert_eq!(row[key], report[key], "{key}");
    }
    assert_eq!(row["avg_latency_ms"], report["latency_ms"]["mean"]);
    assert_eq!(row["comparison_data"]["suite"], "demo");
    assert_eq!(row["comparison_data"]["latency_ms"], report["latency_ms"]);

    // The same seed and temperature 0: the same answers.
    let again = server.json(&["eval", "run", "mms-demo", "--suite", DEMO, "--no-store"]);
    assert_eq!((&again["accuracy"], &again["f1"]), (&report["accuracy"], &report["f1"]));
    assert_eq!(again["evaluation_id"], Value::Null);
    assert_eq!(kept(&server).len(), 1);

    let (code, printed, told) = end_of(&server, &["eval", "run", "mms-demo", "--suite", DEMO, "--fail-under", "1"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("below 1 (--fail-under)") && printed.contains("trust score"), "{printed}{told}");
    assert_eq!(kept(&server).len(), 2, "what failed is kept too");
    let (code, _, told) = end_of(&server, &["eval", "run", "mms-demo", "--suite", DEMO, "--fail-under", "0.5"]);
    assert_eq!(code, 0, "{told}");
    let (code, _, told) = end_of(&server, &["eval", "run", "nobody", "--suite", DEMO]);
    assert_eq!(code, 4, "{told}");
    server.stop();
}

#[test]
fn a_task_without_an_answer_is_wrong_and_named() {
    let server = Server::start("");
    let suite = format!(
        "[[task]]\nid = \"too long\"\nprompt = \"{}\"\ncheck = \"regex\"\nexpected = \".*\"\n\
         [[task]]\nid = \"sum\"\nprompt = \"What is 2 + 2?\"\ncheck = \"number\"\nexpected = 4\n",
        "word ".repeat(5000)
    );
    std::fs::write(server.folder().join("suite.toml"), suite).unwrap();
    let report = server.json(&["eval", "run", "mms-demo", "--suite", "suite.toml"]);
    assert_eq!((&report["accuracy"], &report["failed_tasks"]), (&json!(0.5), &json!(["too long"])), "{report:#}");
    assert!(report["results"][0]["error"].as_str().unwrap().contains("context"), "{report:#}");
    assert_eq!(report["results"][1]["answer"], "2 + 2 = 4.");
    let table = server.ok(&["eval", "run", "mms-demo", "--suite", "suite.toml", "--no-store"]);
    assert!(table.lines().any(|line| line.starts_with("failed") && line.contains("too long")), "{table}");
    server.stop();
}

#[test]
fn half_a_run_leaves_nothing_unless_it_was_asked_for() {
    let server = Server::start("");
    let tasks: String = (0..10_000)
        .map(|number| format!("[[task]]\nprompt = \"What is {number} + 1?\"\ncheck = \"number\"\nexpected = 1\n"))
        .collect();
    std::fs::write(server.folder().join("suite.toml"), tasks).unwrap();
    for flags in [&[][..], &["--keep-partial"]] {
        let asked = || server.json(&["top", "--once"])["totals"]["requests"].as_u64().unwrap();
        let before = asked();
        let args = [&["eval", "run", "mms-demo", "--suite", "suite.toml", "--json"], flags].concat();
        let child = server.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("some tasks are done", || asked() > before + 5);
        send(child.id(), Signal::INT);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let done = report["tasks"].as_u64().unwrap();
        assert!(0 < done && done < 10_000 && report["interrupted"] == true, "{done}");
        assert_eq!(report["tasks_of_suite"], 10_000);
        assert_eq!(kept(&server).len(), flags.len(), "{flags:?}");
    }
    assert_eq!(kept(&server)[0]["comparison_data"]["tasks_of_suite"], 10_000);
    server.stop();
}

#[test]
fn every_mistake_of_a_suite_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("suite.toml");
    let task = |rest: &str| format!("[[task]]\nprompt = \"a\"\n{rest}\n");
    let number = "check = \"number\"\nexpected = ";
    let many = task(&format!("{number}1")).repeat(10_001);
    for (text, told) in [
        ("x: [1", "suite.toml:1: "),
        ("", "suite.toml:1: there are no tasks"),
        ("\n[[task]]\ncheck = \"exact\"\nexpected = \"b\"", "suite.toml:2: missing field `prompt`"),
        (&task("expected = \"b\""), "suite.toml:1: missing field `check`"),
        (&task("check = \"exact\""), "suite.toml:1: expected must be a text"),
        (&task("check = \"dice\""), "suite.toml:3: unknown variant `dice`"),
        (&task("check = \"exact\"\nexpect = \"b\""), "suite.toml:4: unknown field `expect`"),
        (&task("check = \"exact\"\nexpected = 1"), "suite.toml:4: expected must be a text"),
        (&task("check = \"one-of\"\nexpected = []"), "suite.toml:4: expected must be texts"),
        (&task("check = \"regex\"\nexpected = \"(\""), "suite.toml:4: the regular expression is wrong: "),
        (
            &task("check = \"regex\"\nexpected = '\\w{900}{900}'"),
            "suite.toml:4: the regular expression needs more than",
        ),
        (&task(&format!("{number}nan")), "suite.toml:4: expected must be a finite number"),
        (&task(&format!("{number}1\ntolerance = nan")), "suite.toml:5: tolerance must be a finite number"),
        (&task(&format!("{number}1\ntolerance = -1.0")), "suite.toml:5: tolerance must be a finite number"),
        (&task(&format!("{number}1\nignore_case = true")), "suite.toml:5: ignore_case has no meaning"),
        (&task(&format!("{number}1\nmax_tokens = 0")), "suite.toml:5: max_tokens must be 1 or more"),
        (&task(&format!("{number}1\nid = \"\"")), "suite.toml:5: a name must have 1 to 200 bytes"),
        (&task("check = \"label\"\nexpected = \"b\""), "suite.toml:4: \"b\" is none of the labels"),
        (&task("check = \"json\"\nexpected = [nan]"), "suite.toml:4: nan is no value of JSON"),
        (&task("check = \"json\"\nschema = { pattern = \"x\" }"), "suite.toml:4: schema: the keyword \"pattern\""),
        (&task("check = \"json\"\nfields = 1"), "suite.toml:4: fields must be a table"),
        (
            &format!("labels = [\"a\", \"A\"]\n{}", task(&format!("{number}1"))),
            "suite.toml:1: the label \"A\" is there twice",
        ),
        (&task(&format!("{number}1\nid = \"x\"")).repeat(2), "suite.toml:6: a second task has the id \"x\""),
        ("[[task]]\nprompt = \" \"\ncheck = \"exact\"\nexpected = \"b\"", "suite.toml:2: the prompt is empty"),
        (&many, "suite.toml:40001: 10001 tasks, at most 10000 are run"),
    ] {
        std::fs::write(&file, text).unwrap();
        let start: String = text.chars().take(200).collect();
        refused(&mut run("suite.toml", folder.path()), told, &start);
    }
    // All at once, not one after the other.
    std::fs::write(&file, task("check = \"exact\"") + &task(&format!("{number}inf"))).unwrap();
    let output = run("suite.toml", folder.path()).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 2);

    refused(&mut run("missing.toml", folder.path()), "cannot read missing.toml", "");
    refused(&mut run("/dev/zero", folder.path()), "/dev/zero is larger than the", "");
    std::fs::write(&file, b"name = \"\xff\"").unwrap();
    refused(&mut run("suite.toml", folder.path()), "suite.toml is no text in UTF-8 (byte 8)", "");
    for (flag, value) in [("--fail-under", "nan"), ("--fail-under", "2"), ("--temperature", "inf"), ("--cycle", "")] {
        std::fs::write(&file, task(&format!("{number}1"))).unwrap();
        refused(run("suite.toml", folder.path()).args([flag, value]), flag, value);
    }
}

/// A run against a server that is not there: it must not come so far.
fn run(suite: &str, folder: &std::path::Path) -> Command {
    let mut command = crate::support::mms();
    command.args(["eval", "run", "mms-demo", "--endpoint", "tcp://127.0.0.1:1", "--suite", suite]).current_dir(folder);
    command
}

fn refused(command: &mut Command, told: &str, of: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains(told), "{of:?}: {told:?} is not in {said:?}");
}

#[test]
fn what_is_logged_is_shown_page_by_page_compared_and_exported() {
    let server = Server::start("");
    let metadata = "{\"host\": \"a, \\\"b\\\"\"}";
    let id = server.ok(&["eval", "log", "metric", "=SUM(A1)", "up-time", "-1.5", "--metadata", metadata]);
    server.ok(&["eval", "log", "metric", "other", "up-time", "2"]);
    for (cycle, trust) in [("c1", "0.5"), ("c2", "0.7"), ("c3", "0.9")] {
        server.ok(&["eval", "log", "evaluation", "a", "--cycle", cycle, "--trust", trust, "--f1", "0.25"]);
    }
    server.ok(&["eval", "log", "evaluation", "b", "--cycle", "c1", "--trust", "0.1", "--latency-ms", "12"]);

    let metrics = server.json(&["eval", "metrics", "--agent", "=SUM(A1)"]);
    assert_eq!(metrics["metrics"][0]["metric_id"], id.trim(), "{metrics}");
    assert_eq!(metrics["metrics"][0]["context"]["host"], "a, \"b\"");
    let first = server.json(&["eval", "show", "a", "--limit", "2"]);
    let cycles = |page: &Value| -> Vec<String> {
        page["scores"].as_array().unwrap().iter().map(|row| row["cycle_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(cycles(&first), ["c3", "c2"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.json(&["eval", "show", "a", "--limit", "2", "--cursor", cursor]);
    assert_eq!((cycles(&second), &second["next_cursor"]), (vec!["c1".to_owned()], &Value::Null));
    assert_eq!(cycles(&server.json(&["eval", "show", "--cycle", "c1"])).len(), 2);
    assert_eq!(server.json(&["eval", "show", "--until", "2000-01-01"])["scores"], json!([]));
    let (_, shown, told) = end_of(&server, &["eval", "show", "a", "--limit", "1"]);
    assert!(shown.contains("0.9000") && told.contains("there is more: --cursor "), "{shown}{told}");

    let compared = server.json(&["eval", "compare", "a", "b", "nobody", "--last", "2"]);
    let models = compared["models"].as_array().unwrap();
    assert_eq!((&models[0]["evaluations"], &models[0]["f1_score"]), (&json!(2), &json!(0.25)));
    assert!((models[0]["trust_score"].as_f64().unwrap() - 0.8).abs() < 1e-9, "{compared}");
    assert_eq!((&models[1]["avg_latency_ms"], &models[1]["f1_score"]), (&json!(12.0), &Value::Null));
    assert_eq!((&models[2]["evaluations"], &models[2]["trust_score"]), (&json!(0), &Value::Null));
    let table = server.ok(&["eval", "compare", "a", "b"]);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["trust_score", "0.7000", "0.1000"])), "{table}");

    let csv = server.ok(&["eval", "export", "metrics", "--agent", "=SUM(A1)"]);
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines[0], "metric_id,timestamp,agent_name,metric_name,value,context");
    assert!(lines[1].starts_with(id.trim()) && lines[1].contains(",'=SUM(A1),up-time,-1.5,\"{\"\"host\"\":"), "{csv}");
    server.ok(&["eval", "export", "evaluations", "--model", "a", "--json", "--output", "out.json"]);
    let rows: Value = serde_json::from_slice(&std::fs::read(server.folder().join("out.json")).unwrap()).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    let (code, _, told) = end_of(&server, &["eval", "export", "metrics", "--output", "out.json"]);
    assert!(code == 2 && told.contains("--force overwrites it"), "{told}");
    server.ok(&["eval", "export", "metrics", "--output", "out.json", "--force"]);
    assert!(std::fs::read_to_string(server.folder().join("out.json")).unwrap().starts_with("metric_id,"));
    let (code, _, told) = end_of(&server, &["eval", "export", "metrics", "--output", "no/folder.csv"]);
    assert!(code == 1 && told.contains("no/folder.csv cannot be written"), "{told}");

    for (code, args) in [
        (2, &["log", "metric", "a", "m", "nan"][..]),
        (2, &["log", "metric", "a", "m", "1", "--metadata", "{"]),
        (4, &["log", "metric", "a", "m", "1", "--metadata", "[]"]),
        (4, &["log", "metric", "", "m", "1"]),
        (4, &["log", "evaluation", "a", "--cycle", "c", "--trust", "1", "--accuracy", "-1"]),
        (2, &["log", "evaluation", "a", "--cycle", "c"]),
        (4, &["show", "--since", "yesterday"]),
        (4, &["show", "--cursor", "x"]),
        (2, &["show", "--limit", "0"]),
        (2, &["compare", "a"]),
        (2, &["export", "metrics", "--model", "a"]),
        (2, &["export", "evaluations", "--agent", "a"]),
        (4, &["export", "metrics", "--since", "yesterday"]),
    ] {
        let (found, printed, told) = end_of(&server, &[&["eval"], args].concat());
        assert_eq!((found, printed.as_str()), (code, ""), "{args:?}: {told}");
    }
    assert_eq!(kept(&server).len(), 4, "nothing of that was kept");
    server.stop();
}

#[test]
fn all_pages_are_exported() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let script = "import sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1])\n\
        c.execute('CREATE TABLE performance_metrics (metric_id TEXT PRIMARY KEY, agent_name TEXT NOT NULL, metric_name TEXT NOT NULL, \
        value REAL NOT NULL, timestamp TIMESTAMP NOT NULL, context TEXT)')\n\
        c.executemany('INSERT INTO performance_metrics VALUES (?, ?, ?, ?, ?, ?)', \
        [(str(n), 'a', 'm', n, '2025-08-02T10:%02d:%02d' % (n // 60, n % 60), None) for n in range(2500)])\n\
        c.commit()\n";
    let made =
        Command::new("python3").args(["-c", script]).arg(folder.path().join("data/model_evaluation.db")).status();
    assert!(made.unwrap().success());
    let server = Server::start_in(folder, &[]);
    let csv = server.ok(&["eval", "export", "metrics"]);
    let values: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    let expected: Vec<String> = (0..2500).rev().map(|n| n.to_string()).collect();
    assert_eq!(values, expected);
    assert_eq!(server.json(&["eval", "export", "metrics"]).as_array().unwrap().len(), 2500);
    server.stop();
}
