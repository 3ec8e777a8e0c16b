//! `mms bench` against a real suite, over both ports, and against other OpenAI-like servers, good and bad, that the tests play.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Server, mms, send, wait_until};

const SMALL: [&str; 6] = ["--requests", "3", "--prompt-tokens", "40", "--tokens", "12"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A level in which everything went well.
fn check_level(level: &Value, concurrency: u64, requests: u64) {
    assert_eq!([&level["concurrency"], &level["requests"], &level["failed"]], [concurrency, requests, 0], "{level:#}");
    assert!(number(&level["completion_tokens"]) > 0.0, "{level:#}");
    for key in ["ttft_ms", "total_ms", "stream_tokens_per_second", "prompt_tokens_per_second"] {
        let (half, most) = (number(&level[key]["p50"]), number(&level[key]["p95"]));
        let ordered = if key.ends_with("_ms") { half <= most } else { most <= half };
        assert!(half > 0.0 && ordered, "{key} in {level:#}");
    }
}

#[test]
fn a_suite_is_measured_over_both_ports() {
    let server = Server::start("");
    for over in ["http", "zmq"] {
        let flags = [&["bench", "--over", over, "--concurrency", "1,2"], &SMALL[..]].concat();
        let report = server.json(&flags);
        assert_eq!(
            [&report["door"], &report["model"], &report["interrupted"]],
            [&json!(over), &json!("mms-demo"), &json!(false)]
        );
        assert_eq!((&report["errors"], &report["loads"]), (&json!([]), &json!([])));
        let levels = report["levels"].as_array().unwrap();
        check_level(&levels[0], 1, 3);
        check_level(&levels[1], 2, 3);
        // The prompts have about the length that was asked for: the counts of the warm-up say how long a word is.
        let prompt = number(&levels[0]["prompt_tokens"]) / 3.0;
        assert!((20.0..=80.0).contains(&prompt), "{report:#}");
    }
    let table = server.ok(&[&["bench", "--concurrency", "1"], &SMALL[..]].concat());
    for part in ["mms-demo", "STREAMS", "TTFT p50", "IN ALL"] {
        assert!(table.contains(part), "{part:?} is missing in\n{table}");
    }
}

#[test]
fn loads_and_swaps_are_measured_and_undone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo-model/mms-demo.gguf");
    std::fs::copy(demo, folder.path().join("models/other.gguf")).unwrap();
    let server = Server::start_in(folder, &[]);
    let flags = ["bench", "-m", "mms-demo", "--concurrency", "1", "--loads", "--swap-with", "other", "--rounds", "2"];
    let report = server.json(&[&flags, &SMALL[..]].concat());
    let counts = |key: &str| -> Vec<u64> {
        report[key].as_array().unwrap().iter().map(|row| row["count"].as_u64().unwrap()).collect()
    };
    assert_eq!((counts("loads"), counts("swaps")), (vec![2, 2], vec![2, 2]), "{report:#}");
    assert!(number(&report["loads"][0]["ms"]["p50"]) > 0.0 && number(&report["swaps"][1]["ms"]["p95"]) > 0.0);
    // Before, the warm-up had loaded the one and nobody the other.
    assert_eq!(server.json(&["models", "show", "mms-demo"])["loaded"], true);
    assert_eq!(server.json(&["models", "show", "other"])["loaded"], false);
}

/// An HTTP server of another make: for each request `answer` gives the whole reply from head and body of the request; empty: never.
struct Foreign {
    url: String,
}

impl Foreign {
    fn start(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self { url }
    }

    fn bench(&self, flags: &[&str]) -> Output {
        let mut command = mms();
        command.args(["bench", "--url", &self.url, "--json"]).args(SMALL).args(flags).env("KEY_OF_TEST", "sesame");
        command.stdin(Stdio::null()).output().unwrap()
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&str, &str) -> String) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let reply = answer(&head, std::str::from_utf8(&body).unwrap());
    if reply.is_empty() {
        // Says nothing until the client has left.
        drop(reader.read(&mut [0]));
        return;
    }
    // A client that has left is no concern of this server.
    drop(reader.get_mut().write_all(reply.as_bytes()));
}

fn reply(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A whole event stream of five tokens in two chunks.
fn five_tokens(with_usage: bool) -> String {
    let chunk = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 5}});
    let usage = if with_usage { format!("data: {usage}\n\n") } else { String::new() };
    let body = format!(": a comment\n\n{}{}{usage}data: [DONE]\n\n", chunk("a b"), chunk(" c d e"));
    reply("200 OK", "text/event-stream; charset=utf-8", &body)
}

fn report_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn another_endpoint_is_measured_with_its_key_and_tokens_come_from_usage() {
    let foreign = Foreign::start(|head, body| {
        assert!(head.to_ascii_lowercase().contains("authorization: bearer sesame"), "{head}");
        if head.starts_with("GET /v1/models ") {
            return reply("200 OK", "application/json", r#"{"data": [{"id": "theirs"}]}"#);
        }
        assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["model"], &body["stream_options"]["include_usage"]), (&json!("theirs"), &json!(true)));
        five_tokens(true)
    });
    let output = foreign.bench(&["--concurrency", "2", "--api-key-env", "KEY_OF_TEST"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report_of(&output);
    assert_eq!(report["model"], "theirs");
    assert_eq!(report["levels"][0]["completion_tokens"], 15, "three answers of five tokens: {report:#}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("sesame"));
}

#[test]
fn without_usage_the_time_to_first_token_is_known_and_speeds_are_not() {
    let output = Foreign::start(|_, _| five_tokens(false)).bench(&["-m", "m", "--concurrency", "1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let level = &report_of(&output)["levels"][0];
    assert!(number(&level["ttft_ms"]["p50"]) > 0.0);
    assert_eq!([&level["completion_tokens"], &level["total_tokens_per_second"]], [&Value::Null; 2]);
}

#[test]
fn an_endpoint_that_never_answers_well_ends_with_the_reason_and_its_code() {
    let refusing =
        || reply("500 Internal Server Error", "application/json", r#"{"error": {"message": "no GPU today"}}"#);
    for (answer, code, reason) in [
        (refusing(), 4, "no GPU today"),
        (reply("502 Bad Gateway", "text/html", "<html>upstream</html>"), 4, "<html>upstream</html>"),
        (reply("200 OK", "text/event-stream", "data: {garbage\n\n"), 7, "no JSON"),
        (reply("200 OK", "text/event-stream", "data: {}\n\n"), 7, "without [DONE]"),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), 7, "does not speak HTTP"),
        (String::new(), 5, "no answer"),
    ] {
        let output = Foreign::start(move |_, _| answer.clone()).bench(&["-m", "m", "--timeout", "1"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{reason}: {output:?}");
        assert!(said.contains(reason), "{reason:?} is missing in {said}");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Foreign { url: format!("http://127.0.0.1:{port}/v1") };
    assert_eq!(nobody.bench(&["-m", "m"]).status.code(), Some(3));
    for flags in [["--url", "https://x/v1"], ["--concurrency", "0"], ["--api-key-env", "NO_SUCH_VARIABLE"]] {
        let output = mms().args(["bench", "-m", "m"]).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {output:?}");
    }
}

#[test]
fn errors_are_counted_beside_what_worked() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let foreign = Foreign::start(move |_, _| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        // The third request is the first after the warm-up.
        2 => reply("503 Service Unavailable", "application/json", r#"{"error": {"message": "busy"}}"#),
        _ => five_tokens(true),
    });
    let output = foreign.bench(&["-m", "m", "--concurrency", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report_of(&output);
    assert_eq!((&report["levels"][0]["failed"], &report["levels"][0]["requests"]), (&json!(1), &json!(3)));
    assert_eq!(report["errors"], json!([{"what": "busy", "count": 1}]));
}

#[test]
fn ctrl_c_gives_what_is_there() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = asked.clone();
    let foreign = Foreign::start(move |_, _| match seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0..=3 => five_tokens(true),
        _ => String::new(),
    });
    let mut command = mms();
    command.args(["bench", "--url", &foreign.url, "-m", "m", "--json", "--concurrency", "1"]).args(SMALL);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a request that hangs", || asked.load(std::sync::atomic::Ordering::Relaxed) == 5);
    send(child.id(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report = report_of(&output);
    assert_eq!((&report["interrupted"], &report["levels"][0]["requests"]), (&json!(true), &json!(2)), "{report:#}");
}
