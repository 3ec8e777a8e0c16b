//! The memory budget: what is held, what is left, what would fit.

use serde_json::{Map, Value};

use super::model::{Model, Phase};
use super::{Lifecycle, refusals};

/// The memory that models are loaded into, MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// What models may take together.
    pub budget_mb: f64,
    /// What the machine could give now, less what has to stay free.
    pub available_mb: f64,
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

    /// Would `id` fit if the memory of `gone` were back, and the models `with` loaded besides it?
    pub(super) fn fits(&self, id: &str, gone: &[&str], with: &[&str]) -> bool {
        let held = |id: &&str| self.models.get(*id).map_or(0.0, Model::held_mb);
        let need = |id: &&str| self.models.get(*id).map_or(0.0, |model| model.facts.estimated_mb);
        let (back, taken): (f64, f64) = (gone.iter().map(held).sum(), with.iter().map(need).sum());
        need(&id) + taken <= self.room_mb() + back
    }

    /// What may be reserved now, MiB: the rest of the budget, but not more than the machine has. What loads has not taken all of
    /// its memory yet, so the machine's figure is too good by up to as much.
    fn room_mb(&self) -> f64 {
        let loading = |model: &Model| if matches!(model.phase, Phase::Loading { .. }) { model.held_mb() } else { 0.0 };
        let promised: f64 = self.models.values().map(loading).sum();
        (self.memory.budget_mb - self.used_mb()).min(self.memory.available_mb - promised)
    }

    pub(super) fn insufficient(&self, id: &str) -> mms_protocol::Refusal {
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
