//! What models need and what devices have: plans from disk or from a measuring worker, budgets of RAM and GPUs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mms_protocol::view::{DeviceMemory, MemoryView};
use mms_protocol::worker::{DeviceInfo, EngineSettings};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::Task;
use crate::catalogue::ModelEntry;
use crate::config::{ManagerConfig, MemoryConfig};
use crate::lifecycle::{Input, Memory, Planned};
use crate::memory::{Amounts, GpuFacts, GpuProbe, MIB, MemoryFacts, Need, RAM, device_name, estimate};
use crate::plans::{PlanKey, Plans, stamp};
use crate::worker::errand::{self, Answer};

/// What a worker that is only asked for its devices gets.
const GREETING: Duration = Duration::from_secs(20);

/// What is known of needs and devices.
pub(super) struct Needs {
    pub(super) gpus: Arc<dyn GpuProbe>,
    /// What the driver told last.
    seen: Vec<GpuFacts>,
    /// Devices of the worker program besides the CPU and their memory; empty until a worker has told.
    offload: Amounts,
    plans: Plans,
    /// What could not be planned in this run.
    given_up: HashSet<PlanKey>,
    timeout: Duration,
    /// Tells one worker program from another.
    program: String,
    pub(super) by_model: BTreeMap<String, Need>,
    /// Measuring workers; one runs at a time.
    pub(super) answers: JoinSet<Asked>,
    one: Arc<Semaphore>,
}

/// A question to a measuring worker, and what came of it.
pub(super) struct Asked {
    /// `None`: it was only asked for its devices.
    model: Option<(String, u64, PlanKey)>,
    answer: Result<Answer, String>,
}

impl Needs {
    pub(super) fn new(config: &ManagerConfig, gpus: Arc<dyn GpuProbe>, plans: Plans) -> Self {
        let seen = gpus.read();
        Self {
            gpus,
            seen,
            offload: Amounts::default(),
            plans,
            given_up: HashSet::new(),
            timeout: config.memory.plan_timeout,
            program: stamp(&config.worker_program),
            by_model: BTreeMap::new(),
            answers: JoinSet::new(),
            one: Arc::new(Semaphore::new(1)),
        }
    }

    fn key(&self, entry: &ModelEntry, settings: &EngineSettings) -> PlanKey {
        let names: Vec<String> = self.seen.iter().map(|gpu| gpu.device.clone()).collect();
        PlanKey::new(entry.fingerprint, settings, &names, &self.program)
    }

    /// What the model needs, and whether that is to be measured before it is loaded.
    pub(super) fn of(&mut self, entry: &ModelEntry, settings: &EngineSettings) -> (Need, bool) {
        let key = self.key(entry, settings);
        self.plans.used(&key);
        let (need, unplanned) = match self.plans.get(&key) {
            Some(plan) => (Need::of_plan(plan, settings), false),
            None => {
                let mut estimated =
                    entry.header.as_deref().map(|header| estimate(header, settings)).unwrap_or_default();
                let adapters = settings.lora.iter().filter_map(|adapter| std::fs::metadata(&adapter.path).ok());
                estimated.weights_mb += adapters.map(|file| file.len() as f64 / MIB).sum::<f64>();
                let layers = entry.header.as_ref().and_then(|header| header.block_count).unwrap_or(0);
                let usable = !self.timeout.is_zero() && entry.broken.is_none() && !self.given_up.contains(&key);
                (Need::of_header(&estimated, settings, layers, &self.offload), usable)
            }
        };
        self.by_model.insert(entry.id.clone(), need.clone());
        (need, unplanned)
    }

    /// Asks the driver for new figures.
    pub(super) fn look(&mut self) {
        if !self.seen.is_empty() {
            self.seen = self.gpus.read();
        }
    }

    /// GPUs that models can be on: those of the driver, and what else a worker has told of (its figures are those of its start).
    fn devices(&self) -> Vec<GpuFacts> {
        let mut devices = self.seen.clone();
        for (device, total_mb) in self.offload.iter() {
            if !devices.iter().any(|known| known.device == device) {
                devices.push(GpuFacts { device: device.to_owned(), total_mb, free_mb: total_mb });
            }
        }
        devices
    }

    pub(super) fn budget(&self, config: &MemoryConfig, ram: &MemoryFacts) -> Memory {
        let mut memory =
            Memory { budget: Amounts::ram(config.budget_mb(ram)), available: Amounts::ram(config.headroom_mb(ram)) };
        for gpu in self.devices() {
            memory.budget.add(&gpu.device, config.gpu_budget_mb(&gpu));
            memory.available.add(&gpu.device, config.gpu_headroom_mb(&gpu));
        }
        memory
    }

    /// RAM is what models are loaded on, unless the worker program can use a GPU.
    pub(super) fn view(&self, config: &MemoryConfig, ram: &MemoryFacts, used: &Amounts) -> MemoryView {
        let mut devices: Vec<DeviceMemory> = self
            .devices()
            .into_iter()
            .map(|gpu| DeviceMemory {
                total_mb: gpu.total_mb,
                budget_mb: config.gpu_budget_mb(&gpu),
                used_mb: used.get(&gpu.device),
                available_mb: gpu.free_mb,
                device: gpu.device,
            })
            .collect();
        let ram = DeviceMemory {
            device: RAM.to_owned(),
            total_mb: ram.total_mb,
            budget_mb: config.budget_mb(ram),
            used_mb: used.get(RAM),
            available_mb: ram.available_mb,
        };
        let offloads = self.offload.total() > 0.0;
        devices.insert(if offloads { devices.len() } else { 0 }, ram);
        let main: Vec<&DeviceMemory> = devices.iter().filter(|device| (device.device != RAM) == offloads).collect();
        let sum = |figure: fn(&DeviceMemory) -> f64| main.iter().copied().map(figure).sum();
        MemoryView {
            device: main.first().map(|device| kind(&device.device)).unwrap_or_default(),
            total_mb: sum(|device| device.total_mb),
            budget_mb: sum(|device| device.budget_mb),
            used_mb: sum(|device| device.used_mb),
            devices,
        }
    }
}

/// `CUDA0` is one of the kind `cuda`.
fn kind(device: &str) -> String {
    device.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase()
}

impl Task {
    /// Memory is looked at when it matters: before a load, after the end of a worker, and while somebody waits for it.
    pub(super) fn look_before_loading(&mut self, model: &str) {
        if self.lifecycle.shown(Instant::now(), model).is_some_and(|shown| shown.worker.is_none()) {
            self.look_at_memory();
        }
    }

    pub(super) fn look_at_memory(&mut self) {
        match self.probe.read() {
            Ok(facts) => {
                self.needs.look();
                self.lifecycle.set_memory(self.needs.budget(&self.config.memory, &facts));
                self.memory = facts;
            }
            Err(error) => tracing::warn!(%error, "the machine's memory cannot be read; the last figures stand"),
        }
    }

    /// Starts a measuring worker as soon as no other runs.
    pub(super) fn plan(&mut self, model: String, version: u64) {
        let Some(entry) = self.entries.get(&model) else {
            return self.decide(Input::Planned { model, version, planned: Planned::Unknown });
        };
        let (spec, key) = (self.load_spec(entry), self.needs.key(entry, &self.settings(entry)));
        let (one, timeout) = (Arc::clone(&self.needs.one), self.needs.timeout);
        let (spawner, program) = (self.spawner.clone(), self.config.worker_program.clone());
        self.needs.answers.spawn(async move {
            let _permit = one.acquire().await;
            let answer = errand::ask(&spawner, &program, Some(spec), timeout).await;
            Asked { model: Some((model, version, key)), answer }
        });
    }

    /// Where there are GPUs, learns whether the worker program can use them.
    pub(super) fn ask_for_devices(&mut self) {
        if self.needs.seen.is_empty() {
            return;
        }
        let (spawner, program) = (self.spawner.clone(), self.config.worker_program.clone());
        self.needs.answers.spawn(async move {
            let answer = errand::ask(&spawner, &program, None, GREETING).await;
            Asked { model: None, answer }
        });
    }

    pub(super) fn on_plan(&mut self, asked: Result<Asked, JoinError>) {
        let Asked { model, answer } = match asked {
            Ok(asked) => asked,
            Err(error) if error.is_cancelled() => return,
            Err(error) => return tracing::error!(%error, "a measuring worker was lost"),
        };
        if let Ok(answer) = &answer {
            self.on_devices(&answer.hello.devices);
        }
        let Some((model, version, key)) = model else { return };
        match answer.map(|answer| answer.planned) {
            Ok(Some(Ok(plan))) => {
                self.needs.plans.insert(key, plan);
                tokio::task::spawn_blocking(self.needs.plans.writer());
            }
            Ok(Some(Err(reason))) => {
                return self.decide(Input::Planned { model, version, planned: Planned::CannotLoad(reason) });
            }
            Ok(None) => _ = self.needs.given_up.insert(key),
            Err(why) => {
                tracing::warn!(model, why, "the measuring worker gave no plan; the estimate from the header stands");
                self.needs.given_up.insert(key);
            }
        }
        let Some(entry) = self.entries.get(&model).map(Arc::clone) else {
            return self.decide(Input::Planned { model, version, planned: Planned::Unknown });
        };
        let settings = self.settings(&entry);
        match self.needs.of(&entry, &settings) {
            // It is to be loaded in another way meanwhile.
            (_, true) => self.plan(model, version),
            (need, false) => {
                self.lifecycle.touch(&model);
                self.decide(Input::Planned { model, version, planned: Planned::Need(need.reserve()) });
            }
        }
    }

    /// A worker has told which devices its program can use.
    pub(super) fn on_devices(&mut self, devices: &[DeviceInfo]) {
        let offload: Amounts = devices
            .iter()
            .map(|device| (device_name(&device.name), device.total_mb as f64))
            .filter(|(name, _)| name != RAM)
            .collect();
        if offload != self.needs.offload {
            self.needs.offload = offload;
            self.on_catalogue(Arc::clone(&self.catalogue));
            self.look_at_memory();
        }
    }
}
