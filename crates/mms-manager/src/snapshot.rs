//! What front doors see: an immutable picture of models and memory, replaced by the manager's task after each change.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mms_protocol::view::{KvView, MemoryView, ModelState, ModelView};
use mms_protocol::worker::LoadedInfo;

use crate::catalogue::ModelEntry;
use crate::lifecycle::Shown;
use crate::memory::{Need, Source};
use crate::routing::evidence::{Evidence, Known};
use crate::routing::{Candidate, Policy, Routing};

/// Models and memory at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) models: Arc<[Arc<ModelView>]>,
    /// The listed models, for names and routing.
    pub(crate) entries: Vec<Arc<ModelEntry>>,
    pub(crate) memory: MemoryView,
    pub(crate) policy: Arc<Policy>,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) draining: bool,
}

impl Snapshot {
    pub(crate) fn model(&self, id: &str) -> Option<&Arc<ModelView>> {
        let at = self.models.binary_search_by(|model| model.model_id.as_str().cmp(id)).ok()?;
        self.models.get(at)
    }

    /// Asks a question about names or preferences.
    pub(crate) fn route<T>(&self, question: impl FnOnce(&Routing<'_>) -> T) -> T {
        let candidates: Vec<Candidate<'_>> = {
            let known = self.evidence.known();
            self.entries.iter().filter_map(|entry| self.candidate(entry, &known)).collect()
        };
        question(&Routing { policy: &self.policy, candidates: &candidates, budget_mb: self.memory.budget_mb })
    }

    fn candidate<'a>(&'a self, entry: &'a ModelEntry, known: &Known) -> Option<Candidate<'a>> {
        let view = self.model(&entry.id)?;
        Some(Candidate {
            id: &entry.id,
            aliases: &entry.aliases,
            capabilities: &entry.capabilities,
            builtin: entry.is_builtin(),
            usable: !matches!(view.status, ModelState::Broken | ModelState::Quarantined),
            ready: view.is_loaded(),
            loading: view.status == ModelState::Loading,
            context: view.n_ctx,
            last_used: view.last_used,
            estimated_mb: view.estimated_mb,
            speed: known.speed(&entry.id),
            trust: known.trust(&entry.id, &entry.aliases),
        })
    }
}

/// Turns moments of the steady clock into epoch seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    epoch_s: f64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let epoch_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        Self { started: Instant::now(), epoch_s }
    }

    pub(crate) fn started_epoch_s(&self) -> f64 {
        self.epoch_s
    }

    pub(crate) fn uptime_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn epoch(&self, at: Instant) -> f64 {
        self.epoch_s + at.saturating_duration_since(self.started).as_secs_f64()
    }
}

/// What is known of the worker of a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerFacts {
    pub(crate) pid: Option<u32>,
    pub(crate) info: Option<LoadedInfo>,
    /// What it keeps of conversations without a slot.
    pub(crate) kv: KvView,
}

/// Joins what the catalogue, the lifecycle and the worker say about a model.
pub(crate) fn view(
    entry: &ModelEntry,
    shown: &Shown,
    need: Option<&Need>,
    worker: Option<&WorkerFacts>,
    clock: &Clock,
) -> ModelView {
    let header = entry.header.as_deref();
    let info = worker.and_then(|worker| worker.info.as_ref());
    let progress = shown.progress;
    let estimated_mb = need.map_or(0.0, |need| need.loaded.total());
    let measured = shown.measured.as_ref();
    ModelView {
        model_id: entry.id.clone(),
        model_path: entry.path.display().to_string(),
        status: shown.state,
        message: shown.message.clone(),
        load_fraction: progress.map(|progress| progress.fraction),
        load_elapsed_s: progress.map(|progress| progress.elapsed.as_secs_f64()),
        load_remaining_s: progress.and_then(|progress| progress.remaining).map(|remaining| remaining.as_secs_f64()),
        architecture: header.and_then(|header| header.architecture.clone()).unwrap_or_default(),
        parameters: header.map_or(0, |header| header.parameters),
        quantization: header.map(|header| header.quantization.clone()).unwrap_or_default(),
        context_length: header.and_then(|header| header.context_length).unwrap_or(0),
        n_ctx: info.map(|info| info.context_length).or(need.map(|need| need.n_ctx)).unwrap_or(0),
        layers: header.and_then(|header| header.block_count).unwrap_or(0),
        n_gpu_layers: entry.settings.gpu_layers,
        chat_template: entry.chat_template.is_some() || header.is_some_and(|header| header.chat_template.is_some()),
        capabilities: entry.capabilities.clone(),
        tensor_bytes: header.map_or(0, |header| header.tensor_bytes),
        file_bytes: entry.file_bytes,
        estimated_mb,
        estimate_source: need.map_or(Source::Header, |need| need.source).as_str(),
        measured_mb: measured.map(|held| held.amounts.total()),
        estimate_error_mb: measured.map(|held| held.loaded_mb() - estimated_mb),
        reclaimable_mb: measured.map(|held| held.reclaimable_mb),
        kv: info.and(worker).map(|worker| worker.kv),
        held_by_device: shown.held.iter().map(|(device, mb)| (device.to_owned(), mb)).collect(),
        measured_by_device: measured
            .into_iter()
            .flat_map(|held| held.amounts.iter().map(|(device, mb)| (device.to_owned(), mb)))
            .collect(),
        device: info.map_or_else(|| "cpu".to_owned(), |info| info.device.clone()),
        priority: entry.priority.as_str().to_owned(),
        pinned: entry.pinned,
        preloaded: shown.guessed,
        builtin: entry.is_builtin(),
        idle_unload_s: shown.idle_unload.map(|after| after.as_secs_f64().ceil() as u64),
        expires_at: shown.expires.map(|at| clock.epoch(at)),
        last_used: shown.last_used.map(|at| clock.epoch(at)),
        active_requests: shown.active,
        queued_requests: shown.queued,
        slots: info.map_or(entry.settings.slots, |info| info.slots),
        load_ms: info.map(|info| info.load_ms),
        worker_pid: worker.and_then(|worker| worker.pid),
    }
}
