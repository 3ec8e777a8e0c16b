//! Who may load next, and who has to go for it. Models wait in the order in which they were wanted, so that a large one is not
//! overtaken for ever by small ones.

use std::time::Instant;

use super::model::{Model, Phase, Process};
use super::{Effect, Lifecycle};

/// What can be done for the model that waits longest.
enum Verdict {
    Fits,
    /// It fits when these have gone; possibly nobody, when enough is on its way back already.
    Evict(Vec<String>),
    /// What holds the memory is busy.
    Wait,
    Never,
}

impl Lifecycle {
    /// Somebody wants a model that has no worker.
    pub(super) fn want(&mut self, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        model.phase = Phase::Queued;
        self.waiting.push_back(id.to_owned());
        self.changed.insert(id.to_owned());
    }

    /// Nobody wants it any more.
    pub(super) fn forget_wish(&mut self, id: &str) {
        self.waiting.retain(|waiting| waiting != id);
        if let Some(model) = self.models.get_mut(id) {
            model.phase = Phase::Available;
            self.changed.insert(id.to_owned());
        }
    }

    /// Loads whatever fits, first come first served.
    pub(super) fn admit(&mut self, now: Instant) {
        while let Some(id) = self.waiting.front().cloned() {
            match self.judge(&id) {
                Verdict::Fits => {
                    self.waiting.pop_front();
                    self.spawn(now, &id);
                }
                Verdict::Never => {
                    let refusal = self.insufficient(&id);
                    self.forget_wish(&id);
                    self.refuse_waiting(&id, |_| refusal.clone());
                }
                Verdict::Evict(victims) => {
                    for victim in victims {
                        self.retire(now, &victim, "evicted", Vec::new());
                    }
                    return;
                }
                Verdict::Wait => return,
            }
        }
    }

    fn spawn(&mut self, now: Instant, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        self.last_worker += 1;
        let worker = self.last_worker;
        let process = Process {
            worker,
            version: model.facts.version,
            reserved_mb: model.facts.estimated_mb,
            measured_mb: None,
            heard: now,
        };
        model.phase = Phase::Loading { process, fraction: 0.0, since: now };
        self.workers.insert(worker, id.to_owned());
        self.changed.insert(id.to_owned());
        self.effects.push(Effect::Spawn { worker, model: id.to_owned() });
    }

    fn judge(&self, id: &str) -> Verdict {
        if self.fits(id, &[], &[]) {
            return Verdict::Fits;
        }
        let mut gone: Vec<&str> = Vec::new();
        let mut busy: Vec<&str> = Vec::new();
        let mut idle: Vec<(&str, &Model)> = Vec::new();
        for (other, model) in &self.models {
            match &model.phase {
                Phase::Draining { .. } | Phase::Ending { .. } => gone.push(other),
                Phase::Ready { .. } | Phase::Loading { .. } if model.facts.pinned => {}
                Phase::Ready { .. } if model.is_idle() => idle.push((other, model)),
                Phase::Ready { .. } | Phase::Loading { .. } => busy.push(other),
                Phase::Available | Phase::Queued | Phase::Quarantined { .. } | Phase::Broken => {}
            }
        }
        idle.sort_by_key(|(_, model)| model.last_used);
        let mut victims = Vec::new();
        let mut candidates = idle.iter();
        while !self.fits(id, &gone, &[]) {
            let Some((victim, _)) = candidates.next() else {
                gone.extend(busy);
                return if self.fits(id, &gone, &[]) { Verdict::Wait } else { Verdict::Never };
            };
            gone.push(victim);
            victims.push((*victim).to_owned());
        }
        Verdict::Evict(victims)
    }
}
