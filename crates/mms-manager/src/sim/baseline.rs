//! First come first served with eviction of the least recently used: what the server's own policy is compared with.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Does, Happens, Place, Policy, Trace};

pub(super) struct Baseline<'a> {
    trace: &'a Trace,
    /// Requests whose model has no memory yet, and all that came after.
    pending: VecDeque<usize>,
    places: BTreeMap<Place, State>,
    last: Place,
}

struct State {
    model: usize,
    phase: Phase,
    /// Requests inside that have no answer yet.
    open: usize,
    last_used: Duration,
}

enum Phase {
    /// With the requests that wait for it.
    Loading(Vec<usize>),
    Ready,
    Ending,
}

impl<'a> Baseline<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        Self { trace, pending: VecDeque::new(), places: BTreeMap::new(), last: 0 }
    }

    fn serve(&mut self, now: Duration, done: &mut Vec<Does>) {
        while let Some(&request) = self.pending.front() {
            let model = self.trace.arrivals[request].model;
            if let Some((&place, state)) = self.places.iter_mut().find(|(_, state)| state.model == model) {
                match &mut state.phase {
                    Phase::Loading(waiting) => waiting.push(request),
                    Phase::Ready => done.push(Does::Serve(place, request)),
                    Phase::Ending => return,
                }
                state.open += 1;
                state.last_used = now;
            } else if self.has_room(model) {
                self.last += 1;
                let phase = Phase::Loading(vec![request]);
                self.places.insert(self.last, State { model, phase, open: 1, last_used: now });
                done.push(Does::Load(self.last, model));
            } else {
                self.evict(done);
                return;
            }
            self.pending.pop_front();
        }
    }

    fn has_room(&self, model: usize) -> bool {
        let need = |model: usize| self.trace.models[model].memory_mb;
        let held: f64 = self.places.values().map(|state| need(state.model)).sum();
        let most = self.trace.max_loaded_models;
        held + need(model) <= self.trace.budget_mb && (most == 0 || self.places.len() < most)
    }

    /// One at a time; when it has gone, the next is looked for.
    fn evict(&mut self, done: &mut Vec<Does>) {
        if self.places.values().any(|state| matches!(state.phase, Phase::Ending)) {
            return;
        }
        let idle = self.places.iter_mut().filter(|(_, state)| matches!(state.phase, Phase::Ready) && state.open == 0);
        if let Some((&place, state)) = idle.min_by_key(|(_, state)| state.last_used) {
            state.phase = Phase::Ending;
            done.extend([Does::Evicted, Does::End(place)]);
        }
    }
}

impl Policy for Baseline<'_> {
    fn on(&mut self, now: Duration, happens: Happens) -> Vec<Does> {
        let mut done = Vec::new();
        match happens {
            Happens::Arrives(request) => self.pending.push_back(request),
            Happens::Loaded(place) => {
                if let Some(state) = self.places.get_mut(&place)
                    && let Phase::Loading(waiting) = std::mem::replace(&mut state.phase, Phase::Ready)
                {
                    done.extend(waiting.into_iter().map(|request| Does::Serve(place, request)));
                }
            }
            Happens::Answered(place, _) => {
                if let Some(state) = self.places.get_mut(&place) {
                    state.open -= 1;
                    state.last_used = now;
                }
            }
            Happens::Gone(place) => _ = self.places.remove(&place),
            Happens::Timer => {}
        }
        self.serve(now, &mut done);
        done
    }

    fn timer(&self) -> Option<Duration> {
        None
    }
}
