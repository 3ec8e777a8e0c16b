//! The old suite's `llm_config.yaml`: imported into a file, and used as it is.

use std::path::Path;
use std::process::Output;

use mms_client::HttpClient;
use serde_json::{Value, json};

use crate::asking::ask;
use crate::support::{PATIENCE, Server, mms};

const OLD: &str = "\
# models of the language stack
load_policy:
  fast: demo
  quality: [big-model, demo]
  \"my own\": demo
  fallback: demo
  wrong: 5
global_flags:
  ENABLE_LLM_ROUTER: yes
quantization_config:
  default_quantization: int8
kv_cache_config:
  enabled: true
  max_caches: 20
  timeout_seconds: 1800
  max_cache_size_mb: -1
  eviction: lru
batch_processing_config:
  enabled: true
  max_batch_size: 100
  batch_timeout_ms: 50
models:
  demo:
    repo_id: someone/demo-GGUF
    filename: demo-file.gguf
    type: gguf
    quantization: Q4_K_M
    task: code-generation
  big-model:
    repo_id: someone/big
    type: huggingface
    task: text-generation
  plain:
    type: gguf
    extra: 1
surprise: 1
";

fn import(folder: &Path, args: &[&str]) -> Output {
    mms().args(["config", "import"]).args(args).current_dir(folder).output().unwrap()
}

fn printed(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_setting_is_taken_changed_or_left_out_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llm_config.yaml"), OLD).unwrap();
    let output = import(folder.path(), &["llm_config.yaml", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<String> = json["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let word = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
            assert_ne!((&item["outcome"], &item["why"]), (&json!("left_out"), &json!("")), "{item}");
            format!("{} {} {} {}", item["line"], word("setting"), word("outcome"), word("to"))
        })
        .collect();
    let expected = [
        "3 load_policy.fast taken routing.fast",
        "4 load_policy.quality taken routing.quality",
        "5 load_policy.my own taken routing.my own",
        "6 load_policy.fallback taken routing.fallback",
        "7 load_policy.wrong left_out -",
        "9 global_flags.ENABLE_LLM_ROUTER left_out -",
        "11 quantization_config.default_quantization left_out -",
        "13 kv_cache_config.enabled taken kv_store.enabled",
        "14 kv_cache_config.max_caches taken kv_store.max_states",
        "15 kv_cache_config.timeout_seconds taken kv_store.max_age_s",
        "16 kv_cache_config.max_cache_size_mb left_out -",
        "17 kv_cache_config.eviction left_out -",
        "19 batch_processing_config.enabled taken -",
        "20 batch_processing_config.max_batch_size changed engine.slots",
        "21 batch_processing_config.batch_timeout_ms left_out -",
        "24 models.demo.repo_id left_out -",
        "25 models.demo.filename taken model.path",
        "26 models.demo.type taken model",
        "27 models.demo.quantization left_out -",
        "28 models.demo.task taken model.tasks",
        "30 models.big-model left_out -",
        "34 models.plain changed model",
        "34 models.plain.type taken model",
        "35 models.plain.extra left_out -",
        "36 surprise left_out -",
    ];
    assert_eq!(found, expected, "{found:#?}");
    assert_eq!((&json["taken"], &json["changed"], &json["left_out"]), (&json!(12), &json!(2), &json!(11)));
    let toml = json["toml"].as_str().unwrap();
    let expected = "\
# Taken from llm_config.yaml by `mms config import`. `mms config example` shows every other setting.

[engine]
slots = 64

[kv_store]
enabled = true
max_states = 20
max_age_s = 1800

[routing]
fast = \"demo\"
quality = [\"big-model\", \"demo\"]
\"my own\" = \"demo\"
fallback = \"demo\"

[[model]]
id = \"demo\"
path = \"demo-file.gguf\"
tasks = [\"code-generation\"]

[[model]]
id = \"plain\"
";
    assert_eq!(toml, expected);
}

#[test]
fn the_new_file_is_written_once_and_over_another_only_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    std::fs::write(in_folder("old.yaml"), OLD).unwrap();
    let output = import(folder.path(), &["old.yaml"]);
    let (toml, report) = (printed(&output.stdout), printed(&output.stderr));
    assert!(output.status.success() && toml.contains("[routing]") && !toml.contains("left out"), "{toml}");
    for part in [
        "load_policy.fast",
        "routing.fast",
        "nothing is downloaded: put demo-file.gguf",
        "12 settings taken, 2 changed, 11 left out",
    ] {
        assert!(report.contains(part), "{part:?} is missing in\n{report}");
    }

    let output = import(folder.path(), &["old.yaml", "--output", "mms.toml"]);
    assert!(output.status.success(), "{output:?}");
    assert!(printed(&output.stdout).contains("written to mms.toml"), "{output:?}");
    assert_eq!(std::fs::read_to_string(in_folder("mms.toml")).unwrap(), toml);
    let checked = mms().args(["config", "check", "mms.toml"]).current_dir(folder.path()).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");

    std::fs::write(in_folder("mms.toml"), "# mine\n").unwrap();
    let output = import(folder.path(), &["old.yaml", "--output", "mms.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(printed(&output.stderr).contains("mms.toml is there already; --force overwrites it"), "{output:?}");
    assert_eq!(std::fs::read_to_string(in_folder("mms.toml")).unwrap(), "# mine\n");
    let output = import(folder.path(), &["old.yaml", "--output", "mms.toml", "--force", "--json"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_to_string(in_folder("mms.toml")).unwrap(), toml);
    let output = import(folder.path(), &["old.yaml", "--output", "nowhere/mms.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output.stderr).contains("nowhere/mms.toml cannot be written"), "{output:?}");
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["mms.toml", "old.yaml"], "no draft stays");
}

#[test]
fn what_is_no_old_configuration_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("{text}a{level}: &a{level} [{aliases}]\n")
    });
    let large = "a: 1\n".to_owned() + &"# far too long\n".repeat(100_000);
    for (bytes, part) in [
        (b"- a\n- b\n".as_slice(), "old.yaml:1:1: an llm_config.yaml is a table"),
        (b"load_policy:\n  fast: [demo\n", "old.yaml:2:9: it is no YAML that can be read: unclosed bracket"),
        (
            b"models: !!python/object:os.x {}\n",
            "old.yaml:1:30: it is no YAML that can be read: the tag tag:yaml.org,2002:python/object:os.x",
        ),
        (b"a: \xff\n", "is no UTF-8"),
        (bomb.as_bytes(), "more than 50000 values, aliases followed"),
        (large.as_bytes(), "is larger than 1048576 bytes"),
        ("[".repeat(500_000).as_bytes(), "it is no YAML that can be read"),
    ] {
        std::fs::write(folder.path().join("old.yaml"), bytes).unwrap();
        let output = import(folder.path(), &["old.yaml", "--output", "mms.toml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = printed(&output.stderr);
        assert!(told.contains(part), "{part:?} is missing in\n{told}");
        assert!(!folder.path().join("mms.toml").exists());
    }
    let output = import(folder.path(), &["missing.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(printed(&output.stderr).contains("the file missing.yaml cannot be read: No such file"), "{output:?}");
    std::fs::write(folder.path().join("empty.yaml"), "").unwrap();
    assert!(import(folder.path(), &["empty.yaml"]).status.success(), "nothing to be taken is no mistake");
}

#[tokio::test]
async fn a_server_takes_the_old_file_that_its_environment_names_unless_it_has_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo-model/mms-demo.gguf");
    std::fs::copy(demo, folder.path().join("models/demo-file.gguf")).unwrap();
    std::fs::write(folder.path().join("old.yaml"), OLD).unwrap();
    let variables = [("LLM_CONFIG_PATH", "old.yaml")];
    let server = Server::start_with(folder, &variables);
    let status = ask(&server.main, &json!({"action": "status"})).await;
    assert_eq!(status["routing_models"]["quality"], json!(["big-model", "demo"]), "{status}");
    assert_eq!(status["routing_policy"]["quality"], "demo", "the other one is not known here: {status}");
    let reply = ask(&server.main, &json!({"action": "generate", "prompt": "Hi", "max_tokens": 2})).await;
    assert_eq!(
        (&reply["model_used"], &reply["reason"]),
        (&json!("demo"), &json!("routing.fast names demo")),
        "{reply}"
    );
    let chosen = ask(&server.main, &json!({"action": "select_model", "task_type": "code-generation"})).await;
    assert_eq!(chosen["selected_model"], "demo", "{chosen}");
    server.wait_for_log("the old configuration is used");
    let health = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE).get("/health").await.unwrap();
    assert_eq!(health.status, 200);
    server.stop();

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old.yaml"), OLD).unwrap();
    std::fs::write(folder.path().join("mms.toml"), "[routing]\nown = \"mms-demo\"\n").unwrap();
    let server = Server::start_with(folder, &variables);
    let status = ask(&server.main, &json!({"action": "status"})).await;
    assert_eq!(status["routing_models"], json!({"own": ["mms-demo"]}), "{status}");
    server.wait_for_log("set, but not used, as mms.toml is read");
    server.stop();
}

#[test]
fn an_old_file_that_cannot_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "load_policy: [\n").unwrap();
    for (file, part) in [
        ("lost.yaml", "environment LLM_CONFIG_PATH: the file lost.yaml cannot be read"),
        ("bad.yaml", "bad.yaml:1:14: it is no YAML"),
    ] {
        let output = mms().arg("serve").env("LLM_CONFIG_PATH", file).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(printed(&output.stderr).contains(part), "{output:?}");
    }
    std::fs::write(folder.path().join("good.yaml"), "kv_cache_config: {max_caches: 7}\n").unwrap();
    let shown = mms()
        .args(["config", "show", "--json"])
        .env("LLM_CONFIG_PATH", "good.yaml")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let setting =
        json["settings"].as_array().unwrap().iter().find(|s| s["section"] == "kv_store" && s["key"] == "max_states");
    let setting = setting.unwrap();
    assert_eq!(
        (&setting["value"], &setting["origin"]["variable"]),
        (&json!(7), &json!("LLM_CONFIG_PATH")),
        "{setting}"
    );
}
