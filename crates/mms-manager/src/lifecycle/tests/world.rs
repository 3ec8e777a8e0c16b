//! A world around the lifecycle without processes or clocks: it does what the lifecycle says, keeps its own books, and fails a test
//! at the first effect that breaks a promise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mms_protocol::generate::{FinishReason, Timings, ToolCall, Usage};
use mms_protocol::view::ModelState;
use mms_protocol::worker::{GenerateFailure, RequestId};
use mms_protocol::{ErrorCode, KeepAlive, Refusal};

use crate::catalogue::Priority;
use crate::config::Limits;
use crate::lifecycle::{
    Ask, Effect, Facts, Finish, Input, Lifecycle, Memory, Note, Planned, Said, Vectors, WorkerId, WorkerInput,
};
use crate::memory::{Amounts, Held};

/// MiB that models may take in this world.
pub(super) const BUDGET: f64 = 1000.0;

pub(super) struct World {
    pub(super) lifecycle: Lifecycle,
    pub(super) now: Instant,
    pub(super) facts: BTreeMap<String, Facts>,
    pub(super) listed: BTreeSet<String>,
    pub(super) workers: BTreeMap<WorkerId, SimWorker>,
    pub(super) open: BTreeMap<RequestId, String>,
    pub(super) ended: BTreeMap<RequestId, End>,
    pub(super) notes: Vec<Note>,
    pub(super) draining: bool,
    most: usize,
    /// Given with every request.
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) budget: Amounts,
    /// Plans that were asked for, of which version.
    pub(super) planning: BTreeMap<String, u64>,
    last_request: RequestId,
}

#[derive(Debug, Default)]
pub(super) struct SimWorker {
    pub(super) model: String,
    pub(super) loaded: bool,
    /// It said that it could not load.
    pub(super) failed: bool,
    pub(super) told_to_end: bool,
    pub(super) killed: bool,
    /// Generations inside; whether each was cancelled.
    pub(super) inside: BTreeMap<RequestId, bool>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Finished,
    Loaded,
    Unloaded {
        was_loaded: bool,
    },
    Refused(Refusal),
    /// The client left.
    Left,
}

pub(super) fn facts(id: &str, estimated_mb: f64) -> Facts {
    Facts {
        id: id.to_owned(),
        version: 1,
        need: Amounts::ram(estimated_mb),
        unplanned: false,
        slots: 1,
        pinned: false,
        priority: Priority::Medium,
        idle_unload: None,
        broken: None,
        writing: false,
    }
}

/// A process that was measured to hold so much.
pub(super) fn held(amounts: Amounts) -> Held {
    Held { amounts, ..Held::default() }
}

pub(super) fn limits() -> Limits {
    Limits { queue_per_model: 4, shutdown_grace: Duration::from_secs(3), ..Limits::default() }
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A world in which each of these models is resident, in this order.
pub(super) fn resident(models: impl IntoIterator<Item = Facts>) -> World {
    let models: Vec<Facts> = models.into_iter().collect();
    let mut world = World::new(models.clone());
    for facts in models {
        world.load(&facts.id);
        let worker = world.worker(&facts.id);
        world.loaded(worker);
        world.pass(seconds(1));
    }
    world
}

impl World {
    pub(super) fn new(models: impl IntoIterator<Item = Facts>) -> Self {
        Self::with_most(models, 0)
    }

    /// With at most so many models in memory; 0: any number.
    pub(super) fn with_most(models: impl IntoIterator<Item = Facts>, max_loaded_models: usize) -> Self {
        let memory = Memory { budget: Amounts::ram(BUDGET), available: Amounts::ram(1e9) };
        let facts: BTreeMap<String, Facts> = models.into_iter().map(|facts| (facts.id.clone(), facts)).collect();
        let mut world = Self {
            lifecycle: Lifecycle::new(Limits { max_loaded_models, ..limits() }, memory),
            most: max_loaded_models,
            now: Instant::now(),
            listed: facts.keys().cloned().collect(),
            facts,
            workers: BTreeMap::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            notes: Vec::new(),
            draining: false,
            keep_alive: None,
            budget: Amounts::ram(BUDGET),
            planning: BTreeMap::new(),
            last_request: 0,
        };
        world.tell_catalogue();
        world
    }

    pub(super) fn tell_catalogue(&mut self) {
        let list = self.facts.values().filter(|facts| self.listed.contains(&facts.id)).cloned().collect();
        self.input(Input::Catalogue(list));
    }

    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut Facts)) {
        change(self.facts.get_mut(id).unwrap());
        self.tell_catalogue();
    }

    fn ask(&mut self, model: &str, patience: Duration) -> Ask {
        self.last_request += 1;
        self.open.insert(self.last_request, model.to_owned());
        Ask {
            request: self.last_request,
            model: model.to_owned(),
            deadline: self.now + patience,
            keep_alive: self.keep_alive,
        }
    }

    pub(super) fn generate(&mut self, model: &str) -> RequestId {
        self.generate_within(model, Duration::from_secs(100))
    }

    pub(super) fn generate_within(&mut self, model: &str, patience: Duration) -> RequestId {
        let ask = self.ask(model, patience);
        self.input(Input::Generate(ask));
        self.last_request
    }

    pub(super) fn load(&mut self, model: &str) -> RequestId {
        self.load_within(model, Duration::from_secs(100))
    }

    pub(super) fn preload(&mut self, model: &str) -> RequestId {
        let ask = self.ask(model, Duration::from_secs(100));
        let going = |world: &Self| world.workers.values().filter(|sim| sim.told_to_end || sim.killed).count();
        let before = going(self);
        self.input(Input::Preload { ask, stay: Some(seconds(60)) });
        assert_eq!(going(self), before, "somebody goes for a guess: {:?}", self.lifecycle);
        self.last_request
    }

    pub(super) fn load_within(&mut self, model: &str, patience: Duration) -> RequestId {
        let ask = self.ask(model, patience);
        self.input(Input::Load(ask));
        self.last_request
    }

    pub(super) fn unload(&mut self, model: &str) -> RequestId {
        let ask = self.ask(model, Duration::from_secs(100));
        self.input(Input::Unload(ask));
        self.last_request
    }

    pub(super) fn leave(&mut self, request: RequestId) {
        if self.open.remove(&request).is_some() {
            self.ended.insert(request, End::Left);
        }
        self.input(Input::Cancel(request));
    }

    pub(super) fn drain(&mut self, patience: Duration) {
        self.draining = true;
        let deadline = self.now + patience;
        self.input(Input::Drain { deadline });
    }

    pub(super) fn says(&mut self, worker: WorkerId, input: WorkerInput) {
        if matches!(input, WorkerInput::Gone(_)) {
            self.workers.remove(&worker);
        }
        self.input(Input::Worker(worker, input));
    }

    pub(super) fn loaded(&mut self, worker: WorkerId) {
        let sim = self.workers.get_mut(&worker).unwrap();
        sim.loaded = true;
        let measured = Some(held(self.facts[&sim.model].need.clone()));
        self.says(worker, WorkerInput::Loaded { slots: 1, measured });
    }

    /// The answer to a plan that was asked for.
    pub(super) fn planned(&mut self, model: &str, planned: Planned) {
        let version = self.planning.remove(model).expect("a plan that was asked for");
        // Whoever answers keeps it in mind for the next catalogue.
        if let Some(facts) = self.facts.get_mut(model).filter(|facts| facts.version == version) {
            match &planned {
                Planned::Need(need) => (facts.need, facts.unplanned) = (need.clone(), false),
                Planned::Unknown => facts.unplanned = false,
                Planned::CannotLoad(_) => {}
            }
        }
        self.input(Input::Planned { model: model.to_owned(), version, planned });
    }

    /// The devices have so much from now on.
    pub(super) fn set_budget(&mut self, budget: Amounts) {
        self.lifecycle.set_memory(Memory { budget: budget.clone(), available: budget.clone() });
        self.budget = budget;
    }

    pub(super) fn load_fails(&mut self, worker: WorkerId) {
        self.workers.get_mut(&worker).unwrap().failed = true;
        self.says(worker, WorkerInput::LoadFailed("the tensors are upside down".to_owned()));
    }

    pub(super) fn gone(&mut self, worker: WorkerId) {
        self.says(worker, WorkerInput::Gone("killed by signal 9".to_owned()));
    }

    pub(super) fn text(&mut self, worker: WorkerId, request: RequestId) {
        self.says(worker, WorkerInput::Says(request, Said::Text { text: "text".to_owned(), logprobs: Vec::new() }));
    }

    pub(super) fn tool_call(&mut self, worker: WorkerId, request: RequestId) {
        let call = ToolCall { id: "call_1".to_owned(), name: "look".to_owned(), arguments: "{}".to_owned() };
        self.says(worker, WorkerInput::Says(request, Said::ToolCall(call)));
    }

    pub(super) fn embedded(&mut self, worker: WorkerId, request: RequestId) {
        self.workers.get_mut(&worker).unwrap().inside.remove(&request);
        let vectors = Vectors { vectors: vec![vec![1.0]], prompt_tokens: 1 };
        self.says(worker, WorkerInput::Says(request, Said::Embedded(vectors)));
    }

    pub(super) fn finish(&mut self, worker: WorkerId, request: RequestId) {
        self.workers.get_mut(&worker).unwrap().inside.remove(&request);
        let finish = Finish {
            reason: FinishReason::Stop,
            usage: Usage::default(),
            timings: Timings::default(),
            tokens: Vec::new(),
        };
        self.says(worker, WorkerInput::Says(request, Said::Finished(finish)));
    }

    pub(super) fn fail(&mut self, worker: WorkerId, request: RequestId, failure: GenerateFailure) {
        self.workers.get_mut(&worker).unwrap().inside.remove(&request);
        self.says(worker, WorkerInput::Says(request, Said::Failed(failure)));
    }

    /// Lets time pass, with a tick at every timer on the way.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut ticks = 0;
        while let Some(at) = self.lifecycle.next_timer().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.input(Input::Tick);
            ticks += 1;
            assert!(ticks < 1000, "timers without end: {:?}", self.lifecycle);
        }
        self.now = until;
    }

    pub(super) fn state(&self, model: &str) -> ModelState {
        self.lifecycle.shown(self.now, model).unwrap().state
    }

    /// The one worker of a model.
    pub(super) fn worker(&self, model: &str) -> WorkerId {
        self.lifecycle.shown(self.now, model).unwrap().worker.unwrap()
    }

    pub(super) fn refusal(&self, request: RequestId) -> &Refusal {
        match &self.ended[&request] {
            End::Refused(refusal) => refusal,
            other => panic!("{request} ended with {other:?}"),
        }
    }

    pub(super) fn code(&self, request: RequestId) -> ErrorCode {
        self.refusal(request).code
    }

    pub(super) fn input(&mut self, input: Input) {
        for effect in self.lifecycle.handle(self.now, input) {
            self.perform(effect);
        }
        self.check();
    }

    fn end(&mut self, request: RequestId, end: End) {
        assert!(
            self.open.remove(&request).is_some(),
            "a second end of {request}: {end:?} after {:?}",
            self.ended.get(&request)
        );
        self.ended.insert(request, end);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Plan { model, version } => {
                assert!(self.planning.insert(model, version).is_none(), "asked twice");
            }
            Effect::Spawn { worker, model } => {
                assert!(!self.draining, "a load while draining");
                assert!(self.workers.values().all(|sim| sim.model != model), "a second worker for {model}");
                let (used, budget) = (self.lifecycle.used(), &self.budget);
                assert!(used.fits(budget), "over the budget: {:?}", self.lifecycle);
                assert!(!self.facts[&model].unplanned, "loaded before its need is known");
                self.workers.insert(worker, SimWorker { model, ..SimWorker::default() });
                assert!(self.most == 0 || self.workers.len() <= self.most, "too many models: {:?}", self.lifecycle);
            }
            Effect::Dispatch { worker, request } => {
                assert!(
                    self.workers.values().all(|sim| sim.killed || !sim.inside.contains_key(&request)),
                    "{request} twice"
                );
                let model = self.open.get(&request).expect("only open requests are handed over");
                let sim = self.workers.get_mut(&worker).expect("a worker that is there");
                assert!(sim.loaded && !sim.told_to_end && !sim.killed, "{request} to a worker that cannot serve it");
                assert_eq!(sim.model, *model);
                sim.inside.insert(request, false);
            }
            Effect::CancelInWorker { worker, request } => {
                let sim = self.workers.get_mut(&worker).expect("a worker that is there");
                assert_eq!(
                    sim.inside.insert(request, true),
                    Some(false),
                    "{request} was not inside, or cancelled twice"
                );
            }
            Effect::Shutdown(worker) => {
                let sim = self.workers.get_mut(&worker).expect("a worker that is there");
                let busy = sim.inside.values().any(|cancelled| !cancelled);
                assert!(!busy || self.draining, "a busy worker was told to end: {sim:?}");
                sim.told_to_end = true;
            }
            Effect::Kill(worker) => self.workers.get_mut(&worker).expect("a worker that is there").killed = true,
            Effect::Started { request, .. } | Effect::Text { request, .. } | Effect::ToolCall(request, _) => {
                assert!(self.open.contains_key(&request), "something for {request} after its end");
            }
            Effect::Finished(request, _) | Effect::Embedded(request, _) => self.end(request, End::Finished),
            Effect::Loaded(request) => self.end(request, End::Loaded),
            Effect::Unloaded { request, was_loaded } => self.end(request, End::Unloaded { was_loaded }),
            Effect::Refused(request, refusal) => self.end(request, End::Refused(refusal)),
            Effect::Note(note) => self.notes.push(note),
        }
    }

    /// What holds after every input.
    fn check(&self) {
        for id in self.facts.keys() {
            let Some(shown) = self.lifecycle.shown(self.now, id) else { continue };
            let worker = self.workers.iter().find(|(_, sim)| sim.model == *id).map(|(&worker, _)| worker);
            assert_eq!(shown.worker, worker, "{id} is {:?}", shown.state);
            assert_eq!(
                shown.held.total() > 0.0,
                worker.is_some(),
                "memory counts as long as the process is there: {shown:?}"
            );
            let final_state = matches!(shown.state, ModelState::AvailableNotLoaded | ModelState::Broken);
            assert!(
                final_state || self.lifecycle.next_timer().is_some(),
                "{id} waits for nothing: {:?}",
                self.lifecycle
            );
            assert!(!final_state || shown.queued == 0, "{id} has requests that nothing will serve");
        }
        let (open, workers) = self.lifecycle.open();
        assert_eq!((open, workers), (self.open.len(), self.workers.len()));
    }
}
