//! The times of one connection behind a single timer, which is armed only when something can become due.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Heartbeat,
    pulse::{Beat, Pulse},
};

pub(super) struct Timers {
    pub(super) pulse: Pulse,
    /// When a connection that is ending is given up.
    pub(super) end_by: Option<Instant>,
    write_timeout: Option<Duration>,
    stalled: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Dead,
    NotReading,
    End,
}

impl Timers {
    pub(super) fn new(heartbeat: Option<Heartbeat>, write_timeout: Option<Duration>) -> Self {
        let pulse = Pulse::new(heartbeat, Instant::now());
        Self { pulse, end_by: None, write_timeout, stalled: None, sleep: None }
    }

    /// Something came from the peer.
    pub(super) fn hear(&mut self) {
        if self.pulse.due().is_some() {
            self.pulse.hear(Instant::now());
        }
    }

    /// The peer took `written` bytes, and whether that was all.
    pub(super) fn wrote(&mut self, written: usize, all: bool) {
        if self.write_timeout.is_none() {
            return;
        }
        if all {
            self.stalled = None;
        } else if written > 0 || self.stalled.is_none() {
            self.stalled = Some(Instant::now());
        }
    }

    fn next(&self) -> Option<Instant> {
        let write = self.stalled.zip(self.write_timeout).map(|(since, timeout)| since + timeout);
        [self.pulse.due(), self.end_by, write].into_iter().flatten().min()
    }

    /// Ready when [`Timers::due_now`] should be asked.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = self.next() else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(next)));
        // A timer that fires early is harmless; so traffic, which only moves things back, need not touch it.
        if next < sleep.deadline() || sleep.is_elapsed() {
            sleep.as_mut().reset(next);
        }
        sleep.as_mut().poll(cx)
    }

    /// What to do at `now`. While we have `paused` reading, silence is our own doing.
    pub(super) fn due_now(&mut self, now: Instant, paused: bool) -> Due {
        let write = self.stalled.zip(self.write_timeout).map(|(since, timeout)| since + timeout);
        if self.end_by.is_some_and(|end| now >= end) {
            return Due::End;
        }
        if write.is_some_and(|due| now >= due) {
            return Due::NotReading;
        }
        if paused {
            self.pulse.hear(now);
        }
        match self.pulse.beat(now) {
            Beat::Nothing => Due::Nothing,
            Beat::Ping => Due::Ping,
            Beat::Dead => Due::Dead,
        }
    }
}
