//! The one task that owns all mutable state. It takes messages from handles, reports from workers, catalogues from the scanner and
//! the time; asks the lifecycle what to do; publishes what changed; and does it, in this order, so that whoever gets an answer sees
//! its effect in the snapshot.

mod clients;
mod effects;
mod forget;
mod needs;
mod preload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mms_protocol::KeepAlive;
use mms_protocol::generate::{EmbedSpec, GenerateSpec};
use mms_protocol::view::{Embedding, ModelView};
use mms_protocol::worker::RequestId;
use mms_protocol::{Event, Refusal, Reply};
use tokio::sync::{mpsc, oneshot, watch};

use crate::catalogue::{Catalogue, IdleUnload, ModelEntry};
use crate::config::ManagerConfig;
use crate::counters::Counters;
use crate::handle::{DrainReport, GenerateEvent};
use crate::health::HealthBoard;
use crate::lifecycle::{Ask, Facts, Input, Lifecycle, WorkerId, WorkerInput};
use crate::memory::{GpuProbe, MemoryFacts, MemoryProbe};
use crate::plans::Plans;
use crate::prediction::Predictions;
use crate::routing::Policy;
use crate::routing::evidence::Evidence;
use crate::snapshot::{Clock, Snapshot, WorkerFacts, view};
use crate::worker::{Report, Spawner, Worker};
use clients::Clients;
use needs::Needs;

/// While a model waits for memory, how often is looked whether others have given some back.
const MEMORY_POLL: Duration = Duration::from_secs(1);
/// Between two looks at what may be loaded ahead.
const PREDICTION_POLL: Duration = Duration::from_secs(1);

/// What handles ask of the task. `request` was chosen by the handle, which can so take it back at any time.
#[derive(Debug)]
pub(crate) enum Message {
    Generate(Box<GenerateOrder>),
    Embed(Box<EmbedOrder>),
    Load {
        request: RequestId,
        model: String,
        cpu_only: bool,
        timeout: Option<Duration>,
        keep_alive: Option<KeepAlive>,
        reply: oneshot::Sender<Result<Arc<ModelView>, Refusal>>,
    },
    /// Load it if there is free memory for it.
    Preload {
        request: RequestId,
        model: String,
        reply: oneshot::Sender<Result<Arc<ModelView>, Refusal>>,
    },
    Unload {
        request: RequestId,
        model: String,
        reply: oneshot::Sender<Result<Reply, Refusal>>,
    },
    Cancel(RequestId),
    /// Give up the KV states of conversations.
    Forget(Vec<u64>),
    Drain {
        deadline: Duration,
        reply: oneshot::Sender<DrainReport>,
    },
    /// Is the task alive?
    Pulse(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(crate) struct GenerateOrder {
    pub(crate) request: RequestId,
    pub(crate) model: String,
    pub(crate) spec: GenerateSpec,
    pub(crate) conversation_id: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) arrived: Instant,
    /// Unbounded, so that a slow reader holds up nobody; what can pile up in it is bounded by the request's `max_tokens`.
    pub(crate) events: mpsc::UnboundedSender<GenerateEvent>,
    /// Told once whether the request was let in.
    pub(crate) accepted: oneshot::Sender<Result<(), Refusal>>,
}

#[derive(Debug)]
pub(crate) struct EmbedOrder {
    pub(crate) request: RequestId,
    pub(crate) model: String,
    pub(crate) spec: EmbedSpec,
    pub(crate) timeout: Option<Duration>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) arrived: Instant,
    pub(crate) reply: oneshot::Sender<Result<Embedding, Refusal>>,
}

/// What the task is made of at its start.
pub(crate) struct Parts {
    pub(crate) config: ManagerConfig,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) memory: MemoryFacts,
    pub(crate) probe: MemoryProbe,
    pub(crate) gpus: Arc<dyn GpuProbe>,
    pub(crate) plans: Plans,
    pub(crate) spawner: Spawner,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) predictions: Arc<Predictions>,
    pub(crate) board: Arc<HealthBoard>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) last_request: Arc<std::sync::atomic::AtomicU64>,
}

pub(crate) struct Task {
    config: ManagerConfig,
    policy: Arc<Policy>,
    /// What was wrong with it when that was told last.
    routing_faults: String,
    lifecycle: Lifecycle,
    catalogue: Arc<Catalogue>,
    /// The catalogue's entries, and those of models that are still resident after they left it.
    entries: BTreeMap<String, Arc<ModelEntry>>,
    views: BTreeMap<String, Arc<ModelView>>,
    memory: MemoryFacts,
    probe: MemoryProbe,
    needs: Needs,
    spawner: Spawner,
    workers: HashMap<WorkerId, Resident>,
    reports: mpsc::UnboundedSender<(WorkerId, Report)>,
    clients: Clients,
    cpu_only: BTreeSet<String>,
    /// Conversations that were forgotten lately, by their labels.
    forgotten: Vec<u64>,
    drain: Option<Drain>,
    publisher: watch::Sender<Arc<Snapshot>>,
    clock: Clock,
    counters: Arc<Counters>,
    evidence: Arc<Evidence>,
    predictions: Arc<Predictions>,
    board: Arc<HealthBoard>,
    events: mpsc::Sender<Event>,
    last_request: Arc<std::sync::atomic::AtomicU64>,
}

struct Resident {
    worker: Worker,
    model: String,
    /// What it loaded.
    entry: Arc<ModelEntry>,
    facts: WorkerFacts,
}

struct Drain {
    since: Instant,
    replies: Vec<oneshot::Sender<DrainReport>>,
    report: DrainReport,
    killed: BTreeSet<WorkerId>,
}

/// What comes in besides messages.
pub(crate) struct Sources {
    pub(crate) inbox: mpsc::UnboundedReceiver<Message>,
    pub(crate) reports: mpsc::UnboundedReceiver<(WorkerId, Report)>,
    pub(crate) catalogues: watch::Receiver<Arc<Catalogue>>,
}

impl Task {
    /// The task, and the snapshots that it will publish; the first is complete.
    pub(crate) fn new(
        parts: Parts,
        reports: mpsc::UnboundedSender<(WorkerId, Report)>,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (publisher, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let needs = Needs::new(&parts.config, parts.gpus, parts.plans);
        let memory = needs.budget(&parts.config.memory, &parts.memory);
        let mut task = Self {
            lifecycle: Lifecycle::new(parts.config.limits, memory),
            policy: Arc::new(parts.config.routing.clone()),
            routing_faults: String::new(),
            config: parts.config,
            catalogue: Arc::clone(&parts.catalogue),
            entries: BTreeMap::new(),
            views: BTreeMap::new(),
            memory: parts.memory,
            probe: parts.probe,
            needs,
            spawner: parts.spawner,
            workers: HashMap::new(),
            reports,
            clients: Clients::default(),
            cpu_only: BTreeSet::new(),
            forgotten: Vec::new(),
            drain: None,
            publisher,
            clock: parts.clock,
            counters: parts.counters,
            evidence: parts.evidence,
            predictions: parts.predictions,
            board: parts.board,
            events: parts.events,
            last_request: parts.last_request,
        };
        task.on_catalogue(parts.catalogue);
        (task, snapshots)
    }

    /// Runs until every handle is gone.
    pub(crate) async fn run(mut self, mut sources: Sources) {
        self.ask_for_devices();
        self.preload();
        let mut memory_poll = tokio::time::interval(MEMORY_POLL);
        memory_poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut prediction_poll = tokio::time::interval(PREDICTION_POLL);
        prediction_poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let timer = self.lifecycle.next_timer();
            tokio::select! {
                // What workers said comes first: nobody is called silent while his message lies here unread.
                biased;
                report = sources.reports.recv() => if let Some((worker, report)) = report {
                    self.on_report(worker, report);
                },
                message = sources.inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return,
                },
                Ok(()) = sources.catalogues.changed() => {
                    let catalogue = Arc::clone(&sources.catalogues.borrow_and_update());
                    self.on_catalogue(catalogue);
                }
                Some(asked) = self.needs.answers.join_next() => self.on_plan(asked),
                () = sleep_until(timer), if timer.is_some() => self.decide(Input::Tick),
                _ = memory_poll.tick(), if self.lifecycle.is_waiting() => {
                    self.look_at_memory();
                    self.decide(Input::Tick);
                }
                _ = prediction_poll.tick(), if self.drain.is_none() => self.load_ahead(),
            }
        }
    }

    /// Asks the lifecycle, publishes what changed, does what is to be done.
    fn decide(&mut self, input: Input) {
        let effects = self.lifecycle.handle(Instant::now(), input);
        self.publish();
        for effect in effects {
            self.perform(effect);
        }
        self.finish_drain();
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Generate(order) => {
                let limit = self.config.limits.request_timeout;
                let deadline = order.arrived + order.timeout.unwrap_or(limit);
                let (model, keep_alive) = (order.model.clone(), order.keep_alive);
                let ask = Ask { request: order.request, model, deadline, keep_alive };
                self.counters.of_model(&ask.model).requests.increment();
                let request = self.clients.add_generation(*order);
                self.look_before_loading(&ask.model);
                self.decide(Input::Generate(ask));
                self.clients.accept(request);
            }
            Message::Embed(order) => {
                let limit = self.config.limits.request_timeout;
                let deadline = order.arrived + order.timeout.unwrap_or(limit);
                let (model, keep_alive) = (order.model.clone(), order.keep_alive);
                let ask = Ask { request: order.request, model, deadline, keep_alive };
                self.counters.of_model(&ask.model).requests.increment();
                self.clients.add_embedding(order);
                self.look_before_loading(&ask.model);
                self.decide(Input::Generate(ask));
            }
            Message::Load { request, model, cpu_only, timeout, keep_alive, reply } => {
                let changed = if cpu_only { self.cpu_only.insert(model.clone()) } else { self.cpu_only.remove(&model) };
                if changed {
                    self.on_catalogue(Arc::clone(&self.catalogue));
                }
                self.clients.add_load(request, model.clone(), reply);
                self.look_before_loading(&model);
                let ask = Ask { keep_alive, ..self.ask(request, model, timeout) };
                self.decide(Input::Load(ask));
            }
            Message::Preload { request, model, reply } => {
                self.clients.add_load(request, model.clone(), reply);
                self.on_preload(request, model);
            }
            Message::Unload { request, model, reply } => {
                self.clients.add_unload(request, model.clone(), reply);
                self.decide(Input::Unload(self.ask(request, model, None)));
            }
            Message::Cancel(request) => {
                self.clients.forget(request);
                self.decide(Input::Cancel(request));
            }
            Message::Forget(labels) => self.forget_conversations(labels),
            Message::Drain { deadline, reply } => self.on_drain(deadline, reply),
            // Whoever asked may have gone.
            Message::Pulse(reply) => _ = reply.send(()),
        }
    }

    fn ask(&self, request: RequestId, model: String, timeout: Option<Duration>) -> Ask {
        let deadline = Instant::now() + timeout.unwrap_or(self.config.limits.request_timeout);
        Ask { request, model, deadline, keep_alive: None }
    }

    fn on_report(&mut self, worker: WorkerId, report: Report) {
        match report {
            Report::Hello(hello) => {
                if let Some(resident) = self.workers.get_mut(&worker) {
                    resident.facts.pid = Some(hello.pid);
                    self.lifecycle.touch(&resident.model);
                }
                self.on_devices(&hello.devices);
                self.board.report("worker_program", true, true, format!("version {}", hello.version));
                self.decide(Input::Worker(worker, WorkerInput::Alive));
            }
            Report::Info(info) => {
                if let Some(resident) = self.workers.get_mut(&worker) {
                    resident.facts.info = Some(*info);
                }
            }
            Report::Kv(kv) => {
                if let Some(resident) = self.workers.get_mut(&worker) {
                    resident.facts.kv = kv;
                    self.lifecycle.touch(&resident.model);
                }
            }
            Report::Input(WorkerInput::Gone(reason)) => {
                if let Some(resident) = self.workers.remove(&worker) {
                    tracing::info!(model = resident.model, reason, "worker gone");
                    if let Some(drain) = &mut self.drain {
                        drain.report.workers_ended += 1;
                    }
                }
                self.remove_forgotten();
                self.look_at_memory();
                self.decide(Input::Worker(worker, WorkerInput::Gone(reason)));
            }
            Report::Input(input) => self.decide(Input::Worker(worker, input)),
        }
    }

    fn on_catalogue(&mut self, catalogue: Arc<Catalogue>) {
        self.needs.by_model.retain(|id, _| catalogue.entries().iter().any(|entry| entry.id == *id));
        let facts = catalogue.entries().iter().map(|entry| self.facts(entry)).collect();
        for entry in catalogue.entries() {
            self.entries.insert(entry.id.clone(), Arc::clone(entry));
        }
        let broken = catalogue.entries().iter().filter(|entry| entry.broken.is_some()).count();
        let mut detail = format!("{} models, {broken} broken", catalogue.entries().len());
        for warning in catalogue.warnings() {
            detail.push_str(&format!("; {warning}"));
        }
        self.board.report("catalogue", false, true, detail);
        self.catalogue = catalogue;
        self.views.clear();
        self.decide(Input::Catalogue(facts));
        self.report_routing();
    }

    /// Names of the policy that mean no model are no mistake, as the catalogue follows the folders; who asks for them gets what else
    /// the policy says.
    fn report_routing(&mut self) {
        if self.policy.is_empty() {
            return;
        }
        let faults = self.publisher.borrow().route(|routing| routing.faults()).join("; ");
        if faults != self.routing_faults {
            if !faults.is_empty() {
                tracing::warn!("{faults}; until it is there, others take its requests");
            }
            self.routing_faults.clone_from(&faults);
        }
        let detail = if faults.is_empty() { "every model of the routing policy is known".to_owned() } else { faults };
        self.board.report("routing", false, true, detail);
    }

    fn facts(&mut self, entry: &ModelEntry) -> Facts {
        let settings = self.settings(entry);
        let (need, unplanned) = self.needs.of(entry, &settings);
        Facts {
            id: entry.id.clone(),
            version: entry.fingerprint,
            need: need.reserve(),
            unplanned,
            slots: entry.settings.slots,
            pinned: entry.pinned,
            priority: entry.priority,
            idle_unload: match entry.idle_unload {
                None => self.config.idle_unload,
                Some(IdleUnload::Never) => None,
                Some(IdleUnload::After(after)) => Some(after),
            },
            broken: entry.broken.clone(),
            writing: entry.writing,
        }
    }

    fn publish(&mut self) {
        let changed = self.lifecycle.take_changed();
        if changed.is_empty() && !self.views.is_empty() {
            return;
        }
        let all = self.views.is_empty();
        let ids: Vec<String> = if all { self.entries.keys().cloned().collect() } else { changed.into_iter().collect() };
        let now = Instant::now();
        for id in ids {
            let (Some(shown), Some(entry)) = (self.lifecycle.shown(now, &id), self.entries.get(&id)) else {
                self.entries.remove(&id);
                self.views.remove(&id);
                continue;
            };
            let resident = shown.worker.and_then(|worker| self.workers.get(&worker));
            let (entry, worker) = (self.loaded_entry(entry), resident.map(|resident| &resident.facts));
            let need = self.needs.by_model.get(&id);
            let view = view(entry, &shown, need, worker, &self.clock);
            self.views.insert(id, Arc::new(view));
        }
        let memory = self.needs.view(&self.config.memory, &self.memory, &self.lifecycle.used());
        let snapshot = Snapshot {
            models: self.views.values().cloned().collect(),
            entries: self.catalogue.entries().iter().map(|entry| Arc::clone(self.loaded_entry(entry))).collect(),
            memory,
            policy: Arc::clone(&self.policy),
            evidence: Arc::clone(&self.evidence),
            draining: self.lifecycle.is_draining(),
        };
        self.publisher.send_replace(Arc::new(snapshot));
    }

    /// What is known of a model: what the catalogue says, or, while that is only that its file cannot be used now, what was found
    /// out before its worker loaded it.
    fn loaded_entry<'a>(&'a self, entry: &'a Arc<ModelEntry>) -> &'a Arc<ModelEntry> {
        if entry.broken.is_none() {
            return entry;
        }
        let worker = self.lifecycle.shown(Instant::now(), &entry.id).and_then(|shown| shown.worker);
        worker.and_then(|worker| self.workers.get(&worker)).map_or(entry, |resident| &resident.entry)
    }

    fn on_drain(&mut self, deadline: Duration, reply: oneshot::Sender<DrainReport>) {
        let now = Instant::now();
        let drain = self.drain.get_or_insert_with(|| Drain {
            since: now,
            replies: Vec::new(),
            report: DrainReport::default(),
            killed: BTreeSet::new(),
        });
        drain.replies.push(reply);
        let (requests, workers) = self.lifecycle.open();
        tracing::info!(requests, workers, "draining");
        self.needs.answers.abort_all();
        self.views.clear();
        self.decide(Input::Drain { deadline: now + deadline });
    }

    fn finish_drain(&mut self) {
        if let Some(drain) = &mut self.drain
            && self.lifecycle.is_empty()
        {
            let report =
                DrainReport { took: drain.since.elapsed(), workers_killed: drain.killed.len() as u64, ..drain.report };
            for reply in drain.replies.drain(..) {
                // Whoever asked may have left.
                _ = reply.send(report);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
