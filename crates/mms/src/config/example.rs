//! The documented example file, written from the settings as they were read: it cannot miss a key or show a wrong default.

use serde_json::Value;

use super::reader::Setting;
use super::source::{ConfigFile, Environment};
use super::{Config, Mistakes};
use crate::cli::ServeFlags;

const WIDTH: usize = 120;

const HEAD: &str = "\
# Configuration of `mms serve`, with every key and its default. Copy it to mms.toml and change what you need; a key that is left out
# has its default. Relative paths start from the folder in which mms is started. Command-line flags beat environment variables, these
# beat this file. `mms config check FILE` finds mistakes, `mms config show` prints what holds and who said so.
";

const SECTIONS: [(&str, &str); 16] = [
    ("server", "Addresses, names and times of the server itself."),
    ("models", "Where models are found and how long they stay in memory."),
    ("engine", "How models are run. Every key but worker can also stand in a [[model]], for that model alone."),
    ("model", "A model with settings of its own; repeat the section for each. Files in models.folders need none."),
    ("memory", "How much memory models may take."),
    ("limits", "Bounds that keep a bad day small."),
    (
        "routing",
        "Which models answer a request that names a preference (fast, quality, or a name of your own) or a kind of task: preference = \
         \"model id\", or an array of which the first takes it that can. Those of fallback follow; fallback = [] lets nobody step in.",
    ),
    ("services", "Services that verify_services looks for: name = \"address\"."),
    (
        "conversations",
        "What is kept of what was said under a conversation_id. KV states are apart from it, see kv_store.",
    ),
    ("kv_store", "Where KV states of conversations are kept while their model is not loaded."),
    ("prediction", "Which models will be asked for, and loading them ahead of that."),
    ("store", "Where evaluations and metrics are kept."),
    ("redis", "Presence of this server in Redis. Without an address: none."),
    ("nats", "Events in NATS JetStream. Without servers: none."),
    ("digital_twin", "Registration with a SystemDigitalTwin. Without a host: none."),
    ("log", "What is logged, on standard error."),
];

/// The text of `mms.example.toml`.
pub(crate) fn example() -> Result<String, Mistakes> {
    let one_model = ConfigFile::new("example", "[[model]]\nid = \"my-model\"\n".to_owned());
    let config = Config::read(&ServeFlags::default(), &Environment::default(), Some(&one_model))?;
    let mut text = HEAD.to_owned();
    for (section, doc) in SECTIONS {
        let commented = matches!(section, "model" | "routing" | "services");
        let header = if section == "model" { "[[model]]".to_owned() } else { format!("[{section}]") };
        text.push_str(&format!("\n{}", comment(doc)));
        text.push_str(&format!("{}{header}\n", if commented { "#" } else { "" }));
        for setting in config.settings.iter().filter(|setting| setting.section == section) {
            text.push_str(&describe(setting, commented));
        }
        if section == "routing" {
            text.push_str("#fast = \"mms-demo\"\n#quality = [\"my-large-model\", \"my-small-model\"]\n#code-generation = \"my-coder\"\n#fallback = \"mms-demo\"\n");
        }
        if section == "services" {
            text.push_str("#tutor = \"tcp://127.0.0.1:5650\"\n#memory = \"http://127.0.0.1:8080/health\"\n");
        }
    }
    Ok(text)
}

fn describe(setting: &Setting, commented: bool) -> String {
    let also = match (setting.variable, setting.flag) {
        (Some(variable), Some(flag)) => format!(" Also: {variable}, {flag}."),
        (Some(one), None) | (None, Some(one)) => format!(" Also: {one}."),
        (None, None) => String::new(),
    };
    let mut must_be = setting.must_be.clone();
    if let Some(first) = must_be.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let (mark, value) = match &setting.default {
        Value::Null => ("#", sample(setting.key)),
        default => (if commented { "#" } else { "" }, default.clone()),
    };
    format!("{}{mark}{} = {}\n", comment(&format!("{} {must_be}.{also}", setting.doc)), setting.key, toml_text(&value))
}

/// What to show for a key that is not set by default; most of a `[[model]]` are shown as in `[engine]`.
fn sample(key: &str) -> Value {
    match key {
        "id" => "my-model".into(),
        "public_host" => "models.example".into(),
        "host" => "twin.example".into(),
        "servers" => ["nats://127.0.0.1:4222"].as_slice().into(),
        "url" => "redis://127.0.0.1:6379/0".into(),
        "registry_url" => "redis://127.0.0.1:6379/1".into(),
        "path" => "path/to/file".into(),
        "worker" => "path/to/mms-worker".into(),
        "chat_template" => "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}assistant:".into(),
        "capabilities" => ["chat"].as_slice().into(),
        "tasks" => ["code-generation"].as_slice().into(),
        "idle_unload_s" => 300.into(),
        "gpu_layers" => (-1).into(),
        "mmap" | "mlock" | "warm_up" => true.into(),
        "cache_type_k" | "cache_type_v" => "q8_0".into(),
        "flash_attention" | "speculation" | "pooling" => "auto".into(),
        "context_overflow" => "stop".into(),
        "context_keep" | "kv_store_mb" => 128.into(),
        "draft_tokens" => 8.into(),
        "lora" => ["path/to/adapter.gguf:0.5"].as_slice().into(),
        "folder" => "path/to/kv".into(),
        "context_length" => 4096.into(),
        "slots" => 4.into(),
        "batch_size" | "ubatch_size" => 512.into(),
        _threads => 0.into(),
    }
}

fn toml_text(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(elements) => format!("[{}]", elements.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The text as comment lines of bounded width.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            lines.push_str(&format!("{line}\n"));
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    format!("{lines}{line}\n")
}
