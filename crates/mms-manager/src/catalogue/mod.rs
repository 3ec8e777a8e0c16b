//! The catalogue: every model the server knows, whether it can be loaded or not. A [`Catalogue`] never changes; a scan that finds a
//! difference makes a new one ([`crate::scan`]).
//!
//! A model comes from a file in the models folders, from a `[[model]]` table of the configuration, from both together, or with the
//! program. Its id is the file's path below the models folder without `.gguf` (and, of a split model, without `-00001-of-00003`):
//! `name`, or `sub/name` in a subfolder. So no id depends on what other files there are, and none changes when one comes. In requests
//! the bare `name` will do as long as only one model has it ([`crate::routing`]). Ids are told apart by case.
//!
//! Two rules for what is left: a `[[model]]` table without a path whose id is the bare name of a single file gives it that id; and a
//! file whose id is taken, by the configuration, by the built-in model or by an earlier models folder, has its models folder's name put
//! in front.

mod compose;
mod config;
mod naming;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use mms_protocol::worker::EngineSettings;

pub use compose::{FileState, Observed, Place, SeenFile, Stamp, compose};
pub use config::{BuiltinModel, CatalogueConfig, IdleUnload, ModelConfig, Priority};
pub use naming::{PartName, part_file_name, part_name};
pub(crate) use naming::{bare, is_model_file};

use crate::gguf::Header;
use crate::routing::task_name;

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file in the models folders.
    Folder,
    /// A `[[model]]` table.
    Config,
    /// Ships with the program.
    Builtin,
}

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEntry {
    /// Its name in requests.
    pub id: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// The GGUF file; of a split model the first part.
    pub path: PathBuf,
    /// All its files.
    pub files: Vec<PathBuf>,
    /// Bytes of all its files.
    pub file_bytes: u64,
    /// Differs whenever a file was replaced or its content changed; a new time alone changes nothing.
    pub fingerprint: u64,
    /// What its header says; `None` when no header could be read.
    pub header: Option<Arc<Header>>,
    /// Why it cannot be loaded; `None`: it can.
    pub broken: Option<String>,
    /// The reason is that a file of it is being written to.
    pub writing: bool,
    /// Settings it is loaded with.
    pub settings: EngineSettings,
    /// `text_generation`, `chat`, `embedding`, and the tasks that the configuration names.
    pub capabilities: Vec<String>,
    /// Replaces the header's chat template.
    pub chat_template: Option<String>,
    /// When it leaves memory; `None`: as the server's default says.
    pub idle_unload: Option<IdleUnload>,
    /// Never unloaded for being idle or for making room.
    pub pinned: bool,
    /// Loaded at the start of the server.
    pub preload: bool,
    /// How much it is wanted in memory.
    pub priority: Priority,
}

impl ModelEntry {
    /// Ships with the program.
    pub fn is_builtin(&self) -> bool {
        self.origin == Origin::Builtin
    }

    fn resolve(mut self, config: Option<&ModelConfig>, engine: &EngineSettings) -> Self {
        let default = ModelConfig::default();
        let config = config.unwrap_or(&default);
        self.settings = config.settings(engine);
        if self.header.as_ref().is_some_and(|header| header.is_encoder()) {
            // Nothing of it is ever continued.
            self.settings.kv_store_mb = 0;
        }
        self.aliases.extend(config.aliases.iter().cloned());
        self.chat_template = config.chat_template.clone();
        self.idle_unload = config.idle_unload();
        self.pinned = config.pinned;
        self.preload = config.preload;
        self.priority = config.priority;
        let told = self.header.as_ref().map(|header| capabilities(header, config.chat_template.is_some()));
        self.capabilities = config.capabilities.clone().or(told).unwrap_or_default();
        for task in config.tasks.iter().map(|task| task_name(task)) {
            if !self.capabilities.contains(&task) {
                self.capabilities.push(task);
            }
        }
        self
    }
}

fn capabilities(header: &Header, configured_template: bool) -> Vec<String> {
    let words: &[&str] = if header.is_embedding() {
        &["embedding"]
    } else if header.is_encoder() {
        &[]
    } else if configured_template || header.chat_template.is_some() {
        &["text_generation", "chat"]
    } else {
        &["text_generation"]
    };
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Every model at one moment, and what was noticed while looking for them.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    entries: Vec<Arc<ModelEntry>>,
    names: HashMap<String, usize>,
    warnings: Vec<String>,
}

/// What differs between two catalogues; ids, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Only in the newer one.
    pub added: Vec<String>,
    /// In both, but not equal.
    pub changed: Vec<String>,
    /// Only in the older one.
    pub removed: Vec<String>,
}

impl Changes {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Catalogue {
    /// A catalogue of these models. A name that two models claim belongs to the one whose id it is, else to the first by id; the
    /// other claim becomes a warning.
    fn new(mut entries: Vec<ModelEntry>, mut warnings: Vec<String>) -> Self {
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        let mut names: HashMap<String, usize> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            names.insert(entry.id.clone(), index);
        }
        for (index, entry) in entries.iter().enumerate() {
            for alias in &entry.aliases {
                let owner = *names.entry(alias.clone()).or_insert(index);
                if owner != index {
                    let holder = &entries[owner].id;
                    warnings.push(format!("model {}: the alias {alias} already belongs to {holder}", entry.id));
                }
            }
        }
        Self { entries: entries.into_iter().map(Arc::new).collect(), names, warnings }
    }

    /// All models, sorted by id.
    pub fn entries(&self) -> &[Arc<ModelEntry>] {
        &self.entries
    }

    /// The model of this id or alias.
    pub fn get(&self, name: &str) -> Option<&Arc<ModelEntry>> {
        self.entries.get(*self.names.get(name)?)
    }

    /// What was noticed that concerns no single model, or a model that is not listed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What a newer catalogue has that this one has not, and the other way round.
    pub fn changes_to(&self, newer: &Self) -> Changes {
        let by_id = |catalogue: &Self, id: &str| {
            let found = catalogue.entries.binary_search_by(|entry| entry.id.as_str().cmp(id)).ok();
            found.map(|index| Arc::clone(&catalogue.entries[index]))
        };
        let ids: BTreeSet<&str> = self.entries.iter().chain(&newer.entries).map(|entry| entry.id.as_str()).collect();
        let mut changes = Changes::default();
        for id in ids {
            match (by_id(self, id), by_id(newer, id)) {
                (Some(old), Some(new)) if old != new => changes.changed.push(id.to_owned()),
                (None, Some(_)) => changes.added.push(id.to_owned()),
                (Some(_), None) => changes.removed.push(id.to_owned()),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        changes
    }
}
