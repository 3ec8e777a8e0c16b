//! The ordinary life: load, generate, cancel, deadlines, unload, drain.

use std::time::Duration;

use mms_manager::catalogue::ModelConfig;
use mms_manager::{Budget, GenerateEvent};
use mms_protocol::view::ModelState;
use mms_protocol::{ErrorCode, Event, LoadArgs, ModelChoice, Operation, Reply};

use crate::harness::{Setup, ask, endless, first_text, rest, within};

#[tokio::test]
async fn a_model_is_loaded_answers_and_is_unloaded() {
    let mut rig = Setup::new().start().await;
    assert_eq!(rig.state("demo"), ModelState::AvailableNotLoaded);
    let Reply::Loaded(view) = rig.load("demo").await.unwrap() else { panic!("not a load") };
    assert_eq!(view.status, ModelState::Loaded);
    assert!(view.measured_mb.is_some_and(|mb| mb > 1.0) && view.worker_pid.is_some() && view.load_ms.is_some());
    assert_eq!((view.n_ctx, view.slots), (512, 2));
    // Which weights are copied (and their pages then not counted) depends on the processor; the rest holds on all of them.
    let resident = mms_manager::memory::measure(view.worker_pid.unwrap()).unwrap();
    let measured = view.measured_mb.unwrap();
    assert!(measured <= resident.total_mb + 0.5, "{measured} {resident:?}");
    assert!(measured >= resident.anonymous_mb - 0.5, "{measured} {resident:?}");

    let generation = rig.generate(ask("DEMO.gguf", "hello", 16)).await.unwrap();
    assert_eq!(generation.model_id, "demo");
    assert!(!generation.text.is_empty() && generation.usage.completion_tokens > 0);
    assert!(generation.first_token_ms.is_some_and(|first| first <= generation.total_ms));
    let loaded = rig.event("loaded", |event| matches!(event, Event::ModelLoaded { .. })).await;
    assert!(matches!(loaded, Event::ModelLoaded { model_id, memory_mb, .. } if model_id == "demo" && memory_mb > 1.0));
    rig.event("generated", |event| matches!(event, Event::Generated(_))).await;

    let Reply::Memory { memory, .. } = rig.manager.call(Operation::GetMemoryStatus).await.unwrap() else { panic!() };
    assert!(memory.used_mb > 1.0);
    let gone = rig.unload("demo").await.unwrap();
    assert_eq!(gone, Reply::Unloaded { model: "demo".to_owned(), known: true, was_loaded: true });
    let again = rig.unload("demo").await.unwrap();
    assert_eq!(again, Reply::Unloaded { model: "demo".to_owned(), known: true, was_loaded: false });
    assert_eq!(rig.manager.model("demo").unwrap().held_mb(), 0.0);
    let stats = rig.manager.health().stats;
    assert_eq!((stats.models_loaded, stats.models_unloaded, stats.generations), (1, 1, 1));
    rig.finish().await;
}

#[tokio::test]
async fn a_stream_gives_the_text_piece_by_piece_and_the_same_text_at_its_end() {
    let rig = Setup::new().start().await;
    let mut stream = rig.stream(ask("demo", "hello", 24)).await;
    let (text, last) = rest(&mut stream).await;
    let GenerateEvent::Finished(generation) = last else { panic!("{last:?}") };
    assert_eq!(generation.text, text);
    let whole = rig.generate(ask("demo", "hello", 24)).await.unwrap();
    assert_eq!(whole.text, text, "temperature 0 gives the same again");
    rig.finish().await;
}

#[tokio::test]
async fn many_requests_attach_to_one_load_and_all_are_answered() {
    let rig = Setup::new().start().await;
    let loads = futures::future::join_all((0..8).map(|_| rig.load("demo")));
    let answers = futures::future::join_all((0..12).map(|_| rig.generate(ask("demo", "hello", 8))));
    let (loads, answers) = tokio::join!(loads, answers);
    assert!(loads.iter().all(Result::is_ok) && answers.iter().all(Result::is_ok), "{loads:?} {answers:?}");
    let stats = rig.manager.health().stats;
    assert_eq!((stats.models_loaded, stats.generations), (1, 12));
    rig.finish().await;
}

#[tokio::test]
async fn a_load_goes_on_when_whoever_asked_for_it_leaves() {
    let rig = Setup::new().start().await;
    let load = rig.manager.call(Operation::LoadModel(LoadArgs::of("demo")));
    tokio::select! {
        biased;
        _ = load => panic!("the load cannot have ended before the state changed"),
        () = rig.until_state("demo", ModelState::Loading) => {}
    }
    rig.until_state("demo", ModelState::Loaded).await;
    assert_eq!(rig.manager.health().stats.models_loaded, 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_dropped_stream_is_cancelled_while_queued_and_while_decoding() {
    let rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let mut running = Vec::new();
    for _ in 0..6 {
        running.push(rig.stream(endless("demo")).await);
    }
    let view = rig.manager.model("demo").unwrap();
    assert_eq!(
        (view.active_requests, view.queued_requests),
        (4, 2),
        "two slots, two to go on with, the rest waits here"
    );
    first_text(&mut running[0]).await;
    running.clear();
    rig.until("rest", |rig| rig.manager.model("demo").unwrap().active_requests == 0).await;
    assert_eq!(rig.manager.model("demo").unwrap().queued_requests, 0);
    let after = rig.generate(ask("demo", "hello", 8)).await;
    assert!(after.is_ok(), "{after:?}");
    rig.finish().await;
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody() {
    let rig = Setup::new().start().await;
    let mut lazy = rig.stream(endless("demo")).await;
    for _ in 0..3 {
        rig.generate(ask("demo", "hello", 8)).await.unwrap();
    }
    let (text, last) = rest(&mut lazy).await;
    assert!(matches!(last, GenerateEvent::Finished(_)) && !text.is_empty(), "{last:?}");
    rig.finish().await;
}

#[tokio::test]
async fn a_deadline_ends_a_request_and_says_what_it_was_doing() {
    let rig = Setup::new().start().await;
    let refusal = rig.generate(mms_protocol::GenerateArgs { timeout_ms: Some(1), ..ask("demo", "hello", 8) }).await;
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Timeout);
    assert!(["measuring", "loading"].iter().any(|phase| refusal.details["phase"] == *phase), "{refusal}");
    assert!(rig.generate(ask("demo", "hello", 8)).await.is_ok());
    rig.finish().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let rig = Setup::new().change(|config| config.limits.queue_per_model = 3).start().await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(rig.stream(ask("demo", "hello", 4)).await);
    }
    let refusal = rig.generate(ask("demo", "hello", 4)).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::QueueFull);
    assert!(refusal.details["retry_after_ms"].as_u64().is_some_and(|ms| ms >= 100), "{refusal:?}");
    for mut stream in waiting {
        assert!(matches!(rest(&mut stream).await.1, GenerateEvent::Finished(_)));
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_with_both_lengths() {
    let rig = Setup::new().start().await;
    let refusal = rig.generate(ask("demo", &"word ".repeat(2000), 8)).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::ContextExceeded);
    assert_eq!(refusal.details["context_length"], 512);
    assert!(refusal.details["prompt_tokens"].as_u64().is_some_and(|n| n > 512));
    assert!(refusal.message.contains("the context of demo holds 512"), "{refusal}");
    rig.finish().await;
}

#[tokio::test]
async fn names_that_lead_nowhere() {
    let rig = Setup::new().start().await;
    let refusal = rig.generate(ask("nobody", "hello", 8)).await.unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (ErrorCode::ModelNotFound, "Model not found: nobody; known: demo")
    );
    let unloaded = rig.unload("nobody").await.unwrap();
    assert_eq!(unloaded, Reply::Unloaded { model: "nobody".to_owned(), known: false, was_loaded: false });
    let wrong = LoadArgs { quantization_level: Some("Q2_K".to_owned()), ..LoadArgs::of("demo") };
    let refusal = rig.manager.call(Operation::LoadModel(wrong)).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidArgument);
    let nowhere = LoadArgs { device: Some("abacus".to_owned()), ..LoadArgs::of("demo") };
    let refusal = within("the devices", rig.manager.call(Operation::LoadModel(nowhere))).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidArgument);
    assert!(refusal.message.starts_with("device abacus is not there; this server has auto, "), "{refusal}");
    let cpu = LoadArgs { device: Some("cpu".to_owned()), ..LoadArgs::of("demo") };
    assert!(within("the load", rig.manager.call(Operation::LoadModel(cpu))).await.is_ok());
    rig.finish().await;
}

#[tokio::test]
async fn preferences_choose_among_what_there_is() {
    let rig = Setup::new().builtin().start().await;
    let args = |preference: &str| mms_protocol::GenerateArgs {
        choice: ModelChoice::Preference(preference.to_owned()),
        ..ask("", "hello", 4)
    };
    assert_eq!(rig.generate(args("fast")).await.unwrap().model_id, "demo");
    assert_eq!(rig.generate(args("fallback")).await.unwrap().model_id, "mms-demo");
    let Reply::Status(status) = rig.manager.call(Operation::Status).await.unwrap() else { panic!() };
    assert_eq!(status.routing_policy["fast"], "demo");
    assert_eq!(status.routing_policy["fallback"], "mms-demo");
    rig.finish().await;
}

#[tokio::test]
async fn an_idle_model_leaves_and_a_pinned_one_stays() {
    let pinned = ModelConfig { id: "pinned".to_owned(), pinned: true, ..ModelConfig::default() };
    let setup = Setup::new().copy("pinned.gguf").model(pinned);
    let mut rig = setup.change(|config| config.idle_unload = Some(Duration::from_millis(200))).start().await;
    rig.load("pinned").await.unwrap();
    rig.load("demo").await.unwrap();
    let gone = rig.event("unloaded", |event| matches!(event, Event::ModelUnloaded { .. })).await;
    assert_eq!(gone, Event::ModelUnloaded { model_id: "demo".to_owned(), reason: "idle" });
    assert_eq!(rig.state("pinned"), ModelState::Loaded);
    rig.finish().await;
}

#[tokio::test]
async fn memory_for_one_makes_the_other_go_and_memory_for_none_is_refused_with_figures() {
    let probe = Setup::new().start().await;
    probe.load("demo").await.unwrap();
    let view = probe.manager.model("demo").unwrap();
    let need = view.held_by_device["cpu"];
    assert!(need >= view.estimated_mb && need >= view.measured_mb.unwrap(), "{view:?}");
    probe.finish().await;

    // Enough for one that is resident and most of what the next one needs.
    let budget = Budget::Mb((need * 1.8) as u64);
    let mut rig = Setup::new().copy("other.gguf").change(|config| config.memory.budget = budget).start().await;
    rig.load("demo").await.unwrap();
    rig.load("other").await.unwrap();
    let gone = rig.event("unloaded", |event| matches!(event, Event::ModelUnloaded { .. })).await;
    assert_eq!(gone, Event::ModelUnloaded { model_id: "demo".to_owned(), reason: "evicted" });

    let mut busy = rig.stream(endless("other")).await;
    first_text(&mut busy).await;
    let waiting = rig.generate(ask("demo", "hello", 4));
    let (waited, (_, last)) = tokio::join!(waiting, rest(&mut busy));
    assert!(matches!(last, GenerateEvent::Finished(_)), "a busy model is no victim: {last:?}");
    assert!(waited.is_ok(), "{waited:?}");
    rig.finish().await;

    let small = Budget::Mb((need / 2.0) as u64);
    let rig = Setup::new().change(|config| config.memory.budget = small).start().await;
    let refusal = rig.load("demo").await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InsufficientMemory);
    assert!(refusal.details["needed_mb"].as_f64() > refusal.details["budget_mb"].as_f64(), "{refusal:?}");
    rig.finish().await;
}

#[tokio::test]
async fn a_drain_lets_work_end_refuses_new_work_and_leaves_nothing() {
    let rig = Setup::new().start().await;
    let mut running = rig.stream(endless("demo")).await;
    first_text(&mut running).await;
    let pid = rig.pid("demo").unwrap();
    let manager = rig.manager.clone();
    let drain = tokio::spawn(async move { manager.drain(Duration::from_secs(120)).await });
    rig.until("the drain", |rig| rig.manager.health().draining).await;
    let refusal = rig.generate(ask("demo", "hello", 4)).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::ShuttingDown);
    assert!(matches!(rest(&mut running).await.1, GenerateEvent::Finished(_)));
    let report = within("the drain's end", drain).await.unwrap();
    assert_eq!((report.finished, report.refused, report.workers_ended), (1, 0, 1), "{report:?}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    rig.finish().await;
}

#[tokio::test]
async fn a_drain_without_time_refuses_what_runs() {
    let rig = Setup::new().start().await;
    let mut running = rig.stream(endless("demo")).await;
    first_text(&mut running).await;
    let report = within("the drain", rig.manager.drain(Duration::ZERO)).await;
    assert_eq!((report.refused, report.workers_ended), (1, 1), "{report:?}");
    let (_, last) = rest(&mut running).await;
    assert!(matches!(&last, GenerateEvent::Failed(refusal) if refusal.code == ErrorCode::ShuttingDown), "{last:?}");
    rig.finish().await;
}

#[tokio::test]
async fn a_preloaded_model_is_there_without_being_asked_for() {
    let preload = ModelConfig { id: "demo".to_owned(), preload: true, ..ModelConfig::default() };
    let rig = Setup::new().model(preload).start().await;
    rig.until_state("demo", ModelState::Loaded).await;
    rig.finish().await;
}

#[test]
fn a_pulse_needs_the_task_and_cheap_operations_do_not() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The task runs only while its runtime is driven, so here it stands still between the calls of `block_on`.
    let (tasks, asker) = (runtime(), runtime());
    let rig = tasks.block_on(Setup::new().start());
    let mut pulse = Box::pin(rig.manager.pulse());
    asker.block_on(async {
        assert!(futures::poll!(&mut pulse).is_pending());
        rig.manager.call(Operation::Ping).await.unwrap();
        assert!(futures::poll!(&mut pulse).is_pending(), "nobody can have answered");
    });
    tasks.block_on(within("the pulse", pulse)).unwrap();
    tasks.block_on(rig.finish());
}
