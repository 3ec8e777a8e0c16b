//! The loop of the one thread that owns the model's context: take what the host sent, give free slots to waiting requests, compute
//! one batch step, send what came out.
//!
//! Commands are looked at between two steps, so a cancelled request ends within one step; [`crate::plan::Pace`] keeps steps short
//! enough that llama.cpp need not be interrupted within one, which would leave the other sequences of the batch half computed.

mod admit;
mod embed;
mod guess;
mod keep;
mod overflow;
mod step;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use mms_protocol::worker::{GenerateFailure, Heartbeat, RequestId, Speculation, ToHost, ToWorker};

use crate::crowd::Crowd;
use crate::kv::KvStore;
use crate::load::Loaded;
use crate::output::Event;
use crate::plan::{Need, Pace, Share};
use crate::prompts::{Prepared, Prompts, Ready, Spec, Ticket};
use crate::sampling::Candidates;
use crate::slot::{Slot, count};
use crate::speculate::Gauge;
use crate::sys::Batch;
use crate::wire::{Incoming, Outbox};

use embed::Embedding;
use keep::Awaited;
pub(crate) use keep::open_store;

/// A heartbeat comes this often at least while there is nothing to do.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(1);
/// Steps of small models take less than a millisecond; a heartbeat for each would cost more than it tells.
const LEAST_BETWEEN_HEARTBEATS: Duration = Duration::from_millis(100);

/// All state of a worker that has its model.
pub(crate) struct Engine {
    loaded: Loaded,
    prompts: Prompts,
    slots: Vec<Slot>,
    /// Sequences that have no slot any more; `None`: they are given up.
    store: Option<KvStore>,
    /// Conversations that were forgotten, the oldest first.
    forgotten: VecDeque<u64>,
    /// The host has said so.
    is_ending: bool,
    queue: VecDeque<Queued>,
    /// Requests for embeddings that are being computed.
    embeddings: Vec<Embedding>,
    inbox: Receiver<Incoming>,
    outbox: Outbox,
    /// The model's memory can forget the end of a sequence and lend its beginning.
    memory_is_partial: bool,
    /// What has filled its context goes on without a part of it.
    shifts: bool,
    speculation: Speculation,
    gauge: Gauge,
    admitted: u64,
    steps: u64,
    last_heartbeat: Instant,
    pace: Pace,
    /// Of steps in which embeddings come out.
    embed_pace: Pace,
    crowd: Crowd,
    began: Instant,
    scratch: Scratch,
}

/// A request without a slot.
struct Queued {
    id: RequestId,
    ticket: Ticket,
    came: Instant,
    /// `None`: it is not prepared yet. Requests are prepared in order, so that the first in the queue comes first.
    request: Option<Ready>,
    /// The state that it can go on from was ordered from disk.
    awaits: Option<Awaited>,
}

/// Memory that each step reuses.
struct Scratch {
    batch: Batch,
    needs: Vec<(usize, Need)>,
    shares: Vec<Share>,
    candidates: Candidates,
    piece: Vec<u8>,
    events: Vec<Event>,
    /// What the host is told when the step is over.
    said: Vec<ToHost>,
}

/// The host sent something that has no place here.
#[derive(Debug, thiserror::Error)]
#[error("the host sent {0} to a worker that has its model")]
pub(crate) struct OutOfPlace(&'static str);

impl Engine {
    pub(crate) fn new(
        loaded: Loaded,
        prompts: Prompts,
        store: Option<KvStore>,
        inbox: Receiver<Incoming>,
        outbox: Outbox,
    ) -> Self {
        let slots = (0..loaded.info.slots).map(|_| Slot::default()).collect();
        let memory_is_partial = !loaded.model.is_recurrent() && !loaded.model.is_hybrid();
        let scratch = Scratch {
            batch: Batch::default(),
            needs: Vec::new(),
            shares: Vec::new(),
            candidates: Candidates::new(),
            piece: Vec::with_capacity(256),
            events: Vec::new(),
            said: Vec::new(),
        };
        let shifts = overflow::shifts(&loaded, memory_is_partial);
        let speculation = if memory_is_partial { loaded.settings.speculation } else { Speculation::Off };
        let crowd = Crowd::new(loaded.context.most_threads());
        Self {
            loaded,
            prompts,
            slots,
            store,
            forgotten: VecDeque::new(),
            is_ending: false,
            queue: VecDeque::new(),
            embeddings: Vec::new(),
            inbox,
            outbox,
            memory_is_partial,
            shifts,
            speculation,
            gauge: Gauge::default(),
            admitted: 0,
            steps: 0,
            last_heartbeat: Instant::now(),
            pace: Pace::default(),
            embed_pace: Pace::default(),
            crowd,
            began: Instant::now(),
            scratch,
        }
    }

    /// Works until nobody is left who could tell it what to do; the end of the connection ends the process before.
    pub(crate) fn run(mut self) -> Result<(), OutOfPlace> {
        self.heartbeat();
        while self.receive()? {
            if self.is_ending {
                self.save_all();
                break;
            }
            self.forget_inexact();
            self.forget_cleared();
            self.admit();
            if self.is_busy() {
                self.step();
                self.embed();
            }
            if !self.is_busy() || self.last_heartbeat.elapsed() >= LEAST_BETWEEN_HEARTBEATS {
                self.heartbeat();
            }
        }
        Ok(())
    }

    fn is_busy(&self) -> bool {
        self.slots.iter().any(|slot| !slot.is_idle())
    }

    /// Takes everything that has come; waits when there is nothing to do. False: nothing can come any more.
    fn receive(&mut self) -> Result<bool, OutOfPlace> {
        let mut prepared = self.queue.iter().take_while(|queued| queued.request.is_some());
        if !self.is_busy() && prepared.all(|queued| self.awaits(queued)) {
            match self.inbox.recv_timeout(IDLE_HEARTBEAT) {
                Ok(incoming) => self.take(incoming)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
        while let Ok(incoming) = self.inbox.try_recv() {
            self.take(incoming)?;
        }
        Ok(true)
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), OutOfPlace> {
        let (message, came) = match incoming {
            Incoming::Host { message, at } => (message, at),
            Incoming::Prepared(prepared) => {
                self.prepared(prepared);
                return Ok(());
            }
            Incoming::Store(notice) => {
                if let Some(store) = &mut self.store {
                    store.notice(notice);
                }
                return Ok(());
            }
        };
        match message {
            ToWorker::Generate { id, spec } => {
                if self.loaded.info.generates {
                    self.enqueue(id, Spec::Generate(spec), came);
                } else {
                    let message = "it is an encoder: it gives embeddings and cannot generate text".to_owned();
                    self.fail(id, GenerateFailure::Unsupported { message });
                }
            }
            ToWorker::Cancel { id } => self.cancel(id),
            ToWorker::Embed { id, spec } => match self.refuses_vectors(spec.dimensions) {
                Some(failure) => self.fail(id, failure),
                None => self.enqueue(id, Spec::Embed(spec), came),
            },
            ToWorker::Forget { labels } => self.forget(&labels),
            ToWorker::Hello { .. } => return Err(OutOfPlace("a handshake")),
            ToWorker::Load(_) | ToWorker::Plan(_) => return Err(OutOfPlace("a second model")),
            // What is running is dropped; the reader sees to it that the end comes.
            ToWorker::Shutdown => self.is_ending = true,
        }
        Ok(())
    }

    fn enqueue(&mut self, id: RequestId, spec: Spec, came: Instant) {
        let ticket = self.prompts.prepare(spec);
        self.queue.push_back(Queued { id, ticket, came, request: None, awaits: None });
    }

    /// A request that was cancelled meanwhile is of no use to anybody.
    fn prepared(&mut self, prepared: Prepared) {
        let Some(index) = self.queue.iter().position(|queued| prepared.belongs_to(&queued.ticket)) else { return };
        match prepared.request {
            Ok(request) => {
                if let Ready::Answer(request) = &request {
                    self.queue[index].awaits = self.order(&request.tokens);
                }
                self.queue[index].request = Some(request);
            }
            Err(failure) => {
                if let Some(queued) = self.queue.remove(index) {
                    self.fail(queued.id, failure);
                }
            }
        }
    }

    /// An id that has already ended, or never was, is ignored.
    fn cancel(&mut self, id: RequestId) {
        let queued = self.queue.iter().position(|queued| queued.id == id).and_then(|index| self.queue.remove(index));
        let running = self.slots.iter_mut().find(|slot| slot.job().is_some_and(|job| job.id == id));
        let was_running = running.and_then(Slot::take_job).is_some() | self.drop_vectors(id);
        if queued.is_some() || was_running {
            self.fail(id, GenerateFailure::Cancelled);
        }
    }

    fn fail(&mut self, id: RequestId, failure: GenerateFailure) {
        self.scratch.said.push(ToHost::Failed { id, failure });
        self.send();
    }

    /// Sends what was said in a step.
    fn send(&mut self) {
        self.outbox.send_all(std::mem::take(&mut self.scratch.said));
    }

    /// Makes `slot` hold exactly the first `length` tokens of what it holds, or nothing if the model cannot do that.
    fn cut(&mut self, slot: usize, length: usize) {
        let cached: &mut Vec<LlamaToken> = &mut self.slots[slot].cached;
        if cached.len() <= length {
            return;
        }
        let context = &mut self.loaded.context;
        let kept = if length > 0 && context.can_continue_at(slot, length) && context.forget(slot, length) {
            length
        } else {
            0
        };
        if kept == 0 {
            self.loaded.context.forget(slot, 0);
        }
        cached.truncate(kept);
        self.slots[slot].shared = self.slots[slot].shared.min(kept);
    }

    fn heartbeat(&mut self) {
        self.last_heartbeat = Instant::now();
        if let Some(store) = &mut self.store {
            store.tick();
        }
        self.outbox.send(ToHost::Heartbeat(self.state()));
    }

    /// How it is doing.
    fn state(&self) -> Heartbeat {
        let kept = self.store.as_ref().map(KvStore::holds).unwrap_or_default();
        Heartbeat {
            steps: self.steps,
            busy_slots: count(self.slots.iter().filter(|slot| !slot.is_idle()).count()),
            queued: count(self.queue.len()),
            kv_tokens: count(self.slots.iter().map(|slot| slot.cached.len()).sum()),
            kv_store_bytes: kept.ram_bytes,
            kv_store_disk_bytes: kept.disk_bytes,
            kv_restored: kept.restored,
        }
    }
}
