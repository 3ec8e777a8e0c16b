//! Which models will be asked for: what is recorded and outlives the server, what is loaded ahead of requests and what gives way, and
//! when that stops.

use mms_client::HttpClient;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::asking::{ask, eventually, generates, load, memory_for, model};
use crate::support::{PATIENCE, Server};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo-model/mms-demo.gguf");
const ENGINE: &str = "[engine]\ncontext_length = 256\nslots = 1\n[models]\nbuiltin = false\n";

/// A server with copies of the built-in model.
fn copies(ids: &[&str], config: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    for id in ids {
        std::fs::copy(DEMO, folder.path().join(format!("models/{id}.gguf"))).unwrap();
    }
    std::fs::write(folder.path().join("mms.toml"), format!("{ENGINE}{config}")).unwrap();
    Server::start_in(folder, &[])
}

/// The same with memory for one of them.
async fn copies_in_little(ids: &[&str], config: &str) -> Server {
    let budget = memory_for("[engine]\ncontext_length = 256\nslots = 1\n", 1.0).await;
    copies(ids, &format!("{config}\n[memory]\nbudget = \"{budget}MB\"\nreserve_mb = 0\n"))
}

async fn predicted(server: &Server) -> Value {
    ask(&server.main, &json!({"action": "predict_models"})).await
}

/// Each time by another client, so that each counts.
async fn uses(server: &Server, id: &str, times: usize) {
    for _ in 0..times {
        let reply = ask(&server.main, &json!({"action": "record_usage", "model": id})).await;
        assert_eq!(reply["message"], "Usage recorded", "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("kept");
    let flags = ["--data-dir", data.to_str().unwrap()];
    let server = Server::start_in(tempfile::tempdir().unwrap(), &flags);
    let before = predicted(&server).await;
    assert_eq!((&before["predicted_models"], &before["uses"]), (&json!([]), &json!(0)), "{before}");
    generates(&server, "mms-demo").await;
    let http = HttpClient::new(&server.http).unwrap();
    let embed = json!({"model": "mms-demo", "input": "one"});
    assert_eq!(http.post_json("/v1/embeddings", &embed).await.unwrap().status, 200);
    let chat = json!({"model": "mms-demo", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 2});
    assert_eq!(http.post_json("/v1/chat/completions", &chat).await.unwrap().status, 200);
    let seen = predicted(&server).await["uses"].as_u64().unwrap();
    assert!((2..=3).contains(&seen), "what came within a second without a client's name is one use: {seen}");
    uses(&server, "mms-demo", 5).await;
    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    let counted = (stats["metrics"]["usage_records"].as_u64().unwrap(), &stats["metrics"]["predictions_made"]);
    assert_eq!(counted, (seen + 5, &json!(2)), "{stats}");
    // What was acknowledged is on the disk.
    server.signal(Signal::KILL);
    drop(server);

    let server = Server::start_in(tempfile::tempdir().unwrap(), &flags);
    let after = predicted(&server).await;
    assert!(after["uses"].as_u64().unwrap() >= 5, "{after}");
    assert_eq!((&after["predicted_models"], &after["scores"]["mms-demo"]), (&json!(["mms-demo"]), &json!(1.0)));
    let http = HttpClient::new(&server.http).unwrap();
    let reply = http.post_json("/api/v1/predict_models", &json!({})).await.unwrap().json().unwrap();
    assert_eq!(reply["predicted_models"], json!(["mms-demo"]), "{reply}");
    let printed = server.ok(&["predict"]);
    assert!(printed.contains("mms-demo") && printed.contains("WITHIN 300 S"), "{printed}");
    assert_eq!(server.json(&["predict"])["uses"], after["uses"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_by_name_takes_free_memory_and_gives_way() {
    let server = copies_in_little(&["a", "b"], "[prediction]\npreload = false\n").await;
    load(&server, "a").await;
    let preload = json!({"action": "preload_models", "model_ids": ["b", "a", "nobody"]});
    let reply = ask(&server.main, &preload).await;
    assert_eq!((&reply["message"], &reply["loaded"]), (&json!("Preloaded 1 models"), &json!(["a"])), "{reply}");
    assert!(reply["failed"]["b"].as_str().unwrap().contains("nothing goes for a guess"), "{reply}");
    assert!(reply["failed"]["nobody"].as_str().unwrap().contains("Model not found"), "{reply}");
    assert_eq!(server.mms(&["predict", "preload", "b"]).status.code(), Some(1));
    server.ok(&["models", "unload", "a"]);
    let printed = server.ok(&["predict", "preload", "b"]);
    assert_eq!(printed, "Preloaded 1 models\n");
    assert_eq!(model(&server, "b").await["preloaded"], true);
    generates(&server, "a").await;
    assert_eq!(model(&server, "b").await["loaded"], false, "a request goes before what was only guessed");
    assert_eq!(model(&server, "a").await["preloaded"], false);
    let status = ask(&server.main, &json!({"action": "status"})).await;
    let preloading = &status["preloading"];
    assert_eq!((&preloading["enabled"], &preloading["active"]), (&json!(false), &json!(false)), "{status}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_likely_is_loaded_before_it_is_asked_for() {
    let server = copies(&["a", "b"], "");
    uses(&server, "b", 25).await;
    eventually("the likely model", async || model(&server, "b").await["preloaded"] == true).await;
    eventually("it to be loaded", async || model(&server, "b").await["loaded"] == true).await;
    assert_eq!(model(&server, "a").await["loaded"], false);
    generates(&server, "b").await;
    assert_eq!(model(&server, "b").await["preloaded"], false, "somebody has asked for it");
    let preloading = predicted(&server).await["preloading"].clone();
    assert_eq!((&preloading["hits"], &preloading["loads"]), (&json!(1), &json!(1)), "{preloading}");
    let http = HttpClient::new(&server.http).unwrap();
    let metrics = http.get("/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in ["mms_prediction_preloading 1", "mms_prediction_hits_total 1", "mms_prediction_loads_total 1"] {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line} is missing in\n{metrics}");
    }
    // Whoever sends it away does not want it back.
    server.ok(&["models", "unload", "b"]);
    uses(&server, "a", 25).await;
    eventually("another guess", async || model(&server, "a").await["preloaded"] == true).await;
    assert_eq!(model(&server, "b").await["status"], "available_not_loaded");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_for_a_guess_and_a_guess_goes_for_a_request() {
    let server = copies_in_little(&["a", "b", "c"], "").await;
    load(&server, "a").await;
    uses(&server, "b", 40).await;
    eventually("a guess", async || predicted(&server).await["preloading"]["guesses"].as_u64() > Some(0)).await;
    assert_eq!(
        (&model(&server, "a").await["loaded"], &model(&server, "b").await["loaded"]),
        (&json!(true), &json!(false))
    );
    server.ok(&["models", "unload", "a"]);
    eventually("room for the guess", async || model(&server, "b").await["preloaded"] == true).await;
    generates(&server, "c").await;
    assert_eq!(
        (&model(&server, "b").await["loaded"], &model(&server, "c").await["loaded"]),
        (&json!(false), &json!(true))
    );
    let preloading = predicted(&server).await["preloading"].clone();
    assert_eq!(preloading["gave_way"], 1, "{preloading}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn poor_guesses_end_loading_ahead() {
    let ids: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let config =
        "[prediction]\npreload_models = 64\nmin_probability = 0.01\nlookahead_s = 10\n[memory]\nbudget = \"1MB\"\n";
    let server = copies(&ids, config);
    for id in &ids {
        uses(&server, id, 4).await;
    }
    server.wait_for_log("loading ahead of requests has stopped");
    let status = ask(&server.main, &json!({"action": "status"})).await;
    let preloading = &status["preloading"];
    assert_eq!((&preloading["enabled"], &preloading["active"]), (&json!(true), &json!(false)), "{status}");
    assert!(preloading["hit_rate"].as_f64().unwrap() < 0.4 && preloading["stops"] == 1, "{status}");
    assert!(server.ok(&["predict"]).contains("stopped: below 40 % nothing is loaded by guess"), "it is told");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_uses_count_for_this_run_and_none_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/model_evaluation.db"), "no database at all ".repeat(1000)).unwrap();
    let server = Server::start_in(folder, &[]);
    let reply = ask(&server.main, &json!({"action": "record_usage", "model": "mms-demo"})).await;
    assert_eq!(reply["error"]["code"], "store_unavailable", "{reply}");
    generates(&server, "mms-demo").await;
    let reply = tokio::time::timeout(PATIENCE, predicted(&server)).await.unwrap();
    assert_eq!((&reply["predicted_models"], &reply["uses"]), (&json!(["mms-demo"]), &json!(1)), "{reply}");
    server.stop();
}
