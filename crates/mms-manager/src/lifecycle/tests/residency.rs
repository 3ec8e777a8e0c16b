//! How long models stay: keep-alive, and what those see who wait for a load.

use mms_protocol::view::ModelState;
use mms_protocol::{ErrorCode, KeepAlive};

use super::world::{End, World, facts, resident, seconds};
use crate::lifecycle::{Facts, WorkerInput};

/// Lets time pass while every worker beats.
fn beat(world: &mut World, times: u64) {
    for _ in 0..times {
        for worker in world.workers.keys().copied().collect::<Vec<_>>() {
            world.says(worker, WorkerInput::Alive);
        }
        world.pass(seconds(10));
    }
}

#[test]
fn the_last_keep_alive_that_was_given_beats_the_settings_until_the_model_is_unloaded() {
    let mut world = resident([Facts { idle_unload: Some(seconds(20)), ..facts("a", 100.0) }]);
    let worker = world.worker("a");
    let ask = |world: &mut World, keep_alive| {
        world.keep_alive = keep_alive;
        let request = world.generate("a");
        world.finish(worker, request);
        let shown = world.lifecycle.shown(world.now, "a").unwrap();
        (shown.idle_unload, shown.expires.map(|at| at - world.now))
    };
    assert_eq!(ask(&mut world, Some(KeepAlive::Forever)), (None, None));
    beat(&mut world, 10);
    assert_eq!(ask(&mut world, None), (None, None), "it holds for later requests");
    let minute = Some(seconds(60));
    assert_eq!(ask(&mut world, Some(KeepAlive::For(seconds(60)))), (minute, minute));
    beat(&mut world, 5);
    assert_eq!(world.state("a"), ModelState::Loaded);
    beat(&mut world, 1);
    assert!(world.workers[&worker].told_to_end);
    world.gone(worker);
    world.keep_alive = None;
    world.load("a");
    assert_eq!(world.lifecycle.shown(world.now, "a").unwrap().idle_unload, Some(seconds(20)));
}

#[test]
fn with_a_keep_alive_of_zero_a_model_goes_when_its_work_is_done_unless_pinned() {
    let mut world = resident([facts("a", 100.0), Facts { pinned: true, ..facts("b", 100.0) }]);
    world.keep_alive = Some(KeepAlive::For(seconds(0)));
    for id in ["a", "b"] {
        let (worker, first, second) = (world.worker(id), world.generate(id), world.generate(id));
        world.finish(worker, first);
        world.pass(seconds(0));
        assert_eq!(world.state(id), ModelState::Loaded, "there is work yet");
        world.finish(worker, second);
        world.pass(seconds(0));
        assert_eq!(world.ended[&second], End::Finished);
    }
    assert_eq!((world.state("a"), world.state("b")), (ModelState::Draining, ModelState::Loaded));
}

#[test]
fn a_keep_alive_of_somebody_who_waits_holds_for_the_next_residence() {
    let mut world = resident([facts("a", 100.0)]);
    world.unload("a");
    world.keep_alive = Some(KeepAlive::For(seconds(30)));
    world.generate("a");
    let worker = world.worker("a");
    world.gone(worker);
    assert_eq!(world.lifecycle.shown(world.now, "a").unwrap().idle_unload, Some(seconds(30)));
}

#[test]
fn whoever_waits_no_longer_for_a_load_is_told_how_far_it_is_and_the_load_goes_on() {
    let mut world = World::new([facts("a", 100.0)]);
    let load = world.load_within("a", seconds(12));
    let worker = world.worker("a");
    world.pass(seconds(6));
    world.says(worker, WorkerInput::Progress(0.25));
    let shown = world.lifecycle.shown(world.now, "a").unwrap().progress.unwrap();
    assert_eq!((shown.elapsed, shown.remaining), (seconds(6), Some(seconds(18))));
    world.says(worker, WorkerInput::Progress(0.5));
    world.pass(seconds(6));
    let refusal = world.refusal(load);
    assert_eq!(refusal.code, ErrorCode::Timeout);
    assert_eq!(refusal.message, "the time of 12000 ms was up while loading a (50 %, 12 s so far, about 12 s left)");
    let details = ["phase", "load_percent", "load_elapsed_s", "load_remaining_s", "retry_after_ms"];
    let figures: Vec<_> = details.iter().map(|key| refusal.details[*key].to_string()).collect();
    assert_eq!(figures, ["\"loading\"", "50", "12.0", "12.0", "12000"]);
    let generate = world.generate("a");
    world.loaded(worker);
    world.finish(worker, generate);
    assert_eq!(world.ended[&generate], End::Finished);
}

#[test]
fn a_request_whose_time_is_up_in_the_queue_never_reaches_a_worker() {
    let mut world = World::new([facts("a", 100.0)]);
    let (late, in_time) = (world.generate_within("a", seconds(5)), world.generate("a"));
    let worker = world.worker("a");
    // The worker's message comes before the timer's.
    world.now += seconds(5);
    world.loaded(worker);
    assert_eq!(world.code(late), ErrorCode::Timeout);
    assert_eq!(world.workers[&worker].inside.keys().copied().collect::<Vec<_>>(), [in_time]);
}
