//! States of sequences that have no slot any more: kept in memory up to a bound, and on disk, from where they come back after the model
//! was unloaded. [`shelf`] decides what is kept, [`speed`] whether a copy pays; here are the bytes in memory, in [`saved`] the way to
//! disk and back.

mod disk;
mod file;
mod fingerprint;
mod folder;
mod saved;
pub(crate) mod shelf;
mod speed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;

use saved::Saved;
use shelf::{Found, Id, Shelf, is_worth_keeping, is_worth_restoring};
use speed::Speed;

pub(crate) use disk::Notice;
pub(crate) use fingerprint::{Basis, fingerprint};

/// The store of one worker. It never holds more bytes in memory than it was given; those that are on their way from disk or to it count.
#[derive(Debug)]
pub(crate) struct KvStore {
    most: usize,
    shelf: Shelf<LlamaToken>,
    payloads: BTreeMap<Id, Arc<Vec<u8>>>,
    speed: Speed,
    restored: u64,
    began: Instant,
    saved: Option<Saved>,
}

/// What is to be put aside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) tokens: &'a [LlamaToken],
    /// Of them, those that stay elsewhere in the KV cache.
    pub(crate) held: usize,
    pub(crate) bytes: usize,
    /// Seconds for computing a token, if known.
    pub(crate) token: Option<f64>,
}

/// What a store holds, for the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holds {
    pub(crate) ram_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) restored: u64,
}

impl KvStore {
    /// Keeps up to `most` bytes in memory, and nothing on disk.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            shelf: Shelf::new(),
            payloads: BTreeMap::new(),
            speed: Speed::default(),
            restored: 0,
            began: Instant::now(),
            saved: None,
        }
    }

    /// Putting it aside may be worth its copy; `bytes` do not count yet.
    pub(crate) fn may_want(&self, tokens: &[LlamaToken], held: usize) -> bool {
        is_worth_keeping(tokens.len(), tokens.len() - held.max(self.shelf.held(tokens)))
    }

    /// Makes room for the candidate in memory. False: it is not worth it, or there is no room.
    pub(crate) fn make_room(&mut self, candidate: &Candidate<'_>) -> bool {
        let &Candidate { tokens, held, bytes, token } = candidate;
        let lost = tokens.len() - held.max(self.shelf.held(tokens));
        if !self.speed.may_save(bytes, lost, token) {
            return false;
        }
        let Some(leaving) = self.shelf.make_room(bytes, self.most) else {
            tracing::debug!(tokens = tokens.len(), bytes, most = self.most, "no room to put a sequence aside");
            return false;
        };
        for id in leaving {
            self.leave_ram(id);
        }
        true
    }

    /// Takes what [`KvStore::make_room`] has made room for, of this conversation; saving it took so long.
    pub(crate) fn insert(
        &mut self,
        tokens: Vec<LlamaToken>,
        state: Vec<u8>,
        cut_from: usize,
        took: Duration,
        label: Option<u64>,
    ) {
        self.speed.copied(state.len(), took);
        let id = self.shelf.insert(tokens, state.len(), cut_from, self.began.elapsed());
        self.payloads.insert(id, Arc::new(state));
        if let Some(state) = self.shelf.get_mut(id) {
            (state.in_ram, state.label) = (true, label);
        }
        // On disk they stay until this one is there.
        for part in self.shelf.parts(id) {
            self.leave_ram(part);
        }
    }

    /// Gives up the states of a conversation.
    pub(crate) fn forget(&mut self, label: u64) {
        for id in self.shelf.of(label) {
            self.drop_state(id);
        }
    }

    /// The state in memory that spares this prompt noticeably more than the `in_slot` tokens that a slot has of it, and is worth its copy.
    pub(crate) fn find(&self, prompt: &[LlamaToken], in_slot: usize, token: Option<f64>) -> Option<Found> {
        self.worthwhile(self.shelf.find(prompt, true)?, in_slot, token)
    }

    /// The same of any state, when that spares noticeably more than those in memory.
    pub(crate) fn find_anywhere(&self, prompt: &[LlamaToken], in_slot: usize, token: Option<f64>) -> Option<Found> {
        let here = self.shelf.find(prompt, true).filter(|found| self.payloads.contains_key(&found.id));
        let here = here.map_or(0, |found| found.common);
        self.worthwhile(self.shelf.find(prompt, false)?, in_slot.max(here), token)
    }

    fn worthwhile(&self, found: Found, in_slot: usize, token: Option<f64>) -> Option<Found> {
        let gained = found.common.saturating_sub(in_slot);
        (is_worth_restoring(found.common, in_slot) && self.speed.may_restore(found.bytes, found.in_ram, gained, token))
            .then_some(found)
    }

    /// The bytes of a state in memory; they stay there until [`KvStore::restored`] or [`KvStore::refused`].
    pub(crate) fn lend(&mut self, id: Id) -> Option<Arc<Vec<u8>>> {
        let bytes = Arc::clone(self.payloads.get(&id)?);
        self.shelf.touch(id, self.began.elapsed());
        if let Some(state) = self.shelf.get_mut(id) {
            state.in_use = true;
        }
        Some(bytes)
    }

    /// The tokens of a state.
    pub(crate) fn tokens(&self, id: Id) -> &[LlamaToken] {
        self.shelf.get(id).map_or(&[], |state| &state.tokens)
    }

    /// What was found is in a slot now; reading it took so long. As a whole it is not kept twice.
    pub(crate) fn restored(&mut self, found: Found, took: Duration) {
        self.speed.copied(found.bytes, took);
        self.restored += 1;
        if let Some(state) = self.shelf.get_mut(found.id) {
            state.in_use = false;
        }
        if found.whole {
            self.leave_ram(found.id);
        }
    }

    /// llama.cpp does not take it.
    pub(crate) fn refused(&mut self, id: Id) {
        self.drop_state(id);
    }

    pub(crate) fn holds(&self) -> Holds {
        Holds {
            ram_bytes: self.shelf.ram_bytes() as u64,
            disk_bytes: self.shelf.disk_bytes() as u64,
            restored: self.restored,
        }
    }

    /// Its bytes leave memory; what is not on disk is no more.
    fn leave_ram(&mut self, id: Id) {
        self.payloads.remove(&id);
        match self.shelf.get_mut(id) {
            Some(state) if state.on_disk => state.in_ram = false,
            Some(_) => _ = self.shelf.remove(id),
            None => {}
        }
    }
}
