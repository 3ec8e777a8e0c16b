//! Models that are loaded since somebody guesses that they will be asked for. A guess takes only what is free: it waits for nobody and
//! makes nobody go. Until its model is asked for it is the first to make room, even while it loads.

use std::time::{Duration, Instant};

use super::model::{Guess, Model, Phase};
use super::{Ask, Effect, Lifecycle, refusals};

impl Lifecycle {
    pub(super) fn on_preload(&mut self, now: Instant, ask: Ask, stay: Option<Duration>) {
        let Some(id) = self.accept(now, &ask) else { return };
        let Some(model) = self.models.get_mut(&id) else { return };
        match model.phase {
            Phase::Ready { .. } => self.end(ask.request, Effect::Loaded(ask.request)),
            Phase::Available => {
                model.guess = Some(Guess { stay });
                model.loaders.push(ask.request);
                self.want(&id);
            }
            Phase::Queued | Phase::Loading { .. } if model.loaders.len() < self.limits.queue_per_model => {
                model.loaders.push(ask.request);
            }
            Phase::Queued | Phase::Loading { .. } => {
                let refusal = refusals::queue_full(model, now);
                self.end(ask.request, Effect::Refused(ask.request, refusal));
            }
            Phase::Draining { .. } | Phase::Ending { .. } | Phase::Quarantined { .. } | Phase::Broken => {
                self.end(ask.request, Effect::Refused(ask.request, refusals::leaving(&id)));
            }
        }
    }

    /// What is to be done about the next guess that waits: it is loaded or given up. `None`: there is none.
    pub(super) fn next_guess(&self) -> Option<(String, bool)> {
        let guesses = self.waiting.iter().filter_map(|id| Some((id, self.models.get(id)?)));
        let (id, _) = guesses.into_iter().find(|(_, model)| model.is_guess() && !model.is_measured_first())?;
        Some((id.clone(), !self.is_asked_for() && self.has_room(id, &[], &[])))
    }

    /// Somebody waits for a model that is more than a guess.
    pub(super) fn is_asked_for(&self) -> bool {
        self.waiting.iter().any(|id| self.models.get(id).is_some_and(|model| !model.is_guess()))
    }
}

impl Model {
    /// Nobody has asked for it yet.
    pub(super) fn is_guess(&self) -> bool {
        self.guess.is_some()
    }
}
