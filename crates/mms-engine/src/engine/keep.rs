//! Between slots and the store of states: what a slot is about to lose goes there, what a prompt can use comes back.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;

use super::Engine;
use crate::kv::Candidate;
use crate::kv::shelf::{Found, common, place};
use crate::load::Loaded;

impl Engine {
    /// Puts aside what `slot` holds, before all of it behind its first `keep` tokens is lost; if it is worth that.
    pub(super) fn put_aside(&mut self, slot: usize, keep: usize) {
        let Some(store) = &mut self.store else { return };
        let tokens = self.slots[slot].reusable();
        // What other slots hold as well is not lost.
        let others = self.slots.iter().enumerate().filter(|(other, _)| self.memory_is_partial && *other != slot);
        let shared = others.map(|(_, other)| common(tokens, other.reusable())).max().unwrap_or(0);
        let held = keep.max(shared);
        if !store.may_want(tokens, held) {
            return;
        }
        let Loaded { context, .. } = &mut self.loaded;
        let bytes = context.state_bytes(slot);
        if !store.make_room(&Candidate { tokens, held, bytes, token: self.pace.prompt_token() }) {
            return;
        }
        let began = Instant::now();
        let Some(state) = context.save(slot) else {
            tracing::warn!(tokens = tokens.len(), bytes, "llama.cpp could not save a sequence; it is given up");
            return;
        };
        let cut_from = if self.memory_is_partial { context.saved_cut_from(tokens.len()) } else { tokens.len() };
        tracing::debug!(tokens = tokens.len(), bytes, took = ?began.elapsed(), "put a sequence aside");
        store.insert(tokens.to_vec(), state, cut_from, began.elapsed());
    }

    /// Brings a state back into a free slot, if that spares the prompt noticeably more than the `in_slot` tokens that slots have of it.
    /// The slot then holds a beginning of the prompt and nothing else.
    pub(super) fn bring_back(&mut self, prompt: &[LlamaToken], in_slot: usize) -> Option<usize> {
        let found = self.store.as_ref()?.find(prompt, in_slot, self.pace.prompt_token())?;
        let slots: Vec<_> =
            self.slots.iter().map(|slot| slot.is_idle().then_some((slot.reusable(), slot.last_used))).collect();
        let slot = place(prompt, &slots)?;
        let state = self.store.as_mut()?.lend(found.id)?;
        self.put_aside(slot, 0);
        self.restore(slot, found, &state, prompt).then_some(slot)
    }

    fn restore(&mut self, slot: usize, found: Found, state: &[u8], prompt: &[LlamaToken]) -> bool {
        let began = Instant::now();
        self.cut(slot, 0);
        let restored = self.loaded.context.restore(slot, state);
        let Some(store) = &mut self.store else { return false };
        if !restored {
            tracing::warn!(tokens = found.common, "llama.cpp does not take a saved sequence back; it is dropped");
            store.refused(found.id);
            return false;
        }
        let tokens = store.tokens(found.id).to_vec();
        store.restored(found, began.elapsed());
        self.slots[slot].cached = tokens;
        let usable = found.common.min(prompt.len().saturating_sub(1));
        self.cut(slot, usable);
        tracing::debug!(tokens = self.slots[slot].cached.len(), took = ?began.elapsed(), "brought a sequence back");
        true
    }
}
