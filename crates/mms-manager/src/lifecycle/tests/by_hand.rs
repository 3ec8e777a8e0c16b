//! The rules one by one.

use mms_protocol::ErrorCode;
use mms_protocol::view::ModelState;
use mms_protocol::worker::GenerateFailure;

use super::world::{End, World, facts, resident, seconds};
use crate::lifecycle::{Facts, Note, WorkerInput};
use crate::memory::Amounts;

#[test]
fn requests_attach_to_one_load() {
    let mut world = World::new([facts("a", 100.0)]);
    let (load, first, second) = (world.load("a"), world.generate("a"), world.generate("a"));
    assert_eq!((world.state("a"), world.workers.len()), (ModelState::Loading, 1));
    let worker = world.worker("a");
    world.loaded(worker);
    assert_eq!(world.ended[&load], End::Loaded);
    world.finish(worker, first);
    world.finish(worker, second);
    assert_eq!((&world.ended[&first], &world.ended[&second]), (&End::Finished, &End::Finished));
}

#[test]
fn a_load_goes_on_without_whoever_asked_for_it() {
    let mut world = World::new([facts("a", 100.0)]);
    let load = world.load("a");
    world.leave(load);
    let worker = world.worker("a");
    world.loaded(worker);
    assert_eq!(world.state("a"), ModelState::Loaded);
}

#[test]
fn the_worker_gets_twice_its_slots_and_the_queue_has_an_end() {
    let mut world = resident([facts("a", 100.0)]);
    let requests: Vec<u64> = (0..7).map(|_| world.generate("a")).collect();
    assert_eq!(world.workers[&world.worker("a")].inside.len(), 2);
    assert_eq!(world.code(requests[6]), ErrorCode::QueueFull);
    assert!(world.refusal(requests[6]).details["retry_after_ms"].as_u64() >= Some(100));
    world.leave(requests[0]);
    assert!(world.workers[&world.worker("a")].inside[&requests[0]], "the worker is told at once");
    world.leave(requests[5]);
    assert_eq!(world.lifecycle.shown(world.now, "a").unwrap().queued, 3);
}

#[test]
fn the_least_recently_used_idle_model_goes_and_never_a_busy_or_pinned_one() {
    let mut world =
        resident([facts("a", 300.0), facts("b", 300.0), facts("c", 300.0), facts("d", 300.0)].into_iter().take(3));
    world.facts.insert("d".to_owned(), facts("d", 300.0));
    world.listed.insert("d".to_owned());
    world.change("a", |facts| facts.pinned = true);
    let busy = world.generate("b");
    let wanted = world.generate("d");
    assert_eq!(world.state("d"), ModelState::Queued);
    let ended: Vec<&str> = world.workers.values().filter(|sim| sim.told_to_end).map(|sim| sim.model.as_str()).collect();
    assert_eq!(ended, ["c"]);
    let worker = world.worker("c");
    world.gone(worker);
    assert_eq!(world.state("d"), ModelState::Loading, "only when the process is gone its memory counts as free");
    assert!(world.open.contains_key(&busy) && world.open.contains_key(&wanted));
    assert!(world.notes.contains(&Note::Unloaded { model: "c".to_owned(), reason: "evicted" }));
}

#[test]
fn a_load_waits_for_busy_models_and_runs_out_of_time_with_the_reason() {
    let mut world = resident([facts("a", 600.0), facts("b", 300.0)]);
    world.change("b", |facts| facts.need = Amounts::ram(700.0));
    let worker = world.worker("b");
    let unload = world.unload("b");
    world.gone(worker);
    assert_eq!(world.ended[&unload], End::Unloaded { was_loaded: true });
    let busy = world.generate("a");
    let waits = world.generate_within("b", seconds(7));
    assert_eq!(world.state("b"), ModelState::Queued);
    world.pass(seconds(8));
    assert_eq!(
        (world.code(waits), world.refusal(waits).details["phase"].as_str()),
        (ErrorCode::Timeout, Some("queued"))
    );
    assert_eq!(world.state("b"), ModelState::AvailableNotLoaded);
    let waits = world.generate("b");
    let worker = world.worker("a");
    world.finish(worker, busy);
    world.gone(worker);
    let worker = world.worker("b");
    world.loaded(worker);
    world.finish(worker, waits);
    assert_eq!(world.ended[&waits], End::Finished);
}

#[test]
fn what_can_never_fit_is_refused_with_figures() {
    let mut world = resident([Facts { pinned: true, ..facts("a", 600.0) }]);
    for (id, mb) in [("b", 700.0), ("c", 1500.0)] {
        world.facts.insert(id.to_owned(), facts(id, mb));
        world.listed.insert(id.to_owned());
        world.tell_catalogue();
        let request = world.load(id);
        let refusal = world.refusal(request);
        assert_eq!(refusal.code, ErrorCode::InsufficientMemory);
        assert_eq!(refusal.details["needed_mb"], mb);
        assert_eq!(refusal.details["free_mb"], 400.0);
        assert_eq!(refusal.details["holders"]["a"], 600.0);
        assert_eq!(world.state(id), ModelState::AvailableNotLoaded);
    }
}

#[test]
fn idle_models_leave_after_their_time_unless_pinned_or_busy() {
    let idle = |id: &str| Facts { idle_unload: Some(seconds(20)), ..facts(id, 100.0) };
    let mut world = resident([idle("a"), Facts { pinned: true, ..idle("b") }, idle("c")]);
    let busy = world.generate("c");
    let beat = |world: &mut World| {
        for worker in world.workers.keys().copied().collect::<Vec<_>>() {
            world.says(worker, WorkerInput::Alive);
        }
        world.pass(seconds(10));
    };
    beat(&mut world);
    assert_eq!(world.state("a"), ModelState::Loaded);
    beat(&mut world);
    assert_eq!(world.state("a"), ModelState::Draining);
    assert_eq!((world.state("b"), world.state("c")), (ModelState::Loaded, ModelState::Loaded));
    let worker = world.worker("c");
    world.finish(worker, busy);
    beat(&mut world);
    assert_eq!(world.state("c"), ModelState::Loaded, "idle time counts from the last answer");
}

#[test]
fn a_failed_load_tells_everybody_and_the_third_in_a_row_is_followed_by_growing_pauses() {
    let mut world = World::new([facts("a", 100.0)]);
    for _ in 0..3 {
        let (load, generate) = (world.load("a"), world.generate("a"));
        let worker = world.worker("a");
        world.load_fails(worker);
        assert_eq!((world.code(load), world.code(generate)), (ErrorCode::LoadFailed, ErrorCode::LoadFailed));
        assert!(world.refusal(load).message.contains("upside down"));
        world.gone(worker);
    }
    for pause in [10, 30, 90, 270, 600, 600] {
        assert_eq!(world.state("a"), ModelState::Quarantined);
        let refused = world.load("a");
        assert_eq!(world.code(refused), ErrorCode::Quarantined);
        assert_eq!(world.refusal(refused).details["retry_after_ms"], pause * 1000);
        assert!(world.refusal(refused).message.contains("upside down"));
        world.pass(seconds(pause));
        assert_eq!(world.state("a"), ModelState::AvailableNotLoaded);
        world.load("a");
        let worker = world.worker("a");
        world.load_fails(worker);
        world.gone(worker);
    }
    world.change("a", |facts| facts.version += 1);
    assert_eq!(world.state("a"), ModelState::AvailableNotLoaded, "a new file is a new chance");
}

#[test]
fn a_generation_that_has_said_nothing_begins_again_once() {
    let mut world = resident([facts("a", 100.0)]);
    let (spoke, silent) = (world.generate("a"), world.generate("a"));
    let worker = world.worker("a");
    world.text(worker, spoke);
    world.gone(worker);
    assert_eq!(world.code(spoke), ErrorCode::WorkerDied);
    assert!(world.refusal(spoke).message.contains("killed by signal 9"));
    assert!(world.open.contains_key(&silent));
    let worker = world.worker("a");
    world.loaded(worker);
    world.gone(worker);
    assert_eq!(world.code(silent), ErrorCode::WorkerDied);
}

#[test]
fn a_tool_call_is_something_said_and_embeddings_begin_again_like_any_request() {
    let mut world = resident([facts("a", 100.0)]);
    let (called, embeds) = (world.generate("a"), world.generate("a"));
    let worker = world.worker("a");
    world.tool_call(worker, called);
    world.gone(worker);
    assert_eq!(world.code(called), ErrorCode::WorkerDied, "a client may have done already what was called for");
    let worker = world.worker("a");
    world.loaded(worker);
    world.embedded(worker, embeds);
    assert_eq!((&world.ended[&embeds], world.state("a")), (&End::Finished, ModelState::Loaded));
}

#[test]
fn a_worker_that_dies_while_loading_is_replaced_once() {
    let mut world = World::new([facts("a", 100.0)]);
    let request = world.generate("a");
    let worker = world.worker("a");
    world.gone(worker);
    assert_eq!(world.state("a"), ModelState::Loading);
    let worker = world.worker("a");
    world.gone(worker);
    assert_eq!(world.code(request), ErrorCode::LoadFailed);
    assert_eq!(world.state("a"), ModelState::AvailableNotLoaded);
}

#[test]
fn a_silent_worker_is_killed_and_what_it_says_later_is_not_heard() {
    let mut world = resident([facts("a", 100.0)]);
    let request = world.generate("a");
    let hung = world.worker("a");
    world.pass(seconds(31));
    assert!(world.workers[&hung].killed);
    world.text(hung, request);
    world.gone(hung);
    let worker = world.worker("a");
    assert_ne!(worker, hung);
    world.loaded(worker);
    world.finish(worker, request);
    assert_eq!(world.ended[&request], End::Finished);
}

#[test]
fn a_worker_that_ignores_a_cancellation_is_killed() {
    let mut world = resident([facts("a", 100.0)]);
    let request = world.generate("a");
    let worker = world.worker("a");
    world.leave(request);
    for _ in 0..4 {
        world.says(worker, WorkerInput::Alive);
        world.pass(seconds(10));
    }
    assert!(world.workers[&worker].killed);
}

#[test]
fn an_unload_lets_the_work_under_way_end_and_what_comes_later_loads_again() {
    let mut world = resident([facts("a", 100.0)]);
    let running = world.generate("a");
    let unload = world.unload("a");
    assert_eq!(world.state("a"), ModelState::Draining);
    let later = world.generate("a");
    let worker = world.worker("a");
    world.finish(worker, running);
    assert!(world.workers[&worker].told_to_end && world.open.contains_key(&unload));
    world.gone(worker);
    assert_eq!(world.ended[&unload], End::Unloaded { was_loaded: true });
    assert_eq!(world.state("a"), ModelState::Loading);
    assert!(world.open.contains_key(&later));
}

#[test]
fn an_unload_while_loading_refuses_those_who_wait() {
    let mut world = World::new([facts("a", 100.0)]);
    let request = world.generate("a");
    let unload = world.unload("a");
    assert_eq!(world.code(request), ErrorCode::Cancelled);
    let worker = world.worker("a");
    assert!(world.workers[&worker].killed);
    world.gone(worker);
    assert_eq!(world.ended[&unload], End::Unloaded { was_loaded: false });
}

#[test]
fn a_worker_that_does_not_end_is_killed_after_its_grace() {
    let mut world = resident([facts("a", 100.0)]);
    world.unload("a");
    let worker = world.worker("a");
    assert!(!world.workers[&worker].killed);
    world.pass(seconds(4));
    assert!(world.workers[&worker].killed);
    assert_eq!(world.lifecycle.used().total(), 100.0);
}

#[test]
fn a_replaced_file_is_loaded_afresh_and_a_removed_or_broken_one_serves_to_the_end() {
    let mut world = resident([facts("a", 100.0), facts("b", 100.0), facts("c", 100.0)]);
    let running: Vec<u64> = ["a", "b", "c"].map(|id| world.generate(id)).to_vec();
    world.change("a", |facts| facts.version += 1);
    world.listed.remove("b");
    world.tell_catalogue();
    world.change("c", |facts| {
        facts.version += 1;
        facts.broken = Some("cut short".to_owned());
    });
    assert_eq!(
        ["a", "b", "c"].map(|id| world.state(id)),
        [ModelState::Draining, ModelState::Draining, ModelState::Loaded]
    );
    let after = world.generate("a");
    let unknown = world.generate("b");
    assert_eq!(world.code(unknown), ErrorCode::ModelNotFound);
    for (id, request) in ["a", "b", "c"].into_iter().zip(running) {
        let worker = world.worker(id);
        world.finish(worker, request);
        assert_eq!(world.ended[&request], End::Finished);
        world.gone(worker);
    }
    assert_eq!((world.state("a"), world.state("c")), (ModelState::Loading, ModelState::Broken));
    assert!(world.lifecycle.shown(world.now, "b").is_none() && world.open.contains_key(&after));
    let broken = world.generate("c");
    assert_eq!(world.code(broken), ErrorCode::ModelBroken);
}

#[test]
fn failures_in_the_worker_become_refusals_with_figures() {
    let mut world = resident([facts("a", 100.0)]);
    let worker = world.worker("a");
    let mut fail = |failure| {
        let request = world.generate("a");
        world.fail(worker, request, failure);
        world.refusal(request).clone()
    };
    let context = fail(GenerateFailure::ContextExceeded { prompt_tokens: 812, at_least: false, context_length: 512 });
    assert_eq!(context.code, ErrorCode::ContextExceeded);
    assert_eq!(
        context.message,
        "the prompt has 812 tokens, the context of a holds 512; shorten the prompt or load a model with a longer context"
    );
    assert_eq!((&context.details["prompt_tokens"], &context.details["context_length"]), (&812.into(), &512.into()));
    assert_eq!(fail(GenerateFailure::EmptyPrompt).code, ErrorCode::InvalidArgument);
    assert_eq!(fail(GenerateFailure::Template { message: "no".to_owned() }).code, ErrorCode::InvalidArgument);
    assert_eq!(fail(GenerateFailure::Engine { message: "no".to_owned() }).code, ErrorCode::Internal);
}

#[test]
fn a_drain_refuses_new_work_finishes_what_runs_and_refuses_the_rest_at_its_deadline() {
    let mut world = resident([facts("a", 100.0), facts("b", 100.0)]);
    world.facts.insert("c".to_owned(), facts("c", 100.0));
    world.listed.insert("c".to_owned());
    world.tell_catalogue();
    let (quick, slow, loading) = (world.generate("a"), world.generate("b"), world.generate("c"));
    world.drain(seconds(5));
    assert_eq!(world.code(loading), ErrorCode::ShuttingDown);
    let new = world.generate("a");
    assert_eq!(world.code(new), ErrorCode::ShuttingDown);
    let worker = world.worker("a");
    world.finish(worker, quick);
    world.gone(worker);
    assert_eq!(world.ended[&quick], End::Finished);
    world.pass(seconds(6));
    assert_eq!(world.code(slow), ErrorCode::ShuttingDown);
    world.pass(seconds(5));
    for worker in world.workers.keys().copied().collect::<Vec<_>>() {
        assert!(world.workers[&worker].killed);
        world.gone(worker);
    }
    assert!(world.lifecycle.is_empty());
}

#[test]
fn a_file_that_is_written_to_changes_nothing_for_its_resident_model() {
    let mut world = resident([facts("a", 100.0)]);
    let worker = world.worker("a");
    world.change("a", |a| (a.version, a.broken, a.writing) = (2, Some("still being written".to_owned()), true));
    assert_eq!((world.state("a"), world.worker("a")), (ModelState::Loaded, worker));
    let request = world.generate("a");
    world.finish(worker, request);
    assert_eq!((&world.ended[&request], world.state("a")), (&End::Finished, ModelState::Loaded));
    // Afterwards it is another model's file, so that is loaded.
    world.change("a", |a| (a.broken, a.writing) = (None, false));
    assert!(world.workers[&worker].told_to_end);
}

#[test]
fn a_retry_has_no_more_time_than_the_request_had() {
    let mut world = resident([facts("a", 100.0)]);
    let request = world.generate_within("a", seconds(20));
    world.pass(seconds(15));
    let worker = world.worker("a");
    world.gone(worker);
    assert!(world.notes.contains(&Note::Retried(request)) && !world.ended.contains_key(&request));
    world.pass(seconds(6));
    assert_eq!(world.code(request), ErrorCode::Timeout);
    assert_eq!(world.refusal(request).details["timeout_ms"], 20_000);
}
