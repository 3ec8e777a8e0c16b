//! Growing pauses between tries.

use std::time::Duration;

/// Before the second try.
const FIRST: Duration = Duration::from_millis(250);
/// However often it has failed.
const LONGEST: Duration = Duration::from_secs(15);

/// The pause before the next try.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// It failed: how long to wait now.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(LONGEST);
        pause
    }

    /// It works: the next failure begins anew.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST};

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..10).map(|_| backoff.pause()).collect();
        assert!(
            pauses.is_sorted() && pauses[0] == FIRST && pauses[1] == FIRST * 2 && pauses[9] == LONGEST,
            "{pauses:?}"
        );
        backoff.reset();
        assert_eq!(backoff.pause(), FIRST);
    }
}
