//! What loading a model is expected to take, from its header and the engine's settings alone. It stands until llama.cpp's own plan
//! is there ([`super::Need`]).
//!
//! ```text
//! n_ctx    = context_length, else min(trained context, 4096)                              tokens of one sequence
//! cells    = n_ctx × slots, rounded up to 256                                             tokens in the KV cache
//! weights  = bytes of all tensors
//! kv       = cells × Σ over layers of heads_kv(layer) × (key_length × bytes_k + value_length × bytes_v)   (by cache type: f16 2)
//! compute  = ubatch × 4 × (4 × embedding + 3 × feed_forward + heads × (key_length + value_length))   (f32 activations)
//!          + ubatch × cells × (4 + 2)                                                     (attention mask, f32 and f16)
//!          + ubatch × cells × heads × 4                                                   (scores, only without flash attention)
//!          + slots × vocabulary × 4 × 2                                                   (logits: computed, and handed out)
//! process  = 24 MiB + vocabulary × 160 bytes                                              (program, token table)
//! ```
//!
//! An encoder has no KV cache and computes texts in one piece: cells and ubatch are the larger of batch and n_ctx, and there are logits
//! and a vector for each of those tokens; its n_ctx has a limit by its vocabulary.
//!
//! Sliding windows and recurrent layers would make the KV cache smaller, so this is an upper bound for such models. Figures that the
//! header does not give count as llama.cpp's own defaults do (`heads_kv = heads`, `key_length = embedding / heads`), else as nothing.

use mms_protocol::engine::encoder_context_limit;
use mms_protocol::worker::{DEFAULT_CONTEXT_LIMIT, EngineSettings, FlashAttention};

use super::MIB;
use crate::gguf::{Header, PerLayer};

/// Expected memory by what it is for, MiB.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// The tensors.
    pub weights_mb: f64,
    /// The KV cache of all sequences.
    pub kv_mb: f64,
    /// Scratch memory of one batch step.
    pub compute_mb: f64,
    /// The worker program and its tables.
    pub process_mb: f64,
    /// Tokens of context that each sequence gets.
    pub n_ctx: u32,
}

impl Estimate {
    /// All of it.
    pub fn total_mb(&self) -> f64 {
        self.weights_mb + self.kv_mb + self.compute_mb + self.process_mb
    }
}

const F16: f64 = 2.0;
const F32: f64 = 4.0;
/// llama.cpp rounds the KV cache up to a multiple of this.
const CELL_STEP: u64 = 256;
/// The worker program with llama.cpp, its threads and its allocator, before any model.
const PROGRAM_MB: f64 = 24.0;
/// Text, score and hash entries of one token.
const VOCABULARY_ENTRY_BYTES: f64 = 160.0;

/// Tokens of context that each sequence gets: the configured number, else what the model was trained with, within a limit.
pub fn context_of(header: &Header, settings: &EngineSettings) -> u32 {
    match settings.context_length {
        0 => {
            let limit =
                if header.is_encoder() { encoder_context_limit(vocabulary(header)) } else { DEFAULT_CONTEXT_LIMIT };
            header.context_length.unwrap_or(DEFAULT_CONTEXT_LIMIT).clamp(1, limit)
        }
        configured => configured,
    }
}

fn vocabulary(header: &Header) -> u64 {
    header.vocab_size.unwrap_or(0)
}

/// What loading the model takes with these settings. Never fails: an unknown figure only makes it less exact.
pub fn estimate(header: &Header, settings: &EngineSettings) -> Estimate {
    let slots = settings.slots.clamp(1, 64);
    let n_ctx = context_of(header, settings);
    let batch = settings.batch_size.clamp(slots, 16_384);
    let vocabulary = vocabulary(header) as f64;
    let shape = Shape::of(header);
    let (cells, ubatch, outputs) = if header.is_encoder() {
        let whole = batch.max(n_ctx);
        (u64::from(whole), f64::from(whole), f64::from(whole) * (vocabulary + shape.embedding) * F32)
    } else {
        let ubatch = f64::from(settings.ubatch_size.clamp(1, batch));
        (u64::from(n_ctx) * u64::from(slots), ubatch, f64::from(slots) * vocabulary * F32 * 2.0)
    };
    let cells = cells.next_multiple_of(CELL_STEP) as f64;

    let activations = ubatch * F32 * (4.0 * shape.embedding + 3.0 * shape.feed_forward + shape.attention);
    let kv_per_token =
        shape.keys_per_token * settings.cache_type_k.bytes() + shape.values_per_token * settings.cache_type_v.bytes();
    let mask = if kv_per_token > 0.0 { ubatch * cells * (F32 + F16) } else { 0.0 };
    let scores = match settings.flash_attention {
        FlashAttention::Off if kv_per_token > 0.0 => ubatch * cells * shape.heads * F32,
        FlashAttention::Off | FlashAttention::On | FlashAttention::Auto => 0.0,
    };
    Estimate {
        weights_mb: header.tensor_bytes as f64 / MIB,
        kv_mb: if header.is_encoder() { 0.0 } else { cells * kv_per_token / MIB },
        compute_mb: (activations + mask + scores + outputs) / MIB,
        process_mb: PROGRAM_MB + vocabulary * VOCABULARY_ENTRY_BYTES / MIB,
        n_ctx,
    }
}

/// Widths that the formulas need.
struct Shape {
    embedding: f64,
    feed_forward: f64,
    /// Queries and results of all heads of one layer.
    attention: f64,
    /// Of the layer that has most.
    heads: f64,
    /// Elements of keys that one token adds, over all layers.
    keys_per_token: f64,
    /// Elements of values.
    values_per_token: f64,
}

impl Shape {
    fn of(header: &Header) -> Self {
        let embedding = f64::from(header.embedding_length.unwrap_or(0));
        let heads = header.head_count.as_ref();
        let most_heads = heads.map_or(0, PerLayer::max);
        let default_width = if most_heads == 0 { 0.0 } else { embedding / f64::from(most_heads) };
        let width = |given: Option<u32>| given.map_or(default_width, f64::from);
        let (key, value) = (width(header.key_length), width(header.value_length));
        let layers = header.block_count.unwrap_or(0) as usize;
        let kv_heads: f64 = match header.head_count_kv.as_ref().or(heads) {
            Some(PerLayer::All(each)) => layers as f64 * f64::from(*each),
            Some(PerLayer::Each(values)) => values.iter().take(layers).copied().map(f64::from).sum(),
            None => 0.0,
        };
        Self {
            embedding,
            feed_forward: header.feed_forward_length.as_ref().map_or(4.0 * embedding, |width| f64::from(width.max())),
            attention: f64::from(most_heads) * (key + value),
            heads: f64::from(most_heads),
            keys_per_token: kv_heads * key,
            values_per_token: kv_heads * value,
        }
    }
}

#[cfg(test)]
mod tests {
    use mms_protocol::worker::{CacheType, EngineSettings, FlashAttention};
    use proptest::prelude::*;

    use super::{Estimate, context_of, estimate};
    use crate::gguf::builder::{Builder, Meta};
    use crate::gguf::{Header, PerLayer};

    fn header(builder: &Builder) -> Header {
        let file = builder.file();
        Header::parse(file.as_slice(), file.len() as u64).unwrap()
    }

    /// Llama 3.1 8B: 32 layers, 32 heads, 8 for keys and values, width 128; 4096 × 4 tokens of f16 are 2 GiB.
    #[test]
    fn the_kv_cache_of_a_known_model() {
        let llama = Builder::llama()
            .key("llama.context_length", 131_072)
            .key("llama.block_count", 32)
            .key("llama.embedding_length", 4096)
            .key("llama.feed_forward_length", 14_336)
            .key("llama.attention.head_count", 32)
            .key("llama.attention.head_count_kv", 8);
        let estimated = estimate(&header(&llama), &EngineSettings::default());
        assert_eq!((estimated.n_ctx, estimated.kv_mb), (4096, 2048.0));
        let wide = llama.clone().key("llama.attention.key_length", 256).key("llama.attention.value_length", 256);
        assert_eq!(estimate(&header(&wide), &EngineSettings::default()).kv_mb, 4096.0);
        let few = vec![Meta::U32(8), Meta::U32(0)];
        let hybrid = llama.clone().key("llama.attention.head_count_kv", Meta::List(4, few));
        assert_eq!(estimate(&header(&hybrid), &EngineSettings::default()).kv_mb, 64.0, "one layer of 32 has attention");
        let one = EngineSettings { context_length: 1000, slots: 1, ..EngineSettings::default() };
        assert_eq!(estimate(&header(&llama), &one).kv_mb, 128.0, "1000 tokens take 1024 cells");
        let mixed = EngineSettings { cache_type_k: CacheType::Q8_0, cache_type_v: CacheType::Q4_0, ..one.clone() };
        assert_eq!(estimate(&header(&llama), &mixed).kv_mb, 64.0 * (34.0 + 18.0) / 64.0);
        let plain = EngineSettings { flash_attention: FlashAttention::Off, ..one.clone() };
        let scores = estimate(&header(&llama), &plain).compute_mb - estimate(&header(&llama), &one).compute_mb;
        assert_eq!(scores, 512.0 * 1024.0 * 32.0 * 4.0 / super::MIB);
    }

    #[test]
    fn the_context_is_the_configured_one_or_a_sensible_one() {
        let small = header(&Builder::llama());
        let settings = |context_length| EngineSettings { context_length, ..EngineSettings::default() };
        assert_eq!(context_of(&small, &settings(0)), 512);
        assert_eq!(context_of(&small, &settings(9000)), 9000);
        assert_eq!(context_of(&Header { context_length: None, ..small.clone() }, &settings(0)), 4096);
        assert_eq!(context_of(&Header { context_length: Some(0), ..small }, &settings(0)), 1);
    }

    #[test]
    fn an_encoder_has_no_kv_cache_and_outputs_for_all_tokens() {
        let bert = Builder::llama().key("llama.attention.causal", Meta::Bool(0)).key("llama.context_length", 8192);
        let encoder = header(&bert);
        let estimated = estimate(&encoder, &EngineSettings::default());
        assert_eq!((estimated.n_ctx, estimated.kv_mb), (4096, 0.0));
        let wordy = |vocab_size| Header { vocab_size: Some(vocab_size), ..encoder.clone() };
        assert_eq!(estimate(&wordy(250_000), &EngineSettings::default()).n_ctx, 512);
        let set = EngineSettings { context_length: 2048, ..EngineSettings::default() };
        assert!(estimate(&wordy(250_000), &set).compute_mb > 2048.0 * 250_000.0 * 4.0 / super::MIB);
    }

    fn is_sane(estimated: &Estimate) -> bool {
        let parts = [estimated.weights_mb, estimated.kv_mb, estimated.compute_mb, estimated.process_mb];
        parts.iter().all(|part| part.is_finite() && *part >= 0.0) && estimated.total_mb() > 0.0
    }

    proptest! {
        #[test]
        fn any_figures_give_a_number(
            figures in proptest::collection::vec(proptest::option::of(any::<u32>()), 7),
            each in proptest::collection::vec(any::<u32>(), 0..40),
            settings in (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()),
        ) {
            let strange = Header {
                context_length: figures[0],
                block_count: figures[1],
                embedding_length: figures[2],
                head_count: figures[3].map(PerLayer::All),
                head_count_kv: figures[4].map(|_| PerLayer::Each(each)),
                key_length: figures[5],
                value_length: figures[6],
                vocab_size: figures[0].map(u64::from),
                ..header(&Builder::llama())
            };
            let (context_length, slots, batch_size, ubatch_size) = settings;
            let settings = EngineSettings { context_length, slots, batch_size, ubatch_size, ..EngineSettings::default() };
            prop_assert!(is_sane(&estimate(&strange, &settings)));
        }
    }
}
