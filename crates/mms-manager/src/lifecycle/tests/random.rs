//! Random interleavings of everything that can happen. The world checks each step; here it is checked that all comes to an end.

use std::time::Duration;

use mms_protocol::worker::GenerateFailure;
use mms_protocol::{ErrorCode, KeepAlive};
use proptest::prelude::*;

use super::world::{BUDGET, End, World, facts, held};
use crate::catalogue::Priority;
use crate::lifecycle::{Facts, Note, Planned, WorkerInput};
use crate::memory::Amounts;

/// One thing that happens. Numbers choose among what there is, modulo its count.
#[derive(Debug, Clone)]
enum Step {
    Generate(usize, u64),
    Load(usize),
    Preload(usize),
    Unload(usize),
    Leave(usize),
    Worker(usize, Act),
    Remove(usize),
    Restore(usize),
    Replace(usize),
    Break(usize, bool),
    Pin(usize, bool),
    Rank(usize, usize),
    KeepAlive(Option<i64>),
    Pass(u64),
    Drain(u64),
    /// An answer to a plan that was asked for.
    Plan(usize, Plan),
}

#[derive(Debug, Clone)]
enum Plan {
    Need(u32),
    Unknown,
    CannotLoad,
}

#[derive(Debug, Clone)]
enum Act {
    Heartbeat,
    Measured(u32),
    /// The next thing that a worker in order would do.
    GoOn,
    Text(usize),
    Finish(usize),
    Fail(usize),
    LoadFails,
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Heartbeat),
        1 => (1_u32..500).prop_map(Act::Measured),
        8 => Just(Act::GoOn),
        2 => any::<usize>().prop_map(Act::Text),
        4 => any::<usize>().prop_map(Act::Finish),
        1 => any::<usize>().prop_map(Act::Fail),
        1 => Just(Act::LoadFails),
        2 => Just(Act::Crash),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    prop_oneof![
        4 => (1_u32..700).prop_map(Plan::Need),
        2 => Just(Plan::Unknown),
        1 => Just(Plan::CannotLoad),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let any_model = 0_usize..5;
    prop_oneof![
        12 => (any_model.clone(), 1_u64..200).prop_map(|(model, patience)| Step::Generate(model, patience)),
        4 => any_model.clone().prop_map(Step::Load),
        4 => any_model.clone().prop_map(Step::Preload),
        2 => any_model.clone().prop_map(Step::Unload),
        4 => any::<usize>().prop_map(Step::Leave),
        24 => (any::<usize>(), act()).prop_map(|(worker, act)| Step::Worker(worker, act)),
        1 => any_model.clone().prop_map(Step::Remove),
        1 => any_model.clone().prop_map(Step::Restore),
        1 => any_model.clone().prop_map(Step::Replace),
        1 => (any_model.clone(), any::<bool>()).prop_map(|(model, broken)| Step::Break(model, broken)),
        1 => (any_model.clone(), any::<bool>()).prop_map(|(model, pinned)| Step::Pin(model, pinned)),
        1 => (any_model, 0_usize..3).prop_map(|(model, rank)| Step::Rank(model, rank)),
        2 => prop::option::of(-1_i64..30).prop_map(Step::KeepAlive),
        6 => (0_u64..40).prop_map(Step::Pass),
        1 => (0_u64..60).prop_map(Step::Drain),
        6 => (any::<usize>(), plan()).prop_map(|(model, plan)| Step::Plan(model, plan)),
    ]
}

fn world(most: usize) -> World {
    // Of RAM two of the first three fit together, the fourth only alone, the fifth never; of the GPU one of two.
    let idle = Some(Duration::from_secs(60));
    let both = |cpu: f64, gpu: f64| [("cpu".to_owned(), cpu), ("CUDA0".to_owned(), gpu)].into_iter().collect();
    let models = [
        Facts { unplanned: true, ..facts("a", 400.0) },
        Facts { idle_unload: idle, need: both(300.0, 350.0), ..facts("b", 0.0) },
        Facts { idle_unload: idle, slots: 2, need: both(500.0, 200.0), unplanned: true, ..facts("c", 0.0) },
        facts("d", 900.0),
        facts("e", 1500.0),
    ];
    let mut world = World::with_most(models, most);
    world.set_budget(both(BUDGET, 500.0));
    world
}

fn nth<T: Clone>(items: impl IntoIterator<Item = T>, n: usize) -> Option<T> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then(|| items[n % items.len()].clone())
}

impl World {
    fn id(&self, n: usize) -> String {
        nth(self.facts.keys().cloned(), n).unwrap()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Generate(model, patience) => {
                let id = self.id(model);
                self.generate_within(&id, Duration::from_secs(patience));
            }
            Step::Load(model) => {
                let id = self.id(model);
                self.load(&id);
            }
            Step::Preload(model) => {
                let id = self.id(model);
                self.preload(&id);
            }
            Step::Unload(model) => {
                let id = self.id(model);
                self.unload(&id);
            }
            Step::Leave(n) => {
                if let Some(request) = nth(self.open.keys().copied(), n) {
                    self.leave(request);
                }
            }
            Step::Worker(n, ref act) => {
                if let Some(worker) = nth(self.workers.keys().copied(), n) {
                    self.act(worker, act);
                }
            }
            Step::Remove(model) => {
                let id = self.id(model);
                self.listed.remove(&id);
                self.tell_catalogue();
            }
            Step::Restore(model) => {
                let id = self.id(model);
                self.listed.insert(id);
                self.tell_catalogue();
            }
            Step::Replace(model) => {
                let id = self.id(model);
                self.change(&id, |facts| (facts.version, facts.unplanned) = (facts.version + 1, id == "a"));
            }
            Step::Break(model, broken) => {
                let id = self.id(model);
                self.change(&id, |facts| {
                    facts.version += 1;
                    facts.broken = broken.then(|| "half of it is missing".to_owned());
                });
            }
            Step::Pin(model, pinned) => {
                let id = self.id(model);
                self.change(&id, |facts| facts.pinned = pinned);
            }
            Step::Rank(model, rank) => {
                let id = self.id(model);
                self.change(&id, |facts| facts.priority = [Priority::Low, Priority::Medium, Priority::High][rank]);
            }
            Step::KeepAlive(given) => {
                self.keep_alive = given.map(|seconds| match u64::try_from(seconds) {
                    Ok(seconds) => KeepAlive::For(Duration::from_secs(seconds)),
                    Err(_) => KeepAlive::Forever,
                });
            }
            Step::Pass(seconds) => self.pass(Duration::from_secs(seconds)),
            Step::Drain(seconds) => self.drain(Duration::from_secs(seconds)),
            Step::Plan(n, ref plan) => {
                let Some(model) = nth(self.planning.keys().cloned(), n) else { return };
                let planned = match *plan {
                    Plan::Need(mb) => Planned::Need(Amounts::ram(f64::from(mb))),
                    Plan::Unknown => Planned::Unknown,
                    Plan::CannotLoad => Planned::CannotLoad("it is upside down".to_owned()),
                };
                self.planned(&model, planned);
            }
        }
    }

    fn act(&mut self, worker: u64, act: &Act) {
        let sim = &self.workers[&worker];
        let (loaded, inside) = (sim.loaded, sim.inside.keys().copied().collect::<Vec<_>>());
        match *act {
            Act::Heartbeat => self.says(worker, WorkerInput::Alive),
            Act::Measured(mb) if loaded => self.says(worker, WorkerInput::Measured(held(Amounts::ram(f64::from(mb))))),
            Act::GoOn => self.go_on(worker),
            Act::Text(n) => {
                if let Some(request) = nth(inside, n) {
                    self.text(worker, request);
                }
            }
            Act::Finish(n) => {
                if let Some(request) = nth(inside, n) {
                    self.finish(worker, request);
                }
            }
            Act::Fail(n) => {
                if let Some(request) = nth(inside, n) {
                    self.fail(worker, request, GenerateFailure::EmptyPrompt);
                }
            }
            Act::LoadFails if !loaded && !sim.failed => self.load_fails(worker),
            Act::Crash => self.gone(worker),
            Act::Measured(_) | Act::LoadFails => {}
        }
    }

    /// What a worker in order does next: end when it is to, load, answer.
    fn go_on(&mut self, worker: u64) {
        let sim = &self.workers[&worker];
        if sim.killed || sim.told_to_end || sim.failed {
            self.gone(worker);
        } else if !sim.loaded {
            self.loaded(worker);
        } else if let Some((&request, &cancelled)) = sim.inside.iter().next() {
            if cancelled {
                self.fail(worker, request, GenerateFailure::Cancelled);
            } else {
                self.finish(worker, request);
            }
        }
    }

    /// With workers in order every open request ends, without any time passing.
    fn come_to_rest(&mut self) {
        for round in 0.. {
            assert!(round < 500, "no rest: {:?}", self.lifecycle);
            for model in self.planning.keys().cloned().collect::<Vec<_>>() {
                self.planned(&model, Planned::Unknown);
            }
            let before: Vec<u64> = self.workers.keys().copied().collect();
            for worker in before {
                if self.workers.contains_key(&worker) {
                    self.go_on(worker);
                }
            }
            let resting = self.workers.values().all(|sim| sim.loaded && sim.inside.is_empty() && !sim.told_to_end);
            if resting && self.open.is_empty() {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_request_ends_and_a_drain_leaves_nothing(steps in prop::collection::vec(step(), 0..120), most in 0_usize..3) {
        let mut world = world(most);
        for step in &steps {
            world.take(step);
        }
        // Workers that do nothing any more, not even end when asked: time and force bring everything to its end.
        world.drain(Duration::from_secs(5));
        for _ in 0..50 {
            world.pass(Duration::from_secs(10));
            let killed: Vec<u64> = world.workers.iter().filter(|(_, sim)| sim.killed).map(|(&id, _)| id).collect();
            for worker in killed {
                world.gone(worker);
            }
        }
        prop_assert!(world.lifecycle.is_empty(), "left: {:?}", world.lifecycle);
        prop_assert!(world.open.is_empty() && world.workers.is_empty());
        prop_assert_eq!(world.lifecycle.used().total(), 0.0);
    }

    #[test]
    fn with_workers_in_order_everybody_is_answered_without_waiting(steps in prop::collection::vec(step(), 0..120), most in 0_usize..3) {
        let mut world = world(most);
        for step in steps.iter().filter(|step| !matches!(step, Step::Drain(_))) {
            world.take(step);
        }
        let open: Vec<u64> = world.open.keys().copied().collect();
        world.come_to_rest();
        for request in open {
            let timed_out = matches!(&world.ended[&request], End::Refused(refusal) if refusal.code == ErrorCode::Timeout);
            prop_assert!(!timed_out, "{request} ran out of time although none has passed");
        }
    }

    #[test]
    fn a_pinned_model_leaves_only_when_it_is_told_to(steps in prop::collection::vec(step(), 0..120), most in 0_usize..3) {
        let mut world = world(most);
        world.change("a", |facts| facts.pinned = true);
        let unpins = |step: &Step| matches!(step, Step::Pin(..) | Step::Drain(_));
        for step in steps.iter().filter(|step| !unpins(step)) {
            world.take(step);
        }
        for note in &world.notes {
            if let Note::Unloaded { model, reason } = note {
                prop_assert!(model != "a" || !matches!(*reason, "idle" | "evicted"), "{note:?}");
            }
        }
    }
}
