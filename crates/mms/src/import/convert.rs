//! Setting by setting from the old file to ours. Nothing is dropped without an entry in the report.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::report::{Item, Outcome, Report};
use super::yaml::{Node, Yaml};

/// Longest name of a model or a preference, bytes.
const MAX_NAME: usize = 256;

/// Sections of the new file, in this order.
const SECTIONS: [&str; 3] = ["engine", "kv_store", "routing"];

/// The report, or why the file is none of these.
pub(crate) fn convert(from: &Path, root: &Node) -> Result<Report, String> {
    let entries = match &root.yaml {
        Yaml::Map(entries) => entries.as_slice(),
        Yaml::Null => &[],
        Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) | Yaml::List(_) => {
            return Err(
                "an llm_config.yaml is a table with keys such as load_policy and models; this is something else"
                    .to_owned(),
            );
        }
    };
    let mut import = Import { items: Vec::new(), sections: BTreeMap::new(), models: String::new() };
    let models: Vec<&str> =
        entries.iter().find(|(key, _)| key == "models").map_or_else(Vec::new, |(_, node)| match &node.yaml {
            Yaml::Map(models) => models.iter().map(|(name, _)| name.as_str()).collect(),
            _ => Vec::new(),
        });
    for (key, node) in entries {
        match key.as_str() {
            "load_policy" => import.table(key, node, |import, name, node| import.policy(name, node, &models)),
            "kv_cache_config" => import.table(key, node, Import::kv_cache),
            "batch_processing_config" => import.batches(key, node),
            "quantization_config" => import.table(key, node, |import, name, node| {
                import.leave(
                    &format!("quantization_config.{name}"),
                    node,
                    "a GGUF file was quantized when it was made, and is used as it is",
                );
            }),
            "global_flags" => import.table(key, node, |import, name, node| {
                import.leave(
                    &format!("global_flags.{name}"),
                    node,
                    "there is no such switch here; mms config example shows every setting",
                );
            }),
            "models" => import.table(key, node, Import::model),
            _ => import.leave(key, node, "this key of the old file is not known"),
        }
    }
    Ok(Report { from: from.to_owned(), toml: import.toml(from), items: import.items })
}

struct Import {
    items: Vec<Item>,
    /// Section → its lines.
    sections: BTreeMap<&'static str, String>,
    /// The tables of models.
    models: String,
}

impl Import {
    fn note(&mut self, setting: &str, node: &Node, outcome: Outcome, to: Option<&str>, why: &str) {
        self.items.push(Item {
            setting: setting.to_owned(),
            line: node.line,
            value: node.to_json(),
            outcome,
            to: to.map(str::to_owned),
            why: why.to_owned(),
        });
    }

    fn leave(&mut self, setting: &str, node: &Node, why: &str) {
        self.note(setting, node, Outcome::LeftOut, None, why);
    }

    /// Sets a key of the new file.
    fn set(&mut self, section: &'static str, key: &str, value: &Value) {
        let line = format!("{} = {}\n", toml_key(key), toml_value(value));
        self.sections.entry(section).or_default().push_str(&line);
    }

    fn table(&mut self, key: &str, node: &Node, mut each: impl FnMut(&mut Self, &str, &Node)) {
        match &node.yaml {
            Yaml::Map(entries) => entries.iter().for_each(|(name, node)| each(self, name, node)),
            Yaml::Null => {}
            Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text(_) | Yaml::List(_) => {
                self.leave(key, node, "it must be a table");
            }
        }
    }

    fn policy(&mut self, name: &str, node: &Node, models: &[&str]) {
        let setting = format!("load_policy.{name}");
        let names: Option<Vec<&str>> = match &node.yaml {
            Yaml::Text(model) => Some(vec![model.as_str()]),
            Yaml::List(list) => list
                .iter()
                .map(|item| if let Yaml::Text(model) = &item.yaml { Some(model.as_str()) } else { None })
                .collect(),
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Map(_) => None,
        };
        let Some(names) = names.filter(|names| !names.is_empty() && names.iter().all(|name| is_name(name))) else {
            return self.leave(&setting, node, "it must be the name of a model, or a list of such");
        };
        if !is_name(name) {
            return self.leave(&setting, node, "its own name is too long, or has characters that no name has");
        }
        let value = if let [one] = names.as_slice() { Value::from(*one) } else { Value::from(names.clone()) };
        self.set("routing", name, &value);
        let to = format!("routing.{name}");
        let lost: Vec<&str> = names.into_iter().filter(|name| !models.contains(name)).collect();
        let why = match lost.as_slice() {
            [] => String::new(),
            lost => format!("the file describes no model {}: it must be in a models folder", lost.join(", ")),
        };
        self.note(&setting, node, Outcome::Taken, Some(&to), &why);
    }

    fn kv_cache(&mut self, name: &str, node: &Node) {
        let setting = format!("kv_cache_config.{name}");
        let (key, bounds) = match name {
            "enabled" => match node.yaml {
                Yaml::Bool(enabled) => {
                    self.set("kv_store", "enabled", &enabled.into());
                    return self.note(&setting, node, Outcome::Taken, Some("kv_store.enabled"), "");
                }
                _ => return self.leave(&setting, node, "it must be true or false"),
            },
            "max_caches" => ("max_states", 1..=1_000_000),
            "timeout_seconds" => ("max_age_s", 1..=365 * 86_400),
            "max_cache_size_mb" => ("max_mb", 1..=i64::from(u32::MAX)),
            _ => return self.leave(&setting, node, "there is no such setting for KV states here"),
        };
        match whole(node).filter(|number| bounds.contains(number)) {
            Some(number) => {
                self.set("kv_store", key, &number.into());
                self.note(&setting, node, Outcome::Taken, Some(&format!("kv_store.{key}")), "");
            }
            None => {
                let why = format!("it must be an integer from {} to {}", bounds.start(), bounds.end());
                self.leave(&setting, node, &why);
            }
        }
    }

    /// Requests are put into one batch with every token, so what remains of the old settings is how many.
    fn batches(&mut self, key: &str, node: &Node) {
        const MAX_SLOTS: i64 = 64;
        let off = matches!(&node.yaml, Yaml::Map(entries) if entries.iter().any(|(name, node)| name == "enabled" && node.yaml == Yaml::Bool(false)));
        self.table(key, node, |import, name, node| {
            let setting = format!("{key}.{name}");
            match (name, &node.yaml, whole(node)) {
                ("enabled", Yaml::Bool(true), _) => {
                    import.note(
                        &setting,
                        node,
                        Outcome::Taken,
                        None,
                        "requests of one model are always computed together",
                    );
                }
                ("enabled", Yaml::Bool(false), _) => {
                    import.set("engine", "slots", &1.into());
                    import.note(
                        &setting,
                        node,
                        Outcome::Changed,
                        Some("engine.slots"),
                        "one request at a time of each model",
                    );
                }
                ("max_batch_size", ..) if off => import.leave(&setting, node, "enabled is false"),
                ("max_batch_size", _, Some(size @ 1..)) => {
                    import.set("engine", "slots", &size.min(MAX_SLOTS).into());
                    let (outcome, why) = if size > MAX_SLOTS {
                        (Outcome::Changed, format!("{MAX_SLOTS} at most are computed together, further ones wait"))
                    } else {
                        (Outcome::Taken, "requests of one model that are computed together".to_owned())
                    };
                    import.note(&setting, node, outcome, Some("engine.slots"), &why);
                }
                ("enabled", ..) => import.leave(&setting, node, "it must be true or false"),
                ("max_batch_size", ..) => import.leave(&setting, node, "it must be an integer, 1 or more"),
                _ => import.leave(
                    &setting,
                    node,
                    "batches are put together anew with every token, so there is nothing to wait for",
                ),
            }
        });
    }

    fn model(&mut self, name: &str, node: &Node) {
        let setting = format!("models.{name}");
        let Yaml::Map(entries) = &node.yaml else { return self.leave(&setting, node, "it must be a table") };
        if !is_name(name) {
            return self.leave(&setting, node, "its name is too long, or has characters that no name has");
        }
        let text = |key: &str| entries.iter().find(|(known, _)| known == key).and_then(|(_, node)| text_of(node));
        let filename = text("filename");
        let is_gguf = match text("type") {
            Some(kind) => kind.eq_ignore_ascii_case("gguf"),
            None => filename.is_none_or(|file| file.to_ascii_lowercase().ends_with(".gguf")),
        };
        if !is_gguf {
            let why = "only GGUF files are served; take a GGUF of the model and describe that in a [[model]]";
            return self.leave(&setting, node, why);
        }
        let mut table = format!("\n[[model]]\nid = {}\n", toml_value(&name.into()));
        let from = self.items.len();
        for (key, node) in entries {
            let setting = format!("{setting}.{key}");
            match (key.as_str(), text_of(node)) {
                ("filename", Some(file)) => {
                    table.push_str(&format!("path = {}\n", toml_value(&file.into())));
                    self.note(
                        &setting,
                        node,
                        Outcome::Taken,
                        Some("model.path"),
                        "looked for in the models folders (models.folders)",
                    );
                }
                ("task", Some(task)) => {
                    table.push_str(&format!("tasks = {}\n", toml_value(&Value::from(vec![task]))));
                    self.note(&setting, node, Outcome::Taken, Some("model.tasks"), "");
                }
                ("type", Some(_)) => self.note(&setting, node, Outcome::Taken, Some("model"), ""),
                ("repo_id", Some(repo)) => {
                    let file = filename.unwrap_or("its GGUF file");
                    let why = format!("nothing is downloaded: put {file} of {repo} into a models folder");
                    self.leave(&setting, node, &why);
                }
                ("quantization", Some(_)) => self.leave(&setting, node, "the file itself tells how it is quantized"),
                ("filename" | "task" | "type" | "repo_id" | "quantization", None) => {
                    self.leave(&setting, node, "it must be a text that is not empty");
                }
                _ => self.leave(&setting, node, "this key of a model is not known"),
            }
        }
        if filename.is_none() {
            let why = format!("no file is named, so it is {name}.gguf in the models folders");
            let item = Item {
                setting,
                line: node.line,
                value: Value::Null,
                outcome: Outcome::Changed,
                to: Some("model".to_owned()),
                why,
            };
            self.items.insert(from, item);
        }
        self.models.push_str(&table);
    }

    fn toml(&self, from: &Path) -> String {
        let name = from.display().to_string().replace(char::is_control, " ");
        let mut text =
            format!("# Taken from {name} by `mms config import`. `mms config example` shows every other setting.\n");
        for section in SECTIONS {
            if let Some(lines) = self.sections.get(section) {
                text.push_str(&format!("\n[{section}]\n{lines}"));
            }
        }
        text + &self.models
    }
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control)
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.yaml {
        Yaml::Text(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

fn whole(node: &Node) -> Option<i64> {
    match &node.yaml {
        Yaml::Number(number) => number.as_i64(),
        _ => None,
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare { key.to_owned() } else { toml_value(&key.into()) }
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
