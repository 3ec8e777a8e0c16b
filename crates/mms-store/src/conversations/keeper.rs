//! The thread that brings the newest state of conversations into their file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::file::File;
use super::{Conversation, ConversationFileOptions};
use crate::StoreError;

/// What a conversation is to be in the file; `None`: not there.
pub(super) type Wanted = BTreeMap<String, Option<Arc<Conversation>>>;

/// Between the users and the thread.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: Wanted,
    fault: Option<StoreError>,
    is_ending: bool,
    has_ended: bool,
}

impl Shared {
    pub(super) fn want(&self, id: String, conversation: Option<Arc<Conversation>>) {
        self.state().wanted.insert(id, conversation);
        self.news.notify_all();
    }

    pub(super) fn fault(&self) -> Option<StoreError> {
        self.state().fault.clone()
    }

    pub(super) fn end(&self) {
        self.state().is_ending = true;
        self.news.notify_all();
    }

    pub(super) fn close(&self) {
        self.end();
        let mut state = self.state();
        while !state.has_ended {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so it is whole even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to write, `again` has come, or the end.
    fn wait(&self, again: Option<Instant>) -> (Wanted, bool) {
        let mut state = self.state();
        loop {
            let pause = again.map(|at| at.saturating_duration_since(Instant::now()));
            let is_time = match pause {
                Some(pause) => pause.is_zero(),
                None => !state.wanted.is_empty(),
            };
            if state.is_ending || is_time {
                return (std::mem::take(&mut state.wanted), state.is_ending);
            }
            state = match pause {
                Some(pause) => self.news.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

pub(super) struct Keeper {
    path: PathBuf,
    options: ConversationFileOptions,
    shared: Arc<Shared>,
    file: Option<File>,
    /// What is in the file, to be written again when it is replaced by another.
    kept: BTreeMap<String, Arc<Conversation>>,
    /// The file was read once, so that all of it is known.
    is_known: bool,
    /// More was to be removed from a file that could not be read than is remembered, so nothing of it is taken.
    is_void: bool,
    /// After a failure: when to try again, and how long to wait after that.
    again: Option<(Instant, Duration)>,
}

/// Conversations to be removed that are remembered while the file cannot be used.
const MOST_REMOVALS: usize = 10_000;

impl Keeper {
    pub(super) fn new(path: PathBuf, options: ConversationFileOptions, shared: Arc<Shared>) -> Self {
        Self { path, options, shared, file: None, kept: BTreeMap::new(), is_known: false, is_void: false, again: None }
    }

    pub(super) fn run(mut self, mut opened: impl FnMut(Vec<Conversation>)) {
        let mut is_told = false;
        // The file is opened before anything has come.
        let (mut wanted, mut is_ending) = (Wanted::new(), false);
        loop {
            match self.write(wanted, &mut opened) {
                Ok(()) => self.recover(),
                Err(error) => {
                    self.fail(error);
                    if !is_told {
                        opened(Vec::new());
                    }
                }
            }
            is_told = true;
            if is_ending {
                break;
            }
            (wanted, is_ending) = self.shared.wait(self.again.map(|(at, _)| at));
        }
        // The lock on the file goes before anybody is told.
        self.file = None;
        self.shared.state().has_ended = true;
        self.shared.news.notify_all();
    }

    /// Opens the file where that has not been done. On a failure everything waits for the next attempt, unless it is wanted otherwise
    /// by then.
    fn write(&mut self, wanted: Wanted, opened: &mut impl FnMut(Vec<Conversation>)) -> Result<(), StoreError> {
        let result = self.try_write(&wanted, opened);
        match &result {
            Ok(()) => {
                for (id, conversation) in wanted {
                    match conversation {
                        Some(conversation) => _ = self.kept.insert(id, conversation),
                        None => _ = self.kept.remove(&id),
                    }
                }
            }
            Err(_) => {
                let mut state = self.shared.state();
                for (id, conversation) in wanted {
                    state.wanted.entry(id).or_insert(conversation);
                }
                self.is_void |= forget_removals(&mut state.wanted, self.is_known.then_some(&self.kept));
            }
        }
        result
    }

    fn try_write(&mut self, wanted: &Wanted, opened: &mut impl FnMut(Vec<Conversation>)) -> Result<(), StoreError> {
        if self.file.as_ref().is_some_and(File::was_replaced) {
            tracing::warn!(path = %self.path.display(), "the file of conversations was removed or replaced; making it anew");
            self.file = None;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open(wanted, opened)?,
        };
        let written = file.write(wanted);
        if written.as_ref().err().is_none_or(StoreError::keeps_connection) {
            self.file = Some(file);
        }
        written
    }

    fn open(&mut self, wanted: &Wanted, opened: &mut impl FnMut(Vec<Conversation>)) -> Result<File, StoreError> {
        let mut file = File::open(&self.path, self.options.busy_timeout)?;
        let is_known = |id: &String| wanted.contains_key(id) || self.kept.contains_key(id);
        if self.is_void {
            file.clear()?;
        }
        let found: Vec<Conversation> = file.read()?.into_iter().filter(|found| !is_known(&found.id)).collect();
        let missing = self.kept.iter().filter(|(id, _)| !wanted.contains_key(*id));
        let missing: Wanted = missing.map(|(id, kept)| (id.clone(), Some(Arc::clone(kept)))).collect();
        file.write(&missing)?;
        self.kept.extend(found.iter().map(|found| (found.id.clone(), Arc::new(found.clone()))));
        (self.is_known, self.is_void) = (true, false);
        opened(found);
        Ok(file)
    }

    fn fail(&mut self, error: StoreError) {
        let pause =
            self.again.map_or(self.options.retry_first, |(_, pause)| (pause * 2).min(self.options.retry_longest));
        self.again = Some((Instant::now() + pause, pause));
        let mut state = self.shared.state();
        if state.fault.as_ref() != Some(&error) {
            tracing::warn!(%error, "conversations are kept in memory alone; after a restart they begin anew");
        }
        state.fault = Some(error);
    }

    fn recover(&mut self) {
        self.again = None;
        if self.shared.state().fault.take().is_some() {
            tracing::info!(path = %self.path.display(), "conversations are kept on disk again");
        }
    }
}

/// What is not in the file need not be removed from it; `kept` is what is there, `None` when that is not known. True: those that would
/// have to be removed are too many to be remembered.
fn forget_removals(wanted: &mut Wanted, kept: Option<&BTreeMap<String, Arc<Conversation>>>) -> bool {
    if let Some(kept) = kept {
        wanted.retain(|id, conversation| conversation.is_some() || kept.contains_key(id));
        return false;
    }
    let are_too_many = wanted.values().filter(|conversation| conversation.is_none()).count() > MOST_REMOVALS;
    if are_too_many {
        wanted.retain(|_, conversation| conversation.is_some());
    }
    are_too_many
}
