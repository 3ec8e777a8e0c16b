//! What a change of the catalogue means for models that are in memory, on their way there, or asked for.

use std::collections::BTreeSet;
use std::time::Instant;

use super::model::{Model, Phase};
use super::{Facts, Lifecycle, refusals};

impl Lifecycle {
    pub(super) fn on_catalogue(&mut self, now: Instant, list: Vec<Facts>) {
        let listed: BTreeSet<String> = list.iter().map(|facts| facts.id.clone()).collect();
        for facts in list {
            self.on_facts(now, facts);
        }
        let gone: Vec<String> = self.models.keys().filter(|id| !listed.contains(*id)).cloned().collect();
        for id in gone {
            if let Some(model) = self.models.get_mut(&id) {
                model.listed = false;
            }
            self.review(now, &id);
        }
    }

    fn on_facts(&mut self, now: Instant, facts: Facts) {
        let id = facts.id.clone();
        let Some(model) = self.models.get_mut(&id) else {
            self.changed.insert(id.clone());
            self.models.insert(id, Model::new(facts));
            return;
        };
        if model.facts == facts && model.listed {
            return;
        }
        if model.facts.version != facts.version {
            model.failures = 0;
            model.sentence = None;
            if matches!(model.phase, Phase::Quarantined { .. }) {
                model.phase = Phase::Available;
            }
        }
        model.facts = facts;
        model.listed = true;
        self.changed.insert(id.clone());
        self.review(now, &id);
    }

    /// Compares a model with its entry in the catalogue. What is resident serves on as long as it can: a removed or replaced
    /// model until its work under way is done, one whose file is broken now until it is idle, and one whose file is being written
    /// to until that has ended, one way or the other.
    pub(super) fn review(&mut self, now: Instant, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        match &model.phase {
            Phase::Ready { process, .. } => {
                let stale = process.version != model.facts.version;
                if !model.listed {
                    self.retire(now, id, "removed", Vec::new());
                } else if model.facts.writing {
                    // Nothing is known yet.
                } else if stale && model.facts.broken.is_none() {
                    self.retire(now, id, "replaced", Vec::new());
                } else if model.facts.broken.is_some() && model.is_idle() {
                    self.retire(now, id, "removed", Vec::new());
                }
            }
            Phase::Queued => {
                if !model.listed {
                    self.forget_wish(id);
                    self.refuse_waiting(id, refusals::not_found);
                    self.models.remove(id);
                } else if let Some(why) = model.facts.broken.clone() {
                    self.forget_wish(id);
                    self.refuse_waiting(id, |id| refusals::broken(id, &why));
                    self.settle(id);
                } else {
                    self.ask_for_plan(id);
                }
            }
            Phase::Available | Phase::Broken => self.settle(id),
            Phase::Quarantined { .. } => {
                if !model.listed || model.facts.broken.is_some() {
                    self.settle(id);
                }
            }
            // The worker's own end, or the end of its load, brings the model here again.
            Phase::Loading { .. } | Phase::Draining { .. } | Phase::Ending { .. } => {}
        }
    }
}
