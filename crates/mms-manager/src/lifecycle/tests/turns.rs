//! Turns: who makes room for whom, when, and what becomes of the requests of those who do.

use std::time::Duration;

use mms_protocol::ErrorCode;
use mms_protocol::view::ModelState;

use super::world::{End, World, facts, resident, seconds};
use crate::catalogue::Priority;
use crate::lifecycle::Facts;

impl World {
    fn add(&mut self, model: Facts) {
        self.listed.insert(model.id.clone());
        self.facts.insert(model.id.clone(), model);
        self.tell_catalogue();
    }

    /// The models whose workers were told to end.
    fn told_to_end(&self) -> Vec<&str> {
        self.workers.values().filter(|sim| sim.told_to_end).map(|sim| sim.model.as_str()).collect()
    }

    fn finish_all(&mut self, model: &str) {
        let worker = self.worker(model);
        for request in self.workers[&worker].inside.keys().copied().collect::<Vec<_>>() {
            self.finish(worker, request);
        }
    }
}

#[test]
fn a_model_at_work_goes_on_for_its_turn_and_then_makes_room_with_its_queue_kept() {
    let mut world = resident([facts("a", 600.0)]);
    world.add(facts("b", 600.0));
    let requests: Vec<u64> = (0..4).map(|_| world.generate("a")).collect();
    let other = world.generate("b");
    assert_eq!((world.state("a"), world.state("b")), (ModelState::Loaded, ModelState::Queued));
    // `b` has never been loaded, so its patience is guessed by its size: 1.1 s.
    world.pass(seconds(2));
    assert_eq!(world.state("a"), ModelState::Draining, "two are under way, two wait");
    let late = world.generate("a");
    world.finish_all("a");
    assert_eq!(world.told_to_end(), ["a"]);
    let worker = world.worker("a");
    world.gone(worker);
    assert_eq!((world.state("a"), world.state("b")), (ModelState::Queued, ModelState::Loading));
    let worker = world.worker("b");
    world.loaded(worker);
    world.finish(worker, other);
    assert_eq!(world.told_to_end(), ["b"], "it is idle, and `a` waits");
    world.gone(worker);
    let worker = world.worker("a");
    world.loaded(worker);
    for _ in 0..2 {
        world.finish_all("a");
    }
    for request in requests.into_iter().chain([late, other]) {
        assert_eq!(world.ended[&request], End::Finished);
    }
}

#[test]
fn a_model_that_was_to_make_room_stays_when_nobody_waits_any_more() {
    let mut world = resident([facts("a", 600.0)]);
    world.add(facts("b", 600.0));
    let requests: Vec<u64> = (0..3).map(|_| world.generate("a")).collect();
    let other = world.generate("b");
    world.pass(seconds(2));
    assert_eq!(world.state("a"), ModelState::Draining);
    let load = world.load("a");
    world.leave(other);
    assert_eq!((world.state("a"), &world.ended[&load]), (ModelState::Loaded, &End::Loaded));
    world.finish_all("a");
    world.finish_all("a");
    assert!(requests.iter().all(|request| world.ended[request] == End::Finished));
    assert_eq!(world.told_to_end(), Vec::<&str>::new());
}

#[test]
fn small_ones_pass_a_large_one_only_where_they_do_not_delay_it() {
    let mut world = resident([facts("a", 600.0)]);
    for (id, mb) in [("large", 700.0), ("middle", 150.0), ("small", 200.0)] {
        world.add(facts(id, mb));
    }
    world.generate("a");
    world.generate("large");
    world.pass(Duration::from_millis(900));
    world.generate("middle");
    assert_eq!(world.state("middle"), ModelState::Loading, "there will be room for both");
    world.generate("small");
    assert_eq!(world.state("small"), ModelState::Queued, "there is room now, but the large one will need it");
    world.finish_all("a");
    let worker = world.worker("a");
    world.gone(worker);
    assert_eq!((world.state("large"), world.state("small")), (ModelState::Loading, ModelState::Queued));
}

#[test]
fn what_goes_first_is_low_in_priority_and_no_more_than_needed() {
    let low = Facts { priority: Priority::Low, ..facts("low", 300.0) };
    let high = Facts { priority: Priority::High, ..facts("high", 300.0) };
    let mut world = resident([high, facts("medium", 300.0), low]);
    world.add(facts("new", 300.0));
    world.add(facts("newer", 300.0));
    world.generate("new");
    assert_eq!(world.told_to_end(), ["low"]);
    world.generate("newer");
    assert_eq!(world.told_to_end(), ["medium", "low"]);
    assert_eq!(world.state("high"), ModelState::Loaded);
}

#[test]
fn at_most_so_many_models_are_in_memory() {
    let mut world = World::with_most(["a", "b", "c"].map(|id| facts(id, 10.0)), 2);
    for id in ["a", "b"] {
        world.load(id);
        let worker = world.worker(id);
        world.loaded(worker);
        world.pass(seconds(1));
    }
    let load = world.load("c");
    assert_eq!(world.told_to_end(), ["a"]);
    assert_eq!(world.state("c"), ModelState::Queued, "one that ends counts until it is gone");
    let worker = world.worker("a");
    world.gone(worker);
    let worker = world.worker("c");
    world.loaded(worker);
    assert_eq!(world.ended[&load], End::Loaded);
    for id in ["b", "c"] {
        world.change(id, |facts| facts.pinned = true);
    }
    let refused = world.generate("a");
    let refusal = world.refusal(refused);
    assert_eq!(refusal.code, ErrorCode::InsufficientMemory);
    assert_eq!(
        refusal.message,
        "a cannot be loaded: at most 2 models may be in memory (max_loaded_models), and 2 of them are pinned (b, c); unload one of \
         these, or raise the limit"
    );
}
