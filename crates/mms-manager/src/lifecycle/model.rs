//! One model and one request. A variant of [`Phase`] holds only what exists in that state.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mms_protocol::KeepAlive;
use mms_protocol::worker::RequestId;

use super::progress::Progress;
use super::{Facts, WorkerId};
use crate::memory::{Amounts, Held, RAM};

/// Failures in a row after which a model is quarantined.
pub(super) const FAILURES_ALLOWED: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Model {
    pub(super) facts: Facts,
    /// Still in the catalogue.
    pub(super) listed: bool,
    pub(super) phase: Phase,
    /// Generations without a worker, the longest waiting first.
    pub(super) queue: VecDeque<RequestId>,
    /// Requests that end when the model is resident.
    pub(super) loaders: Vec<RequestId>,
    /// Loads that failed and workers that died since the last success.
    pub(super) failures: u32,
    /// Set by the failure that was one too many, until the model enters [`Phase::Quarantined`].
    pub(super) sentence: Option<(Instant, String)>,
    pub(super) last_used: Option<Instant>,
    /// It is wanted or resident only since somebody guesses that it will be asked for.
    pub(super) guess: Option<Guess>,
    /// The last keep-alive that was given; holds until it is unloaded.
    pub(super) keep_alive: Option<KeepAlive>,
    /// When it was last asked for, and the running mean of the time between two such moments.
    pub(super) asked: Option<Instant>,
    pub(super) interval: Option<Duration>,
    /// When a request of its queue was last given to its worker, or left it.
    pub(super) last_served: Option<Instant>,
    /// What its last load took.
    pub(super) last_load: Option<Duration>,
    /// Running mean of the time that a generation takes in the worker.
    pub(super) service: Option<Duration>,
}

/// A guess that a model will be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guess {
    /// How long the model stays without a request; `None`: as long as others.
    pub(super) stay: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Available,
    /// Waits for memory.
    Queued,
    Loading {
        process: Process,
        fraction: f32,
        since: Instant,
    },
    Ready {
        process: Process,
        slots: u32,
        /// Resident since.
        since: Instant,
        active: Active,
        idle_since: Instant,
    },
    /// Ends when the last of `active` has ended.
    Draining {
        process: Process,
        slots: u32,
        since: Instant,
        active: Active,
        cause: Cause,
        unloaders: Vec<RequestId>,
    },
    /// The process was asked to end, or is dying.
    Ending {
        process: Process,
        cause: Cause,
        unloaders: Vec<RequestId>,
        kill_at: Instant,
    },
    Quarantined {
        until: Instant,
        why: String,
    },
    Broken,
}

/// Generations in a worker.
pub(super) type Active = BTreeMap<RequestId, Running>;

/// A worker process and the memory that counts as its own until it is gone.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) worker: WorkerId,
    /// [`Facts::version`] of what it loaded.
    pub(super) version: u64,
    pub(super) reserved: Amounts,
    pub(super) measured: Option<Held>,
    pub(super) heard: Instant,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) since: Instant,
    /// Something of the answer has left for the client, so the generation cannot begin again.
    pub(super) spoke: bool,
    /// Its request has ended; the worker was told to stop then.
    pub(super) cancelled: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Ended on purpose after it had answered; the word is the event's reason.
    Purpose(&'static str),
    /// Ended before it was resident, on purpose or not; already told.
    NeverReady,
    /// Killed because it hung; already told.
    Hung,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) model: String,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
    /// Its worker died once.
    pub(super) retried: bool,
    pub(super) started: bool,
    pub(super) keep_alive: Option<KeepAlive>,
}

impl Process {
    pub(super) fn held(&self) -> Amounts {
        match &self.measured {
            Some(measured) => self.reserved.larger(&measured.amounts),
            None => self.reserved.clone(),
        }
    }

    /// What is reserved for it, and still among what the device itself calls available.
    pub(super) fn promised(&self) -> Amounts {
        let mut promised = self.held();
        if let Some(measured) = &self.measured {
            promised -= &measured.amounts;
            // The kernel counts pages that it could take back as available.
            promised.add(RAM, measured.reclaimable_mb);
        }
        promised
    }
}

impl Model {
    pub(super) fn new(facts: Facts) -> Self {
        let phase = if facts.broken.is_some() { Phase::Broken } else { Phase::Available };
        Self {
            facts,
            listed: true,
            phase,
            queue: VecDeque::new(),
            loaders: Vec::new(),
            failures: 0,
            sentence: None,
            last_used: None,
            guess: None,
            keep_alive: None,
            asked: None,
            interval: None,
            last_served: None,
            last_load: None,
            service: None,
        }
    }

    pub(super) fn process(&self) -> Option<&Process> {
        match &self.phase {
            Phase::Loading { process, .. }
            | Phase::Ready { process, .. }
            | Phase::Draining { process, .. }
            | Phase::Ending { process, .. } => Some(process),
            Phase::Available | Phase::Queued | Phase::Quarantined { .. } | Phase::Broken => None,
        }
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.phase {
            Phase::Loading { process, .. }
            | Phase::Ready { process, .. }
            | Phase::Draining { process, .. }
            | Phase::Ending { process, .. } => Some(process),
            Phase::Available | Phase::Queued | Phase::Quarantined { .. } | Phase::Broken => None,
        }
    }

    pub(super) fn active(&self) -> Option<&Active> {
        match &self.phase {
            Phase::Ready { active, .. } | Phase::Draining { active, .. } => Some(active),
            _ => None,
        }
    }

    pub(super) fn active_mut(&mut self) -> Option<&mut Active> {
        match &mut self.phase {
            Phase::Ready { active, .. } | Phase::Draining { active, .. } => Some(active),
            _ => None,
        }
    }

    pub(super) fn held(&self) -> Amounts {
        self.process().map(Process::held).unwrap_or_default()
    }

    /// Its need is being measured, so nobody can say yet whether it fits.
    pub(super) fn is_measured_first(&self) -> bool {
        matches!(self.phase, Phase::Queued) && self.facts.unplanned
    }

    /// Idleness after which it is unloaded; `None`: never.
    pub(super) fn idle_unload(&self) -> Option<Duration> {
        let usual = match self.keep_alive {
            _ if self.facts.pinned => return None,
            None => self.facts.idle_unload,
            Some(KeepAlive::Forever) => None,
            Some(KeepAlive::For(time)) => Some(time),
        };
        let stay = self.guess.and_then(|guess| guess.stay);
        [usual, stay].into_iter().flatten().min()
    }

    /// When it is unloaded if nobody asks for it until then.
    pub(super) fn expires(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Ready { idle_since, .. } if self.is_idle() => idle_since.checked_add(self.idle_unload()?),
            _ => None,
        }
    }

    /// Its load under way.
    pub(super) fn progress(&self, now: Instant) -> Option<Progress> {
        match &self.phase {
            Phase::Loading { fraction, since, .. } => {
                Some(Progress::of(*fraction, now.saturating_duration_since(*since), self.last_load))
            }
            _ => None,
        }
    }

    /// Somebody waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.queue.is_empty() || !self.loaders.is_empty()
    }

    /// Resident and without work.
    pub(super) fn is_idle(&self) -> bool {
        matches!(&self.phase, Phase::Ready { active, .. } if active.is_empty()) && self.queue.is_empty()
    }

    /// Counts a failure; the third in a row and each further one is followed by a pause, three times as long each time.
    pub(super) fn record_failure(&mut self, now: Instant, why: &str) {
        self.failures += 1;
        if self.failures >= FAILURES_ALLOWED {
            self.sentence = Some((now + pause_of(self.failures), why.to_owned()));
        }
    }

    /// Somebody asks for it.
    pub(super) fn record_request(&mut self, now: Instant) {
        if let Some(before) = self.asked.replace(now) {
            let passed = now.saturating_duration_since(before);
            self.interval = Some(self.interval.map_or(passed, |mean| (mean * 7 + passed) / 8));
        }
        self.last_used = Some(now);
        self.guess = None;
    }

    pub(super) fn record_success(&mut self, took: Duration) {
        self.failures = 0;
        self.service = Some(self.service.map_or(took, |mean| (mean * 7 + took) / 8));
    }

    /// When it may be worth asking again, if the queue is full.
    pub(super) fn retry_after(&self, now: Instant) -> Duration {
        let loading = self.progress(now).and_then(|progress| progress.remaining).unwrap_or_default();
        let rounds = self.queue.len().div_ceil(self.facts.slots.max(1) as usize) as u32;
        let each = self.service.unwrap_or(Duration::from_secs(1));
        (loading + each.saturating_mul(rounds)).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }
}

/// How long a model rests after that many failures in a row.
pub(super) fn pause_of(failures: u32) -> Duration {
    let step = failures.saturating_sub(FAILURES_ALLOWED);
    FIRST_PAUSE.saturating_mul(3_u32.saturating_pow(step)).min(LONGEST_PAUSE)
}
