//! `mms predict replay` and `mms predict trace`: the three traces of the repository, and what is no trace.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::mms;

fn run(args: &[&str], input: &[u8]) -> Output {
    let mut command = mms();
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What is wrong at its beginning is not read to its end.
    _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fixture(kind: &str) -> String {
    format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../traces/{}.jsonl"), kind)
}

fn replayed(args: &[&str]) -> Value {
    let output = run(&[&["predict", "replay", "--json"], args].concat(), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_predictor_beside_the_old_rule_on_the_traces_of_the_repository() {
    for (kind, days, aim) in [("daily", "7", 1.3), ("chains", "2", 1.3), ("random", "5", 1.0)] {
        let file = fixture(kind);
        let made = run(&["predict", "trace", kind, "--seed", "1", "--days", days], b"");
        assert_eq!(text(&made.stdout), std::fs::read_to_string(&file).unwrap(), "{kind} can be made again");
        let report = replayed(&[&file]);
        assert!(report["hit_rate_to_most_used"].as_f64().unwrap() >= aim, "{kind}: {report:#}");
        assert!(report["hit_rate_to_last_used"].as_f64().unwrap() >= 1.0, "{kind}: {report:#}");
        for rule in report["rules"].as_array().unwrap() {
            let figure = |key: &str| rule[key].as_f64().unwrap();
            assert_eq!(figure("hits") + figure("cold_starts"), report["uses"].as_f64().unwrap(), "{rule}");
            assert!(figure("cold_starts_avoided") > 0.0 && figure("memory_mb_s") > 0.0, "{rule}");
        }
        let shown = text(&run(&["predict", "replay", &file], b"").stdout);
        for part in [
            "3 models kept at once",
            "most used in the window",
            "last used",
            "GiB HOURS",
            "times that of the most used",
        ] {
            assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
        }
    }
}

#[test]
fn terms_of_a_replay() {
    let trace =
        b"{\"time\": 0, \"model\": \"a\"}\n{\"time\": 10, \"model\": \"a\"}\n{\"time\": 20, \"model\": \"b\"}\n";
    let output = run(&["predict", "replay", "-", "--json", "--keep", "1", "--min-probability", "0"], trace);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["uses"], &report["models"], &report["keep"]), (&3.into(), &2.into(), &1.into()));
    assert!(report["rules"].as_array().unwrap().iter().all(|rule| rule["hits"] == 1), "{report}");
    let slow = run(&["predict", "replay", "-", "--json", "--load", "11"], trace);
    let report: Value = serde_json::from_slice(&slow.stdout).unwrap();
    assert!(report["rules"].as_array().unwrap().iter().all(|rule| rule["hits"] == 0), "still loading: {report}");
    let daily = fixture("daily");
    let all = replayed(&[&daily, "--budget", "1e9"]);
    assert_eq!(all["rules"], replayed(&[&daily])["rules"]);
    assert!(
        replayed(&[&daily, "--budget", "3000"])["rules"][0]["memory_mb_s"].as_f64()
            < all["rules"][0]["memory_mb_s"].as_f64()
    );
}

#[test]
fn what_is_no_trace_is_told() {
    let long = vec![b'x'; 1 << 20];
    let name = format!("{{\"time\": 1, \"model\": \"{}\"}}", "n".repeat(1 << 20));
    let endless = "{\"time\": 0, \"model\": \"a\"}\n".repeat(1_000_001);
    let days: String =
        (0..2000).map(|day| format!("{{\"time\": {}, \"model\": \"m{day}\"}}\n", day * 86_400)).collect();
    let few: String = days.lines().take(300).map(|line| format!("{line}\n")).collect();
    for (input, why) in [
        (b"hello\n".to_vec(), "line 1: must be a JSON object"),
        (vec![0xFF, 0xFE, 0x00], "line 1: must be a JSON object"),
        (Vec::new(), "it has no uses"),
        (b"{\"time\": NaN, \"model\": \"a\"}".to_vec(), "line 1: must be a JSON object"),
        (b"{\"time\": -5, \"model\": \"a\"}".to_vec(), "line 1: time must be a number from 0"),
        (b"{\"time\": 5, \"model\": \"a\"}\n{\"time\": 4, \"model\": \"a\"}".to_vec(), "line 2: its time 4 is before"),
        (long, "line 1 is longer than 4096 bytes"),
        (name.into_bytes(), "line 1 is longer than 4096 bytes"),
        (endless.into_bytes(), "more than 1000000 uses"),
        (days.into_bytes(), "more than 512 different models"),
    ] {
        let output = run(&["predict", "replay", "-"], &input);
        assert_eq!(output.status.code(), Some(2), "{why}: {}", text(&output.stderr));
        let told = text(&output.stderr);
        assert!(told.contains(why) && told.len() < 400, "{why}: {told}");
    }
    let output = run(&["predict", "replay", "-", "--every", "0.001"], few.as_bytes());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("give a longer time"), "{}", text(&output.stderr));
    let missing = run(&["predict", "replay", "/no/such/trace"], b"");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("cannot be opened: No such file"), "{}", text(&missing.stderr));
    let folder = run(&["predict", "replay", "/"], b"");
    assert!(folder.status.code() == Some(2) && text(&folder.stderr).contains("cannot be read"), "{folder:?}");
    let unknown = run(&["predict", "replay", "-", "--budget", "5"], b"{\"time\": 1, \"model\": \"a\"}");
    assert!(unknown.status.code() == Some(2) && text(&unknown.stderr).contains("no use of the trace has \"mb\""));
    for wrong in [["--keep", "0"], ["--keep", "-1"], ["--load", "NaN"], ["--every", "0"], ["--min-probability", "2"]] {
        let output = run(&[&["predict", "replay", "-"], &wrong[..]].concat(), b"");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}
