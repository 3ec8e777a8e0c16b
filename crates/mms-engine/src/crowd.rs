//! How many threads compute a step, given who else wants the cores: pure decisions, no clock of their own.
//!
//! ggml's threads meet after every operation and wait for each other by spinning. When another process takes a core away from one
//! of them, the others burn their cores until it is back, hundreds of times for each token: two threads on two busy cores were
//! measured at 2 tokens/s where one thread made 23. The kernel counts how often it takes the processor away from us, so a step
//! that is crowded out is visible; then half the threads go on, and the others are tried again after a growing pause.

use std::time::Duration;

/// Preemptions of one thread in one second above which the cores count as crowded: two runnable threads on one core preempt each
/// other more than 100 times a second, an idle machine a few times.
const CROWDED: f64 = 40.0;
/// Time over which preemptions are counted.
const WINDOW: Duration = Duration::from_millis(150);
/// A pause between steps that is more than sampling and sending.
const IDLE: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The number of threads in use and how it came to that.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: u32,
    threads: u32,
    window: Option<Window>,
    changed: Duration,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Duration,
    last: Duration,
    preemptions: u64,
}

impl Crowd {
    /// Begins with all threads.
    pub(crate) fn new(most: u32) -> Self {
        let most = most.max(1);
        Self { most, threads: most, window: None, changed: Duration::ZERO, pause: FIRST_PAUSE }
    }

    /// Takes note of a step that begins at `now` (on any clock) with `preemptions` of this process so far.
    pub(crate) fn step_begins(&mut self, now: Duration, preemptions: u64) {
        // Preemptions while idle say nothing about steps.
        if self.window.is_none_or(|window| now.saturating_sub(window.last) > IDLE) {
            self.window = Some(Window { began: now, last: now, preemptions });
        }
    }

    /// Takes note of its end. `Some`: use this many threads from now on.
    pub(crate) fn step_ended(&mut self, now: Duration, preemptions: u64) -> Option<u32> {
        let window = self.window?;
        if self.most == 1 {
            return None;
        }
        let took = now.saturating_sub(window.began);
        if took < WINDOW {
            self.window = Some(Window { last: now, ..window });
            return None;
        }
        self.window = Some(Window { began: now, last: now, preemptions });
        let happened = preemptions.saturating_sub(window.preemptions) as f64;
        let crowded = happened / took.as_secs_f64() / f64::from(self.threads) > CROWDED;
        let calm_for = now.saturating_sub(self.changed);
        let threads = if crowded {
            if self.threads < self.most {
                // Still crowded with fewer threads: the others wait on.
                self.changed = now;
            }
            (self.threads / 2).max(1)
        } else if calm_for >= self.pause {
            (self.threads * 2).min(self.most)
        } else {
            self.threads
        };
        if threads < self.threads {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        } else if threads == self.most && calm_for > LONGEST_PAUSE {
            self.pause = FIRST_PAUSE;
        }
        if threads == self.threads {
            return None;
        }
        self.threads = threads;
        self.changed = now;
        Some(threads)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::Crowd;

    /// Steps of 10 ms for `seconds`, with this many preemptions a second; the number of threads at the end.
    struct Machine {
        crowd: Crowd,
        now: Duration,
        preemptions: f64,
        threads: u32,
    }

    impl Machine {
        fn new(threads: u32) -> Self {
            Self { crowd: Crowd::new(threads), now: Duration::ZERO, preemptions: 0.0, threads }
        }

        fn run(&mut self, seconds: f64, per_second: f64) -> u32 {
            for _ in 0..(seconds * 100.0) as usize {
                self.crowd.step_begins(self.now, self.preemptions as u64);
                self.now += Duration::from_millis(10);
                self.preemptions += per_second / 100.0;
                if let Some(threads) = self.crowd.step_ended(self.now, self.preemptions as u64) {
                    self.threads = threads;
                }
            }
            self.threads
        }
    }

    #[test]
    fn threads_follow_the_crowd() {
        let mut machine = Machine::new(4);
        assert_eq!(machine.run(10.0, 8.0), 4);
        assert_eq!(machine.run(1.0, 900.0), 1);
        assert_eq!(machine.run(30.0, 150.0), 1);
        assert_eq!(machine.run(30.0, 2.0), 4);
        let mut single = Machine::new(1);
        assert_eq!(single.run(10.0, 900.0), 1);
    }

    #[test]
    fn what_happens_while_idle_does_not_count() {
        let mut machine = Machine::new(2);
        machine.run(1.0, 0.0);
        machine.now += Duration::from_secs(60);
        machine.preemptions += 1e6;
        assert_eq!(machine.run(1.0, 0.0), 2);
    }

    proptest! {
        #[test]
        fn never_none_and_never_too_many(
            most in 1_u32..64,
            steps in proptest::collection::vec((0_u64..7000, 0_u64..3000), 0..200),
        ) {
            let mut crowd = Crowd::new(most);
            let (mut now, mut preemptions) = (Duration::ZERO, 0);
            for (milliseconds, more) in steps {
                if milliseconds % 3 > 0 {
                    crowd.step_begins(now, preemptions);
                }
                now += Duration::from_millis(milliseconds);
                preemptions += more;
                if let Some(threads) = crowd.step_ended(now, preemptions) {
                    prop_assert!(threads >= 1 && threads <= most);
                }
            }
        }
    }
}
