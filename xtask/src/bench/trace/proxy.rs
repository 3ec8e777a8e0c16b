//! First come first served with eviction of the least recently used, done from outside as a proxy does it: one queue, in order. Who is at
//! its head and wants a model that is not loaded waits until the least recently used idle one was unloaded and its own was loaded, and
//! everybody behind waits along. The same rules as the simulator's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Scope, sleep};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Arrival, MODELS, request, wait};
use crate::bench::stream::{ask, operation};

/// Models that may be loaded at once.
const ROOM: usize = 2;

enum Happens {
    Arrives(usize),
    Loaded(usize),
    Gone(usize),
    /// With how long it waited, seconds.
    Answered(usize, f64),
}

/// A model that is loaded, comes or goes.
struct Resident {
    phase: Phase,
    /// Requests inside that have no answer yet.
    open: usize,
    last_used: Instant,
}

enum Phase {
    /// With the requests that wait for it.
    Loading(Vec<usize>),
    Ready,
    Ending,
}

struct Proxy<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    port: u16,
    arrivals: &'e [Arrival],
    /// When each came.
    came: Vec<Instant>,
    pending: VecDeque<usize>,
    residents: BTreeMap<usize, Resident>,
    tell: Sender<Result<Happens>>,
    swaps: u64,
}

/// Plays the trace with models of the server at `port`, none of which is loaded: swaps, and the wait of each request in seconds.
pub(super) fn play(port: u16, arrivals: &[Arrival]) -> Result<(u64, Vec<f64>)> {
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let begun = Instant::now();
        let arriving = tell.clone();
        scope.spawn(move || {
            for (number, arrival) in arrivals.iter().enumerate() {
                sleep((begun + arrival.at).saturating_duration_since(Instant::now()));
                if arriving.send(Ok(Happens::Arrives(number))).is_err() {
                    return;
                }
            }
        });
        let came = vec![begun; arrivals.len()];
        let (pending, residents) = (VecDeque::new(), BTreeMap::new());
        let mut proxy = Proxy { scope, port, arrivals, came, pending, residents, tell, swaps: 0 };
        let mut waits = Vec::new();
        while waits.len() < arrivals.len() {
            match told.recv().context("nothing happens any more")?? {
                Happens::Arrives(request) => {
                    proxy.came[request] = Instant::now();
                    proxy.pending.push_back(request);
                }
                Happens::Loaded(model) => proxy.loaded(model),
                Happens::Gone(model) => _ = proxy.residents.remove(&model),
                Happens::Answered(request, waited) => {
                    if let Some(resident) = proxy.residents.get_mut(&arrivals[request].model) {
                        resident.open -= 1;
                        resident.last_used = Instant::now();
                    }
                    waits.push(waited);
                }
            }
            proxy.go_on();
        }
        Ok((proxy.swaps, waits))
    })
}

impl<'s> Proxy<'s, '_> {
    fn go_on(&mut self) {
        while let Some(&request) = self.pending.front() {
            let model = self.arrivals[request].model;
            let loaded = self.residents.len();
            match self.residents.get_mut(&model) {
                Some(Resident { phase: Phase::Ending, .. }) => return,
                Some(resident) => {
                    resident.open += 1;
                    resident.last_used = Instant::now();
                    if let Phase::Loading(waiting) = &mut resident.phase {
                        waiting.push(request);
                    } else {
                        self.serve(request);
                    }
                }
                None if loaded < ROOM => {
                    let phase = Phase::Loading(vec![request]);
                    self.residents.insert(model, Resident { phase, open: 1, last_used: Instant::now() });
                    self.ask("load_model", model, Happens::Loaded);
                }
                None => return self.evict(),
            }
            self.pending.pop_front();
        }
    }

    /// One at a time; when it has gone, the next is looked for.
    fn evict(&mut self) {
        if self.residents.values().any(|resident| matches!(resident.phase, Phase::Ending)) {
            return;
        }
        let idle = |resident: &Resident| matches!(resident.phase, Phase::Ready) && resident.open == 0;
        let victim = self.residents.iter_mut().filter(|(_, resident)| idle(resident));
        if let Some((&model, resident)) = victim.min_by_key(|(_, resident)| resident.last_used) {
            resident.phase = Phase::Ending;
            self.swaps += 1;
            self.ask("unload_model", model, Happens::Gone);
        }
    }

    fn loaded(&mut self, model: usize) {
        let Some(resident) = self.residents.get_mut(&model) else { return };
        if let Phase::Loading(waiting) = std::mem::replace(&mut resident.phase, Phase::Ready) {
            waiting.into_iter().for_each(|request| self.serve(request));
        }
    }

    fn serve(&self, number: usize) {
        let (port, tell, came, arrival) = (self.port, self.tell.clone(), self.came[number], self.arrivals[number]);
        self.scope.spawn(move || {
            let answer = ask(port, "/v1/completions", request(number, arrival.model, arrival.tokens));
            let waited = answer.and_then(|answer| wait(&answer, came));
            // Nobody listens any more when another one has failed.
            _ = tell.send(waited.map(|waited| Happens::Answered(number, waited)));
        });
    }

    fn ask(&self, name: &'static str, model: usize, then: fn(usize) -> Happens) {
        let (port, tell) = (self.port, self.tell.clone());
        self.scope.spawn(move || {
            let done = operation(port, name, &json!({"model": MODELS[model]}));
            // As above.
            _ = tell.send(done.map(|_| then(model)));
        });
    }
}
