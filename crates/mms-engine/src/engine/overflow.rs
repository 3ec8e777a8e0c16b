//! The end of the context: an answer that has filled it goes on without the older half of what follows its first tokens.
//!
//! Only positions change, which RoPE makes possible without computing anything again; what is kept still carries the influence of what
//! is forgotten. So when the answer has ended, only what stands before the gap is of use to others.

use mms_protocol::worker::{ContextOverflow, GenerateFailure};

use super::Engine;
use crate::load::Loaded;
use crate::slot::Work;

/// Whether this model's context is shifted; where that was asked for and cannot be, the log says so.
pub(super) fn shifts(loaded: &Loaded, memory_is_partial: bool) -> bool {
    match loaded.settings.context_overflow {
        ContextOverflow::Stop => false,
        ContextOverflow::Shift if memory_is_partial && loaded.context.can_shift() => true,
        ContextOverflow::Shift => {
            tracing::warn!("this model's context cannot be shifted; answers end where it is full");
            false
        }
    }
}

/// Of `length` tokens: from where on, and how many of them are forgotten. The beginning never takes more than half of the room.
fn gap(length: usize, keep: usize) -> (usize, usize) {
    let keep = keep.min(length / 2);
    (keep, ((length - keep) / 2).max(1))
}

impl Engine {
    /// Sees to it that every answer has room for its next token.
    pub(super) fn make_room(&mut self) {
        let context_length = self.loaded.info.context_length as usize;
        for slot in 0..self.slots.len() {
            let held = self.slots[slot].cached.len();
            if held >= context_length && matches!(self.slots[slot].work, Work::Decoding { .. }) && !self.shift(slot) {
                let message = "the full context could not be shifted".to_owned();
                self.drop_failed(slot, GenerateFailure::Engine { message });
            }
        }
    }

    fn shift(&mut self, slot: usize) -> bool {
        let keep = self.loaded.settings.context_keep as usize;
        let (from, count) = gap(self.slots[slot].cached.len(), keep);
        // A cell of the KV cache has one position: what another slot shares would move under it as well.
        if self.slots[slot].shared > from + count {
            let Some(state) = self.loaded.context.save(slot) else { return false };
            if !self.loaded.context.restore(slot, &state) {
                return false;
            }
            self.slots[slot].shared = 0;
        }
        if !self.loaded.context.shift(slot, from, count) {
            return false;
        }
        let slot = &mut self.slots[slot];
        slot.cached.drain(from..from + count);
        slot.exact = Some(slot.exact.map_or(from, |exact| exact.min(from)));
        slot.shared = slot.shared.min(from);
        true
    }

    /// What an ended answer leaves behind that is of no use to others.
    pub(super) fn forget_inexact(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_idle()
                && let Some(exact) = self.slots[slot].exact.take()
            {
                self.cut(slot, exact);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::gap;

    proptest! {
        #[test]
        fn a_gap_leaves_something_and_makes_room(length in 1_usize..5000, keep in 0_usize..6000) {
            let (from, count) = gap(length, keep);
            prop_assert!(count >= 1 && from + count <= length);
            prop_assert!(from <= keep);
        }
    }
}
