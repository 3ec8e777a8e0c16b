//! A catalogue of thousands of files: the start, the looks at the folders and the lists of them hold up nobody, and cost little.

use serde_json::json;

use crate::asking::{answers, ask, eventually, model};
use crate::gguf::Builder;
use crate::models::folder;
use crate::support::Server;

const FILES: usize = 2000;
/// What the server may take with so many models, MiB: tens of kilobytes for each.
const MOST_MB: f64 = 150.0;

/// Thousands of files made the server slow to start, large, and deaf while it read them.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_files() {
    let folder = folder("[models]\nrescan_s = 0.2\n", &[]);
    let models = folder.path().join("models");
    let file = Builder::llama().file();
    for number in 0..FILES {
        let below = models.join((number % 10).to_string());
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join(format!("m{number}.gguf")), &file).unwrap();
    }
    let server = Server::start_in(folder, &[]);
    // It is ready before it has read them all.
    eventually("all of them", async || listed(&server).await == FILES + 1).await;
    let listed_by_command = server.json(&["models"]);
    assert_eq!(listed_by_command.as_array().unwrap().len(), FILES + 1, "the command line shows all of them");

    // Every look finds half of them changed; requests are answered meanwhile.
    let other = Builder::llama().key("general.name", "Another One").file();
    for round in 0..4 {
        let content = if round % 2 == 0 { &other } else { &file };
        for number in (0..FILES).step_by(2) {
            let path = models_path(&server, number);
            std::fs::write(path.with_extension("part"), content).unwrap();
            std::fs::rename(path.with_extension("part"), path).unwrap();
            if number % 200 == 0 {
                answers(&server).await;
            }
        }
    }
    for number in (0..FILES).step_by(4) {
        std::fs::remove_file(models_path(&server, number)).unwrap();
    }
    eventually("a quarter of them to leave", async || listed(&server).await == FILES * 3 / 4 + 1).await;
    assert_eq!(model(&server, "1/m1").await["architecture"], "llama");
    crate::asking::generates(&server, "mms-demo").await;
    let resident = crate::dying::resident(server.pid()) as f64 / f64::from(1 << 20);
    assert!(resident < MOST_MB, "{resident} MiB");
    server.stop();
}

async fn listed(server: &Server) -> usize {
    ask(&server.main, &json!({"action": "list_models"})).await["models"].as_array().unwrap().len()
}

fn models_path(server: &Server, number: usize) -> std::path::PathBuf {
    server.folder().join(format!("models/{}/m{number}.gguf", number % 10))
}
