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
//!  │ ◀── Heartbeat ───────────────────────┤   each batch step, and every second when idle
//!  ├── Shutdown ────────────────────────▶ │   answered by the end of the process
//! ```

use serde::{Deserialize, Serialize};

use crate::generate::{FinishReason, GenerateSpec, Timings, Usage};

/// Raised with every change that an older peer would misread.
pub const PROTOCOL_VERSION: u32 = 1;

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
    Load(LoadSpec),
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
    /// The prompt was tokenized and has a slot.
    Started {
        /// The generation.
        id: RequestId,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Of them, found in the KV cache.
        cached_tokens: u32,
    },
    /// Whole UTF-8 characters, never a part of a stop string.
    Text {
        /// The generation.
        id: RequestId,
        /// What to append to the answer; not empty.
        text: String,
        /// Tokens generated so far.
        tokens: u32,
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
    },
    /// The last message of an id that did not work.
    Failed {
        /// The generation.
        id: RequestId,
        /// What kind of failure.
        failure: GenerateFailure,
    },
    /// Sent after each batch step and, when idle, every second.
    Heartbeat {
        /// Batch steps since the load.
        steps: u64,
        /// Slots that are prefilling or decoding.
        busy_slots: u32,
        /// Requests without a slot.
        queued: u32,
        /// Tokens held in the KV cache.
        kv_tokens: u32,
    },
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
}

/// Settings of llama.cpp for one model; config key of the same name in `[engine]` and in each `[[model]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Tokens of context for each sequence; 0: what the model was trained with, but at most 4096. Default 0.
    pub context_length: u32,
    /// Sequences that are decoded together, 1 to 64. Default 4.
    pub slots: u32,
    /// Most tokens in one batch step, 1 to 16384. Default 512.
    pub batch_size: u32,
    /// Most tokens llama.cpp computes at once, 1 to `batch_size`. Default 512.
    pub ubatch_size: u32,
    /// Threads for decoding; 0: one for each core, fewer for models of less than 32 MiB for each core. Default 0.
    pub threads: u32,
    /// Threads for prefill; 0: as `threads`. Default 0.
    pub threads_batch: u32,
    /// Layers kept on the GPU; -1: all of them. Without a GPU it has no effect. Default -1.
    pub gpu_layers: i32,
    /// Map the file instead of reading it. Default true.
    pub mmap: bool,
    /// Lock the model into memory. Default false.
    pub mlock: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            context_length: 0,
            slots: 4,
            batch_size: 512,
            ubatch_size: 512,
            threads: 0,
            threads_batch: 0,
            gpu_layers: -1,
            mmap: true,
            mlock: false,
        }
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
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// Milliseconds from `Load` to here.
    pub load_ms: u64,
    /// `cpu`, or the device of the offloaded layers.
    pub device: String,
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
    /// llama.cpp refused the batch, or the worker is at fault.
    Engine {
        /// What happened.
        message: String,
    },
}
