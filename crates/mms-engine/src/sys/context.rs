//! A llama.cpp context for several sequences, with a thread pool that stays.
//!
//! `llama-cpp-2`'s own context hides its pointer, so it can neither be given a thread pool (without one, ggml starts and joins
//! threads for every single token) nor be told how many tokens of a batch have outputs (without that, it reserves logits for every
//! token of a batch: 250 MiB for a vocabulary of 128,000).

use std::marker::PhantomData;
use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_sys_2 as ll;
use mms_protocol::engine::{CacheType, FlashAttention, Pooling};

use super::adapter::Adapter;

/// What a context is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContextOptions {
    /// Tokens in the KV cache, over all sequences.
    pub(crate) tokens: u32,
    /// Sequences in the KV cache, numbered from 0.
    pub(crate) sequences: u32,
    /// Tokens of one batch that have outputs, at most.
    pub(crate) outputs: u32,
    pub(crate) batch: u32,
    pub(crate) ubatch: u32,
    pub(crate) threads: u32,
    pub(crate) threads_batch: u32,
    pub(crate) cache_type_k: CacheType,
    pub(crate) cache_type_v: CacheType,
    pub(crate) flash_attention: FlashAttention,
    /// Texts are computed in one piece, each in a sequence of its own, and pooled like this. `None`: text is continued, and the vectors
    /// of single tokens can be had.
    pub(crate) pooled: Option<Pooling>,
}

/// Why llama.cpp did not compute a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Nothing was computed and nothing changed.
    #[error("the KV cache has no room for the batch")]
    NoKvRoom,
    /// The sequences of the batch are in an unknown state.
    #[error("llama_decode failed with code {0}")]
    Failed(i32),
}

/// Tokens for one call of llama_decode; reused from step to step.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    tokens: Vec<ll::llama_token>,
    positions: Vec<ll::llama_pos>,
    sequences: Vec<ll::llama_seq_id>,
    sequence_counts: Vec<i32>,
    sequence_pointers: Vec<*mut ll::llama_seq_id>,
    outputs: Vec<i8>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.outputs.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Appends one token; `output` asks for its logits.
    pub(crate) fn push(&mut self, token: LlamaToken, position: usize, sequence: usize, output: bool) {
        self.tokens.push(token.0);
        self.positions.push(clamp(position));
        self.sequences.push(clamp(sequence));
        self.outputs.push(i8::from(output));
    }

    fn as_raw(&mut self) -> ll::llama_batch {
        self.sequence_counts.clear();
        self.sequence_counts.resize(self.tokens.len(), 1);
        self.sequence_pointers.clear();
        self.sequence_pointers.extend(self.sequences.iter_mut().map(std::ptr::from_mut));
        ll::llama_batch {
            n_tokens: clamp(self.tokens.len()),
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.sequence_counts.as_mut_ptr(),
            seq_id: self.sequence_pointers.as_mut_ptr(),
            logits: self.outputs.as_mut_ptr(),
        }
    }
}

/// The KV cache and compute buffers of one model. Used by one thread.
#[derive(Debug)]
pub(crate) struct Context<'model> {
    raw: NonNull<ll::llama_context>,
    pool: Pool,
    pool_batch: Option<Pool>,
    options: ContextOptions,
    vocabulary: usize,
    width: usize,
    model: PhantomData<&'model LlamaModel>,
}

impl<'model> Context<'model> {
    /// `None` when llama.cpp refuses; its log says why.
    pub(crate) fn new(model: &'model LlamaModel, options: ContextOptions) -> Option<Self> {
        // SAFETY: no preconditions.
        let mut params = unsafe { ll::llama_context_default_params() };
        params.n_ctx = options.tokens;
        params.n_seq_max = options.sequences;
        params.n_outputs_max = options.outputs;
        params.n_batch = options.batch;
        params.n_ubatch = options.ubatch;
        params.n_threads = clamp(options.threads as usize);
        params.n_threads_batch = clamp(options.threads_batch as usize);
        params.type_k = ggml_type(options.cache_type_k);
        params.type_v = ggml_type(options.cache_type_v);
        params.flash_attn_type = match options.flash_attention {
            FlashAttention::Auto => ll::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => ll::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Off => ll::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        params.embeddings = options.pooled.is_some();
        params.pooling_type = options.pooled.map_or(ll::LLAMA_POOLING_TYPE_NONE, pooling_type);
        params.kv_unified = true;
        params.no_perf = true;
        // SAFETY: the model pointer is valid for 'model. llama_init_from_model writes to the model only under its own lock-free
        // rule of one thread at a time, and the worker makes exactly one context, on one thread.
        let raw = NonNull::new(unsafe { ll::llama_init_from_model(model_pointer(model), params) })?;
        // SAFETY: `raw` is a valid context.
        if options.pooled.is_none() && unsafe { ll::llama_get_memory(raw.as_ptr()) }.is_null() {
            // SAFETY: `raw` is ours and unused from here on.
            unsafe { ll::llama_free(raw.as_ptr()) };
            return None;
        }
        let pool = Pool::new(options.threads)?;
        let pool_batch =
            if options.threads_batch == options.threads { None } else { Some(Pool::new(options.threads_batch)?) };
        let batch_pointer = pool_batch.as_ref().map_or(std::ptr::null_mut(), |pool| pool.0.as_ptr());
        // SAFETY: the pools live in the returned value and are freed after the context (see Drop and the order of fields).
        unsafe { ll::llama_attach_threadpool(raw.as_ptr(), pool.0.as_ptr(), batch_pointer) };
        let vocabulary = usize::try_from(model.n_vocab()).unwrap_or(0);
        let width = clamp_to_usize(model.n_embd_out());
        Some(Self { raw, pool, pool_batch, options, vocabulary, width, model: PhantomData })
    }

    /// Applies these adapters, each with its strength, in place of those before.
    pub(crate) fn adapt(&mut self, adapters: &[(Adapter<'model>, f32)]) -> bool {
        let mut pointers: Vec<_> = adapters.iter().map(|(adapter, _)| adapter.as_ptr()).collect();
        let mut scales: Vec<f32> = adapters.iter().map(|(_, scale)| *scale).collect();
        // SAFETY: both arrays have as many entries as said and are copied during the call; the adapters live as long as the model.
        unsafe {
            let count = pointers.len();
            ll::llama_set_adapters_lora(self.raw.as_ptr(), pointers.as_mut_ptr(), count, scales.as_mut_ptr()) == 0
        }
    }

    /// Computes the batch. It must not be longer than the `batch` option.
    pub(crate) fn decode(&mut self, batch: &mut Batch) -> Result<(), DecodeError> {
        // llama.cpp ends the process on both of these, so they are checked here.
        let outputs = batch.outputs.iter().filter(|output| **output != 0).count();
        if batch.len() > self.options.batch as usize || outputs > self.options.outputs as usize {
            return Err(DecodeError::Failed(-1));
        }
        // SAFETY: all arrays of the batch have n_tokens entries and outlive the call; sequence ids are checked by llama.cpp.
        match unsafe { ll::llama_decode(self.raw.as_ptr(), batch.as_raw()) } {
            0 => Ok(()),
            1 => Err(DecodeError::NoKvRoom),
            code => Err(DecodeError::Failed(code)),
        }
    }

    /// Lets at most this many threads compute from now on; never more than the context was made with.
    pub(crate) fn use_threads(&mut self, most: u32) {
        let threads = |made_with: u32| clamp(made_with.min(most) as usize);
        // SAFETY: no batch is being computed, since that needs `&mut self` as well.
        unsafe {
            let (single, batch) = (threads(self.options.threads), threads(self.options.threads_batch));
            ll::llama_set_n_threads(self.raw.as_ptr(), single, batch);
        }
    }

    /// What it was made with.
    pub(crate) fn options(&self) -> ContextOptions {
        self.options
    }

    /// Length of embeddings.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Tokens that there are.
    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub(super) fn as_ptr(&self) -> *mut ll::llama_context {
        self.raw.as_ptr()
    }

    /// The larger of the two numbers of threads.
    pub(crate) fn most_threads(&self) -> u32 {
        self.options.threads.max(self.options.threads_batch)
    }

    /// Logits of the batch's token at `index`, if it was pushed with `output`.
    pub(crate) fn logits(&mut self, index: usize) -> Option<&[f32]> {
        // SAFETY: an index without logits gives NULL; otherwise there are `vocabulary` floats, which stay until the next decode,
        // and that needs `&mut self` as well.
        unsafe {
            let logits = ll::llama_get_logits_ith(self.raw.as_ptr(), clamp(index));
            (!logits.is_null()).then(|| std::slice::from_raw_parts(logits, self.vocabulary))
        }
    }

    /// Whether the next batches give the vectors of their tokens, all of which must then have outputs. Not for pooled contexts.
    pub(crate) fn give_vectors(&mut self, give: bool) {
        // SAFETY: the context is valid and computes nothing, since that needs `&mut self` as well.
        unsafe { ll::llama_set_embeddings(self.raw.as_ptr(), give) };
    }

    /// The vector of the batch's token at `index`.
    pub(crate) fn token_vector(&mut self, index: usize) -> Option<&[f32]> {
        // SAFETY: an index without a vector gives NULL; otherwise there are `width` floats, which stay until the next decode.
        unsafe {
            let vector = ll::llama_get_embeddings_ith(self.raw.as_ptr(), clamp(index));
            (!vector.is_null()).then(|| std::slice::from_raw_parts(vector, self.width))
        }
    }

    /// The vector of the text that was in the batch as `sequence`, of a pooled context.
    pub(crate) fn text_vector(&mut self, sequence: usize) -> Option<&[f32]> {
        // SAFETY: as in `token_vector`.
        unsafe {
            let vector = ll::llama_get_embeddings_seq(self.raw.as_ptr(), clamp(sequence));
            (!vector.is_null()).then(|| std::slice::from_raw_parts(vector, self.width))
        }
    }

    /// Forgets what `sequence` holds from position `from` on. False: this model can only forget a sequence as a whole.
    pub(crate) fn forget(&mut self, sequence: usize, from: usize) -> bool {
        // SAFETY: without a memory there is nothing to do, and llama.cpp sees that; the sequence is below n_seq_max by construction of the slots.
        unsafe { ll::llama_memory_seq_rm(ll::llama_get_memory(self.raw.as_ptr()), clamp(sequence), clamp(from), -1) }
    }

    /// Lets `to`, which must be empty, share the first `length` positions of `from`. With the unified cache nothing is copied.
    pub(crate) fn share(&mut self, from: usize, to: usize, length: usize) {
        // SAFETY: as in `forget`.
        unsafe {
            let memory = ll::llama_get_memory(self.raw.as_ptr());
            ll::llama_memory_seq_cp(memory, clamp(from), clamp(to), 0, clamp(length));
        }
    }

    /// Positions can be changed afterwards.
    pub(crate) fn can_shift(&self) -> bool {
        // SAFETY: as in `forget`; it only reads.
        unsafe { ll::llama_memory_can_shift(ll::llama_get_memory(self.raw.as_ptr())) }
    }

    /// Forgets `count` positions of `sequence` from `from` on and moves up what follows them. What it moves must not be shared with
    /// another sequence, and the memory must be one that can shift. False: nothing has changed.
    pub(crate) fn shift(&mut self, sequence: usize, from: usize, count: usize) -> bool {
        // SAFETY: as in `forget`.
        unsafe {
            let memory = ll::llama_get_memory(self.raw.as_ptr());
            let done = ll::llama_memory_seq_rm(memory, clamp(sequence), clamp(from), clamp(from + count));
            if done {
                ll::llama_memory_seq_add(memory, clamp(sequence), clamp(from + count), -1, -clamp(count));
            }
            done
        }
    }

    /// Whether what `sequence` holds suffices to go on after its first `length` positions. Models with a sliding window forget what
    /// has left it, and cannot go back.
    pub(crate) fn can_continue_at(&self, sequence: usize, length: usize) -> bool {
        // SAFETY: as in `forget`; the model outlives the context; both only read.
        let (window, first) = unsafe {
            let memory = ll::llama_get_memory(self.raw.as_ptr());
            let window = ll::llama_model_n_swa(ll::llama_get_model(self.raw.as_ptr()));
            (window, ll::llama_memory_seq_pos_min(memory, clamp(sequence)))
        };
        window <= 0 || first <= (clamp(length) - window).max(0)
    }

    /// What [`Context::save`] of a sequence of `length` tokens gives can be cut to so many tokens and any larger number, once it is
    /// restored. Of a sliding window, only what the next token needs is saved.
    pub(crate) fn saved_cut_from(&self, length: usize) -> usize {
        // SAFETY: the model outlives the context; it only reads.
        let window = unsafe { ll::llama_model_n_swa(ll::llama_get_model(self.raw.as_ptr())) };
        if window <= 0 || length <= clamp_to_usize(window) { 0 } else { length }
    }

    /// Bytes that [`Context::save`] needs for `sequence`.
    pub(crate) fn state_bytes(&mut self, sequence: usize) -> usize {
        // SAFETY: the context is valid; sequences are as in `forget`.
        unsafe { ll::llama_state_seq_get_size(self.raw.as_ptr(), clamp(sequence)) }
    }

    /// What the memory holds for `sequence`. `None`: llama.cpp could not say.
    pub(crate) fn save(&mut self, sequence: usize) -> Option<Vec<u8>> {
        let mut state = vec![0; self.state_bytes(sequence)];
        // SAFETY: the buffer has as many bytes as it is said to have.
        let written = unsafe {
            ll::llama_state_seq_get_data(self.raw.as_ptr(), state.as_mut_ptr(), state.len(), clamp(sequence))
        };
        (written > 0 && written == state.len()).then_some(state)
    }

    /// Makes `sequence` hold what was saved, and nothing else. False: llama.cpp refuses it, and the sequence is empty.
    pub(crate) fn restore(&mut self, sequence: usize, state: &[u8]) -> bool {
        self.forget(sequence, 0);
        // SAFETY: llama.cpp reads no more than the bytes it is given, and checks that they fit this context.
        let read =
            unsafe { ll::llama_state_seq_set_data(self.raw.as_ptr(), state.as_ptr(), state.len(), clamp(sequence)) };
        if read == 0 {
            self.forget(sequence, 0);
        }
        read > 0
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: the context is ours; the thread pools are fields and are dropped after this.
        unsafe { ll::llama_free(self.raw.as_ptr()) };
        tracing::debug!(pools = 1 + usize::from(self.pool_batch.is_some()), pool = ?self.pool, "context freed");
    }
}

#[derive(Debug)]
struct Pool(NonNull<ll::ggml_threadpool>);

impl Pool {
    fn new(threads: u32) -> Option<Self> {
        // SAFETY: ggml copies the parameters during the call.
        unsafe {
            let mut params = ll::ggml_threadpool_params_default(clamp(threads as usize));
            NonNull::new(ll::ggml_threadpool_new(&raw mut params)).map(Self)
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: ours, and the context that used it is gone.
        unsafe { ll::ggml_threadpool_free(self.0.as_ptr()) };
    }
}

fn ggml_type(cache: CacheType) -> ll::ggml_type {
    match cache {
        CacheType::F32 => ll::GGML_TYPE_F32,
        CacheType::F16 => ll::GGML_TYPE_F16,
        CacheType::Bf16 => ll::GGML_TYPE_BF16,
        CacheType::Q8_0 => ll::GGML_TYPE_Q8_0,
        CacheType::Q5_1 => ll::GGML_TYPE_Q5_1,
        CacheType::Q5_0 => ll::GGML_TYPE_Q5_0,
        CacheType::Q4_1 => ll::GGML_TYPE_Q4_1,
        CacheType::Q4_0 => ll::GGML_TYPE_Q4_0,
        CacheType::Iq4Nl => ll::GGML_TYPE_IQ4_NL,
    }
}

fn pooling_type(pooling: Pooling) -> ll::llama_pooling_type {
    match pooling {
        Pooling::Auto | Pooling::Mean => ll::LLAMA_POOLING_TYPE_MEAN,
        Pooling::Cls => ll::LLAMA_POOLING_TYPE_CLS,
        Pooling::Last => ll::LLAMA_POOLING_TYPE_LAST,
    }
}

/// Whether the model continues text or is an encoder alone: no encoder that a decoder listens to, no diffusion.
pub(crate) fn continues_text(model: &LlamaModel) -> bool {
    let model = model_pointer(model);
    // SAFETY: the pointer is valid while the model is borrowed; the three functions only read.
    unsafe {
        ll::llama_model_has_decoder(model)
            && !ll::llama_model_has_encoder(model)
            && !ll::llama_model_is_diffusion(model)
    }
}

/// The pointer inside a [`LlamaModel`], which `llama-cpp-2` keeps to itself.
pub(super) fn model_pointer(model: &LlamaModel) -> *mut ll::llama_model {
    const { assert!(size_of::<LlamaModel>() == size_of::<*mut ll::llama_model>()) };
    // SAFETY: LlamaModel is `repr(transparent)` over a `repr(transparent)` non-null pointer in the version of llama-cpp-2 that the
    // workspace pins exactly.
    unsafe { *std::ptr::from_ref(model).cast::<*mut ll::llama_model>() }
}

fn clamp_to_usize(n: i32) -> usize {
    usize::try_from(n).unwrap_or(0)
}

pub(super) fn clamp(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
