//! What workers say and how they end.

use std::time::Instant;

use mms_protocol::worker::RequestId;

use super::model::{Active, Cause, Phase, Process};
use super::{Effect, Lifecycle, Note, Said, WorkerId, WorkerInput, refusals};
use crate::memory::Held;

impl Lifecycle {
    pub(super) fn on_worker(&mut self, now: Instant, worker: WorkerId, input: WorkerInput) {
        let Some(id) = self.workers.get(&worker).cloned() else { return };
        let Some(model) = self.models.get_mut(&id) else { return };
        // What is measured about a process says nothing about its health.
        let alive = !matches!(input, WorkerInput::Measured(_));
        if let Some(process) = model.process_mut().filter(|_| alive) {
            process.heard = now;
        }
        match input {
            WorkerInput::Alive => {
                // The seconds of its load are part of its view.
                if matches!(model.phase, Phase::Loading { .. }) {
                    self.changed.insert(id);
                }
            }
            WorkerInput::Progress(reached) => {
                if let Phase::Loading { fraction, .. } = &mut model.phase {
                    *fraction = reached.clamp(0.0, 1.0);
                    self.changed.insert(id);
                }
            }
            WorkerInput::Measured(measured) => {
                if let Some(process) = model.process_mut() {
                    process.measured = Some(measured);
                    self.changed.insert(id.clone());
                    self.relieve(now, &id);
                }
            }
            WorkerInput::Loaded { slots, measured } => self.on_loaded(now, &id, slots, measured),
            WorkerInput::LoadFailed(reason) => self.on_load_failed(now, &id, &reason),
            WorkerInput::Says(request, said) => self.on_said(now, &id, request, said),
            WorkerInput::Gone(reason) => self.on_gone(now, &id, &reason),
        }
    }

    fn on_loaded(&mut self, now: Instant, id: &str, slots: u32, measured: Option<Held>) {
        let Some(model) = self.models.get_mut(id) else { return };
        let Phase::Loading { process, since, .. } = &mut model.phase else { return };
        model.last_load = Some(now.saturating_duration_since(*since));
        let process = Process { measured, ..process.clone() };
        self.effects.push(Effect::Note(Note::Loaded { model: id.to_owned(), worker: process.worker }));
        model.phase = Phase::Ready { process, slots: slots.max(1), since: now, active: Active::new(), idle_since: now };
        if !model.is_guess() {
            model.last_used = Some(now);
        }
        self.changed.insert(id.to_owned());
        self.tell_loaded(id);
        self.dispatch(now, id);
        self.review(now, id);
        self.relieve(now, id);
    }

    /// Ends the loads that wait for a model that is resident.
    pub(super) fn tell_loaded(&mut self, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        for request in std::mem::take(&mut model.loaders) {
            self.end(request, Effect::Loaded(request));
        }
    }

    fn on_load_failed(&mut self, now: Instant, id: &str, reason: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        let Phase::Loading { process, .. } = &mut model.phase else { return };
        let process = process.clone();
        model.record_failure(now, reason);
        self.effects.push(Effect::Note(Note::LoadFailed { model: id.to_owned(), reason: reason.to_owned() }));
        self.effects.push(Effect::Shutdown(process.worker));
        let kill_at = now + self.limits.shutdown_grace;
        model.phase = Phase::Ending { process, cause: Cause::NeverReady, unloaders: Vec::new(), kill_at };
        self.changed.insert(id.to_owned());
        self.refuse_waiting(id, |id| refusals::load_failed(id, reason));
    }

    /// Ends a worker that is not resident yet, by force: there is nothing in it to lose.
    pub(super) fn kill_loading(&mut self, now: Instant, id: &str, unloaders: Vec<RequestId>) {
        let Some(model) = self.models.get_mut(id) else { return };
        let Phase::Loading { process, .. } = &model.phase else { return };
        let process = process.clone();
        self.effects.push(Effect::Kill(process.worker));
        let kill_at = now + self.limits.shutdown_grace;
        model.phase = Phase::Ending { process, cause: Cause::NeverReady, unloaders, kill_at };
        self.changed.insert(id.to_owned());
    }

    fn on_said(&mut self, now: Instant, id: &str, request: RequestId, said: Said) {
        let Some(model) = self.models.get_mut(id) else { return };
        // What a worker says of a generation that is not its own (any more) is of no concern to anybody.
        let Some(running) = model.active_mut().and_then(|active| active.get_mut(&request)) else { return };
        let live = running.cancelled.is_none();
        match said {
            Said::Started { prompt_tokens, cached_tokens, left_out } => {
                if let Some(known) = self.requests.get_mut(&request).filter(|known| live && !known.started) {
                    known.started = true;
                    self.effects.push(Effect::Started { request, prompt_tokens, cached_tokens, left_out });
                }
            }
            Said::Text { text, logprobs } => {
                if live {
                    running.spoke = true;
                    self.effects.push(Effect::Text { request, text, logprobs });
                }
            }
            Said::ToolCall(call) => {
                if live {
                    running.spoke = true;
                    self.effects.push(Effect::ToolCall(request, call));
                }
            }
            Said::Finished(finish) => {
                let took = now.saturating_duration_since(running.since);
                model.record_success(took);
                self.end(request, Effect::Finished(request, finish));
                self.on_left(now, id, request);
            }
            Said::Embedded(vectors) => {
                let took = now.saturating_duration_since(running.since);
                model.record_success(took);
                self.end(request, Effect::Embedded(request, vectors));
                self.on_left(now, id, request);
            }
            Said::Failed(failure) => {
                self.end(request, Effect::Refused(request, refusals::failed(id, failure)));
                self.on_left(now, id, request);
            }
        }
    }

    /// A generation has left the worker.
    fn on_left(&mut self, now: Instant, id: &str, request: RequestId) {
        let Some(model) = self.models.get_mut(id) else { return };
        if let Some(active) = model.active_mut() {
            active.remove(&request);
        }
        self.changed.insert(id.to_owned());
        match &mut model.phase {
            Phase::Ready { idle_since, .. } => {
                *idle_since = now;
                (model.last_used, model.last_served) = (Some(now), Some(now));
                self.dispatch(now, id);
                self.review(now, id);
            }
            Phase::Draining { process, active, cause, unloaders, .. } if active.is_empty() => {
                let (process, cause, unloaders) = (process.clone(), *cause, std::mem::take(unloaders));
                self.effects.push(Effect::Shutdown(process.worker));
                let kill_at = now + self.limits.shutdown_grace;
                model.phase = Phase::Ending { process, cause, unloaders, kill_at };
            }
            _ => {}
        }
    }

    /// The worker answers no longer: kill it, and find another end for what was in it.
    pub(super) fn on_hung(&mut self, now: Instant, id: &str, reason: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        let Some(process) = model.process().cloned() else { return };
        let worker = process.worker;
        let kill_at = now + self.limits.shutdown_grace;
        self.effects.push(Effect::Kill(worker));
        match std::mem::replace(&mut model.phase, Phase::Available) {
            Phase::Loading { .. } => {
                model.phase = Phase::Ending { process, cause: Cause::NeverReady, unloaders: Vec::new(), kill_at };
                model.record_failure(now, reason);
                self.effects.push(Effect::Note(Note::LoadFailed { model: id.to_owned(), reason: reason.to_owned() }));
                self.refuse_waiting(id, |id| refusals::load_failed(id, reason));
            }
            Phase::Ready { active, .. } => {
                model.phase = Phase::Ending { process, cause: Cause::Hung, unloaders: Vec::new(), kill_at };
                self.lose(now, id, active, reason);
            }
            Phase::Draining { active, unloaders, .. } => {
                model.phase = Phase::Ending { process, cause: Cause::Hung, unloaders, kill_at };
                self.lose(now, id, active, reason);
            }
            Phase::Ending { cause, unloaders, .. } => {
                model.phase = Phase::Ending { process, cause, unloaders, kill_at };
            }
            other @ (Phase::Available | Phase::Queued | Phase::Quarantined { .. } | Phase::Broken) => {
                model.phase = other;
            }
        }
        self.changed.insert(id.to_owned());
    }

    /// A worker that answered is lost: what has not said anything yet goes back to the head of the queue, once.
    fn lose(&mut self, now: Instant, id: &str, active: Active, reason: &str) {
        self.effects.push(Effect::Note(Note::WorkerDied { model: id.to_owned(), reason: reason.to_owned() }));
        let Some(model) = self.models.get_mut(id) else { return };
        model.record_failure(now, reason);
        let may_retry = model.listed && self.drain_until.is_none();
        for (request, running) in active.into_iter().rev() {
            let Some(known) = self.requests.get_mut(&request) else { continue };
            if may_retry && !running.spoke && !known.retried {
                known.retried = true;
                if let Some(model) = self.models.get_mut(id) {
                    model.queue.push_front(request);
                }
                self.effects.push(Effect::Note(Note::Retried(request)));
            } else {
                self.end(request, Effect::Refused(request, refusals::died(id, reason)));
            }
        }
    }

    fn on_gone(&mut self, now: Instant, id: &str, reason: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        let Some(worker) = model.process().map(|process| process.worker) else { return };
        self.workers.remove(&worker);
        self.changed.insert(id.to_owned());
        match std::mem::replace(&mut model.phase, Phase::Available) {
            Phase::Loading { .. } => {
                model.record_failure(now, reason);
                self.effects.push(Effect::Note(Note::LoadFailed { model: id.to_owned(), reason: reason.to_owned() }));
                self.retry_load(id, reason);
            }
            Phase::Ready { active, .. } => self.lose(now, id, active, reason),
            Phase::Draining { active, unloaders, .. } => {
                self.lose(now, id, active, reason);
                self.tell_unloaded(unloaders, true);
            }
            Phase::Ending { cause, unloaders, .. } => match cause {
                Cause::Purpose(why) => {
                    model.failures = 0;
                    self.effects.push(Effect::Note(Note::Unloaded { model: id.to_owned(), reason: why }));
                    self.tell_unloaded(unloaders, true);
                }
                Cause::Hung => self.tell_unloaded(unloaders, true),
                Cause::NeverReady => self.tell_unloaded(unloaders, false),
            },
            other @ (Phase::Available | Phase::Queued | Phase::Quarantined { .. } | Phase::Broken) => {
                model.phase = other;
            }
        }
        // As long as only guesses wait for it, it is one.
        if let Some(model) = self.models.get_mut(id).filter(|model| !model.is_wanted()) {
            model.guess = None;
        }
        self.renew_keep_alive(id);
        self.settle(id);
    }

    /// What was given for the model ends with its residence, except by those who still wait for the next one.
    fn renew_keep_alive(&mut self, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        let waiting = model.queue.iter().chain(&model.loaders);
        let given = waiting.filter_map(|request| Some((request, self.requests.get(request)?.keep_alive?)));
        model.keep_alive = given.max_by_key(|&(&request, _)| request).map(|(_, given)| given);
    }

    /// The worker died without a word while loading: whoever has not been through this before waits for another try.
    fn retry_load(&mut self, id: &str, reason: &str) {
        let Some(model) = self.models.get(id) else { return };
        let waiting: Vec<RequestId> = model.queue.iter().chain(&model.loaders).copied().collect();
        for request in waiting {
            let Some(known) = self.requests.get_mut(&request) else { continue };
            if known.retried {
                if let Some(model) = self.models.get_mut(id) {
                    model.queue.retain(|&other| other != request);
                    model.loaders.retain(|&other| other != request);
                }
                self.end(request, Effect::Refused(request, refusals::load_failed(id, reason)));
            } else {
                known.retried = true;
                self.effects.push(Effect::Note(Note::Retried(request)));
            }
        }
    }

    fn tell_unloaded(&mut self, unloaders: Vec<RequestId>, was_loaded: bool) {
        for request in unloaders {
            self.end(request, Effect::Unloaded { request, was_loaded });
        }
    }

    /// Finds the state of a model without a process.
    pub(super) fn settle(&mut self, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        if model.process().is_some() {
            return;
        }
        self.changed.insert(id.to_owned());
        if self.drain_until.is_some() {
            model.phase = if model.facts.broken.is_some() { Phase::Broken } else { Phase::Available };
            self.refuse_waiting(id, |_| refusals::shutting_down());
        } else if !model.listed {
            self.refuse_waiting(id, refusals::not_found);
            self.models.remove(id);
        } else if let Some(why) = model.facts.broken.clone() {
            model.phase = Phase::Broken;
            model.sentence = None;
            self.refuse_waiting(id, |id| refusals::broken(id, &why));
        } else if let Some((until, why)) = model.sentence.take() {
            let failures = model.failures;
            model.phase = Phase::Quarantined { until, why: why.clone() };
            let pause = super::model::pause_of(failures);
            self.refuse_waiting(id, |id| refusals::quarantined(id, &why, failures, pause));
        } else {
            model.phase = Phase::Available;
            if model.is_wanted() {
                self.want(id);
            }
        }
    }
}
