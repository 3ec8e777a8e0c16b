//! What can be seen of a model from outside.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mms_protocol::view::ModelState;

use super::model::{Phase, Process};
use super::progress::Progress;
use super::{Lifecycle, WorkerId};
use crate::memory::{Amounts, Held};

/// What can be seen of a model from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Its state.
    pub state: ModelState,
    /// Why, for a person; else empty.
    pub message: String,
    /// How far its load is, while loading.
    pub progress: Option<Progress>,
    /// Idleness after which it is unloaded; `None`: never.
    pub idle_unload: Option<Duration>,
    /// When it is unloaded if nobody asks for it until then; `None`: not resident, busy, or never.
    pub expires: Option<Instant>,
    /// What its process was measured to hold.
    pub measured: Option<Held>,
    /// What it holds or has reserved, by device.
    pub held: Amounts,
    /// Generations in the worker that somebody waits for.
    pub active: u32,
    /// Requests that wait for it.
    pub queued: u32,
    /// The last request.
    pub last_used: Option<Instant>,
    /// It was loaded, or is being loaded, by guess, and nobody has asked for it yet.
    pub guessed: bool,
    /// Its worker.
    pub worker: Option<WorkerId>,
}

impl Lifecycle {
    /// What can be seen of the model now. `None`: there is no such model.
    pub fn shown(&self, now: Instant, id: &str) -> Option<Shown> {
        let model = self.models.get(id)?;
        let process = model.process();
        let progress = model.progress(now);
        let (state, message) = match &model.phase {
            Phase::Available => (ModelState::AvailableNotLoaded, String::new()),
            Phase::Queued if model.is_measured_first() => {
                (ModelState::Queued, "its memory is being measured".to_owned())
            }
            Phase::Queued => (ModelState::Queued, "waits for memory".to_owned()),
            Phase::Loading { .. } => (
                ModelState::Loading,
                progress.map_or_else(String::new, |progress| format!("loading, {}", progress.text())),
            ),
            Phase::Ready { .. } => (ModelState::Loaded, String::new()),
            Phase::Draining { active, .. } => {
                (ModelState::Draining, format!("ends after {} more answers", active.len()))
            }
            Phase::Ending { .. } => (ModelState::Draining, "its worker is ending".to_owned()),
            Phase::Quarantined { why, .. } => {
                let text = format!("failed {} times in a row, tried again later: {why}", model.failures);
                (ModelState::Quarantined, text)
            }
            Phase::Broken => (ModelState::Broken, model.facts.broken.clone().unwrap_or_default()),
        };
        let active = model.active().map_or(0, |active| active.values().filter(|r| r.cancelled.is_none()).count());
        Some(Shown {
            state,
            message,
            progress,
            idle_unload: model.idle_unload(),
            expires: model.expires(),
            measured: process.and_then(|process| process.measured.clone()),
            held: process.map(Process::held).unwrap_or_default(),
            active: active as u32,
            queued: (model.queue.len() + model.loaders.len()) as u32,
            last_used: model.last_used,
            guessed: process.is_some() && model.is_guess(),
            worker: process.map(|process| process.worker),
        })
    }

    /// Something was learned about the model elsewhere that its view shows.
    pub fn touch(&mut self, id: &str) {
        self.changed.insert(id.to_owned());
    }

    /// The models whose view may differ from when this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }
}
