//! Every case of `contract/` sent to a real server by the suite's own client, on both profiles. pyzmq sends the same cases in
//! `tests/python/test_contract.py`.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod matching;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use matching::mismatches;
use mms_client::Client;
use serde_json::{Value, json};
use support::{PATIENCE, Server};

#[tokio::test]
async fn suite_profile() {
    run("suite").await;
}

#[tokio::test]
async fn legacy_profile() {
    run("legacy").await;
}

async fn run(profile: &str) {
    let server = Server::start_in(tempfile::tempdir().unwrap(), &["--profile", profile]);
    let files = files(profile);
    assert!(files.len() >= 7, "{files:?}");
    let mut wrong = Vec::new();
    for file in &files {
        // A connection for each file: its cases follow one another, as the requests of one client do.
        let mut client = Client::connect(&server.main, PATIENCE).await.unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(!cases.is_empty(), "{}", file.display());
        for case in &cases {
            let place =
                format!("{profile}/{}: {}", file.file_name().unwrap().display(), case["name"].as_str().unwrap());
            let frames = client.request_raw(frames(case)).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(frames.len(), 1, "{place}: one frame must come back");
            let reply: Value = serde_json::from_slice(&frames[0]).unwrap_or_else(|error| panic!("{place}: {error}"));
            let found = mismatches(&case["reply"], &reply, "reply");
            if !found.is_empty() {
                wrong.push(format!("{place}\n    {}\n    got {reply}", found.join("\n    ")));
            }
        }
        let pong = client.send_json("ping", &json!({"action": "ping"})).await.unwrap();
        assert!(pong["agent"].is_string(), "{pong}");
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    server.stop();
}

fn files(profile: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract").join(profile);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
}

/// What a case sends.
fn frames(case: &Value) -> Vec<Bytes> {
    let text = |value: &Value| Bytes::from(value.as_str().unwrap().to_owned());
    if let Some(request) = case.get("request") {
        vec![Bytes::from(request.to_string())]
    } else if let Some(raw) = case.get("raw") {
        vec![text(raw)]
    } else if let Some(hex) = case.get("hex") {
        let digits = hex.as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        vec![(0..digits.len()).step_by(2).map(byte).collect()]
    } else {
        case["frames"].as_array().expect("request, raw, hex or frames").iter().map(text).collect()
    }
}
