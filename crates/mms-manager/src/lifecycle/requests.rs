//! Requests: arrival, hand-over to a worker, departure, and the one end that each of them gets.

use std::time::Instant;

use mms_protocol::Refusal;
use mms_protocol::worker::RequestId;

use super::model::{Cause, Phase, Request, Running};
use super::{Ask, Effect, Lifecycle, refusals};

impl Lifecycle {
    pub(super) fn on_generate(&mut self, now: Instant, ask: Ask) {
        let Some(id) = self.accept(now, &ask) else { return };
        let Some(model) = self.models.get_mut(&id) else { return };
        if model.queue.len() >= self.limits.queue_per_model {
            let refusal = refusals::queue_full(model, now);
            return self.end(ask.request, Effect::Refused(ask.request, refusal));
        }
        model.queue.push_back(ask.request);
        model.record_request(now);
        match model.phase {
            Phase::Available => self.want(&id),
            Phase::Ready { .. } => self.dispatch(now, &id),
            _ => {}
        }
    }

    pub(super) fn on_load(&mut self, now: Instant, ask: Ask) {
        let Some(id) = self.accept(now, &ask) else { return };
        let Some(model) = self.models.get_mut(&id) else { return };
        model.guess = None;
        if let Phase::Ready { active, idle_since, .. } = &mut model.phase {
            model.last_used = Some(now);
            if active.is_empty() {
                *idle_since = now;
            }
            return self.end(ask.request, Effect::Loaded(ask.request));
        }
        if model.loaders.len() >= self.limits.queue_per_model {
            let refusal = refusals::queue_full(model, now);
            return self.end(ask.request, Effect::Refused(ask.request, refusal));
        }
        model.loaders.push(ask.request);
        if matches!(model.phase, Phase::Available) {
            self.want(&id);
        }
    }

    /// Work under way ends first; whoever only waits for a load that is not ready yet is refused.
    pub(super) fn on_unload(&mut self, now: Instant, ask: Ask) {
        if let Err(refusal) = self.register(now, &ask) {
            return self.effects.push(Effect::Refused(ask.request, refusal));
        }
        let Some(model) = self.models.get_mut(&ask.model) else { return };
        match &mut model.phase {
            Phase::Available | Phase::Quarantined { .. } | Phase::Broken => {
                self.end(ask.request, Effect::Unloaded { request: ask.request, was_loaded: false });
            }
            Phase::Queued => {
                self.refuse_waiting(&ask.model, refusals::unloaded);
                self.forget_wish(&ask.model);
                self.end(ask.request, Effect::Unloaded { request: ask.request, was_loaded: false });
            }
            Phase::Loading { .. } => {
                self.refuse_waiting(&ask.model, refusals::unloaded);
                self.kill_loading(now, &ask.model, vec![ask.request]);
            }
            Phase::Ready { .. } => self.retire(now, &ask.model, "requested", vec![ask.request]),
            Phase::Draining { unloaders, .. } | Phase::Ending { unloaders, .. } => unloaders.push(ask.request),
        }
    }

    pub(super) fn on_cancel(&mut self, now: Instant, request: RequestId) {
        if let Some(found) = self.requests.get(&request) {
            let id = found.model.clone();
            self.release(now, &id, request);
            self.drop_request(request);
        }
    }

    /// Ends a request whose time is up.
    pub(super) fn time_out(&mut self, now: Instant, request: RequestId) {
        let Some(found) = self.requests.get(&request) else { return };
        let id = found.model.clone();
        let took = found.deadline.saturating_duration_since(found.arrived);
        let refusal = match self.models.get(&id) {
            Some(model) => refusals::timeout(model, request, took, now),
            None => refusals::not_found(&id),
        };
        self.release(now, &id, request);
        self.end(request, Effect::Refused(request, refusal));
    }

    /// Takes a request out of wherever it waits or runs.
    fn release(&mut self, now: Instant, id: &str, request: RequestId) {
        let Some(model) = self.models.get_mut(id) else { return };
        self.changed.insert(id.to_owned());
        model.queue.retain(|&waiting| waiting != request);
        model.loaders.retain(|&waiting| waiting != request);
        match &mut model.phase {
            Phase::Draining { unloaders, .. } | Phase::Ending { unloaders, .. } => {
                unloaders.retain(|&waiting| waiting != request);
            }
            _ => {}
        }
        let worker = model.process().map(|process| process.worker);
        let running = model.active_mut().and_then(|active| active.get_mut(&request));
        if let (Some(worker), Some(running)) = (worker, running)
            && running.cancelled.is_none()
        {
            running.cancelled = Some(now);
            self.effects.push(Effect::CancelInWorker { worker, request });
        }
        if matches!(model.phase, Phase::Queued) && !model.is_wanted() {
            self.forget_wish(id);
        }
    }

    /// Lets a request in, or refuses it. `None`: it has ended.
    pub(super) fn accept(&mut self, now: Instant, ask: &Ask) -> Option<String> {
        let checked = self.register(now, ask).and_then(|()| {
            let Some(model) = self.models.get_mut(&ask.model) else { return Ok(()) };
            match (&model.phase, &model.facts.broken) {
                (Phase::Broken, Some(why)) => Err(refusals::broken(&ask.model, why)),
                (Phase::Quarantined { until, why }, _) if now < *until => {
                    Err(refusals::quarantined(&ask.model, why, model.failures, *until - now))
                }
                (Phase::Quarantined { .. }, _) => {
                    model.phase = Phase::Available;
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        match checked {
            Ok(()) => {
                if let Some(model) = self.models.get_mut(&ask.model) {
                    model.keep_alive = ask.keep_alive.or(model.keep_alive);
                }
                Some(ask.model.clone())
            }
            Err(refusal) => {
                self.drop_request(ask.request);
                self.effects.push(Effect::Refused(ask.request, refusal));
                None
            }
        }
    }

    fn register(&mut self, now: Instant, ask: &Ask) -> Result<(), Refusal> {
        if self.drain_until.is_some() {
            return Err(refusals::shutting_down());
        }
        if !self.models.get(&ask.model).is_some_and(|model| model.listed) {
            return Err(refusals::not_found(&ask.model));
        }
        let request = Request {
            model: ask.model.clone(),
            arrived: now,
            deadline: ask.deadline,
            retried: false,
            started: false,
            keep_alive: ask.keep_alive,
        };
        self.deadlines.insert((ask.deadline, ask.request));
        self.requests.insert(ask.request, request);
        self.changed.insert(ask.model.clone());
        Ok(())
    }

    /// Gives a request its end. A request that has ended already gets none.
    pub(super) fn end(&mut self, request: RequestId, effect: Effect) {
        if self.drop_request(request) {
            self.effects.push(effect);
        }
    }

    fn drop_request(&mut self, request: RequestId) -> bool {
        let Some(known) = self.requests.remove(&request) else { return false };
        self.deadlines.remove(&(known.deadline, request));
        self.changed.insert(known.model);
        true
    }

    /// Refuses everybody who waits for the model without a worker.
    pub(super) fn refuse_waiting(&mut self, id: &str, refusal: impl Fn(&str) -> Refusal) {
        let Some(model) = self.models.get_mut(id) else { return };
        let waiting: Vec<RequestId> = model.queue.drain(..).chain(model.loaders.drain(..)).collect();
        for request in waiting {
            self.end(request, Effect::Refused(request, refusal(id)));
        }
    }

    /// Gives the worker as much as it has use for: what its slots compute, and as many to go on with.
    pub(super) fn dispatch(&mut self, now: Instant, id: &str) {
        self.hand_over(now, id, false);
    }

    /// `everything`: also what its slots have no room for yet.
    pub(super) fn hand_over(&mut self, now: Instant, id: &str, everything: bool) {
        let Some(model) = self.models.get_mut(id) else { return };
        let Phase::Ready { process, slots, active, .. } = &mut model.phase else { return };
        let room = if everything { usize::MAX } else { 2 * *slots as usize };
        let mut late = Vec::new();
        while active.len() < room {
            let Some(request) = model.queue.pop_front() else { break };
            if self.requests.get(&request).is_some_and(|known| known.deadline <= now) {
                late.push(request);
                continue;
            }
            model.last_served = Some(now);
            active.insert(request, Running { since: now, spoke: false, cancelled: None });
            self.effects.push(Effect::Dispatch { worker: process.worker, request });
            self.changed.insert(id.to_owned());
        }
        // Their time was up while they waited.
        for request in late {
            self.time_out(now, request);
        }
    }

    /// Ends a model's worker on purpose: at once when it has no work, else after the work under way.
    pub(super) fn retire(&mut self, now: Instant, id: &str, why: &'static str, unloaders: Vec<RequestId>) {
        // A replaced model serves who waits from its new file, and one that makes room does so in its next turn; otherwise nobody will
        // serve them but this worker.
        if !matches!(why, "replaced" | "evicted") {
            self.hand_over(now, id, true);
        }
        let Some(model) = self.models.get_mut(id) else { return };
        let Phase::Ready { process, slots, since, active, .. } = &mut model.phase else { return };
        let (process, slots, since, active) = (process.clone(), *slots, *since, std::mem::take(active));
        self.changed.insert(id.to_owned());
        let cause = Cause::Purpose(why);
        if active.is_empty() {
            self.effects.push(Effect::Shutdown(process.worker));
            let kill_at = now + self.limits.shutdown_grace;
            model.phase = Phase::Ending { process, cause, unloaders, kill_at };
        } else {
            model.phase = Phase::Draining { process, slots, since, active, cause, unloaders };
        }
    }
}
