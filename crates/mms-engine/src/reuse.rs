//! Which free slot answers a prompt, and what of the KV cache it can keep: pure decisions, no llama.cpp.
//!
//! A free slot whose tokens the prompt continues is taken as it stands. If the prompt shares only a small part with it, such as the
//! system prompt, taking it would destroy another conversation; then the slot that was used longest ago is taken, and the common
//! beginning is shared from whichever slot has it, busy or not.

/// What is known of a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotView<'a, T> {
    /// Tokens whose KV is present.
    pub(crate) cached: &'a [T],
    pub(crate) free: bool,
    /// Grows with every use of a slot.
    pub(crate) last_used: u64,
}

/// Where a prompt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) slot: usize,
    /// Tokens of the prompt that need not be computed; always less than all of them.
    pub(crate) keep: usize,
    /// The slot that has them, when it is another one.
    pub(crate) share_from: Option<usize>,
}

/// Sharing fewer tokens than this is not worth the bookkeeping.
const LEAST_SHARED: usize = 8;

/// Waiting for fewer tokens than this is not worth it.
const LEAST_AWAITED: usize = 64;

/// Whether a prompt had better wait: prompts that are being `computed` begin like it, and further than what is `cached`, so that
/// soon there will be more of it to share than now.
pub(crate) fn comes_soon<'a, T: PartialEq + 'a>(
    prompt: &[T],
    cached: impl Iterator<Item = &'a [T]>,
    computed: impl Iterator<Item = &'a [T]>,
) -> bool {
    let common = |other: &[T]| prompt.iter().zip(other).take_while(|(a, b)| a == b).count();
    let soon = computed.map(common).max().unwrap_or(0);
    soon >= LEAST_AWAITED && soon >= cached.map(common).max().unwrap_or(0) + LEAST_AWAITED
}

/// `None` when no slot is free. `can_share`: the model's memory can lend the beginning of one sequence to another.
pub(crate) fn choose<T: PartialEq>(prompt: &[T], slots: &[SlotView<'_, T>], can_share: bool) -> Option<Choice> {
    // At least the last token is computed again: its logits are what sampling needs.
    let usable = &prompt[..prompt.len().saturating_sub(1)];
    let common = |slot: &SlotView<'_, T>| usable.iter().zip(slot.cached).take_while(|(a, b)| a == b).count();

    let free = || slots.iter().enumerate().filter(|(_, slot)| slot.free);
    let oldest = free().min_by_key(|(_, slot)| slot.last_used)?;
    let best = free().max_by_key(|(index, slot)| (common(slot), std::cmp::Reverse((slot.last_used, *index))))?;
    let of_best = common(best.1);
    if of_best > 0 && of_best * 2 >= best.1.cached.len() {
        return Some(Choice { slot: best.0, keep: of_best, share_from: None });
    }

    let own = common(oldest.1);
    let lender =
        slots.iter().map(common).enumerate().max_by_key(|&(index, length)| (length, std::cmp::Reverse(index)))?;
    if can_share && lender.0 != oldest.0 && lender.1 >= own + LEAST_SHARED {
        return Some(Choice { slot: oldest.0, keep: lender.1, share_from: Some(lender.0) });
    }
    let (slot, keep) = if can_share { (oldest.0, own) } else { (best.0, of_best) };
    Some(Choice { slot, keep, share_from: None })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Choice, SlotView, choose, comes_soon};

    fn check(prompt: &str, slots: &[(&str, bool, u64)], expect: Option<(usize, usize, Option<usize>)>) {
        let views: Vec<SlotView<'_, u8>> = slots
            .iter()
            .map(|&(cached, free, last_used)| SlotView { cached: cached.as_bytes(), free, last_used })
            .collect();
        let expect = expect.map(|(slot, keep, share_from)| Choice { slot, keep, share_from });
        assert_eq!(choose(prompt.as_bytes(), &views, true), expect);
    }

    #[test]
    fn a_prompt_waits_for_much_that_is_being_computed() {
        let (long, other) = ("a".repeat(100), "b".repeat(100));
        let waits = |cached: &[&str], computed: &[&str]| {
            let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
            let (cached, computed) = (bytes(cached), bytes(computed));
            comes_soon(long.as_bytes(), cached.iter().map(Vec::as_slice), computed.iter().map(Vec::as_slice))
        };
        assert!(waits(&[], &[&long]) && waits(&[&long[..36], ""], &[&other, &long]));
        assert!(!waits(&[&long[..37]], &[&long]), "hardly more than there is");
        assert!(!waits(&[], &[&long[..63]]) && !waits(&[], &[&other]) && !waits(&[], &[]));
    }

    #[test]
    fn slots_are_chosen_by_what_they_hold() {
        check("hello", &[("", true, 0), ("", true, 0)], Some((0, 0, None)));
        check("hello", &[("", false, 0)], None);
        check("hello world", &[("", true, 0), ("hello", true, 5)], Some((1, 5, None)));
        // The same prompt again: its last token is computed again.
        check("hello", &[("hello", true, 5), ("", true, 0)], Some((0, 4, None)));
        // Only the beginning is common: the other conversation stays, its beginning is shared.
        let long = "be friendly! and then a long conversation about ships";
        check("be friendly! what is a boat?", &[(long, true, 5), ("", true, 0)], Some((1, 13, Some(0))));
        check("be friendly! what is a boat?", &[(long, false, 5), ("", true, 0)], Some((1, 13, Some(0))));
        check("be friendly! what is a boat?", &[(long, true, 5)], Some((0, 13, None)));
        // Nothing in common: the one used longest ago.
        check("xyz", &[("hello", true, 5), ("world", true, 3)], Some((1, 0, None)));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_really_there(
            prompt in "[ab]{1,40}",
            slots in proptest::collection::vec(("[ab]{0,40}", any::<bool>(), 0_u64..9), 1..6),
            can_share in any::<bool>(),
        ) {
            let views: Vec<SlotView<'_, u8>> = slots
                .iter()
                .map(|(cached, free, last_used)| SlotView { cached: cached.as_bytes(), free: *free, last_used: *last_used })
                .collect();
            match choose(prompt.as_bytes(), &views, can_share) {
                None => prop_assert!(slots.iter().all(|slot| !slot.1)),
                Some(choice) => {
                    prop_assert!(slots[choice.slot].1);
                    prop_assert!(choice.keep < prompt.len());
                    prop_assert!(can_share || choice.share_from.is_none());
                    prop_assert!(choice.share_from != Some(choice.slot));
                    let holder = &slots[choice.share_from.unwrap_or(choice.slot)].0;
                    prop_assert!(holder.as_bytes().starts_with(&prompt.as_bytes()[..choice.keep]));
                }
            }
        }
    }
}
