//! Model files that come, go and change while the server runs: the catalogue follows without a restart, broken files are listed with
//! the reason, and nobody else is disturbed.

use std::path::{Path, PathBuf};

use crate::asking::{answers, ask, eventually, generates, load, model};
use crate::support::Server;
use serde_json::json;

const CONFIG: &str = "[models]\nrescan_s = 0.2\n";

/// A server that looks at its folder often; the folder; the bytes of a good model.
fn start() -> (Server, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mms.toml"), CONFIG).unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let good = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/mms-demo.gguf")).unwrap();
    let server = Server::start_in(folder, &[]);
    let models = server.folder().join("models");
    (server, models, good)
}

async fn has_status(server: &Server, id: &str, status: &str) {
    eventually(&format!("{id} to be {status}"), async || model(server, id).await["status"] == status).await;
}

#[tokio::test]
async fn a_new_file_appears_and_is_served() {
    let (server, models, good) = start();
    assert!(model(&server, "new").await.is_null());
    std::fs::create_dir(models.join("below")).unwrap();
    for (file, id) in [("new.gguf", "new"), ("below/deeper.gguf", "below/deeper")] {
        std::fs::write(models.join(file), &good).unwrap();
        has_status(&server, id, "available_not_loaded").await;
        let entry = model(&server, id).await;
        assert_eq!(entry["architecture"], "llama", "{entry}");
        assert!(entry["parameters"].as_u64().unwrap() > 0, "{entry}");
        assert!(entry["context_length"].as_u64().unwrap() >= 512, "{entry}");
        generates(&server, id).await;
    }
    // The name alone is enough as long as it is only one file's.
    let request = json!({"action": "generate_text", "model": "deeper", "prompt": "Hello!", "max_tokens": 4});
    let reply = ask(&server.main, &request).await;
    assert_eq!(reply["status"], "success", "{reply}");
    server.stop();
}

#[tokio::test]
async fn a_half_copied_file_is_listed_with_the_reason_until_it_is_whole() {
    let (server, models, good) = start();
    let path = models.join("copied.gguf");
    for part in [0, 3, 20, 5_000, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..part]).unwrap();
        eventually(&format!("the first {part} bytes to be broken"), async || {
            let entry = model(&server, "copied").await;
            entry["status"] == "broken" && entry["message"].as_str().is_some_and(|why| !why.is_empty())
        })
        .await;
        let reply = ask(&server.main, &json!({"action": "load_model", "model": "copied"})).await;
        assert_eq!(reply["error"]["code"], "model_broken", "{reply}");
        answers(&server).await;
    }
    std::fs::write(&path, &good).unwrap();
    has_status(&server, "copied", "available_not_loaded").await;
    generates(&server, "copied").await;
    generates(&server, "mms-demo").await;
    server.stop();
}

#[tokio::test]
async fn rubbish_with_the_right_name_disturbs_nothing() {
    let (server, models, good) = start();
    let mut damaged = good.clone();
    damaged[8..16].fill(0xFF); // more tensors than there are atoms
    for (name, bytes) in [("rubbish", vec![0xAB; 100_000]), ("text", b"not a model".to_vec()), ("counts", damaged)] {
        std::fs::write(models.join(format!("{name}.gguf")), bytes).unwrap();
        has_status(&server, name, "broken").await;
    }
    std::os::unix::fs::symlink("nowhere", models.join("dangling.gguf")).unwrap();
    std::fs::create_dir(models.join("folder.gguf")).unwrap();
    std::fs::write(models.join("good.gguf"), &good).unwrap();
    has_status(&server, "good", "available_not_loaded").await;
    generates(&server, "good").await;
    server.stop();
}

#[tokio::test]
async fn a_deleted_file_leaves_the_catalogue() {
    let (server, models, good) = start();
    let path = models.join("gone.gguf");
    std::fs::write(&path, &good).unwrap();
    has_status(&server, "gone", "available_not_loaded").await;
    load(&server, "gone").await;
    std::fs::remove_file(&path).unwrap();

    // Loaded or not by now, a request is answered: by the model, or by an error that names it.
    let request = json!({"action": "generate_text", "model": "gone", "prompt": "Hello!", "max_tokens": 4});
    let reply = ask(&server.main, &request).await;
    assert!(reply["status"] == "success" || reply["message"].as_str().unwrap().contains("gone"), "{reply}");

    ask(&server.main, &json!({"action": "unload_model", "model": "gone"})).await;
    eventually("the model to leave the catalogue", async || model(&server, "gone").await.is_null()).await;
    let reply = ask(&server.main, &request).await;
    assert_eq!(reply["error"]["code"], "model_not_found", "{reply}");
    generates(&server, "mms-demo").await;
    server.stop();
}

#[tokio::test]
async fn a_file_truncated_under_a_loaded_model_harms_only_that_model() {
    let (server, models, good) = start();
    let path = models.join("cut.gguf");
    std::fs::write(&path, &good).unwrap();
    has_status(&server, "cut", "available_not_loaded").await;
    load(&server, "cut").await;
    // The worker has the file mapped: reading behind its end is the worker's death.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(good.len() as u64 / 3).unwrap();
    let request = json!({"action": "generate_text", "model": "cut", "prompt": "Hello!", "max_tokens": 4});
    let reply = ask(&server.main, &request).await;
    if reply["status"] != "success" {
        assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()), "{reply}");
    }
    answers(&server).await;
    generates(&server, "mms-demo").await;
    ask(&server.main, &json!({"action": "unload_model", "model": "cut"})).await;
    has_status(&server, "cut", "broken").await;

    std::fs::write(&path, &good).unwrap();
    eventually("the whole file to be served again", async || ask(&server.main, &request).await["status"] == "success")
        .await;
    server.stop();
}

#[tokio::test]
async fn a_replaced_file_is_read_anew() {
    let (server, models, good) = start();
    let path = models.join("other.gguf");
    std::fs::write(&path, &good).unwrap();
    has_status(&server, "other", "available_not_loaded").await;
    let old = load(&server, "other").await;
    std::fs::write(models.join("other.part"), &good[..good.len() / 2]).unwrap();
    std::fs::rename(models.join("other.part"), &path).unwrap();
    answers(&server).await;
    ask(&server.main, &json!({"action": "unload_model", "model": "other"})).await;
    has_status(&server, "other", "broken").await;
    std::fs::write(models.join("other.part"), &good).unwrap();
    std::fs::rename(models.join("other.part"), &path).unwrap();
    has_status(&server, "other", "available_not_loaded").await;
    generates(&server, "other").await;
    assert_ne!(crate::asking::worker_pid(&server, "other").await, Some(old));
    server.stop();
}
