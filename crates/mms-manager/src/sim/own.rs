//! The server's own policy: the lifecycle, told what the simulated workers do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mms_protocol::generate::{FinishReason, Timings, Usage};

use super::{Does, Happens, Place, Policy, Trace};
use crate::config::Limits;
use crate::lifecycle::{Ask, Effect, Facts, Finish, Input, Lifecycle, Memory, Note, Said, WorkerInput};
use crate::memory::Amounts;

/// Longer than any trace.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) struct Own<'a> {
    trace: &'a Trace,
    lifecycle: Lifecycle,
    /// Virtual time begins here.
    began: Instant,
    numbers: BTreeMap<&'a str, usize>,
    models: BTreeMap<Place, usize>,
}

impl<'a> Own<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        let limits = Limits {
            queue_per_model: usize::MAX,
            request_timeout: FOR_EVER,
            load_timeout: FOR_EVER,
            heartbeat_timeout: FOR_EVER,
            shutdown_grace: FOR_EVER,
            max_loaded_models: trace.max_loaded_models,
        };
        let memory = Memory { budget: Amounts::ram(trace.budget_mb), available: Amounts::ram(f64::MAX) };
        let mut lifecycle = Lifecycle::new(limits, memory);
        let began = Instant::now();
        let facts = trace.models.iter().map(|model| Facts {
            id: model.id.clone(),
            version: 1,
            need: Amounts::ram(model.memory_mb),
            unplanned: false,
            slots: model.slots,
            pinned: false,
            priority: model.priority,
            idle_unload: None,
            broken: None,
            writing: false,
        });
        lifecycle.handle(began, Input::Catalogue(facts.collect()));
        let numbers = trace.models.iter().enumerate().map(|(number, model)| (model.id.as_str(), number)).collect();
        Self { trace, lifecycle, began, numbers, models: BTreeMap::new() }
    }

    fn input(&self, happens: Happens) -> Option<Input> {
        let worker = |place, input| Some(Input::Worker(place, input));
        match happens {
            Happens::Arrives(number) => {
                let model = &self.trace.models[self.trace.arrivals[number].model];
                let deadline = self.began + FOR_EVER;
                Some(Input::Generate(Ask {
                    request: number as u64,
                    model: model.id.clone(),
                    deadline,
                    keep_alive: None,
                }))
            }
            Happens::Loaded(place) => {
                let slots = self.trace.models[*self.models.get(&place)?].slots;
                worker(place, WorkerInput::Loaded { slots, measured: None })
            }
            Happens::Answered(place, request) => {
                let finish = Finish {
                    reason: FinishReason::Stop,
                    usage: Usage::default(),
                    timings: Timings::default(),
                    tokens: Vec::new(),
                };
                worker(place, WorkerInput::Says(request as u64, Said::Finished(finish)))
            }
            Happens::Gone(place) => worker(place, WorkerInput::Gone("it was told to end".to_owned())),
            Happens::Timer => Some(Input::Tick),
        }
    }

    fn does(&mut self, effect: Effect) -> Option<Does> {
        match effect {
            Effect::Spawn { worker, model } => {
                let number = *self.numbers.get(model.as_str())?;
                self.models.insert(worker, number);
                Some(Does::Load(worker, number))
            }
            Effect::Dispatch { worker, request } => Some(Does::Serve(worker, request as usize)),
            Effect::Shutdown(worker) | Effect::Kill(worker) => Some(Does::End(worker)),
            Effect::Note(Note::Unloaded { reason: "evicted", .. }) => Some(Does::Evicted),
            _ => None,
        }
    }
}

impl Policy for Own<'_> {
    fn on(&mut self, now: Duration, happens: Happens) -> Vec<Does> {
        let Some(input) = self.input(happens) else { return Vec::new() };
        let effects = self.lifecycle.handle(self.began + now, input);
        effects.into_iter().filter_map(|effect| self.does(effect)).collect()
    }

    fn timer(&self) -> Option<Duration> {
        let at = self.lifecycle.next_timer()?.saturating_duration_since(self.began);
        // What is due only when the trace is long over is none of its business.
        (at < FOR_EVER / 2).then_some(at)
    }
}
