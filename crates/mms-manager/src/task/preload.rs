//! Loading ahead of requests: what the configuration names, and what will probably be asked for.

use std::time::{SystemTime, UNIX_EPOCH};

use mms_protocol::view::ModelState;
use mms_protocol::worker::RequestId;
use mms_protocol::{ErrorCode, Refusal};

use super::Task;
use crate::lifecycle::{GAVE_WAY, Input};
use crate::prediction::{Moment, Turn};

impl Task {
    /// Loads what the configuration wants in memory from the start.
    pub(super) fn preload(&mut self) {
        let wanted: Vec<String> =
            self.entries.values().filter(|entry| entry.preload).map(|entry| entry.id.clone()).collect();
        for model in wanted {
            let request = self.new_request();
            self.clients.add_preload(request, model.clone());
            self.decide(Input::Load(self.ask(request, model, None)));
        }
    }

    fn new_request(&self) -> RequestId {
        self.last_request.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    /// Somebody names a model to load ahead.
    pub(super) fn on_preload(&mut self, request: RequestId, model: String) {
        self.look_before_loading(&model);
        self.decide(Input::Preload { ask: self.ask(request, model, None), stay: None });
    }

    /// Loads what is likely enough and has room; see [`crate::prediction`].
    pub(super) fn load_ahead(&mut self) {
        let now = Moment::local(epoch_s());
        let (views, entries) = (&self.views, &self.entries);
        let absent = |model: &str| {
            let pinned = entries.get(model).is_none_or(|entry| entry.pinned);
            !pinned && views.get(model).is_some_and(|view| view.status == ModelState::AvailableNotLoaded)
        };
        let wanted = self.predictions.look(now, absent);
        if !wanted.is_empty() {
            self.look_at_memory();
        }
        for model in wanted {
            tracing::debug!(model, "likely to be asked for; loaded ahead if there is free memory");
            let request = self.new_request();
            self.clients.add_guess(request, model.clone());
            let stay = Some(self.config.prediction.lookahead());
            self.decide(Input::Preload { ask: self.ask(request, model, None), stay });
        }
        if let Some((turn, view)) = self.predictions.turned() {
            match turn {
                Turn::Stopped => tracing::warn!("loading ahead of requests has {}", view.detail),
                Turn::GoesOn => tracing::info!("models are loaded ahead of requests again: {}", view.detail),
            }
        }
    }

    /// A guess was not loaded.
    pub(super) fn guess_refused(&self, model: &str, refusal: &Refusal) {
        tracing::debug!(model, %refusal, "not loaded ahead");
        if refusal.details.contains_key(GAVE_WAY) {
            return self.predictions.left(epoch_s(), model, "evicted");
        }
        let room = matches!(refusal.code, ErrorCode::InsufficientMemory | ErrorCode::Cancelled);
        self.predictions.refused(epoch_s(), model, room);
    }

    /// A model has left memory.
    pub(super) fn tell_predictions(&self, model: &str, reason: &str) {
        self.predictions.left(epoch_s(), model, reason);
    }
}

fn epoch_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
