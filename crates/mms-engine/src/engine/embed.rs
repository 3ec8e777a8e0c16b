//! Embeddings. Each input takes a slot as a prompt does, one input of a request after the other, and gives it back empty; then
//! whoever else waits has a turn. The steps in which vectors come out are steps of their own, beside those of answers: in them every
//! token has an output, which for a token of an answer would be wasted, and which needs memory, so they are small.
//!
//! Of a decoder's text that is pooled by its last token, all tokens but that one are computed like those of a prompt.

use std::time::{Duration, Instant};

use mms_protocol::worker::{GenerateFailure, Pooling, RequestId, ToHost};

use super::{Engine, Queued};
use crate::beat::beat_while;
use crate::plan::Share;
use crate::prompts::{Ready, Texts};
use crate::slot::{Slot, Text, Work, count};
use crate::sys::{DecodeError, processor_time};

/// While a step takes longer than this, there is a heartbeat after each such time.
const LONG_STEP: Duration = Duration::from_secs(1);
/// But a step that takes longer than this hangs.
const LONGEST_TEXT: Duration = Duration::from_secs(600);
/// Tokens of a step that may take long as long as nothing was measured.
const UNMEASURED: usize = 64;

/// A request for embeddings of which at least one input has had a slot.
#[derive(Debug)]
pub(super) struct Embedding {
    id: RequestId,
    /// One for each input; empty until it is there.
    vectors: Vec<Vec<f32>>,
    missing: usize,
    tokens: usize,
    dimensions: Option<u32>,
    began: Instant,
}

impl Engine {
    /// Why this cannot be asked of the model; `None`: it can.
    pub(super) fn refuses_vectors(&self, dimensions: Option<u32>) -> Option<GenerateFailure> {
        let width = self.loaded.info.embedding_length.unwrap_or(0);
        let message = match (self.loaded.ability.pooling(), dimensions) {
            (Err(why), _) => format!("there are no embeddings of it: {why}"),
            (Ok(_), Some(wanted)) if wanted > width => {
                format!("dimensions is {wanted}, its embeddings have {width}")
            }
            (Ok(_), _) => return None,
        };
        Some(GenerateFailure::Unsupported { message })
    }

    /// A free slot may be used for an input. In a model that answers, half of the slots are left to answers.
    pub(super) fn may_embed(&self) -> bool {
        let most = if self.loaded.info.generates { (self.slots.len() / 2).max(1) } else { self.slots.len() };
        self.slots.iter().filter(|slot| matches!(slot.work, Work::Embedding(_))).count() < most
    }

    /// Gives the next input of a request a slot; the others wait behind those who wait already.
    pub(super) fn begin_text(&mut self, mut queued: Queued, mut texts: Box<Texts>) {
        let Some((place, tokens)) = texts.inputs.pop_front() else { return };
        let free = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_idle());
        // What others may come back to is spared.
        let Some(slot) = free.min_by_key(|(_, slot)| (!slot.cached.is_empty(), slot.last_used)).map(|(slot, _)| slot)
        else {
            let message = "no slot is free although one was".to_owned();
            return self.fail(queued.id, GenerateFailure::Engine { message });
        };
        self.put_aside(slot, 0);
        self.cut(slot, 0);
        if place == 0 {
            let inputs = texts.inputs.len() + 1;
            self.embeddings.push(Embedding {
                id: queued.id,
                vectors: vec![Vec::new(); inputs],
                missing: inputs,
                tokens: tokens.len() + texts.inputs.iter().map(|(_, tokens)| tokens.len()).sum::<usize>(),
                dimensions: texts.dimensions,
                began: Instant::now(),
            });
        }
        let is_last = self.loaded.ability.encodes().is_none() && self.loaded.ability.pooling() == Ok(Pooling::Last);
        self.admitted += 1;
        self.slots[slot].work = Work::Embedding(Box::new(Text {
            request: queued.id,
            place,
            order: self.admitted,
            silent: if is_last { tokens.len().saturating_sub(1) } else { 0 },
            tokens,
            sum: Vec::new(),
        }));
        if !texts.inputs.is_empty() {
            queued.request = Some(Ready::Vectors(texts));
            // Those behind are not prepared yet, and would hold it up.
            let behind = self.queue.iter().position(|queued| queued.request.is_none()).unwrap_or(self.queue.len());
            self.queue.insert(behind, queued);
        }
    }

    /// Computes one step for all inputs whose vectors can come out; there may be none.
    pub(super) fn embed(&mut self) {
        if self.embeddings.is_empty() {
            return;
        }
        self.plan_vectors();
        if self.scratch.batch.len() == 0 {
            return;
        }
        let shares = std::mem::take(&mut self.scratch.shares);
        let began = Instant::now();
        let pools_here = self.loaded.ability.encodes().is_none();
        self.crowd.step_begins(self.began.elapsed(), processor_time());
        if pools_here {
            self.loaded.context.give_vectors(true);
        }
        let computed = self.decode_texts();
        if pools_here {
            self.loaded.context.give_vectors(false);
        }
        self.steps += 1;
        match computed {
            Ok(()) => {
                let tokens = self.scratch.batch.len();
                self.embed_pace.record(tokens, tokens, began.elapsed());
                if let Some(threads) = self.crowd.step_ended(self.began.elapsed(), processor_time(), tokens) {
                    self.loaded.context.use_threads(threads);
                }
                let mut first = 0;
                for &share in &shares {
                    self.take_vectors(share, first);
                    first += share.tokens;
                }
            }
            Err(error) => {
                tracing::error!(%error, tokens = self.scratch.batch.len(), "a batch of texts failed; its requests end");
                for share in &shares {
                    self.fail_text(share.slot, GenerateFailure::Engine { message: error.to_string() });
                }
            }
        }
        self.scratch.shares = shares;
        self.send();
    }

    /// A long text of an encoder is one step however slow the machine is, so signs of life do not wait for its end.
    fn decode_texts(&mut self) -> Result<(), DecodeError> {
        let tokens = self.scratch.batch.len();
        let is_quick = |seconds: f64| seconds * (tokens as f64) < LONG_STEP.as_secs_f64();
        let is_quick = self.embed_pace.prompt_token().map_or(tokens < UNMEASURED, is_quick);
        if is_quick || self.loaded.ability.encodes().is_none() {
            return self.decode();
        }
        let (outbox, message) = (self.outbox.clone(), ToHost::Heartbeat(self.state()));
        let began = Instant::now();
        let beat = move || {
            if began.elapsed() < LONGEST_TEXT {
                outbox.send(message.clone());
            }
        };
        beat_while(LONG_STEP, beat, || self.decode())
    }

    /// The oldest inputs first; of an encoder only whole ones, and at least one.
    fn plan_vectors(&mut self) {
        let answers = self.slots.iter().filter(|slot| matches!(slot.work, Work::Decoding { .. })).count();
        let is_encoder = self.loaded.ability.encodes().is_some();
        let outputs = self.loaded.context.options().outputs as usize;
        let room = self.loaded.batch.min(outputs);
        let budget = self.embed_pace.prefill_budget(answers).min(room);
        let scratch = &mut self.scratch;
        scratch.shares.clear();
        scratch.batch.clear();
        let mut texts: Vec<(u64, usize, usize)> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if let Work::Embedding(text) = &slot.work
                && slot.cached.len() >= text.silent
            {
                texts.push((text.order, index, text.tokens.len() - slot.cached.len()));
            }
        }
        texts.sort_unstable();
        for (_, slot, remaining) in texts {
            let used = scratch.batch.len();
            let tokens = match is_encoder {
                true if used > 0 && used + remaining > budget => continue,
                true => remaining,
                false => remaining.min(budget - used),
            };
            if tokens > 0 {
                let share = Share { slot, tokens, output: true };
                self.slots[slot].fill(share, &mut scratch.batch);
                scratch.shares.push(share);
            }
        }
    }

    /// The share, whose first token is the batch's token `first`, was computed.
    fn take_vectors(&mut self, share: Share, first: usize) {
        let Ok(pooling) = self.loaded.ability.pooling() else { return };
        let Slot { work: Work::Embedding(text), cached, .. } = &mut self.slots[share.slot] else { return };
        let context = &mut self.loaded.context;
        let from = cached.len();
        let is_whole = from + share.tokens == text.tokens.len();
        let is_there = if self.loaded.ability.encodes().is_some() {
            context.text_vector(share.slot).map(|vector| text.sum = vector.to_vec()).is_some()
        } else {
            (0..share.tokens).all(|offset| {
                let position = from + offset;
                let counts = match pooling {
                    Pooling::Mean | Pooling::Auto => true,
                    Pooling::Cls => position == 0,
                    Pooling::Last => position + 1 == text.tokens.len(),
                };
                !counts || context.token_vector(first + offset).map(|vector| add(&mut text.sum, vector)).is_some()
            })
        };
        if !is_there {
            let message = "llama.cpp gave no vector for a text".to_owned();
            return self.fail_text(share.slot, GenerateFailure::Engine { message });
        }
        if !is_whole {
            return self.slots[share.slot].computed(share);
        }
        let (request, place, sum) = (text.request, text.place, std::mem::take(&mut text.sum));
        self.clear(share.slot);
        let Some(index) = self.embeddings.iter().position(|embedding| embedding.id == request) else { return };
        let embedding = &mut self.embeddings[index];
        let Some(vector) = unit(sum, embedding.dimensions) else {
            let message = format!("the vector of input {place} is zero or no number, so it has no direction");
            return self.fail_vectors(request, GenerateFailure::Engine { message });
        };
        embedding.vectors[place] = vector;
        embedding.missing -= 1;
        if embedding.missing == 0 {
            let Embedding { id, vectors, tokens, began, .. } = self.embeddings.swap_remove(index);
            let took_ms = began.elapsed().as_secs_f64() * 1e3;
            self.scratch.said.push(ToHost::Embedded { id, vectors, prompt_tokens: count(tokens), took_ms });
        }
    }

    /// Ends the request whose input is in `slot`, and all of its inputs.
    pub(super) fn fail_text(&mut self, slot: usize, failure: GenerateFailure) {
        let Work::Embedding(text) = &self.slots[slot].work else { return };
        self.fail_vectors(text.request, failure);
    }

    fn fail_vectors(&mut self, id: RequestId, failure: GenerateFailure) {
        if self.drop_vectors(id) {
            self.queue.retain(|queued| queued.id != id);
            self.fail(id, failure);
        }
    }

    /// Gives back what a request for embeddings holds. False: it holds nothing.
    pub(super) fn drop_vectors(&mut self, id: RequestId) -> bool {
        for slot in 0..self.slots.len() {
            if matches!(&self.slots[slot].work, Work::Embedding(text) if text.request == id) {
                self.clear(slot);
            }
        }
        let before = self.embeddings.len();
        self.embeddings.retain(|embedding| embedding.id != id);
        self.embeddings.len() < before
    }

    /// Drops all of them.
    pub(super) fn drop_all_vectors(&mut self) {
        while let Some(embedding) = self.embeddings.first() {
            self.drop_vectors(embedding.id);
        }
    }

    /// Makes a slot idle and empty.
    fn clear(&mut self, index: usize) {
        self.loaded.context.forget(index, 0);
        let slot = &mut self.slots[index];
        slot.work = Work::Idle;
        slot.cached.clear();
        slot.shared = 0;
    }
}

fn add(sum: &mut Vec<f32>, vector: &[f32]) {
    if sum.is_empty() {
        sum.extend_from_slice(vector);
    } else {
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
    }
}

/// Its first `dimensions`, or all, at length 1. `None`: it has no length.
fn unit(mut vector: Vec<f32>, dimensions: Option<u32>) -> Option<Vec<f32>> {
    vector.truncate(dimensions.map_or(usize::MAX, |dimensions| dimensions as usize));
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length <= 0.0 {
        return None;
    }
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    Some(vector)
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn vectors_have_length_one_or_are_none() {
        assert_eq!(unit(vec![3.0, 4.0], None), Some(vec![0.6, 0.8]));
        assert_eq!(unit(vec![3.0, 4.0, 12.0], Some(2)), Some(vec![0.6, 0.8]));
        for broken in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![]] {
            assert_eq!(unit(broken, None), None);
        }
    }
}
