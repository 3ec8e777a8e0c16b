//! Events of the manager become rows of the evaluation store and notices for others, and the store's own state goes on the health board.

use std::sync::Arc;
use std::time::Duration;

use mms_manager::Manager;
use mms_protocol::Event;
use mms_store::{Store, metrics_of};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::notices::Notices;

/// Where events go.
pub(crate) struct Recorder {
    /// The name that they are kept under.
    pub agent: String,
    /// Where measurements are kept.
    pub store: Store,
    /// Who tells others.
    pub notices: Arc<Notices>,
}

/// Records events until `stop`, those that are waiting then included. Never waits for the disk: the store's queue is bounded and
/// counts what it drops.
pub(crate) async fn record(mut events: mpsc::Receiver<Event>, to: Recorder, stop: CancellationToken) {
    while let Some(Some(event)) = stop.run_until_cancelled(events.recv()).await {
        to.keep(&event);
    }
    while let Ok(event) = events.try_recv() {
        to.keep(&event);
    }
    to.notices.close();
}

impl Recorder {
    fn keep(&self, event: &Event) {
        self.notices.event(event);
        let rows = metrics_of(&self.agent, event);
        let turned_away = rows.into_iter().map(|row| self.store.log_metric_soon(row)).filter(|taken| !taken).count();
        if turned_away > 0 {
            warn!(rows = turned_away, "the evaluation store takes no more rows now");
        }
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
