//! The rules of memory one by one.

use mms_protocol::ErrorCode;
use mms_protocol::view::ModelState;

use super::world::{End, World, facts, held, resident, seconds};
use crate::lifecycle::{Facts, Note, Planned, WorkerInput};
use crate::memory::{Amounts, Held};

fn amounts(cpu: f64, gpu: f64) -> Amounts {
    [("cpu".to_owned(), cpu), ("CUDA0".to_owned(), gpu)].into_iter().collect()
}

fn on_gpu(id: &str, cpu: f64, gpu: f64) -> Facts {
    Facts { need: amounts(cpu, gpu), ..facts(id, 0.0) }
}

fn unplanned(id: &str, estimated_mb: f64) -> Facts {
    Facts { unplanned: true, ..facts(id, estimated_mb) }
}

#[test]
fn a_model_holds_the_larger_of_what_was_reserved_and_what_was_measured() {
    let mut world = resident([facts("a", 600.0)]);
    let worker = world.worker("a");
    world.says(worker, WorkerInput::Measured(held(Amounts::ram(150.0))));
    assert_eq!(world.lifecycle.used(), Amounts::ram(600.0), "its buffers are its own before it has used them");
    world.says(worker, WorkerInput::Measured(held(Amounts::ram(640.0))));
    assert_eq!(world.lifecycle.used(), Amounts::ram(640.0));
}

#[test]
fn pages_that_the_kernel_calls_available_are_not_given_away() {
    let mut world = resident([facts("a", 600.0)]);
    let worker = world.worker("a");
    let measured = Held { amounts: Amounts::ram(600.0), reclaimable_mb: 500.0, kv_store_mb: 0.0 };
    world.says(worker, WorkerInput::Measured(measured));
    // The budget would do; but of the 700 that the kernel offers, 500 are the weights of the resident model.
    world.facts.insert("b".to_owned(), facts("b", 250.0));
    world.listed.insert("b".to_owned());
    world.tell_catalogue();
    world
        .lifecycle
        .set_memory(crate::lifecycle::Memory { budget: Amounts::ram(1000.0), available: Amounts::ram(700.0) });
    world.load("b");
    assert_eq!((world.state("b"), world.state("a")), (ModelState::Queued, ModelState::Draining));
}

#[test]
fn each_device_has_its_own_budget() {
    let mut world = World::new([on_gpu("a", 50.0, 400.0), on_gpu("b", 50.0, 400.0), facts("c", 300.0)]);
    world.set_budget(amounts(1000.0, 500.0));
    for id in ["c", "a"] {
        world.load(id);
        let worker = world.worker(id);
        world.loaded(worker);
        world.pass(seconds(1));
    }
    world.load("b");
    let ended: Vec<&str> = world.workers.values().filter(|sim| sim.told_to_end).map(|sim| sim.model.as_str()).collect();
    assert_eq!(ended, ["a"], "c has been idle for longer, but holds nothing of the GPU");
    let worker = world.worker("a");
    world.gone(worker);
    assert_eq!(world.state("b"), ModelState::Loading);
    world.facts.insert("d".to_owned(), on_gpu("d", 50.0, 501.0));
    world.listed.insert("d".to_owned());
    world.tell_catalogue();
    let refused = world.load("d");
    let refusal = world.refusal(refused);
    assert_eq!((refusal.code, refusal.details["device"].as_str()), (ErrorCode::InsufficientMemory, Some("CUDA0")));
    assert_eq!((&refusal.details["needed_mb"], &refusal.details["budget_mb"]), (&501.0.into(), &500.0.into()));
    assert_eq!(refusal.details["needed_by_device"]["cpu"], 50.0);
    assert!(refusal.message.contains("can never fit") && refusal.message.contains("gpu_budget"), "{refusal}");
}

#[test]
fn refusals_say_what_is_in_the_way() {
    let mut world = resident([Facts { pinned: true, ..facts("a", 600.0) }, facts("b", 300.0)]);
    let add = |world: &mut World, id: &str, mb: f64| {
        world.facts.insert(id.to_owned(), facts(id, mb));
        world.listed.insert(id.to_owned());
        world.tell_catalogue();
    };
    add(&mut world, "c", 500.0);
    add(&mut world, "d", 1001.0);
    let pinned = world.load("c");
    assert_eq!(
        world.refusal(pinned).message,
        "c needs about 500 MiB, the budget is 1000 MiB, of which 100 MiB can be had (held by a 600 MiB, b 300 MiB); pinned models stay \
         (a 600 MiB): unload one, or choose a smaller model, context_length, slots or cache_type"
    );
    assert_eq!(world.state("b"), ModelState::Loaded, "nobody goes in vain");
    let never = world.load("d");
    assert!(world.refusal(never).message.contains("it can never fit"), "{}", world.refusal(never));
    world.change("a", |facts| facts.pinned = false);
    let memory = crate::lifecycle::Memory { budget: Amounts::ram(1000.0), available: Amounts::ram(50.0) };
    world.lifecycle.set_memory(memory);
    add(&mut world, "e", 980.0);
    let others = world.load("e");
    assert!(world.refusal(others).message.contains("in use outside of this server"), "{}", world.refusal(others));
}

#[test]
fn a_model_is_measured_once_before_its_first_load() {
    let mut world = World::new([unplanned("a", 900.0), facts("b", 400.0)]);
    let load = world.load("a");
    world.generate("a");
    assert_eq!(world.lifecycle.shown(world.now, "a").unwrap().message, "its memory is being measured");
    world.load("b");
    assert_eq!(world.state("b"), ModelState::Loading, "nobody waits for a measurement of another model");
    world.planned("a", Planned::Need(Amounts::ram(500.0)));
    assert_eq!(world.state("a"), ModelState::Loading);
    let worker = world.worker("a");
    world.loaded(worker);
    assert_eq!(world.ended[&load], End::Loaded);
    assert_eq!(world.lifecycle.shown(world.now, "a").unwrap().held, Amounts::ram(500.0));
    assert!(world.planning.is_empty());
}

#[test]
fn without_a_plan_the_estimate_stands_and_a_file_that_cannot_be_loaded_is_refused() {
    let mut world = World::new([unplanned("a", 900.0), unplanned("b", 100.0)]);
    world.load("a");
    world.planned("a", Planned::Unknown);
    assert_eq!(world.lifecycle.used(), Amounts::ram(900.0));
    for _ in 0..3 {
        let refused = world.load("b");
        world.planned("b", Planned::CannotLoad("the tensors are upside down".to_owned()));
        assert_eq!(world.code(refused), ErrorCode::LoadFailed);
        assert!(world.refusal(refused).message.contains("upside down"));
    }
    assert_eq!(world.state("b"), ModelState::Quarantined);
    assert_eq!(world.lifecycle.used(), Amounts::ram(900.0), "no memory was reserved for it");
}

#[test]
fn a_measurement_of_a_file_that_was_replaced_is_repeated() {
    let mut world = World::new([unplanned("a", 900.0)]);
    let waits = world.generate_within("a", seconds(7));
    world.change("a", |facts| facts.version += 1);
    world.planned("a", Planned::Need(Amounts::ram(500.0)));
    assert_eq!(world.planning["a"], 2);
    world.pass(seconds(8));
    assert_eq!(world.refusal(waits).details["phase"], "measuring");
    world.planned("a", Planned::Need(Amounts::ram(300.0)));
    assert_eq!(world.state("a"), ModelState::AvailableNotLoaded, "nobody wants it any more");
    world.load("a");
    assert_eq!(world.lifecycle.used(), Amounts::ram(300.0), "but what was found out is not lost");
}

#[test]
fn growth_over_the_budget_is_told_and_makes_idle_models_go() {
    let mut world = resident([facts("a", 300.0), facts("b", 300.0), facts("c", 300.0)]);
    world.generate("c");
    let grown = world.worker("c");
    world.says(grown, WorkerInput::Measured(held(Amounts::ram(390.0))));
    assert_eq!(world.state("a"), ModelState::Loaded, "that was within the budget");
    world.says(grown, WorkerInput::Measured(held(Amounts::ram(450.0))));
    let over = Note::OverBudget { model: "c".to_owned(), device: "cpu".to_owned(), over_mb: 50.0 };
    assert_eq!(world.notes.iter().filter(|note| **note == over).count(), 1);
    assert_eq!((world.state("a"), world.state("b")), (ModelState::Draining, ModelState::Loaded));
    world.says(grown, WorkerInput::Measured(held(Amounts::ram(460.0))));
    assert_eq!(world.state("b"), ModelState::Loaded, "what is on its way back is enough");
    let worker = world.worker("a");
    world.gone(worker);
    assert!(world.lifecycle.used().fits(&world.budget));
}

#[test]
fn a_measurement_is_no_sign_of_life() {
    let mut world = resident([facts("a", 100.0)]);
    let worker = world.worker("a");
    for _ in 0..8 {
        world.says(worker, WorkerInput::Measured(held(Amounts::ram(100.0))));
        world.pass(seconds(5));
    }
    assert!(world.workers[&worker].killed);
}
