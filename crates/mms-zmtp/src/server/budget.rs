//! The memory that all connections of a server share for messages that arrive, and for requests in work.
//!
//! Each connection has a little of its own, [`FREE`]; so peers with small messages never meet this bound. What goes beyond is taken from
//! the shared budget as bytes arrive, not as they are announced. When nothing is left, nobody waits for anybody:
//! * a message for which there is no room is read past, and its sender is told: it may send it again;
//! * before that, messages that have been arriving for longer than a grace give way, the oldest first; so a peer that sends half a message
//!   and stalls, or trickles, holds the budget only while nobody else needs it;
//! * a connection whose requests in work are beyond its share is not read until one of its own is answered.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Instant;

/// What each connection holds without asking.
const FREE: usize = 64 << 10;

pub(super) struct Budget {
    limit: usize,
    grace: Duration,
    state: Mutex<State>,
}

struct State {
    left: usize,
    next: u64,
    /// The messages that arrive and hold some of the budget, the oldest first.
    arriving: BTreeMap<u64, Arriving>,
}

struct Arriving {
    since: Instant,
    bytes: usize,
    give_way: Arc<GiveWay>,
}

/// Tells a connection that the share of its arriving message was taken away.
#[derive(Default)]
struct GiveWay {
    told: AtomicBool,
    waker: AtomicWaker,
}

/// A part of the budget, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Share {
    work: usize,
    arriving: usize,
}

impl Share {
    fn total(self) -> usize {
        self.work + self.arriving
    }
}

/// What one connection holds; given back when dropped.
pub(super) struct Claim<'a> {
    budget: &'a Budget,
    share: Share,
    /// The entry of the arriving message.
    entry: Option<u64>,
    /// The message of that entry is complete.
    complete: bool,
    give_way: Arc<GiveWay>,
}

impl Budget {
    /// `limit` bytes; a message is safe for `grace` after it began to hold some of them.
    pub(super) fn new(limit: usize, grace: Duration) -> Self {
        Self { limit, grace, state: Mutex::new(State { left: limit, next: 0, arriving: BTreeMap::new() }) }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn claim(&self) -> Claim<'_> {
        Claim { budget: self, share: Share::default(), entry: None, complete: false, give_way: Arc::default() }
    }
}

impl State {
    /// Whether `more` bytes are left, if need be after the oldest messages have given way. Those younger than `asking` or than `grace` stay,
    /// and if all that can be had is too little, nobody goes.
    fn make_room(&mut self, more: usize, asking: Option<u64>, grace: Duration) -> bool {
        let mut found = self.left;
        let mut leaving = Vec::new();
        for (number, message) in self.arriving.range(..asking.unwrap_or(u64::MAX)) {
            if found >= more || message.since.elapsed() < grace {
                break;
            }
            found += message.bytes;
            leaving.push(*number);
        }
        if found < more {
            return false;
        }
        for message in leaving.iter().filter_map(|number| self.arriving.remove(number)) {
            message.give_way.told.store(true, Ordering::Release);
            message.give_way.waker.wake();
        }
        self.left = found;
        true
    }
}

impl Claim<'_> {
    /// Adjusts the claim to `work` bytes of requests in work and `arriving` bytes of an unfinished message. When false, there is no room:
    /// the message has to be given up, or, without one, nothing more may be taken.
    pub(super) fn hold(&mut self, work: usize, arriving: usize) -> bool {
        let own = FREE.saturating_sub(work);
        let need = Share { work: work.saturating_sub(FREE), arriving: arriving.saturating_sub(own) };
        if need == self.share
            && (self.entry.is_none() || !(self.complete || self.give_way.told.load(Ordering::Acquire)))
        {
            return true;
        }
        self.adjust(need)
    }

    fn adjust(&mut self, need: Share) -> bool {
        let mut state = self.budget.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut deprived = false;
        if let Some(entry) = self.entry {
            deprived = !state.arriving.contains_key(&entry);
            if deprived || self.complete {
                state.arriving.remove(&entry);
                self.entry = None;
            }
            if deprived {
                self.share.arriving = 0;
                self.give_way.told.store(false, Ordering::Release);
            }
        }
        let had = self.share.total();
        let more = need.total().saturating_sub(had);
        // A message that gave way is gone, even if there is room again; one that was complete by then is in work.
        let refused = deprived && !self.complete && need.arriving > 0;
        self.complete = false;
        let granted = !refused && (more == 0 || state.make_room(more, self.entry, self.budget.grace));
        let total = if granted { need.total() } else { had.min(need.total()) };
        state.left = state.left + had - total;
        self.share.arriving = need.arriving.min(total);
        self.share.work = total - self.share.arriving;
        if self.share.arriving == 0 {
            if let Some(entry) = self.entry.take() {
                state.arriving.remove(&entry);
            }
            return granted;
        }
        let entry = *self.entry.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let message = || Arriving { since: Instant::now(), bytes: 0, give_way: self.give_way.clone() };
        state.arriving.entry(entry).or_insert_with(message).bytes = self.share.arriving;
        granted
    }

    /// The message that was arriving is complete; what arrives now is another one.
    pub(super) fn complete(&mut self) {
        self.complete = self.entry.is_some();
    }

    /// Ready when the arriving message lost its share: [`Claim::hold`] says so then.
    pub(super) fn poll_give_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.entry.is_none() {
            return Poll::Pending;
        }
        self.give_way.waker.register(cx.waker());
        if self.give_way.told.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.share != Share::default() {
            self.adjust(Share::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const NEVER: Duration = Duration::from_secs(3600);

    fn told(claim: &Claim<'_>) -> bool {
        claim.poll_give_way(&mut Context::from_waker(futures::task::noop_waker_ref())).is_ready()
    }

    fn left(budget: &Budget) -> usize {
        budget.state.lock().unwrap().left
    }

    #[test]
    fn the_first_bytes_of_every_connection_are_free() {
        let budget = Budget::new(0, NEVER);
        for _ in 0..100 {
            let mut claim = budget.claim();
            assert!(claim.hold(0, FREE) && claim.hold(FREE, 0) && claim.hold(FREE / 2, FREE / 2));
            assert!(!claim.hold(FREE / 2, FREE));
        }
    }

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(2 * MIB, NEVER);
        let (mut one, mut other) = (budget.claim(), budget.claim());
        assert!(one.hold(0, FREE + MIB) && one.hold(FREE, 2 * MIB));
        assert_eq!(left(&budget), 0);
        assert!(!other.hold(0, FREE + 1));
        assert!(one.hold(0, FREE));
        assert!(other.hold(0, FREE + 2 * MIB));
        drop(other);
        assert_eq!(left(&budget), 2 * MIB);
    }

    #[test]
    fn a_young_message_is_safe() {
        let budget = Budget::new(MIB, NEVER);
        let (mut young, mut newcomer) = (budget.claim(), budget.claim());
        assert!(young.hold(0, FREE + MIB));
        assert!(!newcomer.hold(0, FREE + MIB));
        assert!(!told(&young) && young.hold(0, FREE + MIB));
    }

    #[test]
    fn the_oldest_messages_give_way_as_many_as_needed() {
        let budget = Budget::new(3 * MIB, Duration::ZERO);
        let mut old: Vec<_> = (0..3).map(|_| budget.claim()).collect();
        assert!(old.iter_mut().all(|claim| claim.hold(0, FREE + MIB)));
        let mut newcomer = budget.claim();
        assert!(newcomer.hold(0, FREE + 2 * MIB));
        assert_eq!(old.iter().map(told).collect::<Vec<_>>(), [true, true, false]);
        assert!(!old[0].hold(0, FREE + MIB), "it is told although it asks for no more");
        assert!(!old[2].hold(0, FREE + 4 * MIB), "too much for anybody");
        assert!(!told(&newcomer), "an older one does not displace a younger one");
        assert!(old[0].hold(0, 0), "and goes on with another message");
        drop(old);
        drop(newcomer);
        assert_eq!(left(&budget), 3 * MIB);
    }

    #[test]
    fn requests_in_work_stay() {
        let budget = Budget::new(MIB, Duration::ZERO);
        let (mut worker, mut newcomer) = (budget.claim(), budget.claim());
        assert!(worker.hold(0, FREE + MIB));
        worker.complete();
        assert!(worker.hold(FREE + MIB, 0));
        assert!(!newcomer.hold(0, FREE + 1));
        assert!(worker.hold(FREE + MIB, 0) && !told(&worker));
    }

    #[test]
    fn a_request_that_was_complete_before_its_message_gave_way() {
        let budget = Budget::new(MIB, Duration::ZERO);
        let (mut worker, mut newcomer) = (budget.claim(), budget.claim());
        assert!(worker.hold(0, FREE + MIB));
        assert!(newcomer.hold(0, FREE + MIB));
        worker.complete();
        assert!(told(&worker) && worker.hold(FREE + MIB, 0) && told(&newcomer), "it takes its memory back");
        assert!(!newcomer.hold(0, FREE + MIB));
        assert!(newcomer.hold(0, 0) && !newcomer.hold(FREE + MIB, 0), "nothing more until the request is answered");
        drop(worker);
        drop(newcomer);
        assert_eq!(left(&budget), MIB);
    }

    #[test]
    fn the_next_message_is_a_young_one() {
        let budget = Budget::new(3 * MIB, Duration::ZERO);
        let (mut first, mut second) = (budget.claim(), budget.claim());
        assert!(first.hold(0, FREE + MIB) && second.hold(0, FREE + MIB));
        first.complete();
        assert!(first.hold(0, FREE + MIB));
        let mut newcomer = budget.claim();
        assert!(newcomer.hold(0, FREE + 2 * MIB));
        assert!(told(&second) && !told(&first));
    }
}
