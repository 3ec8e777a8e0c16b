//! One batch step: plan, compute, sample, send.

use std::time::Instant;

use mms_protocol::generate::FinishReason;
use mms_protocol::worker::{GenerateFailure, ToHost};

use super::Engine;
use crate::logprobs::logprob;
use crate::output::Event;
use crate::plan::{Need, Share, plan};
use crate::sampling::ChooseError;
use crate::slot::{Work, count};
use crate::sys::{DecodeError, processor_time};
use crate::tools;

impl Engine {
    /// Computes one step for all slots that work on answers; there may be none.
    pub(super) fn step(&mut self) {
        self.make_room();
        self.propose();
        self.plan();
        if self.scratch.shares.is_empty() {
            return;
        }
        let shares = std::mem::take(&mut self.scratch.shares);
        let began = Instant::now();
        self.crowd.step_begins(self.began.elapsed(), processor_time());
        match self.decode() {
            Ok(()) => {
                self.steps += 1;
                self.note_time(&shares, began);
                let mut first = 0;
                for &share in &shares {
                    match self.slots[share.slot].work {
                        Work::Decoding { .. } => self.check_guesses(share, first),
                        Work::Embedding(_) => self.slots[share.slot].computed(share),
                        Work::Prefilling(_) | Work::Idle => {
                            self.slots[share.slot].computed(share);
                            if share.output {
                                self.sample(share.slot, first + share.tokens - 1);
                            }
                        }
                    }
                    first += share.tokens;
                }
            }
            Err(error) => {
                tracing::error!(%error, tokens = self.scratch.batch.len(), "a batch failed; its requests end");
                for share in &shares {
                    self.drop_failed(share.slot, GenerateFailure::Engine { message: error.to_string() });
                }
            }
        }
        self.scratch.shares = shares;
        self.send();
    }

    fn plan(&mut self) {
        let scratch = &mut self.scratch;
        scratch.needs.clear();
        scratch.needs.extend(self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.need()?))));
        let answers = scratch.needs.iter().filter(|(_, need)| matches!(need, Need::Decode { .. })).count();
        let prefill = self.pace.prefill_budget(answers);
        plan(&scratch.needs, self.loaded.batch, prefill, &mut scratch.shares);
        scratch.batch.clear();
        for &share in &scratch.shares {
            self.slots[share.slot].fill(share, &mut scratch.batch);
        }
    }

    /// The cache has room for every slot's full context, so a refusal for want of room is unexpected; giving up what idle slots
    /// hold is tried before any request fails.
    pub(super) fn decode(&mut self) -> Result<(), DecodeError> {
        match self.loaded.context.decode(&mut self.scratch.batch) {
            Err(DecodeError::NoKvRoom) => {
                tracing::warn!("no room in the KV cache; forgetting what idle slots hold");
                for slot in 0..self.slots.len() {
                    if self.slots[slot].is_idle() {
                        self.cut(slot, 0);
                    }
                }
                self.loaded.context.decode(&mut self.scratch.batch)
            }
            result => result,
        }
    }

    fn note_time(&mut self, shares: &[Share], began: Instant) {
        let is_prefill =
            |share: &&Share| matches!(self.slots[share.slot].work, Work::Prefilling(_) | Work::Embedding(_));
        let prefill = shares.iter().filter(is_prefill).map(|share| share.tokens).sum();
        let took = began.elapsed();
        self.pace.record(self.scratch.batch.len(), prefill, took);
        if prefill == 0 {
            self.embed_pace.record(self.scratch.batch.len(), 0, took);
            self.gauge.record(shares.len(), self.scratch.batch.len() - shares.len(), took);
        }
        if let Some(threads) = self.crowd.step_ended(self.began.elapsed(), processor_time(), self.scratch.batch.len()) {
            tracing::debug!(threads, "threads follow the load of the machine");
            self.loaded.context.use_threads(threads);
        }
    }

    /// Takes the next token of `slot` from the logits of the batch's token at `index`.
    pub(super) fn sample(&mut self, slot: usize, index: usize) {
        let (mut job, was_prefilling) = match std::mem::take(&mut self.slots[slot].work) {
            Work::Prefilling(job) => (job, true),
            Work::Decoding { job, .. } => (job, false),
            other @ (Work::Idle | Work::Embedding(_)) => {
                self.slots[slot].work = other;
                return;
            }
        };
        let scratch = &mut self.scratch;
        let Some(logits) = self.loaded.context.logits(index) else {
            self.slots[slot].work = Work::Prefilling(job);
            return self.drop_failed(slot, ChooseError::NoLogits.into());
        };
        let token = match job.chooser.choose(logits, &mut scratch.candidates) {
            Ok(token) => token,
            Err(error) => {
                self.slots[slot].work = Work::Prefilling(job);
                return self.drop_failed(slot, error.into());
            }
        };
        let now = Instant::now();
        if was_prefilling {
            job.first_token = Some(now);
        }

        let vocabulary = self.loaded.model.vocab();
        let finish = if vocabulary.is_eog(token) {
            Some(FinishReason::Stop)
        } else {
            job.generated += 1;
            if let (Some(spoken), Ok(id)) = (&mut job.spoken, u32::try_from(token.0)) {
                spoken.push(id);
            }
            scratch.piece.clear();
            vocabulary.token_to_piece_into(token, &mut scratch.piece, job.shown.contains(&token), None);
            let logprob = job.logprobs.map(|most| logprob(logits, token, most, &vocabulary));
            let is_stopped = job.output.push(&scratch.piece, logprob, &mut scratch.events);
            if is_stopped || job.chooser.is_complete() {
                Some(FinishReason::Stop)
            } else if job.generated >= job.limit {
                Some(FinishReason::Length)
            } else {
                None
            }
        };
        if finish.is_some() {
            job.output.finish(&mut scratch.events);
        }
        let finish = match finish {
            Some(FinishReason::Stop) if job.output.has_called() => Some(FinishReason::ToolCalls),
            other => other,
        };
        let tokens = count(job.generated);
        for event in scratch.events.drain(..) {
            scratch.said.push(match event {
                Event::Text { text, logprobs } => ToHost::Text { id: job.id, text, tokens, logprobs },
                Event::Call { name, arguments } => {
                    ToHost::ToolCall { id: job.id, call: tools::call(name, arguments), tokens }
                }
            });
        }
        match finish {
            None => self.slots[slot].work = Work::Decoding { job, next: token },
            Some(reason) => {
                let (usage, timings) = (job.usage(), job.timings(now));
                let tokens = job.spoken.take().filter(|_| !job.output.has_called()).unwrap_or_default();
                scratch.said.push(ToHost::Finished { id: job.id, reason, usage, timings, tokens });
            }
        }
    }

    /// Ends the work of a slot whose sequence is in an unknown state.
    pub(super) fn drop_failed(&mut self, slot: usize, failure: GenerateFailure) {
        if matches!(self.slots[slot].work, Work::Embedding(_)) {
            return self.fail_text(slot, failure);
        }
        self.loaded.context.forget(slot, 0);
        self.slots[slot].cached.clear();
        if let Some(job) = self.slots[slot].take_job() {
            self.fail(job.id, failure);
        }
    }
}
