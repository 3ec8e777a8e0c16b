//! From the queue into a slot: the choice of the slot and of what its KV cache can keep.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use mms_protocol::worker::{GenerateFailure, ToHost};

use super::{Engine, Queued};
use crate::output::Output;
use crate::prompts::{Calls, Ready, Request};
use crate::reuse::{Choice, SlotView, choose, comes_soon};
use crate::sampling::{Chooser, Seen};
use crate::slot::{Job, Slot, Work, count};
use crate::speculate::Luck;

impl Engine {
    /// Gives free slots to the requests that have waited longest; but what another slot is just computing is not computed twice.
    pub(super) fn admit(&mut self) {
        while self.slots.iter().any(Slot::is_idle) {
            let mut prepared = self.queue.iter().map_while(|queued| Some((queued, queued.request.as_ref()?)));
            let is_next = |(queued, ready): (&Queued, &Ready)| match ready {
                Ready::Answer(request) => !self.awaits(queued) && !self.comes_soon(&request.tokens),
                Ready::Vectors(_) => self.may_embed(),
            };
            let Some(next) = prepared.position(is_next) else { return };
            let Some(mut queued) = self.queue.remove(next) else { return };
            match queued.request.take() {
                None => return,
                Some(Ready::Answer(request)) => self.assign(&queued, *request),
                Some(Ready::Vectors(texts)) => self.begin_text(queued, texts),
            }
        }
    }

    fn comes_soon(&self, prompt: &[LlamaToken]) -> bool {
        let cached = self.slots.iter().map(Slot::reusable);
        let computed = self.slots.iter().filter_map(|slot| match &slot.work {
            Work::Prefilling(job) => Some(job.prompt.as_slice()),
            Work::Idle | Work::Decoding { .. } | Work::Embedding(_) => None,
        });
        self.memory_is_partial && comes_soon(prompt, cached, computed)
    }

    fn assign(&mut self, queued: &Queued, request: Request) {
        let &Queued { id, came, .. } = queued;
        let Request { tokens: prompt, left_out, label, max_tokens, sampling, stop, logprobs, guard, calls } = request;
        let (recognizer, shown) = calls.map(|Calls { recognizer, shown }| (recognizer, shown)).unzip();
        let context_length = self.loaded.info.context_length;
        let Some((slot, kept)) = self.prepare_slot(&prompt) else {
            let message = "no slot is free although one was".to_owned();
            return self.fail(id, GenerateFailure::Engine { message });
        };
        let (prompt_tokens, cached_tokens, left_out) = (count(prompt.len()), count(kept), count(left_out));
        self.outbox.send(ToHost::Started { id, prompt_tokens, cached_tokens, left_out });

        self.admitted += 1;
        let room = (context_length as usize).saturating_sub(prompt.len());
        let job = Job {
            id,
            order: self.admitted,
            chooser: Chooser::new(&sampling, guard, Seen { model: self.loaded.model, prompt: &prompt, context_length }),
            output: Output::new(stop, recognizer),
            shown: shown.unwrap_or_default(),
            spoken: label.map(|_| Vec::new()),
            logprobs: logprobs.map(|most| most as usize),
            limit: match max_tokens {
                // Without a limit of its own an answer ends with the context: not every model comes to an end.
                Some(most) if self.shifts => most as usize,
                Some(most) => room.min(most as usize),
                None => room,
            },
            generated: 0,
            kept,
            came,
            assigned: Instant::now(),
            first_token: None,
            luck: Luck::default(),
            drafted: 0,
            accepted: 0,
            prompt,
        };
        self.slots[slot].last_used = self.admitted;
        self.slots[slot].label = label;
        self.slots[slot].work = Work::Prefilling(Box::new(job));
    }

    /// A free slot that holds a beginning of `prompt` and nothing else, and the length of that beginning.
    fn prepare_slot(&mut self, prompt: &[LlamaToken]) -> Option<(usize, usize)> {
        let in_slot = self.choose(prompt)?.keep;
        if let Some(slot) = self.bring_back(prompt, in_slot) {
            return Some((slot, self.slots[slot].cached.len()));
        }
        let choice = self.choose(prompt)?;
        self.put_aside(choice.slot, if choice.share_from.is_none() { choice.keep } else { 0 });
        match choice.share_from {
            None => self.cut(choice.slot, choice.keep),
            Some(lender) => {
                self.cut(choice.slot, 0);
                self.loaded.context.share(lender, choice.slot, choice.keep);
                self.slots[choice.slot].cached.extend_from_slice(&prompt[..choice.keep]);
                for sharer in [lender, choice.slot] {
                    self.slots[sharer].shared = self.slots[sharer].shared.max(choice.keep);
                }
            }
        }
        Some((choice.slot, self.slots[choice.slot].cached.len()))
    }

    fn choose(&self, prompt: &[LlamaToken]) -> Option<Choice> {
        let views: Vec<SlotView<'_, LlamaToken>> = self
            .slots
            .iter()
            .map(|slot| SlotView { cached: slot.reusable(), free: slot.is_idle(), last_used: slot.last_used })
            .collect();
        choose(prompt, &views, self.memory_is_partial)
    }
}
