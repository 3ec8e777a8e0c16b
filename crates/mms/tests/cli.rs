//! The command line as its users meet it: the built programs, real ports, exit codes and what is printed.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "this program uses a part of it")]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use support::{Server, is_alive, mms, send, wait_until};

const MODEL: &str = "mms-demo";

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command with this standard input.
fn with_input(server: &Server, args: &[&str], input: &str) -> Output {
    let mut command = server.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn status_of(server: &Server, path: &str) -> u16 {
    let mut stream = TcpStream::connect(server.http.trim_start_matches("http://")).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
    reply.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A generation that runs while its worker is stopped, so that it cannot end by itself. Gives the client and the worker.
fn stuck_generation(server: &Server) -> (Child, u32) {
    server.ok(&["models", "load", MODEL]);
    let [worker] = server.workers()[..] else { panic!("one worker: {:?}", server.workers()) };
    send(worker, Signal::STOP);
    let mut command = server.command(&["generate", "Hello!", "-t", "0", "--json"]);
    let client = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a running request", || server.json(&["models", "show", MODEL])["active_requests"] == 1);
    (client, worker)
}

#[test]
fn start_up_tells_where_and_what_then_ready() {
    let server = Server::start("");
    let printed = server.stdout();
    for part in [server.main.as_str(), &server.health, &server.http, MODEL, "memory budget", "built-in", "cpu"] {
        assert!(printed.contains(part), "{part:?} is missing in\n{printed}");
    }
    assert!(printed.lines().last().unwrap().starts_with("ready in "), "{printed}");
    server.wait_for_log("bound: every port has answered");
    assert_eq!(status_of(&server, "/readyz"), 200);
    server.stop();
}

#[test]
fn the_health_board_has_a_line_for_every_address() {
    let server = Server::start("");
    let mut stream = TcpStream::connect(server.health.trim_start_matches("tcp://")).unwrap();
    write!(stream, "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
    let health: Value = serde_json::from_str(reply.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let ports = ["main_port", "health_port_zmq", "health_port_http", "http_port"];
    for check in ["manager", "evaluation_store", "conversations", "workers"].into_iter().chain(ports) {
        assert_eq!(health["health_checks"][check], true, "{check} in {health:#}");
    }
    assert_eq!((&health["ready"], &health["status"]), (&true.into(), &"ok".into()));
}

/// `serve` on free ports, started by a shell that runs `before` first.
fn serve_after(before: &str, folder: &Path) -> Child {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{before}; exec \"$0\" serve --port 0 --health-port 0 --http-port 0")]);
    command.arg(env!("CARGO_BIN_EXE_mms")).current_dir(folder).env("MMS_WORKER", support::worker());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_soft_limit_on_open_files_is_raised_to_the_hard_one_and_nobody_need_read_the_output() {
    // For the worker program, which `serve` wants to see.
    Server::start("").stop();
    let folder = tempfile::tempdir().unwrap();
    let mut child = serve_after("ulimit -S -n 200", folder.path());
    drop(child.stdout.take());
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.any(|line| line.contains("bound: every port has answered")), "it ended, as nobody reads its output");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = files.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else { panic!("{files}") };
    assert_eq!(soft, hard);
    send(child.id(), Signal::TERM);
    assert_eq!(log.last().map(|line| line.contains("ended")), Some(true));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_in_use_is_an_error_that_names_port_and_holder() {
    let server = Server::start("");
    let port = server.main.rsplit(':').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = mms()
        .args(["serve", "--port", port, "--health-port", "0", "--http-port", "0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), 6, "{output:?}");
    let told = stderr(&output);
    for part in [&format!("127.0.0.1:{port}"), "main port", "in use", &format!("mms (process {})", server.pid())] {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    assert!(!folder.path().join("data").exists(), "nothing is written before the ports are there");
}

#[test]
fn sigterm_lets_a_running_generation_finish_and_refuses_new_work() {
    let mut server = Server::start("");
    let (client, worker) = stuck_generation(&server);
    server.signal(Signal::TERM);
    server.wait_for_log("draining: no new work is taken");
    let refused = server.mms(&["generate", "Hello!"]);
    assert_eq!(code(&refused), 4, "{refused:?}");
    assert_eq!(status_of(&server, "/readyz"), 503, "a draining server is not ready");
    send(worker, Signal::CONT);
    let finished = client.wait_with_output().unwrap();
    assert_eq!(code(&finished), 0, "{finished:?}");
    let reply: Value = serde_json::from_slice(&finished.stdout).unwrap();
    assert!(reply["text"].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(!is_alive(worker));
    // What ended during the drain is in the store, too.
    let rows = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = mms_store::Store::open(&server.folder().join("data/model_evaluation.db")).unwrap();
        store.metrics(mms_store::MetricFilter::default()).await.unwrap().rows
    });
    let latency = rows.iter().find(|row| row.metric_name == "generation_latency_ms").expect("a row for the generation");
    assert!(latency.value.unwrap() > 0.0, "{latency:?}");
}

#[test]
fn the_drain_has_a_deadline() {
    let mut server = Server::start("[server]\ndrain_timeout_s = 0\n");
    let (client, worker) = stuck_generation(&server);
    server.signal(Signal::INT);
    let ended = client.wait_with_output().unwrap();
    assert_eq!(code(&ended), 4, "{ended:?}");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    wait_until("the end of the worker", || !is_alive(worker));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (second, expected) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut server = Server::start("");
        let (mut client, worker) = stuck_generation(&server);
        server.signal(Signal::TERM);
        server.wait_for_log("draining");
        server.signal(second);
        assert_eq!(server.wait().code(), Some(expected), "{}", server.log());
        // It was stopped by this test: it may need waking to notice, or may be gone already.
        if is_alive(worker) {
            _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(worker.try_into().unwrap()).unwrap(),
                Signal::CONT,
            );
        }
        wait_until("the end of the worker", || !is_alive(worker));
        let client = client.wait().unwrap();
        assert!(!client.success());
    }
}

#[test]
fn no_worker_survives_a_killed_server() {
    let mut server = Server::start("");
    server.ok(&["models", "load", MODEL]);
    let workers = server.workers();
    assert_eq!(workers.len(), 1);
    server.signal(Signal::KILL);
    server.wait();
    wait_until("the end of the worker", || !workers.iter().any(|worker| is_alive(*worker)));
}

#[test]
fn readiness_is_withdrawn_when_the_port_answers_no_more_and_comes_back() {
    let server = Server::start("[server]\nprobe_interval_s = 0.1\n[limits]\nmax_connections = 4\n");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Once every place on the main port is taken, the probe, like any other client, gets no answer.
    let mut holders = Vec::new();
    wait_until("withdrawn", || {
        holders.extend(runtime.block_on(mms_client::Client::connect(&server.main, support::PATIENCE)));
        server.log().contains("readiness withdrawn")
    });
    wait_until("503", || status_of(&server, "/readyz") == 503);
    drop(holders);
    server.wait_for_log("ready again");
    wait_until("200", || status_of(&server, "/readyz") == 200);
}

#[test]
fn a_missing_worker_program_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let output = mms()
        .args(["serve", "--port", "0", "--health-port", "0", "--http-port", "0"])
        .env("MMS_WORKER", "/nowhere/mms-worker")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), 8, "{output:?}");
    assert!(stderr(&output).contains("/nowhere/mms-worker is not there; build it with"), "{output:?}");
}

#[test]
fn variables_that_this_version_does_not_use_are_told() {
    let server = Server::start("[log]\nformat = \"json\"\n");
    server.wait_for_log("bound: every port has answered");
    let lines: Vec<Value> = server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "bound: every port has answered"), "{lines:?}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mms.toml"), "").unwrap();
    let shown = mms()
        .args(["config", "show", "--json"])
        .env("LLM_CONFIG_PATH", "x")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["not_used"], serde_json::json!(["LLM_CONFIG_PATH"]));
}

#[test]
fn nobody_there_gives_3_and_says_what_to_do() {
    for command in [&["ping"][..], &["status"], &["models"], &["generate", "x"], &["smoke"]] {
        let output = mms().args(command).args(["--endpoint", "tcp://127.0.0.1:1"]).output().unwrap();
        assert_eq!(code(&output), 3, "{command:?}: {output:?}");
        let told = stderr(&output);
        assert!(
            told.contains("no server at tcp://127.0.0.1:1") && told.contains("start one with `mms serve`"),
            "{told}"
        );
    }
    let chat = mms().args(["chat", "--http", "127.0.0.1:1"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(code(&chat), 0, "nothing was said, so nobody was needed: {chat:?}");
}

#[test]
fn what_is_no_model_manager_is_named() {
    let server = Server::start("");
    let http = server.http.trim_start_matches("http://");
    let output = mms().args(["ping", "--endpoint", http]).output().unwrap();
    assert_eq!(code(&output), 7, "{output:?}");
    assert!(stderr(&output).contains("does not speak ZMTP but HTTP"), "{output:?}");
    let output =
        mms().args(["generate", "x", "--stream", "--http", &server.main.replace("tcp", "http")]).output().unwrap();
    assert_eq!(code(&output), 7, "{output:?}");
    assert!(stderr(&output).contains("does not speak HTTP"), "{output:?}");
}

#[test]
fn endpoints_come_from_the_environment_too() {
    let server = Server::start("");
    let port = server.main.rsplit(':').next().unwrap();
    let output = mms().arg("ping").env("MODEL_MANAGER_PORT", port).output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(stdout(&output).starts_with("ModelManagerSuite "), "{output:?}");
    let output = mms().arg("ping").env("MODEL_MANAGER_PORT", "many").output().unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
}

#[test]
fn smoke_passes_and_leaves_things_as_they_were() {
    let server = Server::start("");
    let printed = server.ok(&["smoke"]);
    assert!(printed.contains("all 7 checks passed"), "{printed}");
    assert_eq!(server.json(&["models", "show", MODEL])["loaded"], false);
    server.ok(&["models", "load", MODEL]);
    let report = server.json(&["smoke"]);
    let names: Vec<_> = report["checks"].as_array().unwrap().iter().map(|check| check["name"].clone()).collect();
    let expected =
        ["connect", "ping", "health_check", "load_model", "generate", "unload_model", "restore", "http_health"];
    assert_eq!(names, expected);
    assert_eq!(report["ok"], true);
    assert_eq!(server.json(&["models", "show", MODEL])["loaded"], true, "it was resident before");
}

#[test]
fn smoke_tells_what_fails() {
    let server = Server::start("");
    let output = mms().args(["smoke", "--endpoint", &server.main, "--http", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stdout(&output).contains("FAILED  http_health"), "{output:?}");
    assert!(stderr(&output).contains("1 of 7 checks failed"), "{output:?}");
    let output = server.mms(&["smoke", "--model", "nothing", "--json"]);
    assert_eq!(code(&output), 1, "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
}

#[test]
fn models_are_listed_loaded_shown_and_unloaded() {
    let server = Server::start("");
    let table = server.ok(&["models"]);
    assert!(table.lines().next().unwrap().contains("MODEL") && table.contains(MODEL), "{table}");
    assert_eq!(table, server.ok(&["models", "list"]));
    assert_eq!(server.json(&["models", "list"])[0]["model_id"], MODEL);
    let loaded = server.ok(&["models", "load", MODEL]);
    assert!(loaded.starts_with("Model mms-demo loaded in "), "{loaded}");
    assert!(server.ok(&["models", "show", MODEL]).contains("worker_pid"));
    assert!(server.ok(&["status"]).contains("1 known, 1 resident"));
    assert_eq!(server.ok(&["models", "unload", MODEL]), "Model mms-demo unloaded\n");
    assert_eq!(server.json(&["status"])["total_models"], 1);
    for action in ["show", "load", "unload"] {
        let output = server.mms(&["models", action, "nothing"]);
        assert_eq!(code(&output), 4, "{action}: {output:?}");
        assert!(stderr(&output).contains("nothing"), "{output:?}");
    }
}

#[test]
fn generate_prints_the_text_only() {
    let server = Server::start("");
    let text = server.ok(&["generate", "Hello!", "-t", "0", "-n", "20"]);
    assert_eq!(text, server.ok(&["generate", "Hello!", "-t", "0", "-n", "20", "--stream"]), "streamed or not");
    let piped = with_input(&server, &["generate", "-", "-t", "0", "-n", "20"], "Hello!");
    assert_eq!(stdout(&piped), text);
    let reply = server.json(&["generate", "Hello!", "-t", "0", "-n", "20"]);
    assert_eq!(format!("{}\n", reply["text"].as_str().unwrap()), text);
    assert!(reply["usage"]["completion_tokens"].as_u64().unwrap() <= 20);
}

#[test]
fn what_the_server_refuses_is_told_with_4_and_what_makes_no_sense_with_2() {
    let server = Server::start("");
    for args in [
        &["generate", "x", "--model", "nothing"][..],
        &["generate", "x", "--model", "nothing", "--stream"],
        &["generate", "x", "--temperature", "99"],
        &["generate", "x", "-n", "0", "--stream"],
        &["generate", "x", "--keep-alive", "soon"],
        &["embed", "x", "--model", "nothing"],
    ] {
        let output = server.mms(args);
        assert_eq!(code(&output), 4, "{args:?}: {output:?}");
        assert!(stderr(&output).starts_with("mms: "), "{output:?}");
    }
    let mut binary = server.command(&["generate", "-"]);
    let mut child = binary.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a\xff").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(stderr(&output).contains("standard input is no text"), "{output:?}");
    std::fs::write(server.folder().join("half.json"), "{").unwrap();
    for args in [
        &["generate", " "][..],
        &["generate"],
        &["generate", "x", "--json-object", "--grammar", "g"],
        &["generate", "x", "--json-schema", "nowhere.json"],
        &["generate", "x", "--json-schema", "half.json"],
        &["embed"],
        &["embed", "a", ""],
        &["ping", "--timeout", "-1"],
        &["nothing"],
    ] {
        let output = server.mms(args);
        assert_eq!(code(&output), 2, "{args:?}: {output:?}");
    }
    let output = mms().args(["ping", "--endpoint", "ftp://x"]).output().unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
}

#[test]
fn chat_keeps_the_conversation_and_works_with_a_pipe() {
    let server = Server::start("");
    let said = with_input(
        &server,
        &["chat", "-t", "0", "-n", "40"],
        "Hello!\n\nWhat is this?\n/clear\nHello!\n/exit\nnot read\n",
    );
    assert_eq!(code(&said), 0, "{said:?}");
    let printed = stdout(&said);
    let answers: Vec<_> = printed.lines().collect();
    assert_eq!(answers.len(), 3, "{printed}");
    assert_eq!(answers[0], answers[2], "after /clear the same question has the same answer");
    assert!(answers.iter().all(|answer| !answer.is_empty()), "{printed}");
    let refused = with_input(&server, &["chat", "--model", "nothing"], "Hello!\n");
    assert_eq!(code(&refused), 4, "{refused:?}");
}

#[test]
fn config_check_tells_every_mistake_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "[server]\nprot = 1\nport = \"x\"\n\n[memory]\nreserve_mb = -1\n").unwrap();
    let check = |args: &[&str]| mms().args(["config", "check"]).args(args).current_dir(folder.path()).output().unwrap();
    let output = check(&["wrong.toml"]);
    assert_eq!(code(&output), 2, "{output:?}");
    let told = stderr(&output);
    for line in [
        "3 mistakes in the configuration:",
        "wrong.toml:2:1: unknown key server.prot; did you mean port?",
        "wrong.toml:3:8: server.port must be an integer from 0 to 65535, got \"x\"",
        "wrong.toml:6:14: memory.reserve_mb must be an integer from 0 to 4294967295, got -1",
    ] {
        assert!(told.contains(line), "{line:?} is missing in\n{told}");
    }
    let report: Value = serde_json::from_slice(&check(&["wrong.toml", "--json"]).stdout).unwrap();
    assert_eq!((&report["ok"], report["mistakes"].as_array().unwrap().len()), (&false.into(), 3));
    assert_eq!(code(&check(&["missing.toml"])), 2);
    let serve = mms().args(["serve", "--config", "wrong.toml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(code(&serve), 2, "{serve:?}");
    assert!(stderr(&serve).contains("3 mistakes"), "{serve:?}");
}

#[test]
fn config_example_is_the_file_in_the_repository_and_is_right() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mms.example.toml");
    let printed = mms().args(["config", "example"]).output().unwrap();
    assert_eq!(stdout(&printed), std::fs::read_to_string(&file).unwrap());
    let checked = mms().args(["config", "check"]).arg(&file).output().unwrap();
    assert_eq!(code(&checked), 0, "{checked:?}");
}

#[test]
fn config_show_tells_who_said_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mms.toml"), "[server]\nport = 1\nhealth_port = 2\n[routing]\nfast = \"a\"\n")
        .unwrap();
    let show = |args: &[&str]| {
        let mut command = mms();
        command.args(["config", "show", "--http-port", "3"]).args(args).env("HEALTH_PORT", "4");
        stdout(&command.current_dir(folder.path()).output().unwrap())
    };
    let table = show(&[]);
    let from = |key: &str| {
        let line =
            table.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_else(|| panic!("{table}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(from("server.port"), "1 mms.toml:2:8");
    assert_eq!(from("server.health_port"), "4 environment HEALTH_PORT");
    assert_eq!(from("server.http_port"), "3 flag --http-port");
    assert_eq!(from("server.agent_name"), "\"ModelManagerSuite\" default");
    let json: Value = serde_json::from_str(&show(&["--json"])).unwrap();
    assert_eq!((&json["file"], &json["routing"]["fast"]), (&"mms.toml".into(), &"a".into()));
}

#[test]
fn a_variable_that_is_no_text_is_a_mistake_and_not_ignored() {
    let garbled: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"/tmp/\xff");
    let folder = tempfile::tempdir().unwrap();
    for variable in ["DATA_DIR", "MODELS_DIR", "AGENT_PORT", "MMS_CONFIG"] {
        let output = mms().args(["config", "show"]).env(variable, garbled).current_dir(folder.path()).output().unwrap();
        assert_eq!(code(&output), 2, "{variable}: {output:?}");
        assert!(stderr(&output).contains(&format!("environment {variable}: its value is no UTF-8")), "{output:?}");
    }
}

#[test]
fn completions_and_help_are_there() {
    for shell in ["bash", "zsh", "fish"] {
        let output = mms().args(["completions", shell]).output().unwrap();
        assert!(output.status.success() && stdout(&output).contains("generate"), "{output:?}");
    }
    let help = stdout(&mms().arg("--help").output().unwrap());
    let documented = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md")).unwrap();
    let codes = help.lines().skip_while(|line| *line != "Exit codes:").skip(1);
    let codes: Vec<_> = codes.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(codes.len(), 12, "{help}");
    for code in codes {
        assert!(documented.contains(&format!("\n| {code} | ")), "docs/cli.md has no exit code {code}");
    }
}
