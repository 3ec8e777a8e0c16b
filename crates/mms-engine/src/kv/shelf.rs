//! Which sequence states are kept, which go and which one serves a prompt: pure decisions, no llama.cpp, no files.
//!
//! A state is what the KV cache held for a sequence of tokens. It serves every prompt that begins like its tokens, as it can be cut to
//! the common beginning; states of models with a sliding window or a recurrent memory only as a whole (`cut_from`). So of two states
//! that are one sequence, only the longer one is kept, unless it cannot be cut to the other.

use std::time::Duration;

/// Names a state; never used twice.
pub(crate) type Id = u64;

/// A sequence with fewer tokens is computed again as quickly.
pub(crate) const LEAST_KEPT: usize = 64;
/// Fewer tokens more than a slot has are not worth a restore.
const LEAST_GAINED: usize = 32;

/// What is known of a state; its bytes are elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct State<T> {
    pub(crate) id: Id,
    /// The sequence, from position 0.
    pub(crate) tokens: Vec<T>,
    pub(crate) bytes: usize,
    /// It can be cut to this many tokens and any larger number; never more than there are.
    pub(crate) cut_from: usize,
    /// The conversation whose it is.
    pub(crate) label: Option<u64>,
    pub(crate) in_ram: bool,
    pub(crate) on_disk: bool,
    /// Somebody else is using its bytes: they stay in memory, and it is not written twice.
    pub(crate) in_use: bool,
    /// Grows with every use of any state.
    pub(crate) used: u64,
    /// When it was used last, on the caller's clock.
    pub(crate) since: Duration,
}

/// The state that serves a prompt best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: Id,
    /// Tokens of the prompt that it spares.
    pub(crate) common: usize,
    /// The whole state is a beginning of the prompt.
    pub(crate) whole: bool,
    pub(crate) bytes: usize,
    pub(crate) in_ram: bool,
}

/// All states of one model.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    states: Vec<State<T>>,
    next: Id,
    clock: u64,
}

impl<T: PartialEq> Shelf<T> {
    pub(crate) fn new() -> Self {
        Self { states: Vec::new(), next: 0, clock: 0 }
    }

    pub(crate) fn get(&self, id: Id) -> Option<&State<T>> {
        self.states.iter().find(|state| state.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut State<T>> {
        self.states.iter_mut().find(|state| state.id == id)
    }

    /// Bytes of all states in memory.
    pub(crate) fn ram_bytes(&self) -> usize {
        self.states.iter().filter(|state| state.in_ram).map(|state| state.bytes).sum()
    }

    /// Bytes of all states on disk.
    pub(crate) fn disk_bytes(&self) -> usize {
        self.states.iter().filter(|state| state.on_disk).map(|state| state.bytes).sum()
    }

    /// Where a prompt's beginning is kept best. At least the last token of a prompt is computed anew: its logits are what sampling
    /// needs.
    pub(crate) fn find(&self, prompt: &[T], in_ram_only: bool) -> Option<Found> {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let candidates = self.states.iter().filter_map(|state| {
            let common = common(usable, &state.tokens);
            let &State { id, bytes, in_ram, .. } = state;
            let found = Found { id, common, whole: common == state.tokens.len(), bytes, in_ram };
            (common > 0 && common >= state.cut_from && (in_ram || !in_ram_only)).then_some(found)
        });
        candidates.max_by_key(|found| (found.common, found.in_ram, std::cmp::Reverse(found.bytes), found.id))
    }

    /// So many of these tokens, from the first on, can be had from a state that is kept.
    pub(crate) fn held(&self, tokens: &[T]) -> usize {
        self.held_by(tokens, |_| true)
    }

    /// The same of states on disk.
    pub(crate) fn held_on_disk(&self, tokens: &[T]) -> usize {
        self.held_by(tokens, |state| state.on_disk)
    }

    fn held_by(&self, tokens: &[T], counts: impl Fn(&State<T>) -> bool) -> usize {
        let held = |state: &State<T>| Some(common(tokens, &state.tokens)).filter(|common| *common >= state.cut_from);
        self.states.iter().filter(|state| counts(state)).filter_map(held).max().unwrap_or(0)
    }

    /// Takes a state in, as the one used last.
    pub(crate) fn insert(&mut self, tokens: Vec<T>, bytes: usize, cut_from: usize, now: Duration) -> Id {
        let id = self.next;
        self.next += 1;
        let (in_ram, on_disk, in_use) = (false, false, false);
        let (used, since) = (0, now);
        let label = None;
        self.states.push(State { id, tokens, bytes, cut_from, label, in_ram, on_disk, in_use, used, since });
        self.touch(id, now);
        id
    }

    /// States that this one makes superfluous: all that they serve, it serves as well.
    pub(crate) fn parts(&self, id: Id) -> Vec<Id> {
        let Some(whole) = self.get(id) else { return Vec::new() };
        let is_part = |state: &&State<T>| {
            state.id != id
                && !state.in_use
                && whole.cut_from <= state.cut_from
                && whole.tokens.starts_with(&state.tokens)
                && whole.cut_from <= state.tokens.len()
        };
        self.states.iter().filter(is_part).map(|state| state.id).collect()
    }

    /// States of this conversation.
    pub(crate) fn of(&self, label: u64) -> Vec<Id> {
        self.states.iter().filter(|state| state.label == Some(label)).map(|state| state.id).collect()
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<State<T>> {
        let index = self.states.iter().position(|state| state.id == id)?;
        Some(self.states.swap_remove(index))
    }

    /// Takes note of a use.
    pub(crate) fn touch(&mut self, id: Id, now: Duration) {
        self.clock += 1;
        let used = self.clock;
        if let Some(state) = self.get_mut(id) {
            (state.used, state.since) = (used, now);
        }
    }

    /// The state that should be written to disk next: the one used longest ago, when those that are in memory alone take more than half
    /// of the `most` bytes, or leave no room for one that comes from disk and one that has to give way to it; otherwise one that was not
    /// used since `calm`.
    pub(crate) fn to_write(&self, most: usize, calm: Duration) -> Option<Id> {
        let unsaved = || self.states.iter().filter(|state| state.in_ram && !state.on_disk);
        let oldest = unsaved().filter(|state| !state.in_use).min_by_key(|state| state.used)?;
        let bytes = unsaved().map(|state| state.bytes).sum::<usize>();
        let largest = self.states.iter().map(|state| state.bytes).max().unwrap_or(0);
        let presses = bytes > (most / 2).min(most.saturating_sub(2 * largest));
        (presses || oldest.since <= calm).then_some(oldest.id)
    }

    /// Those that are in memory alone, the one used last first.
    pub(crate) fn unsaved(&self) -> Vec<Id> {
        let mut unsaved: Vec<&State<T>> = self.states.iter().filter(|state| state.in_ram && !state.on_disk).collect();
        unsaved.sort_by_key(|state| std::cmp::Reverse(state.used));
        unsaved.into_iter().map(|state| state.id).collect()
    }

    /// States on disk alone that are not worth a place in the list of what is known: together they have more than `most` tokens. Those
    /// used longest ago are named.
    pub(crate) fn too_many(&self, most: usize) -> Vec<Id> {
        let mut asleep: Vec<&State<T>> = self.states.iter().filter(|state| !state.in_ram && !state.in_use).collect();
        asleep.sort_by_key(|state| std::cmp::Reverse(state.used));
        let mut tokens = 0;
        let is_beyond = |state: &&State<T>| {
            tokens += state.tokens.len();
            tokens > most
        };
        asleep.into_iter().filter(is_beyond).map(|state| state.id).collect()
    }

    /// States whose bytes have to leave memory so that `bytes` more are within `most`: those on disk first, as nothing is lost with
    /// them, then those used longest ago. `None`: there would be no room.
    pub(crate) fn make_room(&self, bytes: usize, most: usize) -> Option<Vec<Id>> {
        let mut held = self.ram_bytes();
        let mut idle: Vec<&State<T>> = self.states.iter().filter(|state| state.in_ram && !state.in_use).collect();
        idle.sort_by_key(|state| (!state.on_disk, state.used));
        let mut idle = idle.into_iter();
        let mut leaving = Vec::new();
        while held.saturating_add(bytes) > most {
            let state = idle.next()?;
            held -= state.bytes;
            leaving.push(state.id);
        }
        Some(leaving)
    }
}

/// Worth putting aside: of so many tokens, so many would be lost.
pub(crate) fn is_worth_keeping(tokens: usize, lost: usize) -> bool {
    lost >= LEAST_KEPT && lost >= tokens / 4
}

/// Worth bringing back: the prompt has so many tokens in the store, and so many in a slot.
pub(crate) fn is_worth_restoring(in_store: usize, in_slot: usize) -> bool {
    in_store >= in_slot.saturating_add(LEAST_GAINED)
}

/// The free slot that loses least when a state is brought back into it: one with a beginning of `prompt` and no more, else the one
/// used longest ago. Each is given as its tokens and its last use; `None` for one that is not free.
pub(crate) fn place<T: PartialEq>(prompt: &[T], slots: &[Option<(&[T], u64)>]) -> Option<usize> {
    let free = slots.iter().enumerate().filter_map(|(index, slot)| slot.map(|(tokens, used)| (index, tokens, used)));
    free.min_by_key(|&(index, tokens, used)| (!prompt.starts_with(tokens), used, index)).map(|(index, ..)| index)
}

/// Length of the common beginning.
pub(crate) fn common<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
