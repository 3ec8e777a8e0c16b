//! Which model answers, when the caller leaves that to the server: by the routing policy, and by what was measured and evaluated.

use mms_client::HttpClient;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::asking::{ask, eventually, generates, load, model};
use crate::support::{PATIENCE, Server};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo-model/mms-demo.gguf");

/// A server with copies of the built-in model, `a`, `b` and `c`, of which `b` has the longest context.
fn copies(config: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    for id in ["a", "b", "c"] {
        std::fs::copy(DEMO, folder.path().join(format!("models/{id}.gguf"))).unwrap();
    }
    let models = "[[model]]\nid = \"a\"\ncontext_length = 256\n[[model]]\nid = \"b\"\ncontext_length = 512\n[[model]]\nid = \"c\"\n\
                  context_length = 256\ntasks = [\"code-generation\"]\n";
    std::fs::write(folder.path().join("mms.toml"), format!("{config}\n{models}")).unwrap();
    Server::start_in(folder, &[])
}

async fn select(server: &Server, task: &str) -> Value {
    ask(&server.main, &json!({"action": "select_model", "task_type": task})).await
}

async fn evaluate(server: &Server, model: &str, trust_score: f64) {
    let request =
        json!({"action": "log_model_evaluation", "model_name": model, "cycle_id": "t", "trust_score": trust_score});
    assert_eq!(ask(&server.main, &request).await["status"], "success");
}

#[tokio::test]
async fn a_model_is_selected_by_capability_context_residency_latency_and_trust() {
    let server = copies("");
    let chosen = select(&server, "chat").await;
    assert_eq!(chosen["selected_model"], "a", "nothing is known, and the smaller contexts take less memory: {chosen}");
    assert_eq!(select(&server, "Code Generation").await["selected_model"], "c", "what it is meant for");
    let request = json!({"action": "select_model", "task_type": "chat", "context_size": 400});
    assert_eq!(ask(&server.main, &request).await["selected_model"], "b");
    let printed = server.ok(&["models", "select", "coding"]);
    assert!(printed.starts_with("c\nthe only suitable model: c "), "{printed}");
    assert_eq!(server.json(&["models", "select", "chat", "--context", "400"])["selected_model"], "b");
    assert_eq!(server.mms(&["models", "select", "vision"]).status.code(), Some(4));

    load(&server, "b").await;
    let chosen = select(&server, "chat").await;
    assert_eq!((&chosen["selected_model"], &chosen["figures"][0]["resident"]), (&json!("b"), &json!(1.0)), "{chosen}");
    generates(&server, "b").await;
    let chosen = select(&server, "chat").await;
    assert_eq!(chosen["figures"][0]["requests"], 1, "{chosen}");
    assert!(chosen["figures"][0]["latency_ms"].as_f64().unwrap() > 0.0, "{chosen}");
    assert!(chosen["reason"].as_str().unwrap().contains("ms in 1 requests"), "{chosen}");

    // Trust alone does not outweigh what is in memory, unless it is quality that matters.
    for _ in 0..10 {
        evaluate(&server, "C.gguf", 1.0).await;
        evaluate(&server, "b", 0.0).await;
    }
    assert_eq!(select(&server, "chat").await["selected_model"], "b");
    let chosen = select(&server, "quality").await;
    assert_eq!(chosen["selected_model"], "c", "{chosen}");
    assert!(chosen["reason"].as_str().unwrap().contains("trust 0.64 (1.00 in 10 evaluations)"), "{chosen}");
    let answer = json!({"action": "generate", "prompt": "Hi", "model_pref": "quality", "max_tokens": 2});
    let reply = ask(&server.main, &answer).await;
    assert_eq!(reply["model_used"], "c", "{reply}");
    assert!(reply["reason"].as_str().unwrap().starts_with("best of 3 suitable models: c "), "{reply}");
    server.stop();
}

#[tokio::test]
async fn what_was_measured_and_evaluated_is_known_after_a_restart() {
    let mut server = copies("");
    generates(&server, "b").await;
    for _ in 0..5 {
        evaluate(&server, "c", 0.9).await;
    }
    let figures = select(&server, "chat").await["figures"].clone();
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    let folder = tempfile::tempdir().unwrap();
    for part in ["models", "data", "mms.toml"] {
        std::fs::rename(server.folder().join(part), folder.path().join(part)).unwrap();
    }
    let server = Server::start_in(folder, &[]);
    let of = |figures: &Value, id: &str| figures.as_array().unwrap().iter().find(|f| f["model_id"] == id).cloned();
    eventually("the figures of the run before", async || {
        let now = select(&server, "chat").await["figures"].clone();
        let (Some(b), Some(c)) = (of(&now, "b"), of(&now, "c")) else { return false };
        b["latency_ms"] == of(&figures, "b").unwrap()["latency_ms"] && b["requests"] == 1 && c["evaluations"] == 5
    })
    .await;
    server.stop();
}

#[tokio::test]
async fn the_policy_names_models_in_order_and_others_step_in_for_those_that_are_not_there() {
    let server = copies(
        "[routing]\nfast = [\"later\", \"c\"]\n\"my own\" = \"broken\"\nfallback = \"b\"\ncode-generation = \"a\"\n",
    );
    std::fs::write(server.folder().join("models/broken.gguf"), "no model at all").unwrap();
    eventually("the broken file is listed", async || model(&server, "broken").await["status"] == "broken").await;
    let answer = async |preference: &str| {
        let request = json!({"action": "generate", "prompt": "Hi", "model_pref": preference, "max_tokens": 2});
        ask(&server.main, &request).await
    };
    let reply = answer("fast").await;
    assert_eq!(
        (&reply["model_used"], &reply["reason"]),
        (&json!("c"), &json!("routing.fast names c, as later is not known"))
    );
    let reply = answer("my own").await;
    let why = "routing.fallback names b, as broken is broken or quarantined";
    assert_eq!((&reply["model_used"], &reply["reason"]), (&json!("b"), &json!(why)));
    assert_eq!(select(&server, "code").await["selected_model"], "a", "the policy knows best");
    let status = ask(&server.main, &json!({"action": "status"})).await;
    let policy = json!({"code-generation": "a", "fallback": "b", "fast": "c", "my own": "b", "quality": "b"});
    assert_eq!(status["routing_policy"], policy, "{status}");
    assert_eq!(status["routing_models"]["fast"], json!(["later", "c"]));
    server.wait_for_log("routing.fast: later is not known");
    let health = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE).get("/health").await.unwrap();
    let health = health.json().unwrap();
    assert_eq!((&health["status"], &health["health_checks"]["routing"]), (&json!("ok"), &json!(true)), "{health}");
    assert!(health["health_details"]["routing"].as_str().unwrap().contains("later is not known"), "{health}");

    // The file that the policy waits for comes.
    std::fs::copy(DEMO, server.folder().join("models/later.gguf")).unwrap();
    eventually("the first of the list takes its place", async || answer("fast").await["model_used"] == "later").await;
    server.stop();
}

#[tokio::test]
async fn services_are_asked_all_at_once_and_each_for_real() {
    let other = Server::start("");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let failing_at = failing.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = failing.accept().await {
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    let silent_at = silent.local_addr().unwrap();
    let config = format!(
        "[services]\nsuite = \"{}\"\nhealth = \"{}/health\"\nlost = \"{}/nowhere\"\nno_zmq = \"tcp://{failing_at}\"\nsilent = \
         \"tcp://{silent_at}\"\nsilent_http = \"http://{silent_at}\"\ngone = \"tcp://{free}\"\nfailing = \"http://{failing_at}/\"\n\
         [limits]\nservice_timeout_s = 0.8\n",
        other.main, other.http, other.http
    );
    let server = Server::start(&config);
    let reply = ask(&server.main, &json!({"action": "verify_services"})).await;
    assert_eq!(reply["status"], "success", "{reply}");
    for (name, ok, detail) in [
        ("suite", true, "greets as ZeroMQ"),
        ("health", true, "answers 200 OK"),
        ("lost", false, "answers 404 Not Found"),
        ("no_zmq", false, "HTTP"),
        ("silent", false, ""),
        ("silent_http", false, "no answer within 800ms"),
        ("gone", false, "refused"),
        ("failing", false, "answers 503 Service Unavailable"),
    ] {
        let found = &reply["services"][name];
        assert_eq!((&reply[name], &found["ok"]), (&json!(ok), &json!(ok)), "{name}: {reply}");
        assert!(found["detail"].as_str().unwrap().contains(detail), "{name}: {found}");
        assert!(!found["detail"].as_str().unwrap().is_empty(), "{name}: {found}");
    }
    let output = server.mms(&["services"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (table, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("greets as ZeroMQ") && table.contains("does not answer"), "{table}");
    assert!(error.contains("6 of 8 checks failed"), "{error}");
    assert!(other.ok(&["services"]).contains("no services"));
    drop(silent);
    server.stop();
    other.stop();
}
