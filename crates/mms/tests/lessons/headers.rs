//! Hostile files: whatever a header says, the server neither dies, hangs nor grows, and names the fault; what only llama.cpp can judge
//! fails in a worker, with a reason.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::asking::{answers, ask, eventually, generates};
use crate::dying::resident;
use crate::gguf::{Builder, Meta};
use crate::models::folder;
use crate::support::Server;

/// What a server may take that has only looked at hostile files, MiB.
const MOST_MB: f64 = 120.0;

fn lie(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = Builder::llama().file();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn tensor(dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut builder = Builder::llama().tensor("odd.weight", dimensions, kind, 64);
    builder.tensors.last_mut().unwrap().offset = Some(offset);
    builder.file()
}

/// A list of lists of lists...
fn nested(depth: u32) -> Meta {
    let mut value = Meta::List(4, vec![Meta::U32(1)]);
    for _ in 0..depth {
        value = Meta::List(
            9,
            vec![Meta::Raw(9, {
                let mut bytes = Vec::new();
                if let Meta::List(number, items) = &value {
                    bytes.extend(number.to_le_bytes());
                    bytes.extend((items.len() as u64).to_le_bytes());
                    for item in items {
                        match item {
                            Meta::U32(number) => bytes.extend(number.to_le_bytes()),
                            Meta::Raw(_, inner) => bytes.extend(inner),
                            other => panic!("{other:?}"),
                        }
                    }
                }
                bytes
            })],
        );
    }
    value
}

fn hostile() -> BTreeMap<String, Vec<u8>> {
    let huge = u64::MAX.to_le_bytes();
    let most = (u64::MAX / 2).to_le_bytes();
    let mut files: BTreeMap<&str, Vec<u8>> = BTreeMap::from([
        ("no-bytes", Vec::new()),
        ("no-gguf", b"PK\x03\x04 something else".to_vec()),
        ("only-magic", b"GGUF".to_vec()),
        ("version-1", lie(4, &1u32.to_le_bytes())),
        ("version-huge", lie(4, &[0xFF; 4])),
        ("big-endian", lie(4, &3u32.to_be_bytes())),
        ("tensors-huge", lie(8, &huge)),
        ("tensors-many", lie(8, &(1u64 << 40).to_le_bytes())),
        ("keys-huge", lie(16, &huge)),
        ("keys-most", lie(16, &most)),
        ("key-length-huge", lie(24, &huge)),
        ("key-length-most", lie(24, &most)),
        ("value-type-unknown", lie(24 + 8 + "general.architecture".len(), &77u32.to_le_bytes())),
        ("text-length-huge", lie(24 + 8 + "general.architecture".len() + 4, &huge)),
        ("dimensions-overflow", tensor(&[1 << 40, 1 << 40], 0, 0)),
        ("dimension-zero", tensor(&[0], 0, 0)),
        ("dimensions-five", tensor(&[1, 1, 1, 1, 1], 0, 0)),
        ("type-unknown", tensor(&[64], 999, 0)),
        ("offset-overflow", tensor(&[64], 0, u64::MAX - 31)),
        ("offset-odd", tensor(&[64], 0, 7)),
        ("offset-beyond", tensor(&[64], 0, 1 << 30)),
        ("nested", Builder::llama().key("deep", nested(40)).file()),
        ("alignment-zero", Builder::llama().key("general.alignment", 0).file()),
        ("alignment-odd", Builder::llama().key("general.alignment", 33).file()),
        ("no-architecture", Builder::llama().without("general.architecture").file()),
        ("no-tensors", Builder::empty().key("general.architecture", "llama").file()),
        ("layers-negative", Builder::llama().key("llama.block_count", Meta::I32(-1)).file()),
        ("part-without-name", Builder::llama().key("split.count", 3).key("split.no", 0).file()),
        ("cycle-00001-of-00002", Builder::llama().key("split.count", 2).key("split.no", 1).file()),
        ("cycle-00002-of-00002", Builder::llama().key("split.count", 2).key("split.no", 0).file()),
        ("many-00001-of-01000", Builder::llama().key("split.count", 1000).key("split.no", 0).file()),
    ]);
    let mut twice = Builder::llama();
    twice.keys.push(("general.name".to_owned(), "again".into()));
    files.insert("key-twice", twice.file());
    let mut list = Builder::llama();
    let mut length = 4u32.to_le_bytes().to_vec();
    length.extend(huge);
    list.keys.push(("list".to_owned(), Meta::Raw(9, length)));
    files.insert("list-huge", list.file());
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// A header made the server crash, hang, or allocate what the header announced.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_headers_are_listed_with_their_fault() {
    let folder = folder("[models]\nrescan_s = 0.2\n", &[]);
    let models = folder.path().join("models");
    let files = hostile();
    for (name, bytes) in &files {
        std::fs::write(models.join(format!("{name}.gguf")), bytes).unwrap();
    }
    std::fs::create_dir(models.join("a-folder.gguf")).unwrap();
    assert!(Command::new("mkfifo").arg(models.join("a-pipe.gguf")).status().unwrap().success());
    std::os::unix::fs::symlink("loop.gguf", models.join("loop.gguf")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", models.join("endless.gguf")).unwrap();
    let server = Server::start_in(folder, &[]);

    let reply = ask(&server.main, &json!({"action": "list_models"})).await;
    let listed: BTreeMap<&str, &Value> =
        reply["models"].as_array().unwrap().iter().map(|m| (m["model_id"].as_str().unwrap(), m)).collect();
    for name in files.keys() {
        // The parts of a split model are one model.
        let id = name.split("-0000").next().unwrap();
        let entry = listed.get(id).unwrap_or_else(|| panic!("{id} is not listed: {:?}", listed.keys()));
        let message = entry["message"].as_str().unwrap_or_default();
        let settling = message.contains("still being written");
        assert!(entry["status"] == "broken" || settling, "{id}: {entry}");
        assert!(!message.is_empty(), "{id}: {entry}");
        assert!(server.ok(&["models"]).contains(id));
        let reply = ask(&server.main, &json!({"action": "load_model", "model": id})).await;
        assert_eq!(reply["error"]["code"], "model_broken", "{reply}");
    }
    answers(&server).await;
    generates(&server, "mms-demo").await;
    let resident = resident(server.pid()) as f64 / f64::from(1 << 20);
    assert!(resident < MOST_MB, "{resident} MiB");
    server.stop();
}

/// A file that ends anywhere: at every byte of its header it is broken or being written, never anything else, and whole in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_off_at_every_byte() {
    let folder = folder("[models]\nrescan_s = 0.2\n", &[]);
    let models = folder.path().join("models");
    let whole = Builder::llama().file();
    for length in 0..whole.len() {
        std::fs::write(models.join(format!("cut{length}.gguf")), &whole[..length]).unwrap();
    }
    std::fs::write(models.join("whole.gguf"), &whole).unwrap();
    let server = Server::start_in(folder, &[]);
    let mut reply = Value::Null;
    eventually("all of them", async || {
        reply = ask(&server.main, &json!({"action": "list_models"})).await;
        reply["models"].as_array().unwrap().len() == whole.len() + 2
    })
    .await;
    let entries = reply["models"].as_array().unwrap();
    for entry in entries {
        let cut = entry["model_id"].as_str().unwrap().starts_with("cut");
        assert_eq!(entry["status"] == "broken", cut, "{entry}");
        assert!(!cut || entry["message"].as_str().is_some_and(|message| !message.is_empty()), "{entry}");
    }
    server.stop();
}

/// A file that is right as far as its header can tell, and no model for llama.cpp: the load fails there, with a reason.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_llama_cpp_can_judge_fails_in_a_worker_with_a_reason() {
    let folder = folder("", &[]);
    let models = folder.path().join("models");
    let kinds = [
        ("incomplete", Builder::llama().file()),
        ("unheard-of", Builder::llama().key("general.architecture", "unheard-of").file()),
        ("no-vocabulary", Builder::llama().without("tokenizer.ggml.tokens").file()),
    ];
    for (name, bytes) in &kinds {
        std::fs::write(models.join(format!("{name}.gguf")), bytes).unwrap();
    }
    // A link that leads out of the folder is nobody's model.
    let outside = folder.path().join("outside.gguf");
    std::fs::write(&outside, &kinds[0].1).unwrap();
    std::os::unix::fs::symlink(&outside, models.join("outside.gguf")).unwrap();
    std::fs::set_permissions(models.join("incomplete.gguf"), std::fs::Permissions::from_mode(0o444)).unwrap();
    let server = Server::start_in(folder, &[]);
    for (name, _) in &kinds {
        let reply = ask(&server.main, &json!({"action": "load_model", "model": name})).await;
        let code = reply["error"]["code"].as_str().unwrap_or_else(|| panic!("{name}: {reply}"));
        assert!(["load_failed", "worker_died"].contains(&code), "{name}: {reply}");
        assert!(reply["message"].as_str().unwrap().len() > name.len() + 30, "a reason: {reply}");
        answers(&server).await;
    }
    let reply = ask(&server.main, &json!({"action": "load_model", "model": "outside"})).await;
    assert_eq!(reply["error"]["code"], "model_not_found", "{reply}");
    eventually("no worker to be left", async || server.workers().is_empty()).await;
    generates(&server, "mms-demo").await;
    server.stop();
}
