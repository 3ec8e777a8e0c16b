//! `GET /events` and `mms events`: the same events without any NATS.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use futures::StreamExt;
use mms_client::HttpClient;
use serde_json::Value;

use crate::nats::{load, server_metric, unload};
use crate::support::{PATIENCE, Server, wait_until};

fn words(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["subject"].as_str().unwrap().rsplit('.').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mms_events_follows_live_and_begins_in_the_past() {
    let server = Server::start("");
    load(&server);
    let follow = |args: &[&str]| {
        let mut child = server.command(&[&["events"], args].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (mut live, mut live_lines) = follow(&["--json"]);
    let (mut past, mut past_lines) = follow(&["--since", "1h"]);
    // What has been before comes first, so it is connected once that has come; the other is told by the count.
    let first = past_lines.next().unwrap().unwrap();
    assert!(first.contains("models.model.loaded  mms-demo ("), "{first}");
    wait_until("both follow", || server_metric(&server, "mms_event_followers") == Some(2.0));
    unload(&server);
    let event: Value = serde_json::from_str(&live_lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (event["subject"].as_str(), event["data"]["reason"].as_str()),
        (Some("models.model.unloaded"), Some("requested"))
    );
    let second = past_lines.next().unwrap().unwrap();
    assert!(second.contains("models.model.unloaded  mms-demo (") && second.ends_with(": requested"), "{second}");
    // With the server, the streams end, and both have seen everything.
    load(&server);
    server.stop();
    let rest: Vec<Value> = live_lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(words(&rest), ["loaded", "unloaded"]);
    assert_eq!(rest[1]["data"]["reason"], "shutdown");
    assert_eq!(past_lines.count(), 2);
    assert!(live.wait().unwrap().success() && past.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_the_last_event_that_was_seen() {
    let server = Server::start("");
    load(&server);
    unload(&server);
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let stream = http.get_sse("/events?since_s=3600").await.unwrap().unwrap();
    let events: Vec<Value> = stream.take(2).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect().await;
    assert_eq!(words(&events), ["loaded", "unloaded"]);
    assert!(events[0]["seq"].as_u64() < events[1]["seq"].as_u64());
    let last = events[0]["seq"].to_string();
    let text = raw(&server, "/events", &[("Last-Event-ID", &last)], "models.model.unloaded");
    assert!(!text.contains("models.model.loaded"), "{text}");
    let id = format!("id: {}\nevent: models.model.unloaded\ndata: {{", events[1]["seq"]);
    assert!(text.contains(&id) && text.contains("text/event-stream"), "{text}");
    for (path, headers, wanted) in [
        ("/events?since_s=yesterday", &[][..], "since_s must be a number of seconds, 0 or more"),
        ("/events?since_s=-1", &[], "since_s must be a number of seconds, 0 or more"),
        ("/events?since=1", &[], "unknown parameter"),
        ("/events", &[("Last-Event-ID", "x")], "Last-Event-ID must be"),
    ] {
        let text = raw(&server, path, headers, wanted);
        assert!(text.starts_with("HTTP/1.1 400"), "{path}: {text}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_follow_at_once() {
    let server = Server::start("");
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let mut following = Vec::new();
    for _ in 0..64 {
        following.push(http.get_sse("/events").await.unwrap().unwrap());
    }
    let reply = http.get("/events").await.unwrap();
    assert_eq!(reply.status, 429, "{reply:?}");
    drop(following);
    wait_until("their places", || server_metric(&server, "mms_event_followers") == Some(0.0));
    drop(http.get_sse("/events").await.unwrap().unwrap());
    server.stop();
}

/// What comes in reply to a GET, up to `wanted`.
fn raw(server: &Server, path: &str, headers: &[(&str, &str)], wanted: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server.http.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{wanted:?} never came in {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}
