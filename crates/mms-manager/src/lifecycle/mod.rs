//! What every model and every request does next. Plain synchronous code without I/O and without a clock: [`Lifecycle::handle`]
//! takes what happened and gives what to do; the task around it performs that and reports what came of it as further inputs.
//!
//! ```text
//!                wanted            memory reserved          answers
//!  ┌─ Available ────────▶ Queued ──────────────▶ Loading ───────────▶ Ready ──────┐ unload, idle, evicted,
//!  │      ▲                  │ nobody wants it      │ failed, died       │ died     │ removed, replaced, shutdown
//!  │      ├──────────────────┘ any more             ▼                    ▼          ▼
//!  │      ├────────────────────────────────────── Ending ◀───────────────────── Draining (work under way ends)
//!  │      │          process gone                    │        last one ended
//!  │      │ pause over                               │ process gone, failed 3 times or more in a row
//!  │      └─────────────────────── Quarantined ◀─────┘
//!  └──▶ Broken: the catalogue says that the file cannot be used; back when it says otherwise
//! ```
//!
//! Before a model is loaded for the first time, its need is measured while it is Queued. Draining and Ending are both shown as
//! `draining`. What is promised, and tested with random interleavings: every request ends exactly once; a model has at most one
//! worker; reservations never exceed the budget of any device; what is loading or pinned is never a victim, and what is at work only
//! after its turn ([`policy`]), when its work under way has ended; what was loaded by guess only takes free memory, and gives
//! it back at once, loading or not, for whatever is asked for; memory counts as held until the process is gone; no state waits
//! for something that cannot come.

mod admission;
mod catalogue;
mod memory;
mod model;
mod policy;
mod preload;
mod progress;
mod refusals;
mod requests;
mod shutdown;
#[cfg(test)]
mod tests;
mod timers;
mod view;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mms_protocol::KeepAlive;
use mms_protocol::Refusal;
use mms_protocol::generate::{FinishReason, Logprob, Timings, ToolCall, Usage};
use mms_protocol::worker::{GenerateFailure, RequestId};

use crate::catalogue::Priority;
use crate::config::Limits;
use crate::memory::{Amounts, Held};
use model::{Model, Request};

pub use memory::{Memory, Planned};
pub use progress::Progress;
pub use refusals::{CONSTRAINT, GAVE_WAY};
pub use view::Shown;

/// Names one worker process; never used twice.
pub type WorkerId = u64;

/// What the lifecycle knows of a model of the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Its name.
    pub id: String,
    /// Changes when its files or settings do.
    pub version: u64,
    /// Memory that its process is expected to take in all, by device.
    pub need: Amounts,
    /// That is only an estimate from its header, and a plan is to be asked for before it is loaded.
    pub unplanned: bool,
    /// Sequences decoded together.
    pub slots: u32,
    /// Never unloaded for idleness or for another model.
    pub pinned: bool,
    /// How much it is wanted in memory.
    pub priority: Priority,
    /// Idleness after which it is unloaded; `None`: never.
    pub idle_unload: Option<Duration>,
    /// Why it cannot be loaded.
    pub broken: Option<String>,
    /// It cannot be loaded since its file is being written to; what becomes of it is not known yet.
    pub writing: bool,
}

/// A request for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Chosen by the caller, never used twice.
    pub request: RequestId,
    /// An id of the catalogue.
    pub model: String,
    /// It ends with a timeout then.
    pub deadline: Instant,
    /// How long the model stays resident without a request from now on; `None`: as before.
    pub keep_alive: Option<KeepAlive>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The catalogue as it is now, whole.
    Catalogue(Vec<Facts>),
    /// Somebody wants an answer: a generation or embeddings.
    Generate(Ask),
    /// Somebody wants a model resident.
    Load(Ask),
    /// Somebody guesses that a model will be asked for: it is loaded if there is free memory for it now, and makes room for whatever
    /// is really asked for, until it is itself.
    Preload {
        /// What.
        ask: Ask,
        /// How long it stays without a request; `None`: as long as others.
        stay: Option<Duration>,
    },
    /// Somebody wants a model's worker to end.
    Unload(Ask),
    /// Whoever asked has gone away.
    Cancel(RequestId),
    /// A worker said or did something.
    Worker(WorkerId, WorkerInput),
    /// The answer to [`Effect::Plan`].
    Planned {
        /// The model.
        model: String,
        /// [`Facts::version`] of what was measured.
        version: u64,
        /// What came of it.
        planned: Planned,
    },
    /// No new work; what runs may go on until then.
    Drain {
        /// When the rest is refused.
        deadline: Instant,
    },
    /// Time has passed; see [`Lifecycle::next_timer`].
    Tick,
}

/// What a worker said or did.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerInput {
    /// Any message that says nothing else.
    Alive,
    /// It loads.
    Progress(f32),
    /// It answers from now on.
    Loaded {
        /// Sequences decoded together.
        slots: u32,
        /// What the process was measured to hold.
        measured: Option<Held>,
    },
    /// It cannot load the model and ends by itself.
    LoadFailed(String),
    /// What the process was measured to hold.
    Measured(Held),
    /// Something about one generation.
    Says(RequestId, Said),
    /// The process is gone, and its memory is back. The last input of a worker.
    Gone(String),
}

/// What a worker says about one generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It has a slot.
    Started {
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Of them, found in the KV cache.
        cached_tokens: u32,
        /// Messages of the history that were left out.
        left_out: u32,
    },
    /// More of the answer.
    Text {
        /// Not empty.
        text: String,
        /// Of its tokens, when asked for.
        logprobs: Vec<Logprob>,
    },
    /// A whole call of a tool.
    ToolCall(ToolCall),
    /// The end of one that worked.
    Finished(Finish),
    /// The end of embeddings that were computed.
    Embedded(Vectors),
    /// The end of one that did not work.
    Failed(GenerateFailure),
}

/// Embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// One for each input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs.
    pub prompt_tokens: u32,
}

/// The figures at the end of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Why it ended.
    pub reason: FinishReason,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// See [`mms_protocol::view::Generation::tokens`].
    pub tokens: Vec<u32>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Find out what the model needs; answered by [`Input::Planned`], whatever happens.
    Plan {
        /// Which.
        model: String,
        /// Its [`Facts::version`].
        version: u64,
    },
    /// Start a worker for the model and let it load.
    Spawn {
        /// Its name from now on.
        worker: WorkerId,
        /// What to load.
        model: String,
    },
    /// Give the generation to the worker.
    Dispatch {
        /// To whom.
        worker: WorkerId,
        /// What.
        request: RequestId,
    },
    /// Tell the worker that nobody wants the generation any more.
    CancelInWorker {
        /// Whom.
        worker: WorkerId,
        /// What.
        request: RequestId,
    },
    /// Ask the worker to end.
    Shutdown(WorkerId),
    /// End the worker's process by force.
    Kill(WorkerId),
    /// Not an end: the generation has a slot.
    Started {
        /// Which.
        request: RequestId,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Of them, found in the KV cache.
        cached_tokens: u32,
        /// Messages of the history that were left out.
        left_out: u32,
    },
    /// Not an end: more of the answer.
    Text {
        /// Which.
        request: RequestId,
        /// Not empty.
        text: String,
        /// Of its tokens, when asked for.
        logprobs: Vec<Logprob>,
    },
    /// Not an end: a call of a tool.
    ToolCall(RequestId, ToolCall),
    /// End of a generation that worked.
    Finished(RequestId, Finish),
    /// End of embeddings that were computed.
    Embedded(RequestId, Vectors),
    /// End of a load that worked.
    Loaded(RequestId),
    /// End of an unload.
    Unloaded {
        /// Which.
        request: RequestId,
        /// The model was resident.
        was_loaded: bool,
    },
    /// End of a request that was not done.
    Refused(RequestId, Refusal),
    /// Something to count and to tell.
    Note(Note),
}

/// Something to count and to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A model became resident.
    Loaded {
        /// Which.
        model: String,
        /// Its worker.
        worker: WorkerId,
    },
    /// A load failed.
    LoadFailed {
        /// Of which model.
        model: String,
        /// Why.
        reason: String,
    },
    /// A worker that answered was ended on purpose.
    Unloaded {
        /// Its model.
        model: String,
        /// Why.
        reason: &'static str,
    },
    /// A worker that answered died or hung.
    WorkerDied {
        /// Its model.
        model: String,
        /// How.
        reason: String,
    },
    /// A generation begins again in the next worker.
    Retried(RequestId),
    /// Models hold more than they may since a process has grown; idle ones go, if there are any.
    OverBudget {
        /// The model that has grown last.
        model: String,
        /// Where.
        device: String,
        /// By how much, MiB.
        over_mb: f64,
    },
}

/// The state of all models and requests.
#[derive(Debug)]
pub struct Lifecycle {
    limits: Limits,
    memory: Memory,
    models: BTreeMap<String, Model>,
    requests: BTreeMap<RequestId, Request>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    workers: BTreeMap<WorkerId, String>,
    /// Models in `Queued`.
    waiting: BTreeSet<String>,
    /// Of them, those for which others were told to go.
    promised: BTreeSet<String>,
    /// When a model that waits may have one at work go for it.
    next_turn: Option<Instant>,
    last_worker: WorkerId,
    drain_until: Option<Instant>,
    /// Models whose need was asked for, with no answer yet.
    planning: BTreeSet<String>,
    /// Models were found to hold more than the budget, and that was told.
    over_budget: bool,
    effects: Vec<Effect>,
    changed: BTreeSet<String>,
}

impl Lifecycle {
    /// Without models: the first input is the catalogue.
    pub fn new(limits: Limits, memory: Memory) -> Self {
        Self {
            limits,
            memory,
            models: BTreeMap::new(),
            requests: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            workers: BTreeMap::new(),
            waiting: BTreeSet::new(),
            promised: BTreeSet::new(),
            next_turn: None,
            last_worker: 0,
            drain_until: None,
            planning: BTreeSet::new(),
            over_budget: false,
            effects: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Takes what happened and gives what to do, in this order.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        match input {
            Input::Catalogue(list) => self.on_catalogue(now, list),
            Input::Generate(ask) => self.on_generate(now, ask),
            Input::Load(ask) => self.on_load(now, ask),
            Input::Preload { ask, stay } => self.on_preload(now, ask, stay),
            Input::Unload(ask) => self.on_unload(now, ask),
            Input::Cancel(request) => self.on_cancel(now, request),
            Input::Worker(worker, input) => self.on_worker(now, worker, input),
            Input::Planned { model, version, planned } => self.on_planned(now, &model, version, planned),
            Input::Drain { deadline } => self.on_drain(now, deadline),
            Input::Tick => self.on_tick(now),
        }
        self.admit(now);
        std::mem::take(&mut self.effects)
    }
}
