//! How a model is run: the settings that `[engine]` and each `[[model]]` have, and that a worker loads its model with.

use serde::{Deserialize, Serialize};

/// Type of the elements of a KV cache; llama.cpp's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    #[default]
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit blocks: 34 bytes for 32 elements.
    Q8_0,
    /// 5-bit blocks: 24 bytes for 32 elements.
    Q5_1,
    /// 5-bit blocks: 22 bytes for 32 elements.
    Q5_0,
    /// 4-bit blocks: 20 bytes for 32 elements.
    Q4_1,
    /// 4-bit blocks: 18 bytes for 32 elements.
    Q4_0,
    /// 4-bit blocks with a non-linear scale: 18 bytes for 32 elements.
    Iq4Nl,
}

impl CacheType {
    /// Bytes of one element.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::F16 | Self::Bf16 => 2.0,
            Self::Q8_0 => 34.0 / 32.0,
            Self::Q5_1 => 24.0 / 32.0,
            Self::Q5_0 => 22.0 / 32.0,
            Self::Q4_1 => 20.0 / 32.0,
            Self::Q4_0 | Self::Iq4Nl => 18.0 / 32.0,
        }
    }

    /// Stored in blocks of fewer bits.
    pub fn is_quantized(self) -> bool {
        self.bytes() < 2.0
    }
}

/// Whether attention is computed blockwise, without its whole matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlashAttention {
    /// Where llama.cpp finds that the device can.
    #[default]
    Auto,
    /// Always; a model that cannot is not loaded.
    On,
    /// Never; a quantized V cache is then refused.
    Off,
}

/// What happens when a sequence has filled its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextOverflow {
    /// The answer ends with `length`.
    #[default]
    Stop,
    /// The older half of what follows the first `context_keep` tokens is forgotten, and the answer goes on. A prompt that does not
    /// fit is refused all the same.
    Shift,
}

/// Whether tokens are guessed from repetitions in the prompt and the answer so far, and checked several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speculation {
    /// While it is measured to be faster.
    #[default]
    Auto,
    /// Whenever there is a guess.
    PromptLookup,
    /// Never.
    Off,
}

/// Architectures in which a text is computed in one piece and nothing is continued. Not all of their files say that attention is not causal.
pub const ENCODERS: [&str; 9] = [
    "bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "jina-bert-v2",
    "jina-bert-v3",
    "eurobert",
    "modern-bert",
    "gemma-embedding",
];

/// Texts that an encoder computes together at most.
pub const ENCODER_TEXTS: u32 = 32;

/// Most tokens of context that an encoder gets unless it is configured. llama.cpp makes room for logits of each of them, though nobody
/// reads those; they take 512 MiB at most.
pub fn encoder_context_limit(vocabulary: u64) -> u32 {
    let rows = (512 << 20) / (vocabulary.max(1).saturating_mul(4));
    u32::try_from(rows / 256 * 256).unwrap_or(u32::MAX).clamp(512, 4096)
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// As the model's header says; the mean where it says nothing.
    #[default]
    Auto,
    /// The mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

/// A low-rank adapter (LoRA) that is applied to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraAdapter {
    /// Its GGUF file.
    pub path: String,
    /// How strongly it acts. Default 1.
    #[serde(default = "one")]
    pub scale: f32,
}

fn one() -> f32 {
    1.0
}

/// Settings of llama.cpp for one model; config key of the same name in `[engine]` and in each `[[model]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Tokens of context for each sequence; 0: what the model was trained with, but at most 4096, and of an encoder what 512 MiB of
    /// logits hold. Default 0.
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
    /// Type of the keys in the KV cache. Default `f16`.
    pub cache_type_k: CacheType,
    /// Type of the values in the KV cache. Default `f16`.
    pub cache_type_v: CacheType,
    /// Default `auto`.
    pub flash_attention: FlashAttention,
    /// Default `stop`.
    pub context_overflow: ContextOverflow,
    /// Tokens at the beginning that `shift` keeps, such as the system prompt. Default 128.
    pub context_keep: u32,
    /// Default `auto`.
    pub speculation: Speculation,
    /// Most tokens guessed at once, 1 to 64. Default 8.
    pub draft_tokens: u32,
    /// KV states of conversations without a slot that are kept in the worker's memory, MiB; a larger one is not kept. 0: none, on disk
    /// neither. Default 128.
    pub kv_store_mb: u32,
    /// Compute something, and take all scratch memory, before the model counts as loaded, so that the first request finds everything in
    /// memory. Default true.
    pub warm_up: bool,
    /// How embeddings are pooled. Default `auto`.
    pub pooling: Pooling,
    /// Adapters that are applied, in this order. Default none.
    pub lora: Vec<LoraAdapter>,
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
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            flash_attention: FlashAttention::Auto,
            context_overflow: ContextOverflow::Stop,
            context_keep: 128,
            speculation: Speculation::Auto,
            draft_tokens: 8,
            kv_store_mb: 128,
            warm_up: true,
            pooling: Pooling::Auto,
            lora: Vec::new(),
        }
    }
}
