//! Who may load next, and who has to go for it: [`super::policy`] put to use. Whose turn it is stands first and is never delayed by
//! those behind it: they may pass only where both will fit. What was told to go for a model is for that model.

use std::collections::BTreeSet;
use std::time::Instant;

use super::model::{Cause, Model, Phase, Process};
use super::policy::{self, Candidate, Waiting};
use super::{Effect, Lifecycle, refusals};

/// So many models that cannot be loaded yet are looked at each time, those whose turn it is first; the others wait unseen.
const LOOKED_AT: usize = 32;

/// What can be done for a model that waits, beside those whose turn comes before.
enum Verdict<'a> {
    Fits,
    /// It fits when those of `gone` have gone; of these `victims` have to be told, the others are on their way.
    Evict {
        gone: Vec<&'a str>,
        victims: Vec<&'a str>,
    },
    /// It will fit when these have gone, but what holds the memory is at work yet.
    Wait {
        gone: Vec<&'a str>,
    },
    /// It has to wait for those before it.
    Behind,
    Never,
}

/// The models whose turn comes before, and what goes or will go for them.
#[derive(Default)]
struct Ahead<'a> {
    models: Vec<&'a str>,
    going: BTreeSet<&'a str>,
}

/// What is to be done next.
enum Step {
    Spawn(String),
    Refuse(String),
    GiveUp(String),
    Evict { victims: Vec<String>, newcomer: String },
}

impl Lifecycle {
    /// Somebody wants a model that has no worker.
    pub(super) fn want(&mut self, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        model.phase = Phase::Queued;
        self.waiting.insert(id.to_owned());
        self.changed.insert(id.to_owned());
        self.ask_for_plan(id);
    }

    /// Nobody wants it any more.
    pub(super) fn forget_wish(&mut self, id: &str) {
        self.waiting.remove(id);
        self.promised.remove(id);
        if let Some(model) = self.models.get_mut(id) {
            model.phase = Phase::Available;
            model.guess = None;
            self.changed.insert(id.to_owned());
        }
    }

    /// Loads whatever may be loaded, and lets those go that have to.
    pub(super) fn admit(&mut self, now: Instant) {
        while let Some(step) = self.next_step(now) {
            match step {
                Step::Spawn(id) => {
                    self.waiting.remove(&id);
                    self.promised.remove(&id);
                    self.spawn(now, &id);
                }
                Step::Refuse(id) => {
                    let refusal = self.hopeless(&id);
                    self.forget_wish(&id);
                    self.refuse_waiting(&id, |_| refusal.clone());
                }
                Step::GiveUp(id) => {
                    let refusal = self.no_free_memory(&id);
                    self.forget_wish(&id);
                    self.refuse_waiting(&id, |_| refusal.clone());
                }
                Step::Evict { victims, newcomer } => {
                    for victim in victims {
                        self.make_go(now, &victim, &newcomer);
                    }
                    self.promised.insert(newcomer);
                }
            }
        }
        if !self.is_asked_for() {
            self.spare(now);
        }
    }

    fn make_go(&mut self, now: Instant, victim: &str, newcomer: &str) {
        let loading = |model: &Model| matches!(model.phase, Phase::Loading { .. });
        if self.models.get(victim).is_some_and(loading) {
            self.refuse_waiting(victim, |victim| refusals::gave_way(victim, newcomer));
            self.kill_loading(now, victim, Vec::new());
        } else {
            self.retire(now, victim, "evicted", Vec::new());
        }
    }

    /// When a model that waits may have one at work go for it; `None`: none waits for that.
    pub(super) fn turn_timer(&self) -> Option<Instant> {
        self.next_turn
    }

    /// The first thing that can be done for those who wait. Notes when to look again by itself.
    fn next_step(&mut self, now: Instant) -> Option<Step> {
        self.next_turn = None;
        if self.waiting.is_empty() {
            return None;
        }
        let (step, next_turn) = self.look(now);
        self.next_turn = next_turn;
        step.or_else(|| {
            let (id, fits) = self.next_guess()?;
            Some(if fits { Step::Spawn(id) } else { Step::GiveUp(id) })
        })
    }

    fn look(&self, now: Instant) -> (Option<Step>, Option<Instant>) {
        let mut ahead = Ahead::default();
        let mut next_turn = None;
        for waiting in self.turns(now).into_iter().take(LOOKED_AT) {
            let id = waiting.id;
            let gone = match self.judge(now, &waiting, &ahead) {
                Verdict::Fits => return (Some(Step::Spawn(id.to_owned())), None),
                Verdict::Never => return (Some(Step::Refuse(id.to_owned())), None),
                Verdict::Evict { gone, victims } if victims.is_empty() => gone,
                Verdict::Evict { victims, .. } => {
                    let victims = victims.into_iter().map(str::to_owned).collect();
                    return (Some(Step::Evict { victims, newcomer: id.to_owned() }), None);
                }
                Verdict::Wait { gone } => {
                    next_turn = [next_turn, self.turn_ends(now, &waiting)].into_iter().flatten().min();
                    gone
                }
                Verdict::Behind => continue,
            };
            ahead.models.push(id);
            ahead.going.extend(gone);
        }
        (None, next_turn)
    }

    /// The models that wait, whose turn it is first.
    fn turns(&self, now: Instant) -> Vec<Waiting<'_>> {
        let mut turns: Vec<Waiting<'_>> = self
            .waiting
            .iter()
            .filter_map(|id| {
                // One whose need is not known yet holds up nobody.
                let model = self.models.get(id).filter(|model| !model.is_measured_first() && !model.is_guess())?;
                let first = |requests: Option<&u64>| requests.and_then(|request| self.requests.get(request));
                let oldest = [first(model.queue.front()), first(model.loaders.first())];
                let oldest = oldest.into_iter().flatten().map(|request| request.arrived).min();
                // A long queue of a model that has just had its turn is no older than that.
                let since = oldest.max(model.last_served).unwrap_or(now);
                Some(Waiting {
                    id,
                    priority: model.facts.priority,
                    age: now.saturating_duration_since(since),
                    requests: model.queue.len() + model.loaders.len(),
                    reload: model.reload_cost(),
                })
            })
            .collect();
        policy::order(&mut turns);
        // What goes for a model is for it.
        turns.sort_by_key(|waiting| !self.promised.contains(waiting.id));
        turns
    }

    fn judge<'a>(&'a self, now: Instant, waiting: &Waiting<'a>, ahead: &Ahead<'a>) -> Verdict<'a> {
        let id = waiting.id;
        let leaving = |model: &Model| matches!(model.phase, Phase::Draining { .. } | Phase::Ending { .. });
        let coming_back = self.models.iter().filter(|(_, model)| leaving(model)).map(|(id, _)| id.as_str());
        let mut back: BTreeSet<&'a str> = ahead.going.clone();
        if self.has_room(id, &[], &[]) && self.has_room(id, &to_vec(&back), &ahead.models) {
            return Verdict::Fits;
        }
        back.extend(coming_back);
        let with = |victims: &[&'a str]| -> Vec<&'a str> { back.iter().chain(victims).copied().collect() };
        let cheapest = |candidates: Vec<Candidate<'a>>| {
            policy::victims(candidates, |victims| self.has_room(id, &with(victims), &ahead.models))
        };
        let all = self.models.iter().filter_map(|(id, model)| candidate(now, id, model));
        let all: Vec<(Candidate<'a>, bool)> = all.filter(|(candidate, _)| !back.contains(candidate.id)).collect();
        let idle = all.iter().filter(|(candidate, _)| !candidate.busy).map(|(candidate, _)| *candidate);
        if let Some(victims) = cheapest(idle.collect()) {
            return Verdict::Evict { gone: with(&victims), victims };
        }
        if waiting.age >= policy::patience(waiting.reload) {
            let may_go = all.iter().filter(|(_, may_go)| *may_go).map(|(candidate, _)| *candidate);
            if let Some(victims) = cheapest(may_go.collect()) {
                return Verdict::Evict { gone: with(&victims), victims };
            }
        }
        let everybody: Vec<&str> = all.iter().map(|(candidate, _)| candidate.id).collect();
        match cheapest(all.into_iter().map(|(candidate, _)| candidate).collect()) {
            Some(victims) => Verdict::Wait { gone: with(&victims) },
            None if self.has_room(id, &with(&everybody), &[]) => Verdict::Behind,
            None => Verdict::Never,
        }
    }

    /// The next moment at which more may be done for a model that waits, if nothing happens before.
    fn turn_ends(&self, now: Instant, waiting: &Waiting<'_>) -> Option<Instant> {
        let patient = policy::patience(waiting.reload).saturating_sub(waiting.age);
        let turns = self.models.values().filter(|model| !model.facts.pinned).filter_map(Model::turn_end);
        [now + patient].into_iter().chain(turns).filter(|&at| at > now).min()
    }

    /// Would `id` be within the budget and the number of models if those of `gone` had gone, and the models `with` were loaded too?
    pub(super) fn has_room(&self, id: &str, gone: &[&str], with: &[&str]) -> bool {
        let most = self.limits.max_loaded_models;
        let loaded = (self.workers.len() + with.len() + 1).saturating_sub(gone.len());
        (most == 0 || loaded <= most) && self.fits(id, gone, with)
    }

    /// Why it can never be loaded as things are.
    fn hopeless(&self, id: &str) -> mms_protocol::Refusal {
        let may_go = |(_, model): &(&String, &Model)| model.process().is_some() && !model.stays();
        let gone: Vec<&str> = self.models.iter().filter(may_go).map(|(id, _)| id.as_str()).collect();
        if !self.fits(id, &gone, &[]) {
            return self.insufficient(id);
        }
        let pinned = self.models.iter().filter(|(_, model)| model.stays()).map(|(id, _)| id.clone()).collect();
        refusals::too_many(id, self.limits.max_loaded_models, pinned)
    }

    /// Nobody waits for memory any more: those who were to make room, and have work yet, stay.
    fn spare(&mut self, now: Instant) {
        if self.drain_until.is_some() {
            return;
        }
        let spared: Vec<String> =
            self.models.iter().filter(|(_, model)| model.goes_for_others()).map(|(id, _)| id.clone()).collect();
        for id in spared {
            let Some(model) = self.models.get_mut(&id) else { continue };
            model.phase = match std::mem::replace(&mut model.phase, Phase::Available) {
                Phase::Draining { process, slots, since, active, .. } => {
                    Phase::Ready { process, slots, since, active, idle_since: now }
                }
                other => other,
            };
            self.changed.insert(id.clone());
            self.tell_loaded(&id);
            self.dispatch(now, &id);
            self.review(now, &id);
        }
    }

    fn spawn(&mut self, now: Instant, id: &str) {
        let Some(model) = self.models.get_mut(id) else { return };
        self.last_worker += 1;
        let worker = self.last_worker;
        let process = Process {
            worker,
            version: model.facts.version,
            reserved: model.facts.need.clone(),
            measured: None,
            heard: now,
        };
        model.phase = Phase::Loading { process, fraction: 0.0, since: now };
        self.workers.insert(worker, id.to_owned());
        self.changed.insert(id.to_owned());
        self.effects.push(Effect::Spawn { worker, model: id.to_owned() });
    }
}

fn to_vec<'a>(ids: &BTreeSet<&'a str>) -> Vec<&'a str> {
    ids.iter().copied().collect()
}

/// The model as a possible victim, and whether it may be told to go now.
fn candidate<'a>(now: Instant, id: &'a str, model: &'a Model) -> Option<(Candidate<'a>, bool)> {
    if model.stays() {
        return None;
    }
    let (busy, since) = match &model.phase {
        Phase::Ready { idle_since, .. } if model.is_idle() => (false, Some(*idle_since)),
        Phase::Ready { .. } => (true, model.turn_end()),
        Phase::Loading { since, .. } if model.is_guess() => (false, Some(*since)),
        Phase::Loading { .. } => (true, None),
        Phase::Available
        | Phase::Queued
        | Phase::Draining { .. }
        | Phase::Ending { .. }
        | Phase::Quarantined { .. }
        | Phase::Broken => return None,
    };
    let idle = since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
    let idle = if busy { idle } else { idle.max(model.interval.unwrap_or_default()) };
    let (priority, reload) = (model.facts.priority, model.reload_cost());
    let candidate = Candidate { id, priority, guess: model.is_guess(), busy, idle, reload };
    Some((candidate, since.is_some_and(|since| since <= now)))
}

impl Model {
    /// Neither idleness nor others that wait make it go.
    fn stays(&self) -> bool {
        self.facts.pinned && matches!(self.phase, Phase::Ready { .. } | Phase::Loading { .. })
    }

    /// It was told to make room and has work under way yet; nobody else wants it to go.
    fn goes_for_others(&self) -> bool {
        let evicted = |cause: &Cause| matches!(cause, Cause::Purpose("evicted"));
        matches!(&self.phase, Phase::Draining { cause, unloaders, .. } if evicted(cause) && unloaders.is_empty())
    }

    fn reload_cost(&self) -> std::time::Duration {
        policy::reload_cost(self.last_load, self.facts.need.total())
    }

    /// Until then it may go on working although others wait.
    fn turn_end(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Ready { since, .. } => Some(*since + policy::turn(self.reload_cost(), self.facts.priority)),
            _ => None,
        }
    }
}
