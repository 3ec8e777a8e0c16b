//! Registration with a twin that is written with pyzmq, as the old one was.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::brokers::free_port;
use crate::support::Server;
use crate::wait_for_check;

/// Answers one request with each of the given replies, and prints what it was asked.
const TWIN: &str = "
import sys, zmq
socket = zmq.Context().socket(zmq.REP)
socket.bind('tcp://127.0.0.1:' + sys.argv[1])
for reply in sys.argv[2:]:
    print(socket.recv().decode(), flush=True)
    socket.send(reply.encode())
socket.close(linger=2000)
";

fn twin(port: u16, replies: &[&str]) -> Child {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let mut command = Command::new(python);
    command.args(["-c", TWIN, &port.to_string()]).args(replies).stdout(Stdio::piped());
    command.spawn().expect(".venv is missing: run scripts/setup-test.sh (`make test` does it first)")
}

#[tokio::test(flavor = "multi_thread")]
async fn registers_when_the_twin_comes_and_again_when_it_refuses() {
    let port = free_port();
    let text = format!("[digital_twin]\nhost = \"127.0.0.1\"\nport = {port}\ntimeout_s = 1.0\n");
    let server = Server::start(&text);
    let detail = wait_for_check(&server, "digital_twin", false, "cannot be reached").await;
    assert!(detail.contains("DIGITAL_TWIN_HOST"), "what to do: {detail}");
    let mut twin = twin(port, &[r#"{"status": "error", "message": "who are you?"}"#, r#"{"status": "success"}"#]);
    wait_for_check(&server, "digital_twin", true, "registered as ModelManagerSuite").await;
    assert!(server.log().contains("who are you?"), "{}", server.log());
    let requests: Vec<Value> = BufReader::new(twin.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(requests.len(), 2);
    let request = &requests[1];
    assert_eq!((&request["action"], &request["status"]), (&"register_agent".into(), &"HEALTHY".into()), "{request}");
    assert_eq!(
        (&request["agent_name"], &request["source_agent"]),
        (&"ModelManagerSuite".into(), &"ModelManagerSuite".into())
    );
    assert_eq!(request["location"], "MainPC");
    let data = &request["registration_data"];
    assert_eq!(data["capabilities"], serde_json::json!(["model_inference"]));
    assert_eq!(data["port"].as_u64().unwrap().to_string(), server.main.rsplit(':').next().unwrap());
    for key in ["agent_id", "agent_type", "host", "health_check_port", "dependencies"] {
        assert!(data.get(key).is_some(), "{key}: {data}");
    }
    assert!(data["metadata"]["start_time"].is_string() && request["timestamp"].is_string());
    assert_ne!(requests[0]["request_id"], requests[1]["request_id"]);
    assert!(twin.wait().unwrap().success());
    server.stop();
}
