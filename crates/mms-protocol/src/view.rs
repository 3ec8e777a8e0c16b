//! What the server knows and shows: models, memory, health, counters. Front doors never see the manager's own state, only these.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::conversation::ConversationView;
use crate::error::ErrorCode;
use crate::generate::{FinishReason, Logprob, Timings, ToolCall, Usage};
use crate::prediction::PreloadingView;

/// The life of a model as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// In the catalogue, not in memory.
    AvailableNotLoaded,
    /// Waits for memory before it is loaded.
    Queued,
    /// A worker is loading it.
    Loading,
    /// Resident, answers at once.
    Loaded,
    /// Takes no new work; its worker is ending.
    Draining,
    /// Failed repeatedly; tried again later.
    Quarantined,
    /// The file is broken or incomplete and cannot be loaded.
    Broken,
}

impl ModelState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AvailableNotLoaded => "available_not_loaded",
            Self::Queued => "queued",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Draining => "draining",
            Self::Quarantined => "quarantined",
            Self::Broken => "broken",
        }
    }
}

/// KV states that a model keeps for conversations without a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct KvView {
    /// In memory, bytes.
    pub ram_bytes: u64,
    /// On disk, bytes.
    pub disk_bytes: u64,
    /// Conversations that went on from one since the load.
    pub restored: u64,
}

/// One model of the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelView {
    /// Its name in requests.
    pub model_id: String,
    /// The GGUF file; of a split model the first part.
    pub model_path: String,
    /// State.
    pub status: ModelState,
    /// Why, for a person: the fault of a broken or quarantined model, the progress of a loading one; else empty.
    pub message: String,
    /// 0 to 1 while loading.
    pub load_fraction: Option<f32>,
    /// Seconds since its load began, while loading.
    pub load_elapsed_s: Option<f64>,
    /// Seconds until it will probably be resident, while loading; from its progress, else from its last load.
    pub load_remaining_s: Option<f64>,
    /// `general.architecture` of the header, such as `llama`.
    pub architecture: String,
    /// Weights in all, counted from the tensors.
    pub parameters: u64,
    /// Such as `Q4_K_M`; from `general.file_type`, else from the tensors.
    pub quantization: String,
    /// Context the model was trained with, tokens.
    pub context_length: u32,
    /// Context each sequence gets when loaded, tokens.
    pub n_ctx: u32,
    /// Layers of the model.
    pub layers: u32,
    /// Layers to be put on the GPU; -1: all.
    pub n_gpu_layers: i32,
    /// Whether the header has a chat template.
    pub chat_template: bool,
    /// `text_generation`, `chat`, `embedding`.
    pub capabilities: Vec<String>,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Memory that loading is expected to take, MiB, over all devices.
    pub estimated_mb: f64,
    /// `plan`: llama.cpp's own figures; `header`: an upper bound from the file's header, until the plan is there.
    pub estimate_source: &'static str,
    /// Memory that the worker process was measured to need, MiB; only when loaded.
    pub measured_mb: Option<f64>,
    /// What was measured less what was estimated, MiB, without KV states that were put aside since the load; only when loaded.
    pub estimate_error_mb: Option<f64>,
    /// Of the measured memory, pages of the mapped file that the kernel can drop and read again, MiB.
    pub reclaimable_mb: Option<f64>,
    /// KV states of conversations without a slot; only when loaded.
    pub kv: Option<KvView>,
    /// Where the memory is, MiB for each device; only when something is held.
    pub held_by_device: BTreeMap<String, f64>,
    /// Where it was measured, MiB for each device; only when loaded.
    pub measured_by_device: BTreeMap<String, f64>,
    /// Where it is or would be loaded.
    pub device: String,
    /// `high`, `medium` or `low`.
    pub priority: String,
    /// Never unloaded for being idle.
    pub pinned: bool,
    /// It was loaded by guess, and nobody has asked for it yet.
    pub preloaded: bool,
    /// Ships with the program.
    pub builtin: bool,
    /// Seconds of idleness after which it is unloaded; `None`: never.
    pub idle_unload_s: Option<u64>,
    /// Epoch seconds at which it is unloaded if nobody asks for it until then; `None`: not resident, busy, or never.
    pub expires_at: Option<f64>,
    /// Epoch seconds of the last request.
    pub last_used: Option<f64>,
    /// Requests running in the worker.
    pub active_requests: u32,
    /// Requests waiting for it.
    pub queued_requests: u32,
    /// Sequences decoded together.
    pub slots: u32,
    /// Milliseconds that the last load took.
    pub load_ms: Option<u64>,
    /// Process id of the worker.
    pub worker_pid: Option<u32>,
}

impl ModelView {
    /// Resident and answering.
    pub fn is_loaded(&self) -> bool {
        self.status == ModelState::Loaded
    }

    /// Memory that counts as its own now, MiB, over all devices: the larger of reserved and measured; 0 when nothing is held.
    pub fn held_mb(&self) -> f64 {
        match self.status {
            ModelState::Loading | ModelState::Loaded | ModelState::Draining if !self.held_by_device.is_empty() => {
                self.held_by_device.values().sum()
            }
            ModelState::Loading | ModelState::Loaded | ModelState::Draining => {
                self.measured_mb.unwrap_or(self.estimated_mb)
            }
            ModelState::AvailableNotLoaded | ModelState::Queued | ModelState::Quarantined | ModelState::Broken => 0.0,
        }
    }
}

/// The memory budget of the device that models are loaded on, MiB.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct MemoryView {
    /// `cpu` (then memory is RAM) or `cuda`.
    pub device: String,
    /// Memory of the device in all.
    pub total_mb: f64,
    /// What models may take together.
    pub budget_mb: f64,
    /// What models hold or have reserved.
    pub used_mb: f64,
    /// The same for each device, the one above first; RAM is `cpu`.
    pub devices: Vec<DeviceMemory>,
}

/// The memory budget of one device, MiB.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct DeviceMemory {
    /// `cpu` (RAM), or such as `CUDA0`.
    pub device: String,
    /// In all.
    pub total_mb: f64,
    /// What models may take together.
    pub budget_mb: f64,
    /// What models hold or have reserved.
    pub used_mb: f64,
    /// What the device could give now, whoever holds the rest.
    pub available_mb: f64,
}

impl MemoryView {
    /// What is left of the budget, MiB.
    pub fn free_mb(&self) -> f64 {
        (self.budget_mb - self.used_mb).max(0.0)
    }
}

/// What became of the events for one stream since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamFigures {
    /// Acknowledged by the stream.
    pub published: u64,
    /// Of them, those that the stream had already, from an earlier try.
    pub duplicates: u64,
    /// Given up: too many waited, or the server takes none that large.
    pub dropped: u64,
    /// Waiting now.
    pub waiting: u64,
    /// Bytes of those.
    pub waiting_bytes: u64,
}

/// One line of the health board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// Such as `main_port`, `evaluation_store`.
    pub name: String,
    /// Works.
    pub ok: bool,
    /// Without it the server is not ready; otherwise its failure only degrades.
    pub required: bool,
    /// What was found, for a person.
    pub detail: String,
}

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthLevel {
    /// Ready, nothing to report.
    Ok,
    /// Ready, but something optional does not work.
    Degraded,
    /// Not ready.
    Error,
}

impl HealthLevel {
    /// The word on the health port.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Error => "error",
        }
    }
}

/// Everything about the server's health.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthView {
    /// Name of the agent, such as `ModelManagerSuite`.
    pub agent: String,
    /// Version of the program.
    pub version: String,
    /// The suite's own client has had an answer through every published address lately.
    pub ready: bool,
    /// Start-up is complete (a later loss of readiness does not undo it).
    pub initialized: bool,
    /// Shutting down.
    pub draining: bool,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Every check.
    pub checks: Vec<HealthCheck>,
    /// Memory.
    pub memory: MemoryView,
    /// Models.
    pub models: Arc<[Arc<ModelView>]>,
    /// Counters.
    pub stats: Stats,
}

impl HealthView {
    /// `error` when not ready, `degraded` when an optional check fails or a model is quarantined.
    pub fn level(&self) -> HealthLevel {
        let quarantined = self.models.iter().any(|model| model.status == ModelState::Quarantined);
        if !self.ready {
            HealthLevel::Error
        } else if quarantined || self.checks.iter().any(|check| !check.ok) {
            HealthLevel::Degraded
        } else {
            HealthLevel::Ok
        }
    }

    /// One line for a person.
    pub fn message(&self) -> String {
        let failing: Vec<String> = self
            .checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| format!("{}: {}", check.name, check.detail))
            .collect();
        if self.draining {
            "draining: no new work is taken".to_owned()
        } else if !self.ready && failing.is_empty() {
            "starting".to_owned()
        } else if failing.is_empty() {
            "ready".to_owned()
        } else {
            failing.join("; ")
        }
    }

    /// Resident models.
    pub fn loaded(&self) -> impl Iterator<Item = &Arc<ModelView>> {
        self.models.iter().filter(|model| model.is_loaded())
    }
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Requests answered, refusals included.
    pub requests: u64,
    /// Requests refused.
    pub errors: u64,
    /// Requests for embeddings that ended well.
    pub embeddings: u64,
    /// Models that had to go for another one.
    pub evictions: u64,
    /// Generations that ended well.
    pub generations: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens that they produced.
    pub completion_tokens: u64,
    /// Loads that ended well.
    pub models_loaded: u64,
    /// Workers ended on purpose.
    pub models_unloaded: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Workers that died.
    pub worker_deaths: u64,
    /// Generations started again after their worker died.
    pub retries: u64,
    /// Rows written to `performance_metrics`.
    pub performance_logs: u64,
    /// Rows written to `model_evaluation_scores`.
    pub trust_score_updates: u64,
    /// Predictions answered.
    pub predictions_made: u64,
    /// Uses of models that were counted for predictions.
    pub usage_records: u64,
}

/// What one model was asked for and gave since the server's start; answers under way and those that nobody waited for are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    /// Generations and embeddings that were asked of it.
    pub requests: u64,
    /// Of them, those that were refused or failed.
    pub errors: u64,
    /// Tokens of prompts that it began with.
    pub prompt_tokens: u64,
    /// Of them, found in the KV cache.
    pub cached_tokens: u64,
    /// Tokens that it has generated so far.
    pub completion_tokens: u64,
}

/// A request that was refused lately.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecentError {
    /// Epoch seconds.
    pub at: f64,
    /// Of what was asked for; `none` where that cannot be told.
    pub operation: &'static str,
    /// The model that it was about, when it is known.
    pub model_id: Option<String>,
    /// What kind.
    pub code: ErrorCode,
    /// For a person; cut off when it is long.
    pub message: String,
}

/// What `get_stats` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatsView {
    /// Counters, uptime, models.
    pub health: HealthView,
    /// What models of the catalogue were asked for, by id; those that were asked for nothing are left out.
    pub traffic: BTreeMap<String, Traffic>,
    /// The last ones, oldest first.
    pub recent_errors: Vec<RecentError>,
    /// What came of loading models before they are asked for.
    pub preloading: PreloadingView,
}

/// What `status` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusView {
    /// Health, models and memory.
    pub health: HealthView,
    /// Preference → the model that it means now.
    pub routing_policy: BTreeMap<String, String>,
    /// Preference → the models that are configured for it, in order.
    pub routing_models: BTreeMap<String, Vec<String>>,
    /// What came of loading models before they are asked for.
    pub preloading: PreloadingView,
}

/// A generation that ended well.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generation {
    /// The model that answered.
    pub model_id: String,
    /// Why it was this one, when the caller left that to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The answer.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went in the worker.
    pub timings: Timings,
    /// From the request's arrival to its first text, waiting and loading included, milliseconds.
    pub first_token_ms: Option<f64>,
    /// From the request's arrival to its end, milliseconds.
    pub total_ms: f64,
    /// As given in the request.
    pub conversation_id: Option<String>,
    /// What became of that conversation; `None`: there is none, or none are kept.
    #[serde(skip)]
    pub conversation: Option<ConversationView>,
    /// Of an answer in a conversation: its tokens, to go on from.
    #[serde(skip)]
    pub tokens: Vec<u32>,
    /// Tools that the model called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// For each token, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Logprob>,
}

/// Embeddings that were computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Embedding {
    /// The model that computed them.
    pub model_id: String,
    /// One for each input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
    /// From the request's arrival to its end, milliseconds.
    pub total_ms: f64,
}
