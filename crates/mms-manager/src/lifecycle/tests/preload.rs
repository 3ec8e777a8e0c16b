//! Loading by guess: only into free memory, and the first to make room.

use mms_protocol::ErrorCode;
use mms_protocol::view::ModelState;

use super::world::{End, World, facts, resident, seconds};
use crate::catalogue::Priority;
use crate::lifecycle::{Facts, GAVE_WAY, Planned, WorkerInput};
use crate::memory::Amounts;

fn guessed(world: &World, model: &str) -> bool {
    world.lifecycle.shown(world.now, model).unwrap().guessed
}

#[test]
fn a_guess_takes_free_memory_and_nothing_else() {
    let mut world = resident([facts("a", 600.0)]);
    world.facts.insert("b".to_owned(), facts("b", 300.0));
    world.facts.insert("c".to_owned(), facts("c", 300.0));
    world.listed.extend(["b".to_owned(), "c".to_owned()]);
    world.tell_catalogue();
    let first = world.preload("b");
    let second = world.preload("c");
    assert_eq!(world.code(second), ErrorCode::InsufficientMemory, "nobody goes for a guess, however idle");
    assert!(world.refusal(second).message.contains("needs about 300 MiB, and 100 MiB are free"));
    let worker = world.worker("b");
    world.loaded(worker);
    assert_eq!(world.ended[&first], End::Loaded);
    assert!(guessed(&world, "b") && !guessed(&world, "a"));
    assert_eq!(world.lifecycle.shown(world.now, "b").unwrap().last_used, None);
}

#[test]
fn a_guess_is_the_first_to_make_room() {
    let high = Facts { priority: Priority::High, ..facts("b", 400.0) };
    let mut world = World::new([facts("a", 400.0), high, facts("c", 400.0)]);
    world.load("a");
    world.loaded(world.worker("a"));
    world.pass(seconds(20));
    world.preload("b");
    world.loaded(world.worker("b"));
    let request = world.generate("c");
    assert_eq!(world.state("a"), ModelState::Loaded, "it was asked for, though it is idle for longer");
    assert_eq!(world.state("b"), ModelState::Draining);
    world.gone(world.worker("b"));
    world.loaded(world.worker("c"));
    world.finish(world.worker("c"), request);
    assert_eq!(world.ended[&request], End::Finished);
}

#[test]
fn a_guess_gives_way_while_it_loads() {
    let mut world = World::new([facts("a", 700.0), facts("b", 700.0)]);
    let guess = world.preload("a");
    assert_eq!(world.state("a"), ModelState::Loading);
    let request = world.generate("b");
    assert_eq!(world.code(guess), ErrorCode::InsufficientMemory);
    assert!(world.refusal(guess).details.contains_key(GAVE_WAY), "{}", world.refusal(guess));
    let worker = world.worker("a");
    assert!(world.workers[&worker].killed);
    world.gone(worker);
    assert_eq!((world.state("a"), world.state("b")), (ModelState::AvailableNotLoaded, ModelState::Loading));
    world.loaded(world.worker("b"));
    world.finish(world.worker("b"), request);
}

#[test]
fn what_is_asked_for_is_no_guess_any_more() {
    let mut world = World::new([facts("a", 700.0), facts("b", 700.0)]);
    let guess = world.preload("a");
    let request = world.generate("a");
    let other = world.generate("b");
    assert_eq!(world.state("a"), ModelState::Loading, "what loads for a request is nobody's victim");
    assert!(!guessed(&world, "a"));
    world.loaded(world.worker("a"));
    assert_eq!(world.ended[&guess], End::Loaded);
    world.finish(world.worker("a"), request);
    world.pass(seconds(10));
    world.gone(world.worker("a"));
    world.loaded(world.worker("b"));
    world.finish(world.worker("b"), other);
}

#[test]
fn a_guess_that_nobody_asks_for_goes_after_its_time() {
    let mut world = World::new([facts("a", 700.0), facts("b", 200.0)]);
    for model in ["a", "b"] {
        world.preload(model);
        world.loaded(world.worker(model));
    }
    world.load("b");
    for _ in 0..2 {
        world.pass(seconds(29));
        for model in ["a", "b"] {
            world.says(world.worker(model), WorkerInput::Alive);
        }
    }
    assert_eq!(world.state("a"), ModelState::Loaded);
    world.pass(seconds(3));
    assert_eq!((world.state("a"), world.state("b")), (ModelState::Draining, ModelState::Loaded));
}

#[test]
fn a_guess_that_is_measured_first_holds_up_nobody_and_waits_for_nobody() {
    let unplanned = Facts { unplanned: true, ..facts("a", 300.0) };
    let mut world = World::new([unplanned, facts("b", 900.0), facts("c", 900.0)]);
    let guess = world.preload("a");
    world.load("b");
    assert_eq!(world.state("b"), ModelState::Loading);
    world.loaded(world.worker("b"));
    let running = world.generate("b");
    let waiting = world.generate("c");
    world.planned("a", Planned::Need(Amounts::ram(50.0)));
    assert_eq!(world.code(guess), ErrorCode::InsufficientMemory, "others wait for memory");
    world.finish(world.worker("b"), running);
    world.pass(seconds(10));
    world.gone(world.worker("b"));
    world.loaded(world.worker("c"));
    world.finish(world.worker("c"), waiting);
    let guess = world.preload("a");
    world.loaded(world.worker("a"));
    assert_eq!(world.ended[&guess], End::Loaded);
}

#[test]
fn as_many_models_as_may_be_are_no_room() {
    let mut world = World::with_most([facts("a", 100.0), facts("b", 100.0)], 1);
    world.load("a");
    world.loaded(world.worker("a"));
    let guess = world.preload("b");
    assert!(world.refusal(guess).message.contains("max_loaded_models"), "{}", world.refusal(guess));
    let unload = world.unload("a");
    let early = world.preload("a");
    assert_eq!(world.code(early), ErrorCode::Cancelled, "it is just leaving");
    world.gone(world.worker("a"));
    assert_eq!(world.ended[&unload], End::Unloaded { was_loaded: true });
    world.preload("b");
    assert_eq!(world.state("b"), ModelState::Loading);
}

#[test]
fn a_guess_whose_worker_dies_while_loading_stays_a_guess() {
    let mut world = World::new([facts("a", 700.0), facts("b", 700.0)]);
    let guess = world.preload("a");
    world.gone(world.worker("a"));
    assert!(guessed(&world, "a") && !world.ended.contains_key(&guess), "it is tried again");
    let request = world.generate("b");
    assert!(world.refusal(guess).details.contains_key(GAVE_WAY));
    world.gone(world.worker("a"));
    world.loaded(world.worker("b"));
    world.finish(world.worker("b"), request);
}
