//! What models need, hold and give back. The worker is a fake that does as it is told, where the test has to decide what a plan or a
//! load gives; what real plans are worth is seen with the real one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mms_manager::memory::{Amounts, GpuFacts, GpuProbe};
use mms_manager::{Budget, Manager};
use mms_protocol::view::ModelState;
use mms_protocol::worker::PROTOCOL_VERSION;
use mms_protocol::{ErrorCode, Event, Operation, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::harness::{Rig, Setup, demo_model, within};

/// A worker program in a folder of its own.
struct Fake {
    folder: TempDir,
}

impl Fake {
    fn new(plan: Value) -> Self {
        let fake = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::write(fake.program(), include_str!("fake_worker.py")).expect("the program");
        fs::set_permissions(fake.program(), fs::Permissions::from_mode(0o755)).expect("an executable program");
        fake.order(plan, &["CPU"]);
        fake
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("fake_worker")
    }

    fn order(&self, plan: Value, devices: &[&str]) {
        let orders = json!({"plan": plan, "devices": devices, "protocol_version": PROTOCOL_VERSION});
        fs::write(self.folder.path().join("orders"), orders.to_string()).expect("the orders");
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Every model in it needs no more than its plan.
    fn setup(&self) -> Setup {
        let (program, plans) = (self.program(), self.folder.path().join("data/plans.json"));
        Setup::new().change(|config| {
            config.worker_program = program;
            config.plans = Some(plans);
            config.engine.kv_store_mb = 0;
        })
    }
}

fn source(rig: &Rig) -> (&'static str, f64) {
    let view = rig.manager.model("demo").expect("the model is known");
    (view.estimate_source, view.estimated_mb)
}

#[tokio::test]
async fn a_plan_is_made_once_and_again_when_the_file_is_another() {
    let fake = Fake::new(json!({"cpu": 300}));
    let setup = fake.setup().change(|config| config.engine.kv_store_mb = 64);
    let (config, again) = (setup.config.clone(), setup.models.path().to_owned());
    let rig = setup.start().await;
    assert_eq!(source(&rig).0, "header");
    rig.load("demo").await.unwrap();
    let view = rig.manager.model("demo").unwrap();
    assert_eq!((view.estimate_source, view.estimated_mb), ("plan", 300.0));
    assert_eq!((view.held_mb(), view.held_by_device["cpu"]), (364.0, 364.0), "with what the KV store may take");
    let measured = view.measured_mb.unwrap();
    assert!((view.estimate_error_mb.unwrap() - (measured - 300.0)).abs() < 1e-6 && measured > 1.0, "{view:?}");
    let Reply::Memory { memory, .. } = rig.manager.call(Operation::GetMemoryStatus).await.unwrap() else { panic!() };
    assert_eq!((memory.device.as_str(), memory.used_mb, memory.devices.len()), ("cpu", 364.0, 1));
    within("the drain", rig.manager.drain(Duration::ZERO)).await;

    // The next run knows it.
    let (sender, events) = mpsc::channel(1024);
    let manager = Manager::start(config, sender).await.unwrap();
    let rig = Rig { manager, events, models: rig.models };
    assert_eq!(source(&rig), ("plan", 300.0));
    rig.load("demo").await.unwrap();
    assert_eq!(fake.log(), ["plan demo", "load demo", "load demo"]);
    rig.unload("demo").await.unwrap();

    let mut other = fs::read(demo_model()).unwrap();
    other.extend([0; 64]);
    fs::write(again.join("next.part"), other).unwrap();
    fs::rename(again.join("next.part"), again.join("demo.gguf")).unwrap();
    rig.until("the other file", |rig| source(rig).0 == "header").await;
    rig.load("demo").await.unwrap();
    assert_eq!(fake.log()[3..], ["plan demo", "load demo"]);
    rig.finish().await;
}

#[tokio::test]
async fn without_a_plan_the_header_s_estimate_stands() {
    for what in ["die", "hang"] {
        let fake = Fake::new(json!(what));
        let setup = fake.setup().change(|config| config.memory.plan_timeout = Duration::from_secs(2));
        let rig = setup.start().await;
        rig.load("demo").await.unwrap();
        assert_eq!(source(&rig).0, "header", "{what}");
        rig.unload("demo").await.unwrap();
        rig.load("demo").await.unwrap();
        assert_eq!(fake.log(), ["plan demo", "load demo", "load demo"], "{what}: it is not tried again and again");
        rig.finish().await;
    }
    let fake = Fake::new(json!({"cpu": 300}));
    let rig = fake.setup().change(|config| config.memory.plan_timeout = Duration::ZERO).start().await;
    rig.load("demo").await.unwrap();
    assert_eq!(fake.log(), ["load demo"], "switched off");
    rig.finish().await;
}

#[tokio::test]
async fn what_cannot_be_loaded_or_can_never_fit_is_refused_before_a_load() {
    let fake = Fake::new(json!("refuse"));
    let rig = fake.setup().start().await;
    let refusal = rig.load("demo").await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::LoadFailed);
    assert!(refusal.message.contains("the tensors are upside down"), "{refusal}");
    fake.order(json!({"cpu": 5000}), &["CPU"]);
    let refusal = rig.load("demo").await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InsufficientMemory);
    assert_eq!((&refusal.details["needed_mb"], &refusal.details["budget_mb"]), (&json!(5000.0), &json!(4096.0)));
    assert!(refusal.message.contains("it can never fit"), "{refusal}");
    assert_eq!(fake.log(), ["plan demo", "plan demo"]);
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_grows_over_the_budget_makes_an_idle_model_go() {
    let fake = Fake::new(json!({"cpu": 60}));
    let setup = fake.setup().copy("other.gguf").change(|config| config.memory.budget = Budget::Mb(150));
    let mut rig = setup.start().await;
    rig.load("demo").await.unwrap();
    rig.load("other").await.unwrap();
    fs::write(fake.folder.path().join("grow-other"), "100").unwrap();
    let gone = rig.event("the eviction", |event| matches!(event, Event::ModelUnloaded { .. })).await;
    assert_eq!(gone, Event::ModelUnloaded { model_id: "demo".to_owned(), reason: "evicted" });
    assert_eq!(rig.state("other"), ModelState::Loaded);
    assert!(rig.manager.model("other").unwrap().held_mb() > 100.0);
    assert_eq!(rig.manager.counters().over_budget.get(), 1);
    rig.finish().await;
}

/// GPUs with as much memory as the test says.
#[derive(Debug, Default)]
struct FakeGpus {
    free_mb: Mutex<f64>,
}

impl FakeGpus {
    fn set_free(&self, mb: f64) {
        *self.free_mb.lock().expect("nobody panicked") = mb;
    }
}

impl GpuProbe for FakeGpus {
    fn read(&self) -> Vec<GpuFacts> {
        let free_mb = *self.free_mb.lock().expect("nobody panicked");
        vec![GpuFacts { device: "CUDA0".to_owned(), total_mb: 1000.0, free_mb }]
    }

    fn held_by(&self, _pid: u32) -> Option<Amounts> {
        None
    }
}

#[tokio::test]
async fn memory_of_a_gpu_counts_until_the_driver_has_it_back() {
    let fake = Fake::new(json!({}));
    fake.order(json!({"cpu": 20, "CUDA0": 500}), &["CPU", "CUDA0"]);
    let gpus = Arc::new(FakeGpus::default());
    gpus.set_free(1000.0);
    let setup = fake.setup().copy("other.gguf");
    let (sender, events) = mpsc::channel(1024);
    let manager = Manager::start_with(setup.config, sender, gpus.clone()).await.unwrap();
    let rig = Rig { manager, events, models: setup.models };
    rig.load("demo").await.unwrap();
    gpus.set_free(480.0);
    let view = rig.manager.model("demo").unwrap();
    assert_eq!(view.held_by_device["CUDA0"], 500.0);
    rig.until("its devices", |rig| rig.manager.health().memory.device == "cuda").await;
    let memory = rig.manager.health().memory;
    // 90 % of 1000, which is more than what the reserve of 256 leaves.
    assert_eq!((memory.total_mb, memory.budget_mb, memory.used_mb), (1000.0, 744.0, 500.0));
    let names: Vec<&str> = memory.devices.iter().map(|device| device.device.as_str()).collect();
    assert_eq!(names, ["CUDA0", "cpu"]);
    // It was measured with the memory taken.
    tokio::time::sleep(Duration::from_millis(1200)).await;

    let other = async {
        let loaded = rig.load("other").await;
        assert_eq!(*gpus.free_mb.lock().unwrap(), 980.0, "loaded before the memory was back");
        loaded
    };
    let driver = async {
        let gone = |rig: &Rig| {
            let pid = rig.pid("demo");
            rig.state("demo") == ModelState::Draining
                && pid.is_none_or(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
        };
        rig.until("the end of the process", gone).await;
        assert_eq!(rig.state("other"), ModelState::Queued);
        assert_eq!(rig.manager.health().memory.used_mb, 500.0);
        gpus.set_free(980.0);
    };
    let (loaded, ()) = tokio::join!(other, driver);
    assert!(loaded.is_ok(), "{loaded:?}");
    gpus.set_free(9999.0);
    rig.finish().await;
}

#[tokio::test]
async fn what_a_gpu_can_never_hold_is_refused_by_name() {
    let fake = Fake::new(json!({}));
    fake.order(json!({"cpu": 20, "CUDA0": 800}), &["CPU", "CUDA0"]);
    let gpus = Arc::new(FakeGpus::default());
    gpus.set_free(1000.0);
    let setup = fake.setup();
    let (sender, events) = mpsc::channel(1024);
    let manager = Manager::start_with(setup.config, sender, gpus).await.unwrap();
    let rig = Rig { manager, events, models: setup.models };
    let refusal = rig.load("demo").await.unwrap_err();
    assert_eq!((refusal.code, &refusal.details["device"]), (ErrorCode::InsufficientMemory, &json!("CUDA0")));
    assert!(refusal.message.contains("raise memory.gpu_budget"), "{refusal}");
    rig.finish().await;
}
