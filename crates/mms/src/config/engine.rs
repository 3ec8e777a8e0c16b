//! How models are run: `[engine]`, and the same keys in each `[[model]]`.

use std::path::PathBuf;

use mms_manager::catalogue::{ModelConfig, Priority};
use mms_protocol::worker::{CacheType, ContextOverflow, EngineSettings, FlashAttention, Pooling, Speculation};

use super::reader::{Reader, Section};
use super::sections::DAY_S;
use super::value::{Adapter, Choice, Integer, List, Maybe, Path, Switch, Text};

/// The worker program and its settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EngineConfig {
    /// The program; `None`: beside this one.
    pub worker: Option<PathBuf>,
    /// For models without settings of their own.
    pub settings: EngineSettings,
}

const PRIORITIES: Choice<Priority> =
    Choice(&[("low", Priority::Low), ("medium", Priority::Medium), ("high", Priority::High)]);
const CAPABILITIES: Choice<&str> =
    Choice(&[("text_generation", "text_generation"), ("chat", "chat"), ("embedding", "embedding")]);
const CONTEXT_LENGTH: Integer<u32> = Integer(0..=(1 << 22));
const SLOTS: Integer<u32> = Integer(1..=64);
const BATCH: Integer<u32> = Integer(1..=16384);
const THREADS: Integer<u32> = Integer(0..=1024);
const GPU_LAYERS: Integer<i32> = Integer(-1..=1_000_000);
const AS_ENGINE: &str = "As in [engine], for this model.";
const CACHE_TYPES: Choice<CacheType> = Choice(&[
    ("f32", CacheType::F32),
    ("f16", CacheType::F16),
    ("bf16", CacheType::Bf16),
    ("q8_0", CacheType::Q8_0),
    ("q5_1", CacheType::Q5_1),
    ("q5_0", CacheType::Q5_0),
    ("q4_1", CacheType::Q4_1),
    ("q4_0", CacheType::Q4_0),
    ("iq4_nl", CacheType::Iq4Nl),
]);
const FLASH_ATTENTION: Choice<FlashAttention> =
    Choice(&[("auto", FlashAttention::Auto), ("on", FlashAttention::On), ("off", FlashAttention::Off)]);
const OVERFLOW: Choice<ContextOverflow> = Choice(&[("stop", ContextOverflow::Stop), ("shift", ContextOverflow::Shift)]);
const SPECULATION: Choice<Speculation> =
    Choice(&[("auto", Speculation::Auto), ("prompt_lookup", Speculation::PromptLookup), ("off", Speculation::Off)]);
const POOLING: Choice<Pooling> =
    Choice(&[("auto", Pooling::Auto), ("mean", Pooling::Mean), ("cls", Pooling::Cls), ("last", Pooling::Last)]);
const CONTEXT_KEEP: Integer<u32> = Integer(0..=(1 << 22));
const DRAFT_TOKENS: Integer<u32> = Integer(1..=64);
const KV_STORE_MB: Integer<u32> = Integer(0..=(1 << 20));

/// Every `[[model]]`.
pub(super) fn read_entries(reader: &mut Reader<'_>) -> Vec<ModelConfig> {
    (0..reader.count("model")).map(|number| read_entry(&mut reader.element("model", number))).collect()
}

fn read_entry(section: &mut Section<'_, '_>) -> ModelConfig {
    let id = section.key("id", "Name of the model in requests. Required.").read(Maybe(Text), None);
    if id.is_none() {
        section.mistake("model.id is missing or wrong: give the model a name");
    }
    let path = section
        .key(
            "path",
            "The GGUF file; of a split model any part. A relative path is looked up in the models folders. When not set: the file \
             of that id in the models folders.",
        )
        .read(Maybe(Path), None);
    ModelConfig {
        id: id.unwrap_or_default(),
        path,
        aliases: section.key("aliases", "Other names for it.").read(List(Text), Vec::new()),
        idle_unload_s: section
            .key(
                "idle_unload_s",
                "Idleness after which it is unloaded, seconds; 0: never. When not set: as in [models].",
            )
            .read(Maybe(Integer(0..=365 * DAY_S)), None)
            .map(u64::from),
        pinned: section.key("pinned", "Never unloaded for being idle or to make room.").read(Switch, false),
        preload: section.key("preload", "Loaded when the server starts.").read(Switch, false),
        priority: section
            .key("priority", "How much it is wanted in memory when that is short.")
            .read(PRIORITIES, Priority::Medium),
        capabilities: section
            .key("capabilities", "What it is for. When not set: as its file tells.")
            .read(Maybe(List(CAPABILITIES)), None)
            .map(|words| words.into_iter().map(str::to_owned).collect()),
        tasks: section
            .key(
                "tasks",
                "Kinds of tasks that it is meant for, such as code-generation; it is chosen for them before others.",
            )
            .read(List(Text), Vec::new()),
        chat_template: section
            .key("chat_template", "A Jinja template in place of the one in the file.")
            .read(Maybe(Text), None),
        context_length: section.key("context_length", AS_ENGINE).read(Maybe(CONTEXT_LENGTH), None),
        slots: section.key("slots", AS_ENGINE).read(Maybe(SLOTS), None),
        batch_size: section.key("batch_size", AS_ENGINE).read(Maybe(BATCH), None),
        ubatch_size: section.key("ubatch_size", AS_ENGINE).read(Maybe(BATCH), None),
        threads: section.key("threads", AS_ENGINE).read(Maybe(THREADS), None),
        threads_batch: section.key("threads_batch", AS_ENGINE).read(Maybe(THREADS), None),
        gpu_layers: section.key("gpu_layers", AS_ENGINE).read(Maybe(GPU_LAYERS), None),
        mmap: section.key("mmap", AS_ENGINE).read(Maybe(Switch), None),
        mlock: section.key("mlock", AS_ENGINE).read(Maybe(Switch), None),
        cache_type_k: section.key("cache_type_k", AS_ENGINE).read(Maybe(CACHE_TYPES), None),
        cache_type_v: section.key("cache_type_v", AS_ENGINE).read(Maybe(CACHE_TYPES), None),
        flash_attention: section.key("flash_attention", AS_ENGINE).read(Maybe(FLASH_ATTENTION), None),
        context_overflow: section.key("context_overflow", AS_ENGINE).read(Maybe(OVERFLOW), None),
        context_keep: section.key("context_keep", AS_ENGINE).read(Maybe(CONTEXT_KEEP), None),
        speculation: section.key("speculation", AS_ENGINE).read(Maybe(SPECULATION), None),
        draft_tokens: section.key("draft_tokens", AS_ENGINE).read(Maybe(DRAFT_TOKENS), None),
        kv_store_mb: section.key("kv_store_mb", AS_ENGINE).read(Maybe(KV_STORE_MB), None),
        warm_up: section.key("warm_up", AS_ENGINE).read(Maybe(Switch), None),
        pooling: section.key("pooling", AS_ENGINE).read(Maybe(POOLING), None),
        lora: section.key("lora", AS_ENGINE).read(Maybe(List(Adapter)), None),
    }
}

/// A model's own batch sizes must agree with each other, whichever of them it has from `[engine]`.
pub(super) fn check_batches(reader: &mut Reader<'_>, entries: &[ModelConfig], engine: &EngineConfig) {
    for (number, entry) in entries.iter().enumerate() {
        let settings = entry.settings(&engine.settings);
        let own = entry.batch_size.is_some() || entry.ubatch_size.is_some();
        check_batch(&mut reader.element("model", number), &settings, own);
    }
}

fn check_batch(section: &mut Section<'_, '_>, settings: &EngineSettings, own: bool) {
    let EngineSettings { batch_size, ubatch_size, .. } = settings;
    if own && ubatch_size > batch_size {
        section.mistake(format!("ubatch_size ({ubatch_size}) must not be larger than batch_size ({batch_size})"));
    }
}

impl EngineConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut section = reader.section("engine");
        let default = EngineSettings::default();
        let engine = Self {
            worker: section
                .key("worker", "The program mms-worker. When not set: the one beside mms.")
                .variable("MMS_WORKER")
                .read(Maybe(Path), None),
            settings: EngineSettings {
                context_length: section
                    .key(
                        "context_length",
                        "Context of each sequence, tokens; 0: what the model was trained with, but at most 4096.",
                    )
                    .read(CONTEXT_LENGTH, default.context_length),
                slots: section
                    .key("slots", "Sequences that are decoded together; further requests wait.")
                    .read(SLOTS, default.slots),
                batch_size: section.key("batch_size", "Most tokens in one batch step.").read(BATCH, default.batch_size),
                ubatch_size: section
                    .key("ubatch_size", "Most tokens that are computed at once; at most batch_size.")
                    .read(BATCH, default.ubatch_size),
                threads: section
                    .key("threads", "Threads for decoding; 0: one for each core, fewer for very small models.")
                    .read(THREADS, default.threads),
                threads_batch: section
                    .key("threads_batch", "Threads for reading prompts; 0: as threads.")
                    .read(THREADS, default.threads_batch),
                gpu_layers: section
                    .key("gpu_layers", "Layers kept on the GPU; -1: all. Without a GPU it has no effect.")
                    .read(GPU_LAYERS, default.gpu_layers),
                mmap: section.key("mmap", "Map the model file instead of reading it.").read(Switch, default.mmap),
                mlock: section.key("mlock", "Lock the model into memory.").read(Switch, default.mlock),
                cache_type_k: section
                    .key("cache_type_k", "Type of the keys in the KV cache; smaller types take less memory.")
                    .read(CACHE_TYPES, default.cache_type_k),
                cache_type_v: section
                    .key("cache_type_v", "Type of the values in the KV cache; a quantized one needs flash attention.")
                    .read(CACHE_TYPES, default.cache_type_v),
                flash_attention: section
                    .key("flash_attention", "Attention without its whole matrix; auto: where llama.cpp can.")
                    .read(FLASH_ATTENTION, default.flash_attention),
                context_overflow: section
                    .key(
                        "context_overflow",
                        "When an answer has filled the context: stop ends it, shift forgets the older half and goes on.",
                    )
                    .read(OVERFLOW, default.context_overflow),
                context_keep: section
                    .key("context_keep", "Tokens at the beginning that shift keeps, such as the system prompt.")
                    .read(CONTEXT_KEEP, default.context_keep),
                speculation: section
                    .key(
                        "speculation",
                        "Guess tokens from repetitions and check several at once; auto: while it is measured to be faster.",
                    )
                    .read(SPECULATION, default.speculation),
                draft_tokens: section
                    .key("draft_tokens", "Most tokens guessed at once.")
                    .read(DRAFT_TOKENS, default.draft_tokens),
                kv_store_mb: section
                    .key(
                        "kv_store_mb",
                        "KV states of conversations without a slot kept in memory, MiB for each model; a larger one is not kept. 0: none, on disk neither.",
                    )
                    .read(KV_STORE_MB, default.kv_store_mb),
                warm_up: section
                    .key("warm_up", "Compute something, and take all scratch memory, before a model counts as loaded.")
                    .read(Switch, default.warm_up),
                pooling: section
                    .key("pooling", "How the vectors of a text's tokens become its embedding; auto: as the file says, else the mean.")
                    .read(POOLING, default.pooling),
                lora: section
                    .key("lora", "LoRA adapters that are applied, each a GGUF file or \"FILE:SCALE\".")
                    .read(List(Adapter), default.lora),
            },
        };
        check_batch(&mut section, &engine.settings, true);
        engine
    }
}
