//! Between slots and the store of states: what a slot is about to lose goes there, what a prompt can use comes back.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;

use super::{Engine, Queued};
use crate::kv::shelf::{Found, Id, common, place};
use crate::kv::{Basis, Candidate, KvStore, fingerprint};
use crate::load::Loaded;
use crate::slot::Slot;
use crate::wire::{Inbox, Incoming};

/// A disk that takes longer keeps no prompt waiting.
const DISK_PATIENCE: Duration = Duration::from_secs(3);
/// While the last state is being written at the end; the whole end has its own limit.
const LAST_NEWS: Duration = Duration::from_secs(1);

/// Requests of forgotten conversations may be in the queue; no more of those are remembered.
const MOST_FORGOTTEN: usize = 1024;

/// A state on its way from disk, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    id: Id,
    since: Instant,
}

/// The store as it was asked for: `None` without memory for it.
pub(crate) fn open_store(loaded: &Loaded, inbox: &Inbox) -> Option<KvStore> {
    let Loaded { settings, info, kv_store, .. } = loaded;
    let bytes = (settings.kv_store_mb as usize) << 20;
    if bytes == 0 || !info.generates {
        return None;
    }
    let mut store = KvStore::new(bytes);
    if let Some(spec) = kv_store {
        let fingerprint = fingerprint(Basis { model: &spec.fingerprint, settings, info });
        store.save_to(spec, fingerprint, &inbox.sender, (info.vocab_size, info.context_length));
        inbox.farewell.grant(spec.save_within_ms);
    }
    Some(store)
}

impl Engine {
    /// Orders from disk what a prompt can go on from.
    pub(super) fn order(&mut self, prompt: &[LlamaToken]) -> Option<Awaited> {
        let store = self.store.as_mut()?;
        let in_slot = self.slots.iter().map(|slot| common(prompt, slot.reusable())).max().unwrap_or(0);
        let found = store.find_anywhere(prompt, in_slot, self.pace.prompt_token())?;
        let comes = store.is_coming(found.id) || store.fetch(found);
        comes.then(|| Awaited { id: found.id, since: Instant::now() })
    }

    /// The request had better wait a moment: what it can go on from is being read.
    pub(super) fn awaits(&self, queued: &Queued) -> bool {
        let is_coming = |id| self.store.as_ref().is_some_and(|store| store.is_coming(id));
        queued.awaits.is_some_and(|Awaited { id, since }| since.elapsed() < DISK_PATIENCE && is_coming(id))
    }

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
        let label = self.slots[slot].label;
        store.insert(tokens.to_vec(), state, cut_from, began.elapsed(), label);
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

    /// Gives up what is kept of these conversations; what of them is in work leaves nothing.
    pub(super) fn forget(&mut self, labels: &[u64]) {
        for &label in labels {
            if let Some(store) = &mut self.store {
                store.forget(label);
            }
            self.forgotten.push_back(label);
        }
        let too_many = self.forgotten.len().saturating_sub(MOST_FORGOTTEN);
        self.forgotten.drain(..too_many);
        self.forget_cleared();
    }

    /// What an ended answer leaves behind of a conversation that was forgotten meanwhile.
    pub(super) fn forget_cleared(&mut self) {
        for slot in 0..self.slots.len() {
            let Slot { label, cached, .. } = &self.slots[slot];
            let is_forgotten = !cached.is_empty() && label.is_some_and(|label| self.forgotten.contains(&label));
            if is_forgotten && self.slots[slot].is_idle() {
                self.cut(slot, 0);
            }
        }
    }

    /// Saves to disk what slots hold and what was put aside, the newest first. What is running is dropped.
    pub(super) fn save_all(&mut self) {
        let began = Instant::now();
        self.drop_all_vectors();
        for slot in &mut self.slots {
            slot.take_job();
        }
        self.forget_inexact();
        self.forget_cleared();
        let mut slots: Vec<usize> = (0..self.slots.len()).collect();
        slots.sort_by_key(|slot| Reverse(self.slots[*slot].last_used));
        for slot in slots {
            self.save_slot(slot);
        }
        let Some(store) = &mut self.store else { return };
        store.save_rest();
        while store.is_writing()
            && let Ok(incoming) = self.inbox.recv_timeout(LAST_NEWS)
        {
            if let Incoming::Store(notice) = incoming {
                store.notice(notice);
            }
        }
        let disk_bytes = store.holds().disk_bytes;
        tracing::debug!(disk_bytes, took = ?began.elapsed(), "saved what there was");
    }

    fn save_slot(&mut self, slot: usize) {
        let tokens = self.slots[slot].reusable();
        let is_whole_in = |other: usize| {
            let held = self.slots[other].reusable();
            self.memory_is_partial && held.starts_with(tokens) && (held.len() > tokens.len() || other < slot)
        };
        if (0..self.slots.len()).any(|other| other != slot && is_whole_in(other)) {
            return;
        }
        let Some(store) = self.store.as_mut().filter(|store| store.is_unsaved(tokens)) else { return };
        let context = &mut self.loaded.context;
        if store.make_room_at_end(context.state_bytes(slot))
            && let Some(state) = context.save(slot)
        {
            let cut_from = if self.memory_is_partial { context.saved_cut_from(tokens.len()) } else { tokens.len() };
            store.save_slot(tokens, state, cut_from, self.slots[slot].label);
        }
    }
}
