//! The memory budget: who may load next, and who has to go for it. Models wait in the order in which they were wanted, so that a
//! large one is not overtaken for ever by small ones.

use std::time::Instant;

use serde_json::{Map, Value};

use super::model::{Model, Phase, Process};
use super::{Effect, Lifecycle, refusals};

/// The memory that models are loaded into, MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// What models may take together.
    pub budget_mb: f64,
    /// What the machine could give now, less what has to stay free.
    pub available_mb: f64,
}

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
    /// Memory that models hold or have reserved, MiB.
    pub fn used_mb(&self) -> f64 {
        self.models.values().map(Model::held_mb).sum()
    }

    /// Takes new figures of the memory; they count from the next input on.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// A model waits for memory.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

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
        let Some(need) = self.models.get(id).map(|model| model.facts.estimated_mb) else { return Verdict::Never };
        let mut room = self.room_mb();
        if need <= room {
            return Verdict::Fits;
        }
        let mut busy = 0.0;
        let mut idle: Vec<(&String, &Model)> = Vec::new();
        for (other, model) in &self.models {
            match &model.phase {
                Phase::Draining { .. } | Phase::Ending { .. } => room += model.held_mb(),
                Phase::Ready { .. } | Phase::Loading { .. } if model.facts.pinned => {}
                Phase::Ready { .. } if model.is_idle() => idle.push((other, model)),
                Phase::Ready { .. } | Phase::Loading { .. } => busy += model.held_mb(),
                Phase::Available | Phase::Queued | Phase::Quarantined { .. } | Phase::Broken => {}
            }
        }
        idle.sort_by_key(|(_, model)| model.last_used);
        let mut victims = Vec::new();
        let mut candidates = idle.iter();
        while need > room {
            let Some((victim, model)) = candidates.next() else {
                return if need <= room + busy { Verdict::Wait } else { Verdict::Never };
            };
            room += model.held_mb();
            victims.push((*victim).clone());
        }
        Verdict::Evict(victims)
    }

    /// What may be reserved now, MiB: the rest of the budget, but not more than the machine has. What loads has not taken all of
    /// its memory yet, so the machine's figure is too good by up to as much.
    fn room_mb(&self) -> f64 {
        let loading = |model: &Model| if matches!(model.phase, Phase::Loading { .. }) { model.held_mb() } else { 0.0 };
        let promised: f64 = self.models.values().map(loading).sum();
        (self.memory.budget_mb - self.used_mb()).min(self.memory.available_mb - promised)
    }

    fn insufficient(&self, id: &str) -> mms_protocol::Refusal {
        let needed = self.models.get(id).map_or(0.0, |model| model.facts.estimated_mb);
        let holders: Map<String, Value> = self
            .models
            .iter()
            .filter(|(_, model)| model.held_mb() > 0.0)
            .map(|(holder, model)| (holder.clone(), mms_protocol::reply::mb(model.held_mb())))
            .collect();
        refusals::insufficient(id, needed, self.memory.budget_mb, self.room_mb().max(0.0), holders)
    }
}
