//! The end of everything: no new work, what runs may finish, the rest is refused, every worker ends.

use std::time::Instant;

use mms_protocol::worker::RequestId;

use super::model::Phase;
use super::{Effect, Lifecycle, refusals};

impl Lifecycle {
    /// New work is refused.
    pub fn is_draining(&self) -> bool {
        self.drain_until.is_some()
    }

    /// No request is open and no worker is left.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.workers.is_empty()
    }

    /// Requests without an end, and workers that are not gone.
    pub fn open(&self) -> (usize, usize) {
        (self.requests.len(), self.workers.len())
    }

    /// When the drain has to interfere, if anything is left by then.
    pub(super) fn drain_timer(&self) -> Option<Instant> {
        let unfinished = || self.models.values().any(|model| matches!(model.phase, Phase::Draining { .. }));
        self.drain_until.filter(|_| !self.requests.is_empty() || unfinished())
    }

    pub(super) fn on_drain(&mut self, now: Instant, deadline: Instant) {
        self.drain_until = Some(self.drain_until.map_or(deadline, |earlier| earlier.min(deadline)));
        let ids: Vec<String> = self.models.keys().cloned().collect();
        for id in ids {
            let Some(model) = self.models.get(&id) else { continue };
            match &model.phase {
                Phase::Ready { .. } => self.retire(now, &id, "shutdown", Vec::new()),
                Phase::Loading { .. } => {
                    self.refuse_waiting(&id, |_| refusals::shutting_down());
                    self.kill_loading(now, &id, Vec::new());
                }
                Phase::Queued => {
                    self.forget_wish(&id);
                    self.refuse_waiting(&id, |_| refusals::shutting_down());
                }
                Phase::Draining { .. } | Phase::Ending { .. } => {
                    self.refuse_waiting(&id, |_| refusals::shutting_down());
                }
                Phase::Available | Phase::Quarantined { .. } | Phase::Broken => {}
            }
        }
        if deadline <= now {
            self.end_drain(now);
        }
    }

    /// The deadline has come: whatever is still open is refused, whatever still runs is killed.
    pub(super) fn end_drain(&mut self, now: Instant) {
        let open: Vec<RequestId> = self.requests.keys().copied().collect();
        for request in open {
            self.end(request, Effect::Refused(request, refusals::shutting_down()));
        }
        let ids: Vec<String> = self.models.keys().cloned().collect();
        let kill_at = now + self.limits.shutdown_grace;
        for id in ids {
            let Some(model) = self.models.get_mut(&id) else { continue };
            if let Phase::Draining { process, cause, .. } = &model.phase {
                let (process, cause) = (process.clone(), *cause);
                self.effects.push(Effect::Shutdown(process.worker));
                model.phase = Phase::Ending { process, cause, unloaders: Vec::new(), kill_at };
                self.changed.insert(id);
            }
        }
    }
}
