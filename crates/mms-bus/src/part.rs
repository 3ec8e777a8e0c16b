//! How one connection of the bus is: written by its task, read by the health board.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartState {
    /// Nothing is known yet.
    Connecting,
    /// It does what it is for.
    Works,
    /// It does not; it is tried again.
    Faulty,
}

/// What is told about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartStatus {
    /// Its name on the health board.
    pub name: &'static str,
    /// How it is.
    pub state: PartState,
    /// What was found, for a person; when it is faulty, what to do.
    pub detail: String,
}

/// Written by one task.
#[derive(Debug)]
pub(crate) struct Part {
    status: Mutex<PartStatus>,
}

impl Part {
    pub(crate) fn new(name: &'static str, detail: String) -> Self {
        Self { status: Mutex::new(PartStatus { name, state: PartState::Connecting, detail }) }
    }

    /// It works; told in the log when that is news.
    pub(crate) fn works(&self, detail: impl Into<String>) {
        let before = self.put(PartState::Works, detail.into());
        let after = self.status();
        if before.state != PartState::Works {
            info!(part = after.name, detail = after.detail, "works");
        }
    }

    /// It does not work; told in the log when the reason is a new one.
    pub(crate) fn fails(&self, detail: impl Into<String>) {
        let before = self.put(PartState::Faulty, detail.into());
        let after = self.status();
        if before.state != PartState::Faulty || before.detail != after.detail {
            warn!(part = after.name, detail = after.detail, "does not work; it is tried again");
        }
    }

    pub(crate) fn status(&self) -> PartStatus {
        self.lock().clone()
    }

    fn put(&self, state: PartState, detail: String) -> PartStatus {
        let mut status = self.lock();
        let name = status.name;
        std::mem::replace(&mut *status, PartStatus { name, state, detail })
    }

    fn lock(&self) -> MutexGuard<'_, PartStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
