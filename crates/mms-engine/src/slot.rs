//! A slot: one sequence of the KV cache and the request it works for.
//!
//! ```text
//!            assign                 last token of the prompt computed
//!   Idle ──────────────▶ Prefilling ─────────────────────────────────▶ Decoding
//!    ▲                       │                                            │
//!    └───────────────────────┴──── finished, cancelled or failed ─────────┘
//! ```
//!
//! Or it is `Embedding`: an input, whose vector is all that is wanted, has it, and leaves it empty.
//!
//! `cached` is in every state exactly what the KV cache holds for the sequence; it outlives the request, for the next one to build on.

use std::sync::Arc;
use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use mms_protocol::generate::{Timings, Usage};
use mms_protocol::worker::RequestId;

use crate::output::Output;
use crate::plan::{Need, Share};
use crate::sampling::Chooser;
use crate::speculate::Luck;
use crate::sys::Batch;

/// One sequence.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Tokens whose KV is present, from position 0.
    pub(crate) cached: Vec<LlamaToken>,
    /// After the context was shifted: as many tokens at the beginning have the KV that they would have without it. The others still
    /// carry what was forgotten, which is right for this answer and wrong for any other.
    pub(crate) exact: Option<usize>,
    /// No more tokens than this at the beginning may share their place in the KV cache with another slot.
    pub(crate) shared: usize,
    /// Tokens that are computed with the next step although they are only guessed.
    pub(crate) guesses: Vec<LlamaToken>,
    /// Grows with every use of any slot.
    pub(crate) last_used: u64,
    /// The conversation whose tokens these are.
    pub(crate) label: Option<u64>,
    pub(crate) work: Work,
}

/// What a slot does.
#[derive(Debug, Default)]
pub(crate) enum Work {
    #[default]
    Idle,
    /// `cached` is a beginning of the prompt.
    Prefilling(Box<Job>),
    /// `next` was sampled and sent; its KV is not there yet.
    Decoding { job: Box<Job>, next: LlamaToken },
    /// `cached` is a beginning of the text, or empty where there is no KV cache.
    Embedding(Box<Text>),
}

/// An input for an embedding.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) request: RequestId,
    /// Of the input in its request.
    pub(crate) place: usize,
    pub(crate) tokens: Vec<LlamaToken>,
    /// Place in the order of admission.
    pub(crate) order: u64,
    /// So many tokens at the beginning are no part of the vector, and computed as those of prompts are.
    pub(crate) silent: usize,
    /// Of the vectors of tokens so far.
    pub(crate) sum: Vec<f32>,
}

/// A request that has a slot.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: RequestId,
    pub(crate) prompt: Vec<LlamaToken>,
    /// Place in the order of admission.
    pub(crate) order: u64,
    pub(crate) chooser: Chooser,
    pub(crate) output: Output,
    /// Control tokens that the output is to see the text of.
    pub(crate) shown: Arc<[LlamaToken]>,
    /// The answer, where it is to be known.
    pub(crate) spoken: Option<Vec<u32>>,
    /// Log probabilities are wanted, and of so many of the likeliest tokens.
    pub(crate) logprobs: Option<usize>,
    /// Tokens that may be generated.
    pub(crate) limit: usize,
    pub(crate) generated: usize,
    pub(crate) kept: usize,
    pub(crate) came: Instant,
    pub(crate) assigned: Instant,
    pub(crate) first_token: Option<Instant>,
    /// How well guessing goes, and what came of it.
    pub(crate) luck: Luck,
    pub(crate) drafted: usize,
    pub(crate) accepted: usize,
}

impl Slot {
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.work, Work::Idle)
    }

    /// The beginning that others may build on.
    pub(crate) fn reusable(&self) -> &[LlamaToken] {
        &self.cached[..self.exact.map_or(self.cached.len(), |exact| exact.min(self.cached.len()))]
    }

    pub(crate) fn job(&self) -> Option<&Job> {
        match &self.work {
            Work::Idle | Work::Embedding(_) => None,
            Work::Prefilling(job) | Work::Decoding { job, .. } => Some(job),
        }
    }

    /// Ends the work; what is cached stays.
    pub(crate) fn take_job(&mut self) -> Option<Box<Job>> {
        match std::mem::take(&mut self.work) {
            Work::Idle | Work::Embedding(_) => None,
            Work::Prefilling(job) | Work::Decoding { job, .. } => Some(job),
        }
    }

    /// What it needs of a step in which answers are sampled.
    pub(crate) fn need(&self) -> Option<Need> {
        match &self.work {
            Work::Idle => None,
            Work::Embedding(text) => {
                let remaining = text.silent.saturating_sub(self.cached.len());
                (remaining > 0).then_some(Need::Prefill { remaining, order: text.order })
            }
            Work::Prefilling(job) => {
                Some(Need::Prefill { remaining: job.prompt.len() - self.cached.len(), order: job.order })
            }
            Work::Decoding { .. } => Some(Need::Decode { guesses: self.guesses.len() }),
        }
    }

    /// Appends the slot's share of a step to the batch.
    pub(crate) fn fill(&self, share: Share, batch: &mut Batch) {
        let from = self.cached.len();
        match &self.work {
            Work::Idle => {}
            Work::Prefilling(job) => {
                for (offset, &token) in job.prompt[from..from + share.tokens].iter().enumerate() {
                    batch.push(token, from + offset, share.slot, share.output && offset + 1 == share.tokens);
                }
            }
            Work::Decoding { next, .. } => {
                let tokens = std::iter::once(next).chain(&self.guesses).take(share.tokens);
                for (offset, &token) in tokens.enumerate() {
                    batch.push(token, from + offset, share.slot, share.output);
                }
            }
            Work::Embedding(text) => {
                let is_silent = from < text.silent;
                for (offset, &token) in text.tokens[from..from + share.tokens].iter().enumerate() {
                    batch.push(token, from + offset, share.slot, !is_silent);
                }
            }
        }
    }

    /// The share was computed: its KV is there now. Guesses do not count before they turn out to be right.
    pub(crate) fn computed(&mut self, share: Share) {
        match &self.work {
            Work::Idle => {}
            Work::Prefilling(job) => {
                let from = self.cached.len();
                self.cached.extend_from_slice(&job.prompt[from..from + share.tokens]);
            }
            Work::Decoding { next, .. } => self.cached.push(*next),
            Work::Embedding(text) => {
                let from = self.cached.len();
                self.cached.extend_from_slice(&text.tokens[from..from + share.tokens]);
            }
        }
    }
}

impl Job {
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: count(self.prompt.len()),
            completion_tokens: count(self.generated),
            cached_tokens: count(self.kept),
        }
    }

    /// The first token belongs to the prompt's time, the others to the answer's.
    pub(crate) fn timings(&self, now: Instant) -> Timings {
        let milliseconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        let first = self.first_token.unwrap_or(now);
        let predicted_ms = milliseconds(first, now);
        let after_first = self.generated.saturating_sub(1) as f64;
        Timings {
            queue_ms: milliseconds(self.came, self.assigned),
            prompt_ms: milliseconds(self.assigned, first),
            predicted_ms,
            predicted_per_second: if predicted_ms > 0.0 { after_first / predicted_ms * 1e3 } else { 0.0 },
            drafted_tokens: count(self.drafted),
            accepted_tokens: count(self.accepted),
        }
    }
}

/// A token count for the wire.
pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
