//! What `mms` and `mms-worker` say to each other: JSON messages in frames of a 4-byte big-endian length, over a Unix socket pair
//! that the worker finds as its standard input (both directions). The first frame each way is the handshake; a worker of another
//! [`PROTOCOL_VERSION`] is refused with both numbers. The worker ends itself when the socket closes, so it never outlives `mms`.
//!
//! ```text
//! host                                   worker
//!  ├── Hello{protocol_version} ─────────▶ │
//!  │ ◀───────── Hello{protocol_version} ──┤
//!  ├── Load ────────────────────────────▶ │
//!  │ ◀── Loading{fraction} ... ───────────┤
//!  │ ◀── Loaded | LoadFailed ─────────────┤   LoadFailed: the worker ends by itself
//!  ├── Generate{id} / Cancel{id} ───────▶ │
//!  │ ◀── Started, Text ..., Finished ─────┤   or Failed; exactly one last message for each id, also after Cancel
//!  ├── Embed{id} ───────────────────────▶ │
//!  │ ◀── Embedded | Failed ───────────────┤
//!  │ ◀── Heartbeat ───────────────────────┤   each batch step, and every second when idle
//!  ├── Forget{labels} ──────────────────▶ │   KV states of conversations are given up; without an answer
//!  ├── Shutdown ────────────────────────▶ │   KV states go to the store on disk; answered by the end of the process
//! ```
//!
//! A worker that is only to measure gets `Plan` in place of `Load`, answers `Planned` or `LoadFailed`, and ends.

use serde::{Deserialize, Serialize};

pub use crate::engine::{
    CacheType, ContextOverflow, EngineSettings, FlashAttention, LoraAdapter, Pooling, Speculation,
};
use crate::generate::{EmbedSpec, FinishReason, GenerateSpec, Logprob, Timings, ToolCall, Usage};

/// Raised with every change that an older peer would misread.
pub const PROTOCOL_VERSION: u32 = 3;

/// Largest frame either side accepts, bytes.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;

/// Exit code of a worker whose model could not be loaded (the reason went out as [`ToHost::LoadFailed`]).
pub const EXIT_LOAD_FAILED: i32 = 3;
/// Exit code of a worker that could not agree with its host on the protocol.
pub const EXIT_PROTOCOL: i32 = 4;

/// Names one generation on one worker connection; never used twice.
pub type RequestId = u64;

/// From `mms` to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// First message.
    Hello {
        /// [`PROTOCOL_VERSION`] of the host.
        protocol_version: u32,
    },
    /// Load the model; once for each process.
    Load(Box<LoadSpec>),
    /// Say what [`ToWorker::Load`] of the same would take, without taking it; once, in place of it.
    Plan(Box<LoadSpec>),
    /// Compute embeddings; queued when there is no room. Ends with `Embedded` or `Failed`.
    Embed {
        /// Chosen by the host.
        id: RequestId,
        /// What to do.
        spec: Box<EmbedSpec>,
    },
    /// Answer this; queued when every slot is busy.
    Generate {
        /// Chosen by the host.
        id: RequestId,
        /// What to do.
        spec: Box<GenerateSpec>,
    },
    /// Stop working for this id within one batch step. Answered by `Failed{code: cancelled}` unless it has already ended.
    Cancel {
        /// The generation to end.
        id: RequestId,
    },
    /// Give up the KV states of these conversations; what of them is running goes on and leaves none.
    Forget {
        /// Each a [`GenerateSpec::label`].
        labels: Vec<u64>,
    },
    /// End now; running generations are dropped without an answer.
    Shutdown,
}

/// From the worker to `mms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToHost {
    /// First message.
    Hello(WorkerHello),
    /// Load progress.
    Loading {
        /// 0 to 1.
        fraction: f32,
    },
    /// The model is resident and answers.
    Loaded(LoadedInfo),
    /// The model could not be loaded; the process ends.
    LoadFailed {
        /// What llama.cpp or the worker said, one line.
        reason: String,
    },
    /// What a load would take; the process ends.
    Planned(MemoryPlan),
    /// The prompt was tokenized and has a slot.
    Started {
        /// The generation.
        id: RequestId,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Of them, found in the KV cache.
        cached_tokens: u32,
        /// Messages of the history that were left out; see [`GenerateSpec::history`].
        #[serde(default)]
        left_out: u32,
    },
    /// Whole UTF-8 characters, never a part of a stop string.
    Text {
        /// The generation.
        id: RequestId,
        /// What to append to the answer; empty only when there are log probabilities to deliver without a text of their own.
        text: String,
        /// Tokens generated so far.
        tokens: u32,
        /// The tokens of this text, when asked for; those of a tool call are not among them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<Logprob>,
    },
    /// The model has called a tool; its arguments are whole.
    ToolCall {
        /// The generation.
        id: RequestId,
        /// The call.
        call: ToolCall,
        /// Tokens generated so far.
        tokens: u32,
    },
    /// The last message of an [`ToWorker::Embed`] that worked.
    Embedded {
        /// The request.
        id: RequestId,
        /// One for each input, in their order.
        vectors: Vec<Vec<f32>>,
        /// Tokens of all inputs.
        prompt_tokens: u32,
        /// Computing them, milliseconds.
        took_ms: f64,
    },
    /// The last message of an id that worked.
    Finished {
        /// The generation.
        id: RequestId,
        /// Why it ended.
        reason: FinishReason,
        /// Token counts.
        usage: Usage,
        /// Where the time went.
        timings: Timings,
        /// Of an answer in a conversation ([`GenerateSpec::label`]) that is text alone: its tokens.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tokens: Vec<u32>,
    },
    /// The last message of an id that did not work.
    Failed {
        /// The generation.
        id: RequestId,
        /// What kind of failure.
        failure: GenerateFailure,
    },
    /// Sent after each batch step and, when idle, every second.
    Heartbeat(Heartbeat),
}

/// How a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Batch steps since the load.
    pub steps: u64,
    /// Slots that are prefilling or decoding.
    pub busy_slots: u32,
    /// Requests without a slot.
    pub queued: u32,
    /// Tokens held in the KV cache.
    pub kv_tokens: u32,
    /// KV states kept for conversations without a slot, in memory, bytes.
    pub kv_store_bytes: u64,
    /// Of this model on disk, bytes.
    pub kv_store_disk_bytes: u64,
    /// KV states that came back from the store since the load.
    pub kv_restored: u64,
}

/// Who the worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// [`PROTOCOL_VERSION`] of the worker.
    pub protocol_version: u32,
    /// Version of the `mms-worker` program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// llama.cpp's own line about the CPU features it uses (`llama_print_system_info`).
    pub system_info: String,
    /// Devices that llama.cpp can use, `cpu` first.
    pub devices: Vec<DeviceInfo>,
}

/// One compute device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// llama.cpp's name, such as `CPU` or `CUDA0`.
    pub name: String,
    /// A person's name for it.
    pub description: String,
    /// Memory in all, MiB; 0 when unknown.
    pub total_mb: u64,
    /// Memory free now, MiB.
    pub free_mb: u64,
}

/// What to load and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSpec {
    /// The GGUF file; of a split model the first part.
    pub path: String,
    /// The model's id, for log lines.
    pub model_id: String,
    /// Settings of the engine.
    pub settings: EngineSettings,
    /// Replaces the template in the GGUF header.
    pub chat_template: Option<String>,
    /// Where KV states are kept on disk; `None`: nowhere.
    #[serde(default)]
    pub kv_store: Option<KvStoreSpec>,
}

/// Where KV states of conversations are kept on disk, also while their model is not loaded. The folder is shared by all models; what
/// was used longest ago goes first when a bound is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvStoreSpec {
    /// The folder.
    pub folder: String,
    /// Of all models together, MiB.
    pub max_mb: u64,
    /// States of all models together.
    pub max_states: u32,
    /// A state that was not used for so long is removed, seconds.
    pub max_age_s: u64,
    /// Changes whenever the model's file does.
    pub fingerprint: String,
    /// What saving may take when the worker is told to end, milliseconds; 0: nothing is saved then.
    #[serde(default)]
    pub save_within_ms: u64,
}

impl KvStoreSpec {
    /// What the names of the files end with in which the states of a conversation are kept.
    pub fn file_ending(label: u64) -> String {
        format!(".{label:016x}.kv")
    }
}

/// Context that a model without a configured `context_length` gets at most, tokens.
pub const DEFAULT_CONTEXT_LIMIT: u32 = 4096;

/// What the worker found after loading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadedInfo {
    /// Tokens of context for each sequence.
    pub context_length: u32,
    /// Sequences decoded together.
    pub slots: u32,
    /// Size of the vocabulary.
    pub vocab_size: u32,
    /// Bytes of the tensors, as llama.cpp counts them.
    pub model_bytes: u64,
    /// Of them, bytes that are used where the mapped file has them. The others were copied, repacked for the CPU or put on a GPU, and
    /// their pages of the file are not needed any more.
    #[serde(default)]
    pub mapped_bytes: u64,
    /// Pages of other files that are in memory: the program and its libraries; 0: unknown.
    #[serde(default)]
    pub program_bytes: u64,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// Milliseconds from `Load` to here.
    pub load_ms: u64,
    /// `cpu`, or the device of the offloaded layers.
    pub device: String,
    /// It can continue text.
    pub generates: bool,
    /// Length of its embeddings; `None`: it gives none.
    pub embedding_length: Option<u32>,
}

/// What loading a model takes, by llama.cpp's own plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// For each device that gets a part, `cpu` (RAM) among them.
    pub devices: Vec<DevicePlan>,
    /// Memory of the worker beside llama.cpp's buffers: program, tables of the vocabulary; RAM, bytes. The KV store in memory is not
    /// part of it: that is empty after a load.
    pub process_bytes: u64,
    /// Tokens of context for each sequence.
    pub context_length: u32,
}

/// What loading a model takes of one device, bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// `cpu` (RAM), or llama.cpp's name such as `CUDA0`.
    pub device: String,
    /// Tensors; of a mapped file those too, as all of its pages are wanted in memory.
    pub model_bytes: u64,
    /// KV cache.
    pub context_bytes: u64,
    /// Scratch memory of a batch step.
    pub compute_bytes: u64,
}

impl DevicePlan {
    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.model_bytes + self.context_bytes + self.compute_bytes
    }
}

/// Why a generation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum GenerateFailure {
    /// Prompt and at least one new token do not fit into the context of one sequence.
    ContextExceeded {
        /// Length of the prompt.
        prompt_tokens: u32,
        /// Or more: it has so many bytes that its tokens were not counted.
        at_least: bool,
        /// Length of the context.
        context_length: u32,
    },
    /// The host asked for it.
    Cancelled,
    /// The chat template refused these messages.
    Template {
        /// What it said.
        message: String,
    },
    /// Nothing to continue: the prompt has no tokens.
    EmptyPrompt,
    /// The constraint, a tool's schema or a biased token cannot be used.
    Constraint {
        /// Why.
        message: String,
    },
    /// This model does not do that, such as embeddings of a model without, or text of an encoder.
    Unsupported {
        /// What, and what to do.
        message: String,
    },
    /// llama.cpp refused the batch, or the worker is at fault.
    Engine {
        /// What happened.
        message: String,
    },
}
