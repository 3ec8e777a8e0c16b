//! The memory budget: what is held, what is left, what would fit, by device. A model holds the larger of what was reserved for it and
//! what its process was measured to hold, on each device, from before its process is started until that is gone.

use std::collections::BTreeMap;
use std::time::Instant;

use super::model::{Model, Phase, Process};
use super::refusals::Shortage;
use super::{Effect, Lifecycle, Note, refusals};
use crate::memory::Amounts;

/// The memory that models are loaded into, by device; `cpu` is RAM.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// What models may take together.
    pub budget: Amounts,
    /// What each device could give now, less what has to stay free.
    pub available: Amounts,
}

/// What came of measuring a model's need before its first load.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// It needs this.
    Need(Amounts),
    /// It could not be measured; the estimate stands.
    Unknown,
    /// The file cannot be loaded, whatever memory there is.
    CannotLoad(String),
}

impl Lifecycle {
    /// Memory that models hold or have reserved, by device.
    pub fn used(&self) -> Amounts {
        self.models.values().filter_map(Model::process).map(Process::held).sum()
    }

    /// Takes new figures of the memory; they count from the next input on.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// A model waits for memory.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Asks what the model needs, unless that is known or was asked.
    pub(super) fn ask_for_plan(&mut self, id: &str) {
        let Some(model) = self.models.get(id).filter(|model| model.is_measured_first()) else { return };
        if self.planning.insert(id.to_owned()) {
            self.effects.push(Effect::Plan { model: id.to_owned(), version: model.facts.version });
        }
    }

    /// `version`: of what was measured.
    pub(super) fn on_planned(&mut self, now: Instant, id: &str, version: u64, planned: Planned) {
        self.planning.remove(id);
        let Some(model) = self.models.get_mut(id) else { return };
        self.changed.insert(id.to_owned());
        if model.facts.version != version {
            return self.ask_for_plan(id);
        }
        match planned {
            Planned::Need(need) => {
                model.facts.need = need;
                model.facts.unplanned = false;
            }
            Planned::Unknown => model.facts.unplanned = false,
            Planned::CannotLoad(reason) => {
                if !matches!(model.phase, Phase::Queued) {
                    return;
                }
                model.record_failure(now, &reason);
                self.effects.push(Effect::Note(Note::LoadFailed { model: id.to_owned(), reason: reason.clone() }));
                self.forget_wish(id);
                self.refuse_waiting(id, |id| refusals::load_failed(id, &reason));
                self.settle(id);
            }
        }
    }

    /// Would `id` fit if the memory of `gone` were back, and the models `with` loaded besides it? Never when it is larger than the
    /// budget.
    pub(super) fn fits(&self, id: &str, gone: &[&str], with: &[&str]) -> bool {
        self.short_of(id, gone, with).is_none()
    }

    /// The device that has too little.
    fn short_of(&self, id: &str, gone: &[&str], with: &[&str]) -> Option<String> {
        let model = |id: &str| self.models.get(id);
        let mut need = model(id).map(|model| model.facts.need.clone()).unwrap_or_default();
        if let Some(device) = need.short_of(&self.memory.budget) {
            return Some(device.to_owned());
        }
        for other in with {
            need += &model(other).map(|model| model.facts.need.clone()).unwrap_or_default();
        }
        let mut room = self.room();
        for other in gone {
            room += &model(other).map(Model::held).unwrap_or_default();
        }
        need.short_of(&room).map(str::to_owned)
    }

    /// What may be reserved now: the rest of the budget, but not more than the device has. What loads has not taken all of its memory
    /// yet, so the device's own figure is too good by up to as much; so is that of a process that has not used all of its buffers.
    pub(super) fn room(&self) -> Amounts {
        let used = self.used();
        let promised: Amounts = self.models.values().filter_map(Model::process).map(Process::promised).sum();
        let room = |(device, budget): (&str, f64)| {
            let left = budget - used.get(device);
            (device.to_owned(), left.min(self.memory.available.get(device) - promised.get(device)))
        };
        self.memory.budget.iter().map(room).collect()
    }

    /// A process that has grown beyond its reservation may have taken models together over the budget: those that nobody uses go.
    pub(super) fn relieve(&mut self, now: Instant, grown: &str) {
        let mut over = self.used();
        over -= &self.memory.budget;
        let returning: Amounts = self
            .models
            .values()
            .filter(|model| matches!(model.phase, Phase::Draining { .. } | Phase::Ending { .. }))
            .map(Model::held)
            .sum();
        over -= &returning;
        let Some((device, mb)) = over.iter().find(|(_, mb)| *mb > 0.0).map(|(device, mb)| (device.to_owned(), mb))
        else {
            self.over_budget = false;
            return;
        };
        let idle = |model: &Model| model.is_idle() && !model.facts.pinned && model.held().get(&device) > 0.0;
        let mut victims: Vec<(bool, bool, Option<Instant>, String)> = self
            .models
            .iter()
            .filter(|(_, model)| idle(model))
            .map(|(id, model)| (!model.is_guess(), id == grown, model.last_used, id.clone()))
            .collect();
        victims.sort();
        if !self.over_budget {
            self.over_budget = true;
            let note = Note::OverBudget { model: grown.to_owned(), device: device.clone(), over_mb: mb };
            self.effects.push(Effect::Note(note));
        }
        let mut left = mb;
        for (_, _, _, victim) in victims {
            if left <= 0.0 {
                return;
            }
            left -= self.models.get(&victim).map_or(0.0, |model| model.held().get(&device));
            self.retire(now, &victim, "evicted", Vec::new());
        }
    }

    pub(super) fn insufficient(&self, id: &str) -> mms_protocol::Refusal {
        let need = self.models.get(id).map(|model| model.facts.need.clone()).unwrap_or_default();
        let room = self.room();
        // What is short whatever goes; else what is short now.
        let short = need.short_of(&self.memory.budget).or_else(|| need.short_of(&self.lasting(&room)));
        let device = short.or_else(|| need.short_of(&room)).unwrap_or(crate::memory::RAM).to_owned();
        let held = |model: &Model| Some(model.held().get(&device)).filter(|mb| *mb > 0.0);
        let holders: BTreeMap<&str, (f64, bool)> = self
            .models
            .iter()
            .filter_map(|(holder, model)| Some((holder.as_str(), (held(model)?, model.facts.pinned))))
            .collect();
        refusals::insufficient(&Shortage {
            id,
            device: &device,
            needed_mb: need.get(&device),
            budget_mb: self.memory.budget.get(&device),
            free_mb: room.get(&device).max(0.0),
            available_mb: self.memory.available.get(&device).max(0.0),
            need: &need,
            holders,
        })
    }

    pub(super) fn no_free_memory(&self, id: &str) -> mms_protocol::Refusal {
        let need = self.models.get(id).map(|model| model.facts.need.clone()).unwrap_or_default();
        let room = self.room();
        let device = need.short_of(&room).unwrap_or(crate::memory::RAM);
        let free_mb = room.get(device);
        if self.is_asked_for() || self.fits(id, &[], &[]) {
            return refusals::no_place(id);
        }
        refusals::no_free_memory(id, need.get(device), free_mb)
    }

    /// The room there would be without everything that is not pinned.
    fn lasting(&self, room: &Amounts) -> Amounts {
        let mut lasting = room.clone();
        for model in self.models.values().filter(|model| !model.facts.pinned) {
            lasting += &model.held();
        }
        lasting
    }
}
