//! Events of the manager become rows of the evaluation store, and the store's own state goes on the health board.

use std::time::Duration;

use mms_manager::Manager;
use mms_protocol::Event;
use mms_store::{Store, metrics_of};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Records events until `stop`, those that are waiting then included. Never waits for the disk: the store's queue is bounded and
/// counts what it drops.
pub(crate) async fn record(mut events: mpsc::Receiver<Event>, agent: String, store: Store, stop: CancellationToken) {
    while let Some(Some(event)) = stop.run_until_cancelled(events.recv()).await {
        keep(&store, &agent, &event);
    }
    while let Ok(event) = events.try_recv() {
        keep(&store, &agent, &event);
    }
}

fn keep(store: &Store, agent: &str, event: &Event) {
    let rows = metrics_of(agent, event);
    let turned_away = rows.into_iter().map(|row| store.log_metric_soon(row)).filter(|taken| !taken).count();
    if turned_away > 0 {
        warn!(rows = turned_away, "the evaluation store takes no more rows now");
    }
}

/// What the store says about itself, for the health board and the counters.
pub(crate) struct StoreWatch {
    store: Store,
    manager: Manager,
    metrics_seen: u64,
    evaluations_seen: u64,
}

impl StoreWatch {
    /// Nothing is told yet.
    pub(crate) fn new(store: Store, manager: Manager) -> Self {
        Self { store, manager, metrics_seen: 0, evaluations_seen: 0 }
    }

    /// Tells it once in each interval, for ever.
    pub(crate) async fn run(mut self, interval: Duration) {
        loop {
            self.tell();
            tokio::time::sleep(interval).await;
        }
    }

    /// Tells it once.
    pub(crate) fn tell(&mut self) {
        let status = self.store.status();
        self.manager.board().report("evaluation_store", false, status.ok, status.detail);
        let counters = self.manager.counters();
        counters.performance_logs.add(status.metrics_written.saturating_sub(self.metrics_seen));
        counters.trust_score_updates.add(status.evaluations_written.saturating_sub(self.evaluations_seen));
        (self.metrics_seen, self.evaluations_seen) = (status.metrics_written, status.evaluations_written);
    }
}
