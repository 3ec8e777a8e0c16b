//! Doing what the lifecycle decided.

use std::sync::Arc;
use std::time::Instant;

use mms_protocol::Event;
use mms_protocol::worker::{EngineSettings, KvStoreSpec, LoadSpec, ToWorker};

use super::{Resident, Task};
use crate::catalogue::ModelEntry;
use crate::lifecycle::{Effect, Note, WorkerId};
use crate::routing::evidence::Answered;
use crate::snapshot::WorkerFacts;
use crate::worker::{Job, Worker};

/// Of the time that a worker gets to end, what saving its KV states may take.
const SAVING_SHARE: f64 = 0.8;

impl Task {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Plan { model, version } => self.plan(model, version),
            Effect::Spawn { worker, model } => self.spawn(worker, model),
            Effect::Dispatch { worker, request } => {
                // A client that left in this very moment is cancelled by the message that is on its way.
                if let Some(order) = self.clients.order(request) {
                    self.say(worker, order);
                }
            }
            Effect::CancelInWorker { worker, request } => self.say(worker, ToWorker::Cancel { id: request }),
            Effect::Shutdown(worker) => self.say(worker, ToWorker::Shutdown),
            Effect::Kill(worker) => {
                if let Some(resident) = self.workers.get(&worker) {
                    tracing::warn!(model = resident.model, pid = resident.facts.pid, "killing worker");
                    resident.worker.kill();
                    if let Some(drain) = &mut self.drain {
                        drain.killed.insert(worker);
                    }
                }
            }
            Effect::Started { request, prompt_tokens, cached_tokens, left_out } => {
                self.clients.started(request, prompt_tokens, cached_tokens, left_out);
            }
            Effect::Text { request, text, logprobs } => self.clients.text(request, text, logprobs),
            Effect::ToolCall(request, call) => self.clients.tool_call(request, call),
            Effect::Embedded(request, vectors) => {
                self.counters.prompt_tokens.add(u64::from(vectors.prompt_tokens));
                if self.clients.embedded(request, vectors) {
                    self.counters.embeddings.increment();
                }
                if let Some(drain) = &mut self.drain {
                    drain.report.finished += 1;
                }
            }
            Effect::Finished(request, finish) => {
                if let Some(generation) = self.clients.finished(request, finish) {
                    self.counters.generations.increment();
                    self.counters.prompt_tokens.add(u64::from(generation.usage.prompt_tokens));
                    self.counters.completion_tokens.add(u64::from(generation.usage.completion_tokens));
                    self.evidence.answered(
                        &generation.model_id,
                        &Answered {
                            prompt_tokens: generation
                                .usage
                                .prompt_tokens
                                .saturating_sub(generation.usage.cached_tokens),
                            prompt_ms: generation.timings.prompt_ms,
                            tokens: generation.usage.completion_tokens,
                            predicted_ms: generation.timings.predicted_ms,
                        },
                    );
                    self.tell(Event::Generated(generation));
                }
                if let Some(drain) = &mut self.drain {
                    drain.report.finished += 1;
                }
            }
            Effect::Loaded(request) => {
                let views = &self.views;
                self.clients.loaded(request, |model| views.get(model).map(Arc::clone));
            }
            Effect::Unloaded { request, was_loaded } => self.clients.unloaded(request, was_loaded),
            Effect::Refused(request, refusal) => {
                if let Some(model) = self.clients.asked_of(request) {
                    self.counters.of_model(model).errors.increment();
                }
                if let Some(model) = self.clients.guessed(request) {
                    self.guess_refused(model, &refusal);
                }
                let was_in = self.clients.refused(request, refusal);
                if let Some(drain) = self.drain.as_mut().filter(|_| was_in) {
                    drain.report.refused += 1;
                }
            }
            Effect::Note(note) => self.note(note),
        }
    }

    fn say(&self, worker: WorkerId, message: ToWorker) {
        if let Some(resident) = self.workers.get(&worker) {
            resident.worker.say(message);
        }
    }

    fn spawn(&mut self, worker: WorkerId, model: String) {
        let Some(entry) = self.entries.get(&model) else { return };
        let reserved = self.lifecycle.shown(Instant::now(), &model).map(|shown| shown.held).unwrap_or_default();
        let load = LoadSpec { kv_store: self.kv_store(entry), ..self.load_spec(entry) };
        tracing::info!(model, reserved_mb = reserved.total().round(), "loading");
        let (program, gpus) = (self.config.worker_program.clone(), Arc::clone(&self.needs.gpus));
        let counters = self.counters.of_model(&model);
        let job = Job { worker, program, load, reserved, gpus, counters };
        let worker_handle = Worker::start(job, self.spawner.clone(), self.reports.clone());
        let entry = Arc::clone(entry);
        self.workers.insert(worker, Resident { worker: worker_handle, model, entry, facts: WorkerFacts::default() });
    }

    /// What it is loaded with, but for its KV states on disk: measuring needs none.
    pub(super) fn load_spec(&self, entry: &ModelEntry) -> LoadSpec {
        LoadSpec {
            path: entry.path.display().to_string(),
            model_id: entry.id.clone(),
            settings: self.settings(entry),
            chat_template: entry.chat_template.clone(),
            kv_store: None,
        }
    }

    fn kv_store(&self, entry: &ModelEntry) -> Option<KvStoreSpec> {
        let store = self.config.kv_store.as_ref()?;
        // A part of the time that it has stays for what is under way, and for the end itself.
        let save_within = self.config.limits.shutdown_grace.mul_f64(SAVING_SHARE);
        Some(KvStoreSpec {
            folder: store.folder.display().to_string(),
            max_mb: store.max_mb,
            max_states: store.max_states,
            max_age_s: store.max_age.as_secs(),
            fingerprint: format!("{:016x}", entry.fingerprint),
            save_within_ms: u64::try_from(save_within.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// What it is loaded with.
    pub(super) fn settings(&self, entry: &ModelEntry) -> EngineSettings {
        let mut settings = entry.settings.clone();
        if self.cpu_only.contains(&entry.id) {
            settings.gpu_layers = 0;
        }
        settings
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Loaded { model, worker } => {
                self.counters.models_loaded.increment();
                let memory_mb = self.views.get(&model).map_or(0.0, |view| view.held_mb());
                let info = self.workers.get(&worker).and_then(|resident| resident.facts.info.as_ref());
                let (load_ms, device) = info.map_or((0, "cpu".to_owned()), |info| (info.load_ms, info.device.clone()));
                tracing::info!(model, load_ms, memory_mb = memory_mb.round(), device, "loaded");
                self.tell(Event::ModelLoaded { model_id: model, memory_mb, load_ms, device });
            }
            Note::LoadFailed { model, reason } => {
                self.counters.load_failures.increment();
                tracing::warn!(model, reason, "load failed");
                self.tell(Event::ModelFailed { model_id: model, reason, loading: true });
            }
            Note::WorkerDied { model, reason } => {
                self.counters.worker_deaths.increment();
                tracing::warn!(model, reason, "worker died");
                self.tell(Event::ModelFailed { model_id: model, reason, loading: false });
            }
            Note::Unloaded { model, reason } => {
                self.counters.models_unloaded.increment();
                if reason == "evicted" {
                    self.counters.evictions.increment();
                }
                tracing::info!(model, reason, "unloaded");
                self.tell_predictions(&model, reason);
                self.tell(Event::ModelUnloaded { model_id: model, reason });
            }
            Note::OverBudget { model, device, over_mb } => {
                self.counters.over_budget.increment();
                let over_mb = over_mb.round();
                tracing::warn!(
                    model,
                    device,
                    over_mb,
                    "models hold more than the budget since this one has grown; idle ones go"
                );
            }
            Note::Retried(request) => {
                self.counters.retries.increment();
                tracing::info!(request, "begins again in the next worker");
            }
        }
    }

    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.counters.events_dropped.increment();
        }
    }
}
