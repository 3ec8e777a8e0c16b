//! Servers with several copies of the built-in model, and others that are kept busy meanwhile.

use std::path::Path;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::asking::ask;
use crate::support::Server;

/// The bytes of the built-in model.
pub(crate) fn demo_model() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/mms-demo.gguf")).unwrap()
}

/// A folder with this configuration and copies of the built-in model.
pub(crate) fn folder(config: &str, copies: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mms.toml"), config).unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    for name in copies {
        std::fs::write(folder.path().join(format!("models/{name}.gguf")), demo_model()).unwrap();
    }
    folder
}

/// A generation of a model that is certain to last: hot, so that the end of the answer is one token among many.
pub(crate) fn long(model: &str, max_tokens: u32) -> Value {
    let mut request = crate::asking::long(1, max_tokens);
    request["model"] = model.into();
    request
}

/// Asks in the background.
pub(crate) fn asking(server: &Server, request: Value) -> JoinHandle<Value> {
    let endpoint = server.main.clone();
    tokio::spawn(async move { ask(&endpoint, &request).await })
}

/// Asks a model again and again; every answer must be one.
pub(crate) struct Bystander {
    stop: CancellationToken,
    task: JoinHandle<u32>,
}

impl Bystander {
    pub(crate) fn of(server: &Server, model: &str) -> Self {
        let stop = CancellationToken::new();
        let (stopped, endpoint) = (stop.clone(), server.main.clone());
        let request = json!({"action": "generate_text", "model": model, "prompt": "Hello!", "max_tokens": 4});
        let task = tokio::spawn(async move {
            let mut answers = 0;
            while !stopped.is_cancelled() {
                let reply = ask(&endpoint, &request).await;
                assert_eq!(
                    reply["status"], "success",
                    "what happens to other models is no concern of this one: {reply}"
                );
                answers += 1;
            }
            answers
        });
        Self { stop, task }
    }

    /// It was answered all the time, and once more now.
    pub(crate) async fn was_served(self) {
        self.stop.cancel();
        assert!(self.task.await.unwrap() > 0);
    }
}
