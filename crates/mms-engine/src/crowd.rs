//! How many threads compute a step, given who else wants the cores: pure decisions, no clock of their own.
//!
//! ggml's threads meet after every operation and wait for each other by spinning. When another process takes a core away from one
//! of them, the others burn their cores until it is back, hundreds of times for each token: two threads on two busy cores were
//! measured at 2 tokens/s where one thread made 23. The kernel counts how often it takes the processor away from us, and threads that
//! spin are missing no time but what is taken from them, so a step that may be crowded out is visible. Whether it really is, only a
//! trial tells: then half the threads go on, and keep at it only if a token costs less time so. The others are tried again after a
//! growing pause.
//!
//! Both must be seen before a trial. Being interrupted often is not enough: the server and its clients wake up for each token, on the
//! model's cores, and mostly take hardly any time. Nor is missing time: threads that wait for a GPU use none.

use std::time::Duration;

/// Preemptions of one thread in one second below which the cores are not crowded: two runnable threads on one core preempt each
/// other more than 100 times a second, an idle machine a few times.
const CROWDED: f64 = 40.0;
/// The share of the threads' time that must be missing besides. One other process that computes takes a third of two cores.
const MISSING: f64 = 0.2;
/// Time over which both are counted.
const WINDOW: Duration = Duration::from_millis(150);
/// Windows in a row that must be crowded: anything may happen in one.
const IN_A_ROW: u32 = 3;
/// Tokens below which a step costs the same: it reads the whole model for one, too.
const LEAST_TOKENS: usize = 2;
/// Steps with more tokens than this are mostly prompts, whose tokens cost less each.
const MOST_ANSWERS: usize = 32;
/// A pause between steps that is more than sampling and sending.
const IDLE: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the kernel has counted so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessorTime {
    /// How often it took the processor away from a thread of this process that wanted to go on.
    pub(crate) preemptions: u64,
    /// Time of all threads.
    pub(crate) process: Duration,
    /// Time of the thread that computes the steps, with the help of others.
    pub(crate) thread: Duration,
}

/// The number of threads in use and how it came to that.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: u32,
    threads: u32,
    window: Option<Window>,
    step: (Duration, ProcessorTime),
    /// Windows in a row that were crowded.
    crowded: u32,
    changed: Duration,
    pause: Duration,
    trial: Option<Trial>,
    /// No trial before this, since the last one failed; and how long the next one that fails is remembered.
    trust_from: Duration,
    distrust: Duration,
}

/// Fewer threads, to be given up if they are slower.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The number of threads before, and what a token cost with them.
    threads: u32,
    cost: Costs,
}

/// Seconds for a token in small steps and in large ones, where there were such.
type Costs = [Option<f64>; 2];

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Duration,
    last: Duration,
    preemptions: u64,
    /// Of its steps: what the clock says, what all threads used, what the one thread used.
    steps: Duration,
    process: Duration,
    thread: Duration,
    /// Time and tokens of its small steps and of its large ones.
    work: [(Duration, usize); 2],
}

impl Window {
    fn new(now: Duration, used: ProcessorTime) -> Self {
        let none = Duration::ZERO;
        let preemptions = used.preemptions;
        Self { began: now, last: now, preemptions, steps: none, process: none, thread: none, work: [(none, 0); 2] }
    }

    fn costs(&self) -> Costs {
        self.work.map(|(took, tokens)| (tokens > 0).then(|| took.as_secs_f64() / tokens as f64))
    }

    /// The share of the time of `threads` that is missing. With fewer than there are, the others still spin for a while, which the one
    /// thread's own time is free of; that one in turn knows nothing of the others.
    fn missing(&self, threads: u32) -> f64 {
        let steps = self.steps.as_secs_f64().max(1e-9);
        let of_all = 1.0 - self.process.as_secs_f64() / steps / f64::from(threads);
        let of_one = 1.0 - self.thread.as_secs_f64() / steps;
        of_all.max(of_one)
    }
}

impl Crowd {
    /// Begins with all threads.
    pub(crate) fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            threads: most,
            window: None,
            step: (Duration::ZERO, ProcessorTime::default()),
            crowded: 0,
            changed: Duration::ZERO,
            pause: FIRST_PAUSE,
            trial: None,
            trust_from: Duration::ZERO,
            distrust: FIRST_PAUSE,
        }
    }

    /// Takes note of a step that begins at `now` (on any clock).
    pub(crate) fn step_begins(&mut self, now: Duration, used: ProcessorTime) {
        // Preemptions while idle say nothing about steps.
        if self.window.is_none_or(|window| now.saturating_sub(window.last) > IDLE) {
            self.window = Some(Window::new(now, used));
        }
        self.step = (now, used);
    }

    /// Takes note of its end and of how many tokens it computed. `Some`: use this many threads from now on.
    pub(crate) fn step_ended(&mut self, now: Duration, used: ProcessorTime, tokens: usize) -> Option<u32> {
        let mut window = self.window?;
        if self.most == 1 {
            return None;
        }
        let (began, before) = self.step;
        let step = now.saturating_sub(began);
        window.steps += step;
        window.process += used.process.saturating_sub(before.process);
        window.thread += used.thread.saturating_sub(before.thread);
        let (time, computed) = &mut window.work[usize::from(tokens > MOST_ANSWERS)];
        *time += step;
        *computed += tokens.max(LEAST_TOKENS);
        let took = now.saturating_sub(window.began);
        if took < WINDOW {
            self.window = Some(Window { last: now, ..window });
            return None;
        }
        self.window = Some(Window::new(now, used));
        let happened = used.preemptions.saturating_sub(window.preemptions) as f64;
        let interrupted = happened / took.as_secs_f64() / f64::from(self.threads) > CROWDED;
        self.crowded = if interrupted && window.missing(self.threads) > MISSING { self.crowded + 1 } else { 0 };
        let threads = match self.trial.take() {
            Some(trial) => self.judge(trial, window.costs(), now),
            None => self.follow(window.costs(), now),
        };
        if threads == self.threads {
            return None;
        }
        self.threads = threads;
        self.changed = now;
        self.crowded = 0;
        Some(threads)
    }

    /// After a trial: were fewer threads the better ones?
    fn judge(&mut self, trial: Trial, cost: Costs, now: Duration) -> u32 {
        let both = trial.cost.iter().zip(cost).find_map(|(&before, after)| Some((before?, after?)));
        // What cannot be compared says nothing, and it may be tried again.
        let Some((before, after)) = both else { return trial.threads };
        if after < before {
            self.distrust = FIRST_PAUSE;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return self.threads;
        }
        self.trust_from = now + self.distrust;
        self.distrust = (self.distrust * 2).min(LONGEST_PAUSE);
        trial.threads
    }

    fn follow(&mut self, cost: Costs, now: Duration) -> u32 {
        let calm_for = now.saturating_sub(self.changed);
        if self.crowded >= IN_A_ROW {
            if self.threads < self.most {
                // Still crowded with fewer threads: the others wait on.
                self.changed = now;
            }
            let fewer = (self.threads / 2).max(1);
            if fewer < self.threads && now >= self.trust_from {
                self.trial = Some(Trial { threads: self.threads, cost });
                return fewer;
            }
        } else if self.threads == self.most && calm_for > LONGEST_PAUSE {
            self.pause = FIRST_PAUSE;
        } else if self.crowded == 0 && calm_for >= self.pause {
            return (self.threads * 2).min(self.most);
        }
        self.threads
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Crowd, ProcessorTime};

    /// Steps of 10 ms and so many tokens as the threads make in that time; the number of threads at the end.
    struct Machine {
        crowd: Crowd,
        now: Duration,
        preemptions: f64,
        used: ProcessorTime,
        threads: u32,
        changes: usize,
    }

    impl Machine {
        fn new(threads: u32) -> Self {
            let used = ProcessorTime::default();
            Self { crowd: Crowd::new(threads), now: Duration::ZERO, preemptions: 0.0, used, threads, changes: 0 }
        }

        /// So many seconds with this many preemptions a second, which take this share of each thread's time.
        fn run(&mut self, seconds: f64, per_second: f64, missing: f64) -> u32 {
            // Where threads are crowded out, those that are left are the faster for it.
            self.run_with(
                seconds,
                per_second,
                missing,
                |threads| if missing > 0.25 { 16 / threads } else { 4 * threads },
            )
        }

        fn run_with(&mut self, seconds: f64, per_second: f64, missing: f64, tokens: impl Fn(u32) -> u32) -> u32 {
            for _ in 0..(seconds * 100.0) as usize {
                self.crowd.step_begins(self.now, self.used);
                self.now += Duration::from_millis(10);
                self.preemptions += per_second / 100.0;
                self.used.preemptions = self.preemptions as u64;
                self.used.thread += Duration::from_millis(10).mul_f64(1.0 - missing);
                self.used.process += Duration::from_millis(10).mul_f64((1.0 - missing) * f64::from(self.threads));
                let tokens = tokens(self.threads) as usize;
                if let Some(threads) = self.crowd.step_ended(self.now, self.used, tokens) {
                    self.threads = threads;
                    self.changes += 1;
                }
            }
            self.threads
        }
    }

    #[test]
    fn threads_follow_the_crowd() {
        let mut machine = Machine::new(4);
        assert_eq!(machine.run(10.0, 8.0, 0.0), 4);
        assert_eq!(machine.run(2.0, 900.0, 0.3), 1);
        assert_eq!(machine.run(30.0, 150.0, 0.3), 1);
        assert_eq!(machine.run(30.0, 2.0, 0.0), 4);
        let mut single = Machine::new(1);
        assert_eq!(single.run(10.0, 900.0, 0.5), 1);
    }

    #[test]
    fn many_short_interruptions_are_no_crowd_and_waiting_for_a_gpu_is_none() {
        assert_eq!(Machine::new(2).run(10.0, 400.0, 0.04), 2);
        assert_eq!(Machine::new(2).run(10.0, 5.0, 0.8), 2);
    }

    #[test]
    fn fewer_threads_that_are_slower_are_given_up_and_tried_less_and_less_often() {
        let mut machine = Machine::new(4);
        for _ in 0..60 {
            machine.run_with(1.0, 400.0, 0.24, |threads| 4 * threads);
        }
        // Each trial changes the number twice; pauses of 2, 4, 8, 16 and 32 seconds lie between them.
        assert!((8..=12).contains(&machine.changes), "{}", machine.changes);
        assert_eq!(machine.run_with(1.0, 0.0, 0.0, |threads| 4 * threads), 4);
    }

    #[test]
    fn what_happens_while_idle_does_not_count() {
        let mut machine = Machine::new(2);
        machine.run(1.0, 0.0, 0.0);
        machine.now += Duration::from_secs(60);
        machine.preemptions += 1e6;
        assert_eq!(machine.run(1.0, 0.0, 0.0), 2);
    }

    proptest! {
        #[test]
        fn never_none_and_never_too_many(
            most in 1_u32..64,
            steps in proptest::collection::vec((0_u64..7000, 0_u64..3000, 0_u64..7000, 0_usize..600), 0..200),
        ) {
            let mut crowd = Crowd::new(most);
            let (mut now, mut used) = (Duration::ZERO, ProcessorTime::default());
            for (milliseconds, more, busy, tokens) in steps {
                if milliseconds % 3 > 0 {
                    crowd.step_begins(now, used);
                }
                now += Duration::from_millis(milliseconds);
                used.preemptions += more;
                used.process += Duration::from_millis(busy);
                used.thread += Duration::from_millis(busy / 2);
                if let Some(threads) = crowd.step_ended(now, used, tokens) {
                    prop_assert!(threads >= 1 && threads <= most);
                }
            }
        }
    }
}
