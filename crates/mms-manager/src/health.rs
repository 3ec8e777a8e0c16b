//! The health board: named checks that every part of the server reports, and whether the server is ready. Readiness is never
//! assumed; only the server's own probe, a client that had real answers through every published address, sets it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use mms_protocol::view::HealthCheck;

/// What the parts of the server say about themselves.
#[derive(Debug, Default)]
pub struct HealthBoard {
    state: Mutex<Board>,
}

#[derive(Debug, Default)]
struct Board {
    checks: IndexMap<String, HealthCheck>,
    ready: bool,
    initialized: bool,
}

impl HealthBoard {
    /// Puts a check on the board, or replaces the one of that name. `required`: without it the server is not ready.
    pub fn report(&self, name: impl Into<String>, required: bool, ok: bool, detail: impl Into<String>) {
        let name = name.into();
        let check = HealthCheck { name: name.clone(), ok, required, detail: detail.into() };
        self.lock().checks.insert(name, check);
    }

    /// Takes a check off the board.
    pub fn remove(&self, name: &str) {
        self.lock().checks.shift_remove(name);
    }

    /// The verdict of the server's own probe.
    pub fn set_ready(&self, ready: bool) {
        let mut board = self.lock();
        board.ready = ready;
        board.initialized |= ready;
    }

    /// The probe had its answers and no required check fails.
    pub fn is_ready(&self) -> bool {
        self.lock().ready_now()
    }

    /// It has been ready at least once.
    pub fn is_initialized(&self) -> bool {
        self.lock().initialized
    }

    /// Every check in the order of its first report, whether the server is ready, and whether it ever was.
    pub fn read(&self) -> (Vec<HealthCheck>, bool, bool) {
        let board = self.lock();
        (board.checks.values().cloned().collect(), board.ready_now(), board.initialized)
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn ready_now(&self) -> bool {
        self.ready && self.checks.values().all(|check| check.ok || !check.required)
    }
}

#[cfg(test)]
mod tests {
    use super::HealthBoard;

    #[test]
    fn ready_needs_the_probe_and_every_required_check() {
        let board = HealthBoard::default();
        assert!(!board.is_ready());
        board.report("main_port", true, true, "bound");
        assert!(!board.is_ready(), "a check alone does not make it ready");
        board.set_ready(true);
        assert!(board.is_ready());
        board.report("evaluation_store", false, false, "disk full");
        assert!(board.is_ready(), "an optional check only degrades");
        board.report("main_port", true, false, "no answer");
        assert!(!board.is_ready());
        board.report("main_port", true, true, "answers again");
        assert!(board.is_ready());
    }

    #[test]
    fn initialized_survives_a_loss_of_readiness() {
        let board = HealthBoard::default();
        assert!(!board.is_initialized());
        board.set_ready(true);
        board.set_ready(false);
        let (_, ready, initialized) = board.read();
        assert!(!ready && initialized);
    }

    #[test]
    fn a_second_report_replaces_the_first_and_keeps_its_place() {
        let board = HealthBoard::default();
        board.report("a", true, false, "one");
        board.report("b", true, true, "");
        board.report("a", true, true, "two");
        let (checks, ..) = board.read();
        let shown: Vec<_> = checks.iter().map(|check| (check.name.as_str(), check.detail.as_str())).collect();
        assert_eq!(shown, [("a", "two"), ("b", "")]);
        board.remove("a");
        assert_eq!(board.read().0.len(), 1);
    }
}
