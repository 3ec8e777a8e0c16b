//! A simulator of scheduling: a trace of requests against the real [`crate::lifecycle`], in virtual time and with workers that only
//! take time and memory; and beside it what most servers do, first come first served with eviction of the least recently used. Same
//! trace, same figures. Answers take as long as their tokens, however many are decoded together.

mod baseline;
mod own;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

pub use trace::{Arrival, SimModel, Trace};

/// What a policy made of a trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Loads, the first of each model included.
    pub loads: usize,
    /// Models that had to go for another one.
    pub swaps: usize,
    /// From each request's arrival to the slot that works on it, in the order of the trace.
    #[serde(skip)]
    pub waits: Vec<Duration>,
    /// Requests that were refused or forgotten.
    pub unanswered: usize,
    /// When the last answer ended, seconds.
    pub total_s: f64,
}

/// The figures of an [`Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Loads, the first of each model included.
    pub loads: usize,
    /// Models that had to go for another one.
    pub swaps: usize,
    /// The same for each request.
    pub swaps_per_request: f64,
    /// Half of the requests waited no longer, seconds.
    pub wait_p50_s: f64,
    /// 95 of 100 requests waited no longer, seconds.
    pub wait_p95_s: f64,
    /// The longest wait, seconds.
    pub wait_max_s: f64,
    /// Requests that were refused or forgotten.
    pub unanswered: usize,
    /// When the last answer ended, seconds.
    pub total_s: f64,
}

impl Outcome {
    /// The figures.
    pub fn figures(&self) -> Figures {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let quantile = |part: f64| {
            let rank = (part * waits.len() as f64).ceil() as usize;
            waits.get(rank.saturating_sub(1)).map_or(0.0, Duration::as_secs_f64)
        };
        Figures {
            loads: self.loads,
            swaps: self.swaps,
            swaps_per_request: self.swaps as f64 / waits.len().max(1) as f64,
            wait_p50_s: quantile(0.5),
            wait_p95_s: quantile(0.95),
            wait_max_s: quantile(1.0),
            unanswered: self.unanswered,
            total_s: self.total_s,
        }
    }
}

/// The server's own policy.
pub fn run(trace: &Trace) -> Outcome {
    play(trace, own::Own::new(trace))
}

/// First come first served, and the least recently used idle model goes. Nobody overtakes a request that waits for memory; one that
/// waits for its model's load is overtaken by those whose model is resident.
pub fn baseline(trace: &Trace) -> Outcome {
    play(trace, baseline::Baseline::new(trace))
}

/// What happens to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Arrives(usize),
    Loaded(Place),
    Answered(Place, usize),
    Gone(Place),
    Timer,
}

/// One residence of a model.
type Place = u64;

/// What a policy wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Load(Place, usize),
    /// Hand a request over.
    Serve(Place, usize),
    /// End the place, which has no work. It makes room for another model, or not.
    End(Place),
    Evicted,
}

/// Decides, in virtual time.
trait Policy {
    fn on(&mut self, now: Duration, happens: Happens) -> Vec<Does>;
    fn timer(&self) -> Option<Duration>;
}

/// A worker that only takes time.
#[derive(Debug)]
struct SimWorker {
    model: usize,
    queue: VecDeque<usize>,
    running: usize,
}

fn play(trace: &Trace, mut policy: impl Policy) -> Outcome {
    let mut events: BTreeMap<(Duration, u64), Happens> = BTreeMap::new();
    let mut last = 0;
    let mut add = |events: &mut BTreeMap<(Duration, u64), Happens>, at: Duration, happens: Happens| {
        last += 1;
        events.insert((at, last), happens);
    };
    for (number, arrival) in trace.arrivals.iter().enumerate() {
        add(&mut events, arrival.at, Happens::Arrives(number));
    }
    let mut workers: BTreeMap<Place, SimWorker> = BTreeMap::new();
    let requests = trace.arrivals.len();
    let mut outcome =
        Outcome { loads: 0, swaps: 0, waits: vec![Duration::ZERO; requests], unanswered: requests, total_s: 0.0 };
    while outcome.unanswered > 0 {
        let event = events.first_key_value().map(|(&(at, _), _)| at);
        let timer = policy.timer().filter(|&timer| event.is_none_or(|event| timer < event));
        let (now, happens) = match (timer, events.pop_first()) {
            (None, Some(((at, _), happens))) => (at, happens),
            (Some(at), popped) => {
                events.extend(popped);
                (at, Happens::Timer)
            }
            // Nothing will ever happen again.
            (None, None) => break,
        };
        let mut touched = None;
        match happens {
            Happens::Answered(place, _) => {
                outcome.unanswered -= 1;
                outcome.total_s = now.as_secs_f64();
                if let Some(worker) = workers.get_mut(&place) {
                    worker.running -= 1;
                    touched = Some(place);
                }
            }
            Happens::Gone(place) => _ = workers.remove(&place),
            Happens::Arrives(_) | Happens::Loaded(_) | Happens::Timer => {}
        }
        let mut busy: Vec<Place> = touched.into_iter().collect();
        for does in policy.on(now, happens) {
            match does {
                Does::Load(place, model) => {
                    outcome.loads += 1;
                    workers.insert(place, SimWorker { model, queue: VecDeque::new(), running: 0 });
                    add(&mut events, now + trace.models[model].load, Happens::Loaded(place));
                }
                Does::Serve(place, request) => {
                    if let Some(worker) = workers.get_mut(&place) {
                        worker.queue.push_back(request);
                        busy.push(place);
                    }
                }
                Does::End(place) => add(&mut events, now + trace.end, Happens::Gone(place)),
                Does::Evicted => outcome.swaps += 1,
            }
        }
        for place in busy {
            let Some(worker) = workers.get_mut(&place) else { continue };
            while worker.running < trace.models[worker.model].slots as usize {
                let Some(request) = worker.queue.pop_front() else { break };
                worker.running += 1;
                outcome.waits[request] = now - trace.arrivals[request].at;
                let takes = trace.models[worker.model].token * trace.arrivals[request].tokens;
                add(&mut events, now + takes, Happens::Answered(place, request));
            }
        }
    }
    outcome
}
