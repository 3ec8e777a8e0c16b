//! The way of states to disk and back. What rests in memory is written early, so that it may leave memory at any time, and so that
//! little is lost with a worker that is killed. A disk that takes nothing holds up nobody: it is told once and tried again later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use mms_protocol::worker::KvStoreSpec;

use super::KvStore;
use super::disk::{Disk, News, Notice, Save};
use super::file::Unusable;
use super::folder::{self, Folder, Name, Stored};
use super::shelf::{Found, Id};
use crate::wire::Incoming;

/// A state that nobody has used for so long is written.
const CALM: Duration = Duration::from_secs(5);
/// After a failure.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Tokens of states on disk that are known; their ids take 4 bytes each.
const MOST_KNOWN_TOKENS: usize = 1 << 20;

/// The part of the store that is on disk.
#[derive(Debug)]
pub(super) struct Saved {
    disk: Disk,
    names: BTreeMap<Id, Name>,
    writing: Option<Id>,
    trouble: Option<Instant>,
}

impl KvStore {
    /// Keeps states in `spec`'s folder as well, and finds those that are there; what its threads have to tell goes to `engine`. When
    /// that cannot be, the log says why, and there is memory alone. Token ids are below `vocabulary`, states no longer than `context`.
    pub(crate) fn save_to(
        &mut self,
        spec: &KvStoreSpec,
        fingerprint: String,
        engine: &Sender<Incoming>,
        bounds: (u32, u32),
    ) {
        let disk = match Folder::open(spec, fingerprint).and_then(|folder| Disk::start(folder, engine)) {
            Ok(disk) => disk,
            Err(error) => {
                tracing::warn!(%error, folder = spec.folder, "KV states cannot be kept on disk");
                return;
            }
        };
        let found = disk.index();
        self.saved = Some(Saved { disk, names: BTreeMap::new(), writing: None, trouble: None });
        for stored in found {
            self.learn(stored, bounds);
        }
        self.forget_too_many();
        let states = self.saved.as_ref().map_or(0, |saved| saved.names.len());
        tracing::info!(states, folder = spec.folder, "KV states are kept on disk");
    }

    fn learn(&mut self, stored: Stored, (vocabulary, context): (u32, u32)) {
        let Some(saved) = &mut self.saved else { return };
        let Stored { name, head, .. } = stored;
        let is_token = |token: &i32| u32::try_from(*token).is_ok_and(|token| token < vocabulary);
        if !head.tokens.iter().all(is_token) || head.tokens.len() > context as usize {
            tracing::warn!(name, "a saved state has tokens that this model has not; it is removed");
            return saved.disk.folder.remove(&name);
        }
        // It came from a larger memory, and may go back to one.
        if head.payload_bytes > self.most {
            return;
        }
        let tokens: Vec<LlamaToken> = head.tokens.iter().copied().map(LlamaToken).collect();
        if self.shelf.held(&tokens) == tokens.len() {
            return saved.disk.folder.remove(&name);
        }
        let id = self.shelf.insert(tokens, head.payload_bytes, head.cut_from, self.began.elapsed());
        if let Some(state) = self.shelf.get_mut(id) {
            state.label = folder::label(&name);
        }
        self.on_disk(id, name);
    }

    /// A state is on disk: those that it makes superfluous go.
    fn on_disk(&mut self, id: Id, name: Name) {
        let Some(saved) = &mut self.saved else { return };
        let Some(state) = self.shelf.get_mut(id) else {
            return saved.disk.folder.remove(&name);
        };
        state.on_disk = true;
        saved.names.insert(id, name);
        for part in self.shelf.parts(id) {
            self.drop_state(part);
        }
    }

    /// Forgets a state, wherever it is.
    pub(super) fn drop_state(&mut self, id: Id) {
        self.payloads.remove(&id);
        self.shelf.remove(id);
        if let Some(saved) = &mut self.saved
            && let Some(name) = saved.names.remove(&id)
        {
            saved.disk.folder.remove(&name);
        }
    }

    /// Begins to write what should be on disk; called often.
    pub(crate) fn tick(&mut self) {
        let Some(saved) = &mut self.saved else { return };
        if saved.writing.is_some() || saved.trouble.is_some_and(|at| at.elapsed() < TRY_AGAIN) {
            return;
        }
        let calm = self.began.elapsed().saturating_sub(CALM);
        let Some(id) = self.shelf.to_write(self.most, calm) else { return };
        let Some(payload) = self.payloads.get(&id).map(Arc::clone) else { return };
        let Some(state) = self.shelf.get_mut(id) else { return };
        let tokens = state.tokens.iter().map(|token| token.0).collect();
        if saved.disk.save(Save { id, tokens, cut_from: state.cut_from, label: state.label, payload }) {
            state.in_use = true;
            saved.writing = Some(id);
        }
    }

    /// Orders a state from disk; it is in memory when its notice has come. False: there is no need or no room.
    pub(crate) fn fetch(&mut self, found: Found) -> bool {
        let Some(saved) = &self.saved else { return false };
        let Some(name) = saved.names.get(&found.id).cloned() else { return false };
        if found.in_ram {
            return false;
        }
        let Some(leaving) = self.shelf.make_room(found.bytes, self.most) else { return false };
        if !saved.disk.fetch(found.id, name) {
            return false;
        }
        for id in leaving {
            self.leave_ram(id);
        }
        if let Some(state) = self.shelf.get_mut(found.id) {
            // Its room is taken from now on.
            (state.in_ram, state.in_use) = (true, true);
        }
        self.shelf.touch(found.id, self.began.elapsed());
        true
    }

    /// It was ordered and has not come.
    pub(crate) fn is_coming(&self, id: Id) -> bool {
        self.shelf.get(id).is_some_and(|state| state.in_ram) && !self.payloads.contains_key(&id)
    }

    /// Takes note of what has become of an order.
    pub(crate) fn notice(&mut self, Notice(news): Notice) {
        match news {
            News::Written { id, result } => self.written(id, result),
            News::Fetched { id, result, took } => self.fetched(id, result, took),
            News::Present(names) => self.reconcile(&names),
        }
        self.forget_too_many();
    }

    fn written(&mut self, id: Id, result: std::io::Result<Name>) {
        let Some(saved) = &mut self.saved else { return };
        saved.writing = None;
        if let Some(state) = self.shelf.get_mut(id) {
            state.in_use = false;
        }
        match result {
            Ok(name) => {
                if saved.trouble.take().is_some() {
                    tracing::info!("KV states can be saved again");
                }
                self.on_disk(id, name);
            }
            Err(error) => self.trouble(&error),
        }
    }

    fn trouble(&mut self, error: &std::io::Error) {
        let Some(saved) = &mut self.saved else { return };
        if saved.trouble.replace(Instant::now()).is_none() {
            tracing::warn!(%error, "KV states cannot be saved; they stay in memory, and conversations begin anew after an unload");
        }
    }

    fn fetched(&mut self, id: Id, result: Result<Vec<u8>, Unusable>, took: Duration) {
        let Some(state) = self.shelf.get_mut(id) else { return };
        state.in_use = false;
        match result {
            Ok(bytes) if bytes.len() == state.bytes => {
                self.speed.read(bytes.len(), took);
                self.payloads.insert(id, Arc::new(bytes));
            }
            // The folder has removed it or told why it cannot be read.
            Ok(_) | Err(_) => {
                self.shelf.remove(id);
                if let Some(saved) = &mut self.saved {
                    saved.names.remove(&id);
                }
            }
        }
    }

    /// Other workers remove states, too.
    fn reconcile(&mut self, present: &[Name]) {
        let Some(saved) = &mut self.saved else { return };
        let gone: Vec<Id> = saved.names.iter().filter(|(_, name)| !present.contains(name)).map(|(id, _)| *id).collect();
        for id in gone {
            saved.names.remove(&id);
            match self.shelf.get_mut(id) {
                Some(state) if state.in_ram => state.on_disk = false,
                Some(_) => _ = self.shelf.remove(id),
                None => {}
            }
        }
    }

    fn forget_too_many(&mut self) {
        let Some(saved) = &mut self.saved else { return };
        for id in self.shelf.too_many(MOST_KNOWN_TOKENS) {
            self.shelf.remove(id);
            saved.names.remove(&id);
        }
    }
}

/// At the end nobody waits for an answer any more, so there is no hurry but the time that is given.
impl KvStore {
    /// A sequence of a slot has to be saved: nothing on disk has all of it.
    pub(crate) fn is_unsaved(&self, tokens: &[LlamaToken]) -> bool {
        self.saved.is_some() && is_long(tokens) && self.shelf.held_on_disk(tokens) < tokens.len()
    }

    /// Makes room in memory for `bytes`; what has to leave is written first. False: there is no room.
    pub(crate) fn make_room_at_end(&mut self, bytes: usize) -> bool {
        let Some(leaving) = self.shelf.make_room(bytes, self.most) else { return false };
        for id in leaving {
            self.save_now(id);
            self.leave_ram(id);
        }
        true
    }

    /// Saves the state of a slot's sequence.
    pub(crate) fn save_slot(&mut self, tokens: &[LlamaToken], state: Vec<u8>, cut_from: usize, label: Option<u64>) {
        let id = self.shelf.insert(tokens.to_vec(), state.len(), cut_from, self.began.elapsed());
        if let Some(state) = self.shelf.get_mut(id) {
            state.label = label;
        }
        self.payloads.insert(id, Arc::new(state));
        self.save_now(id);
        self.payloads.remove(&id);
    }

    /// Saves what is in memory alone.
    pub(crate) fn save_rest(&mut self) {
        for id in self.shelf.unsaved() {
            self.save_now(id);
        }
    }

    /// One is being written by the other thread.
    pub(crate) fn is_writing(&self) -> bool {
        self.saved.as_ref().is_some_and(|saved| saved.writing.is_some())
    }

    fn save_now(&mut self, id: Id) {
        let (Some(saved), Some(state), Some(payload)) = (&self.saved, self.shelf.get(id), self.payloads.get(&id))
        else {
            return;
        };
        if state.on_disk || state.in_use {
            return;
        }
        let tokens: Vec<i32> = state.tokens.iter().map(|token| token.0).collect();
        match saved.disk.folder.write(&tokens, state.cut_from, payload, state.label) {
            Ok(name) => self.on_disk(id, name),
            Err(error) => self.trouble(&error),
        }
    }
}

fn is_long(tokens: &[LlamaToken]) -> bool {
    tokens.len() >= super::shelf::LEAST_KEPT
}
