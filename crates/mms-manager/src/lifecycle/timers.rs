//! What happens because time passes. [`Lifecycle::next_timer`] says when the next [`super::Input::Tick`] is due.

use std::time::{Duration, Instant};

use mms_protocol::worker::RequestId;

use super::model::{Model, Phase};
use super::{Effect, Lifecycle};

/// What one timer of one model asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Hung,
    LoadTooLong,
    CancelIgnored(RequestId),
    Idle,
    Kill,
    PauseOver,
}

impl Lifecycle {
    /// When something happens by itself, if nothing else does before. `None`: never.
    pub fn next_timer(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        let models = self.models.values().filter_map(|model| self.first_due(model)).map(|(at, _)| at).min();
        [deadline, models, self.drain_timer(), self.turn_timer()].into_iter().flatten().min()
    }

    pub(super) fn on_tick(&mut self, now: Instant) {
        if self.drain_until.is_some_and(|until| until <= now) {
            self.end_drain(now);
        }
        while let Some(&(at, request)) = self.deadlines.first()
            && at <= now
        {
            self.time_out(now, request);
        }
        let due: Vec<(String, Due)> = self
            .models
            .iter()
            .filter_map(|(id, model)| {
                self.first_due(model).filter(|&(at, _)| at <= now).map(|(_, due)| (id.clone(), due))
            })
            .collect();
        for (id, due) in due {
            self.on_due(now, &id, due);
        }
    }

    fn first_due(&self, model: &Model) -> Option<(Instant, Due)> {
        let limits = &self.limits;
        match &model.phase {
            Phase::Available | Phase::Queued | Phase::Broken => None,
            Phase::Loading { process, since, .. } => {
                let hung = (process.heard + limits.heartbeat_timeout, Due::Hung);
                let long = (*since + limits.load_timeout, Due::LoadTooLong);
                Some(if hung.0 <= long.0 { hung } else { long })
            }
            Phase::Ready { process, active, .. } => {
                let idle = model.expires().map(|at| (at, Due::Idle));
                let hung = (process.heard + limits.heartbeat_timeout, Due::Hung);
                let ignored = first_ignored(active, limits.heartbeat_timeout);
                [Some(hung), idle, ignored].into_iter().flatten().min_by_key(|&(at, _)| at)
            }
            Phase::Draining { process, active, .. } => {
                let hung = (process.heard + limits.heartbeat_timeout, Due::Hung);
                let ignored = first_ignored(active, limits.heartbeat_timeout);
                [Some(hung), ignored].into_iter().flatten().min_by_key(|&(at, _)| at)
            }
            Phase::Ending { kill_at, .. } => Some((*kill_at, Due::Kill)),
            Phase::Quarantined { until, .. } => Some((*until, Due::PauseOver)),
        }
    }

    fn on_due(&mut self, now: Instant, id: &str, due: Due) {
        match due {
            Due::Hung => {
                let silent = self.limits.heartbeat_timeout.as_secs_f64();
                self.on_hung(now, id, &format!("it has said nothing for {silent} s and was killed"));
            }
            Due::LoadTooLong => {
                let limit = self.limits.load_timeout.as_secs_f64();
                self.on_hung(now, id, &format!("it was not loaded within {limit} s (load_timeout) and was killed"));
            }
            Due::CancelIgnored(request) => {
                self.on_hung(now, id, &format!("it went on with cancelled generation {request} and was killed"));
            }
            Due::Idle => self.retire(now, id, "idle", Vec::new()),
            Due::Kill => {
                let grace = self.limits.shutdown_grace;
                if let Some(model) = self.models.get_mut(id)
                    && let Phase::Ending { process, kill_at, .. } = &mut model.phase
                {
                    *kill_at = now + grace;
                    self.effects.push(Effect::Kill(process.worker));
                }
            }
            Due::PauseOver => {
                if let Some(model) = self.models.get_mut(id) {
                    model.phase = Phase::Available;
                    self.changed.insert(id.to_owned());
                }
            }
        }
    }
}

fn first_ignored(active: &super::model::Active, patience: Duration) -> Option<(Instant, Due)> {
    active
        .iter()
        .filter_map(|(&request, running)| running.cancelled.map(|at| (at + patience, Due::CancelIgnored(request))))
        .min_by_key(|&(at, _)| at)
}
