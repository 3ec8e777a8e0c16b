//! From a [`LoadSpec`] to a model with a context, or one line that says why not.

use std::fs::File;
use std::io::Read;
use std::time::Instant;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};
use mms_protocol::engine::{ENCODER_TEXTS, encoder_context_limit};
use mms_protocol::worker::{
    DEFAULT_CONTEXT_LIMIT, DeviceInfo, EngineSettings, FlashAttention, KvStoreSpec, LoadSpec, LoadedInfo, LoraAdapter,
    Pooling, Speculation,
};
use serde::Serialize;

use crate::ability::Ability;
use crate::logging::{Notes, start_notes, take_errors, take_notes};
use crate::memory::{Mapped, program_bytes};
use crate::prompt::Prompter;
use crate::sys::{Adapter, Batch, Context, ContextOptions, VocabularyKind, tensors, vocabulary_kind};

/// A model that answers.
pub(crate) struct Loaded {
    /// Lives as long as the process: a worker hosts one model, and its memory comes back when the process ends.
    pub(crate) model: &'static LlamaModel,
    pub(crate) context: Context<'static>,
    /// Tokens in one batch step at most; at least one for each slot.
    pub(crate) batch: usize,
    /// Guessed tokens in one batch step at most.
    pub(crate) guesses: usize,
    pub(crate) ability: Ability,
    /// What it was loaded with.
    pub(crate) settings: EngineSettings,
    /// Where KV states are kept on disk.
    pub(crate) kv_store: Option<KvStoreSpec>,
    /// What the host is told.
    pub(crate) info: LoadedInfo,
}

/// A model with a context and its adapters; nothing was computed yet.
pub(crate) struct Opened {
    /// As in [`Loaded`].
    pub(crate) model: &'static LlamaModel,
    pub(crate) context: Context<'static>,
    pub(crate) sizes: Sizes,
    pub(crate) ability: Ability,
}

/// Opens the model with `params`, which are [`model_params`] of the settings. The error is one line for a person.
pub(crate) fn open(backend: &LlamaBackend, spec: &LoadSpec, params: &LlamaModelParams) -> Result<Opened, String> {
    start_notes();
    check_file(&spec.path)?;
    let settings = &spec.settings;
    check_settings(settings)?;
    let model = LlamaModel::load_from_file(backend, &spec.path, params)
        .map_err(|error| reason(&take_notes(), &error.to_string()))?;
    let model: &'static LlamaModel = Box::leak(Box::new(model));
    if vocabulary_kind(model) == VocabularyKind::None {
        return Err("the model has no vocabulary, so it cannot read or write text".to_owned());
    }
    let ability = Ability::of(model, settings.pooling)?;
    let sizes = match ability {
        Ability::Decoder { .. } => Sizes::new(settings, model.n_ctx_train(), model.size()),
        Ability::Encoder { .. } => Sizes::of_encoder(settings, model)?,
    };
    sizes.check()?;
    if sizes.context_length > model.n_ctx_train() {
        tracing::warn!(
            context_length = sizes.context_length,
            trained_with = model.n_ctx_train(),
            "the context is longer than the model was trained with; answers may get worse beyond that"
        );
    }
    let mut context = Context::new(model, sizes.options(settings, ability.encodes()))
        .ok_or_else(|| reason(&take_notes(), "llama.cpp made no context for it; is it a model that generates text?"))?;
    apply_adapters(model, &mut context, &settings.lora)?;
    if !settings.lora.is_empty() && !context.reserve() {
        return Err(reason(&take_notes(), "llama.cpp has no memory to compute with these adapters"));
    }
    Ok(Opened { model, context, sizes, ability })
}

/// Loads the model and what turns prompts into its tokens, and tells `progress` how far it is. The error is one line for a person.
pub(crate) fn load(
    backend: &LlamaBackend,
    spec: LoadSpec,
    began: Instant,
    progress: impl FnMut(f32) + 'static,
) -> Result<(Loaded, Prompter), String> {
    let settings = &spec.settings;
    let Opened { model, mut context, sizes, ability } = open(backend, &spec, &model_params(settings, progress))?;
    let memory = context.memory();
    if settings.warm_up {
        // Beside another device, the little in RAM is locked there already.
        if memory.len() == 1 {
            context.take_scratch_memory();
        }
        // An encoder has an output for every token, so this is large.
        if ability.encodes().is_some() && !context.take_outputs() {
            return Err(reason(&take_notes(), "there is no memory for the outputs of the largest batch"));
        }
        warm_up(model, &mut context, sizes.batch)?;
    }
    let prompter = Prompter::new(model, spec.chat_template, sizes.context_length);
    if ability.encodes().is_some() {
        prompter.surrounds()?;
    }
    let info = LoadedInfo {
        context_length: sizes.context_length,
        slots: sizes.slots,
        vocab_size: u32::try_from(model.n_vocab()).unwrap_or(0),
        model_bytes: model.size(),
        mapped_bytes: Mapped::of(model, settings, &spec.path).bytes(),
        program_bytes: program_bytes(&spec.path),
        kv_bytes: memory.iter().map(|share| share.context).sum(),
        load_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        device: device(backend, settings.gpu_layers),
        generates: ability.encodes().is_none(),
        embedding_length: ability.pooling().ok().and_then(|_| u32::try_from(model.n_embd_out()).ok()),
    };
    tracing::info!(
        model = spec.model_id,
        context_length = info.context_length,
        slots = info.slots,
        threads = sizes.threads,
        device = info.device,
        load_ms = info.load_ms,
        "loaded"
    );
    let loaded = Loaded {
        model,
        context,
        batch: sizes.batch as usize,
        guesses: sizes.guesses as usize,
        ability,
        settings: spec.settings,
        kv_store: spec.kv_store,
        info,
    };
    Ok((loaded, prompter))
}

/// Devices that llama.cpp can use, the CPU first.
pub(crate) fn devices() -> Vec<DeviceInfo> {
    let mut devices = list_llama_ggml_backend_devices();
    devices.sort_by_key(|device| device.device_type != LlamaBackendDeviceType::Cpu);
    let mib = |bytes: usize| (bytes >> 20) as u64;
    devices
        .into_iter()
        .map(|device| DeviceInfo {
            name: device.name,
            description: device.description,
            total_mb: mib(device.memory_total),
            free_mb: mib(device.memory_free),
        })
        .collect()
}

/// What llama.cpp would only call "failed to load model".
fn check_file(path: &str) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot read {path}: {error}");
    let mut file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("{path} is not a file"));
    }
    let mut magic = [0; 4];
    match file.read_exact(&mut magic) {
        Ok(()) if &magic == b"GGUF" => Ok(()),
        Ok(()) | Err(_) => Err(format!("{path} is not a GGUF file")),
    }
}

/// Settings that contradict each other.
fn check_settings(settings: &EngineSettings) -> Result<(), String> {
    let EngineSettings { cache_type_v, flash_attention, .. } = settings;
    if cache_type_v.is_quantized() && *flash_attention == FlashAttention::Off {
        return Err(format!(
            "cache_type_v = {} needs flash attention, which flash_attention = off forbids; use auto, or a V cache of f16",
            name(cache_type_v)
        ));
    }
    if let Some(adapter) = settings.lora.iter().find(|adapter| !adapter.scale.is_finite()) {
        return Err(format!("the adapter {} has a scale of {}, which is no number", adapter.path, adapter.scale));
    }
    Ok(())
}

/// A setting's value as the configuration spells it.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn apply_adapters(
    model: &'static LlamaModel,
    context: &mut Context<'static>,
    wanted: &[LoraAdapter],
) -> Result<(), String> {
    let mut adapters = Vec::new();
    for LoraAdapter { path, scale } in wanted {
        let refused = |why: String| format!("the adapter {path} cannot be used: {why}");
        check_file(path).map_err(|why| format!("the adapter cannot be used: {why}"))?;
        take_errors();
        let adapter = Adapter::read(model, path).ok_or_else(|| {
            refused(reason(&Notes { errors: take_errors(), ..Notes::default() }, "llama.cpp does not say why"))
        })?;
        if adapter.waits_for_tokens() {
            return Err(refused("it is an activated adapter, which acts only behind certain tokens".to_owned()));
        }
        adapters.push((adapter, *scale));
    }
    if !adapters.is_empty() && !context.adapt(&adapters) {
        return Err("llama.cpp refused the adapters".to_owned());
    }
    Ok(())
}

/// Computes a few tokens and forgets them, so that weights and buffers are where they will be when the first request comes.
fn warm_up(model: &LlamaModel, context: &mut Context<'static>, batch_size: u32) -> Result<(), String> {
    let mut batch = Batch::default();
    let vocabulary = model.vocab();
    let tokens = [vocabulary.bos(), vocabulary.eos()].into_iter().filter(|token| token.0 >= 0);
    for (position, token) in tokens.chain([LlamaToken(0)]).take(batch_size.min(2) as usize).enumerate() {
        batch.push(token, position, 0, position == 0 || context.options().pooled.is_some());
    }
    let computed = context.decode(&mut batch);
    context.forget(0, 0);
    computed.map_err(|error| {
        format!("the model was loaded but does not compute: {}", reason(&take_notes(), &error.to_string()))
    })
}

/// How llama.cpp is to load the model.
pub(crate) fn model_params(settings: &EngineSettings, mut progress: impl FnMut(f32) + 'static) -> LlamaModelParams {
    let mut told = -1.0_f32;
    let params = LlamaModelParams::default()
        .with_use_mmap(settings.mmap)
        .with_use_mlock(settings.mlock)
        .with_progress_callback(move |fraction| {
            if fraction >= told + 0.01 || (fraction >= 1.0 && told < 1.0) {
                told = fraction;
                progress(fraction);
            }
            true
        });
    match u32::try_from(settings.gpu_layers) {
        Ok(layers) => params.with_n_gpu_layers(layers),
        Err(_negative) => params,
    }
}

/// Settings with their defaults filled in and brought into range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Tokens of one sequence.
    pub(crate) context_length: u32,
    slots: u32,
    batch: u32,
    ubatch: u32,
    threads: u32,
    threads_batch: u32,
    guesses: u32,
}

impl Sizes {
    fn new(settings: &EngineSettings, trained_with: u32, model_bytes: u64) -> Self {
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let slots = settings.slots.clamp(1, 64);
        // Each decoding sequence has its token in every step, so a step must have room for all of them.
        let batch = settings.batch_size.clamp(slots, 16_384);
        let threads = or(settings.threads, default_threads(model_bytes)).min(MOST_THREADS);
        Self {
            context_length: or(settings.context_length, trained_with.clamp(1, DEFAULT_CONTEXT_LIMIT)),
            slots,
            batch,
            ubatch: settings.ubatch_size.clamp(1, batch),
            threads,
            threads_batch: or(settings.threads_batch, threads).min(MOST_THREADS),
            guesses: guesses(settings, slots),
        }
    }

    /// An encoder computes each text in one piece, so a step must have room for the longest; several texts share a step.
    fn of_encoder(settings: &EngineSettings, model: &LlamaModel) -> Result<Self, String> {
        let trained_with = model.n_ctx_train();
        let sizes = Self::new(settings, trained_with, model.size());
        let positions = tensors(model).into_iter().find(|tensor| tensor.name == POSITIONS);
        if positions.is_some() && sizes.context_length > trained_with {
            return Err(format!(
                "context_length = {}, but this encoder has positions for {trained_with} tokens only",
                sizes.context_length
            ));
        }
        let context_length = match settings.context_length {
            0 => sizes.context_length.min(encoder_context_limit(u64::try_from(model.n_vocab()).unwrap_or(0))),
            configured => configured,
        };
        let slots = ENCODER_TEXTS.max(sizes.slots);
        let batch = sizes.batch.max(context_length).max(slots);
        Ok(Self { context_length, slots, batch, ubatch: batch, guesses: 0, ..sizes })
    }

    /// llama.cpp takes minutes, and memory for its own tables, before it notices that a cache cannot be.
    fn check(self) -> Result<(), String> {
        let tokens = u64::from(self.context_length) * u64::from(self.slots);
        if tokens > MOST_CACHED_TOKENS {
            let Self { context_length, slots, .. } = self;
            return Err(format!(
                "{slots} slots with a context of {context_length} tokens each are {tokens} tokens; the limit is {MOST_CACHED_TOKENS}"
            ));
        }
        Ok(())
    }

    fn options(self, settings: &EngineSettings, pooled: Option<Pooling>) -> ContextOptions {
        let (tokens, outputs) = match pooled {
            None => (self.context_length.saturating_mul(self.slots), (self.slots + self.guesses).max(LEAST_OUTPUTS)),
            Some(_) => (self.batch, self.batch),
        };
        ContextOptions {
            tokens,
            sequences: self.slots,
            // No step has more tokens.
            outputs: outputs.min(self.batch),
            pooled,
            batch: self.batch,
            ubatch: self.ubatch,
            threads: self.threads,
            threads_batch: self.threads_batch,
            cache_type_k: settings.cache_type_k,
            cache_type_v: settings.cache_type_v,
            flash_attention: settings.flash_attention,
        }
    }
}

/// Each guess in a batch takes memory for its logits, so that all slots together get what a few of them can use.
fn guesses(settings: &EngineSettings, slots: u32) -> u32 {
    let each = settings.draft_tokens.clamp(1, 64);
    match settings.speculation {
        Speculation::Off => 0,
        Speculation::Auto | Speculation::PromptLookup => (each * slots).min(MOST_SHARED_GUESSES).max(each),
    }
}

const MOST_SHARED_GUESSES: u32 = 32;

/// In a step in which a decoder's embeddings come out, all tokens have outputs, and matrix products want so many at least.
const LEAST_OUTPUTS: u32 = 32;

/// The table of positions; without one, a model can go beyond what it was trained with.
const POSITIONS: &str = "position_embd.weight";

/// Far beyond what any machine holds for a model of use: 32 Mi tokens.
const MOST_CACHED_TOKENS: u64 = 1 << 25;

/// ggml's own limit.
const MOST_THREADS: u32 = 512;
/// A thread is worth its synchronization when it has this much of the model to read for each token. Threads wait for each other
/// after every operation by spinning, so on cores that others use as well, too many of them are far slower than one: the built-in
/// model (3 MB) was measured at 3,600 tokens/s with one thread and 550 to 970 with two on two busy cores.
const LEAST_BYTES_PER_THREAD: u64 = 32 << 20;

/// One thread for each core this process may use, fewer for small models.
fn default_threads(model_bytes: u64) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let worthwhile = u32::try_from(model_bytes / LEAST_BYTES_PER_THREAD).unwrap_or(u32::MAX);
    worthwhile.clamp(1, cores)
}

fn device(backend: &LlamaBackend, gpu_layers: i32) -> String {
    let is_gpu = |kind| matches!(kind, LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu);
    let gpu = list_llama_ggml_backend_devices().into_iter().find(|device| is_gpu(device.device_type));
    match gpu {
        Some(gpu) if gpu_layers != 0 && backend.supports_gpu_offload() => gpu.name,
        Some(_) | None => "cpu".to_owned(),
    }
}

/// llama.cpp's error lines as one: without the names of its functions, without repetitions.
pub(crate) fn reason(notes: &Notes, otherwise: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for line in &notes.errors {
        let said = line.split_once(": ").map_or(line.as_str(), |(_function, said)| said);
        let said = said.strip_prefix("error loading model: ").unwrap_or(said).trim();
        if said != "failed to load model" && !said.is_empty() && !parts.contains(&said) {
            parts.push(said);
        }
    }
    if parts.is_empty() {
        return otherwise.to_owned();
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use mms_protocol::worker::EngineSettings;

    use super::{Notes, Sizes, reason};

    #[test]
    fn sizes_are_brought_into_range() {
        let sizes = Sizes::new(&EngineSettings::default(), 32_768, 1 << 40);
        assert_eq!((sizes.context_length, sizes.slots, sizes.batch, sizes.ubatch), (4096, 4, 512, 512));
        assert!(sizes.threads >= 1);
        assert_eq!(sizes.threads_batch, sizes.threads);
        let small =
            EngineSettings { slots: 8, batch_size: 1, ubatch_size: 512, threads: 3, ..EngineSettings::default() };
        let sizes = Sizes::new(&small, 512, 1 << 20);
        assert_eq!((sizes.context_length, sizes.batch, sizes.ubatch, sizes.threads), (512, 8, 8, 3));
        assert_eq!(sizes.options(&small, None).tokens, 4096);
        assert_eq!(Sizes::new(&EngineSettings::default(), 512, 1 << 20).threads, 1);
    }

    #[test]
    fn a_reason_is_what_llama_said() {
        let errors = [
            "gguf_init_from_file_ptr: invalid magic characters: 'abcd', expected 'GGUF'",
            "llama_model_load: error loading model: tensor 'x' is out of bounds",
            "llama_model_load_from_file_impl: failed to load model",
        ];
        let notes = Notes { errors: errors.map(str::to_owned).to_vec(), ..Notes::default() };
        let expect = "invalid magic characters: 'abcd', expected 'GGUF'; tensor 'x' is out of bounds";
        assert_eq!(reason(&notes, "?"), expect);
        assert_eq!(reason(&Notes::default(), "?"), "?");
    }
}
