//! The part of the configuration that says which models there are and how each is run.

use std::path::PathBuf;
use std::time::Duration;

use mms_protocol::worker::{
    CacheType, ContextOverflow, EngineSettings, FlashAttention, LoraAdapter, Pooling, Speculation,
};
use serde::{Deserialize, Serialize};

/// How much a model is wanted in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Goes first when memory is short.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Goes last.
    High,
}

impl Priority {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// When an idle model leaves memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleUnload {
    /// Never.
    Never,
    /// After this long without a request.
    After(Duration),
}

/// One `[[model]]` table: a model with settings of its own. Everything but `id` may be left out; what is left out is as in
/// `[engine]`, in the server's defaults, or in the file's header.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Its name in requests.
    pub id: String,
    /// The GGUF file; of a split model any part. A relative path is looked up in the models folders. Without a path the entry is
    /// about the file of that id which was found in the models folders (or about a built-in model).
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Other names for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Seconds of idleness after which it is unloaded; 0: never.
    #[serde(default)]
    pub idle_unload_s: Option<u64>,
    /// Never unloaded for being idle or for making room.
    #[serde(default)]
    pub pinned: bool,
    /// Loaded at the start of the server.
    #[serde(default)]
    pub preload: bool,
    /// How much it is wanted in memory.
    #[serde(default)]
    pub priority: Priority,
    /// Replaces what the header tells: `text_generation`, `chat`, `embedding`.
    #[serde(default)]
    pub capabilities: Option<Vec<String>>,
    /// Kinds of tasks that it is meant for, besides its capabilities.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Replaces the header's chat template (Jinja).
    #[serde(default)]
    pub chat_template: Option<String>,
    /// As in [`EngineSettings`], like all that follow.
    #[serde(default)]
    pub context_length: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub slots: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub batch_size: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub ubatch_size: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub threads: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub threads_batch: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub gpu_layers: Option<i32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub mmap: Option<bool>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub mlock: Option<bool>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub cache_type_k: Option<CacheType>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub cache_type_v: Option<CacheType>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub flash_attention: Option<FlashAttention>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub context_overflow: Option<ContextOverflow>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub context_keep: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub speculation: Option<Speculation>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub draft_tokens: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub kv_store_mb: Option<u32>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub warm_up: Option<bool>,
    /// See [`EngineSettings`].
    #[serde(default)]
    pub pooling: Option<Pooling>,
    /// Adapters that are applied. See [`EngineSettings`].
    #[serde(default)]
    pub lora: Option<Vec<LoraAdapter>>,
}

impl ModelConfig {
    /// The server's engine settings with this model's own in their place.
    pub fn settings(&self, defaults: &EngineSettings) -> EngineSettings {
        EngineSettings {
            context_length: self.context_length.unwrap_or(defaults.context_length),
            slots: self.slots.unwrap_or(defaults.slots),
            batch_size: self.batch_size.unwrap_or(defaults.batch_size),
            ubatch_size: self.ubatch_size.unwrap_or(defaults.ubatch_size),
            threads: self.threads.unwrap_or(defaults.threads),
            threads_batch: self.threads_batch.unwrap_or(defaults.threads_batch),
            gpu_layers: self.gpu_layers.unwrap_or(defaults.gpu_layers),
            mmap: self.mmap.unwrap_or(defaults.mmap),
            mlock: self.mlock.unwrap_or(defaults.mlock),
            cache_type_k: self.cache_type_k.unwrap_or(defaults.cache_type_k),
            cache_type_v: self.cache_type_v.unwrap_or(defaults.cache_type_v),
            flash_attention: self.flash_attention.unwrap_or(defaults.flash_attention),
            context_overflow: self.context_overflow.unwrap_or(defaults.context_overflow),
            context_keep: self.context_keep.unwrap_or(defaults.context_keep),
            speculation: self.speculation.unwrap_or(defaults.speculation),
            draft_tokens: self.draft_tokens.unwrap_or(defaults.draft_tokens),
            kv_store_mb: self.kv_store_mb.unwrap_or(defaults.kv_store_mb),
            warm_up: self.warm_up.unwrap_or(defaults.warm_up),
            pooling: self.pooling.unwrap_or(defaults.pooling),
            lora: self.lora.clone().unwrap_or_else(|| defaults.lora.clone()),
        }
    }

    /// When it leaves memory; `None`: as the server's default says.
    pub fn idle_unload(&self) -> Option<IdleUnload> {
        self.idle_unload_s.map(|seconds| match seconds {
            0 => IdleUnload::Never,
            seconds => IdleUnload::After(Duration::from_secs(seconds)),
        })
    }
}

/// A model that ships with the program. Its file is written by the program before the catalogue is read.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltinModel {
    /// Its name in requests, such as `mms-demo`.
    pub id: String,
    /// Its GGUF file.
    pub path: PathBuf,
}

/// Where models come from.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogueConfig {
    /// Folders that are searched for GGUF files, with their subfolders.
    pub folders: Vec<PathBuf>,
    /// Nobody asked for these folders, so one that does not exist is no mistake.
    pub folders_are_default: bool,
    /// Models with settings of their own.
    pub models: Vec<ModelConfig>,
    /// Models that ship with the program.
    pub builtin: Vec<BuiltinModel>,
    /// How often the folders are looked at.
    pub scan_interval: Duration,
    /// Folders below a models folder that are searched, levels.
    pub max_depth: usize,
    /// GGUF files that are listed at most.
    pub max_files: usize,
}

impl Default for CatalogueConfig {
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            folders_are_default: false,
            models: Vec::new(),
            builtin: Vec::new(),
            scan_interval: Duration::from_secs(2),
            max_depth: 16,
            max_files: 10_000,
        }
    }
}
