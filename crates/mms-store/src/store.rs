//! The handle: what callers hold, and what it shares with the writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mms_protocol::evaluation::{
    EvaluationFilter, EvaluationRow, MetricFilter, MetricRow, NewEvaluation, NewMetric, Page,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::read::{self, Readers};
use crate::rows::Row;
use crate::writer::{Ack, Command, Retry, Writer};
use crate::{StoreError, Usage, schema, trust, usage};

/// JSON that a row may have for each place that it takes in the queue.
const PLACE_BYTES: usize = 16 * 1024;

/// Bounds and times; the defaults suit a server.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Rows that may wait for the writer; one with much JSON counts as several ([`PLACE_BYTES`]). A caller who wants an
    /// acknowledgement waits for a place, others are turned away.
    pub queue: usize,
    /// Queries that run at once; others wait for their turn.
    pub readers: usize,
    /// Longest such wait.
    pub turn_timeout: Duration,
    /// How long to wait for another process that holds the file.
    pub busy_timeout: Duration,
    /// Pause before the file is tried again after a failure; doubled each time.
    pub retry_first: Duration,
    /// Longest such pause.
    pub retry_longest: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            queue: 4096,
            readers: 8,
            turn_timeout: Duration::from_secs(10),
            busy_timeout: Duration::from_secs(2),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(30),
        }
    }
}

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The last attempt to write, or to open, worked.
    pub ok: bool,
    /// For a person: what is wrong, or how much was written.
    pub detail: String,
    /// Rows written since the start.
    pub written: u64,
    /// Of them, rows of `performance_metrics`.
    pub metrics_written: u64,
    /// Of them, rows of `model_evaluation_scores`.
    pub evaluations_written: u64,
    /// Of them, uses of models.
    pub usage_written: u64,
    /// Rows that were given up.
    pub dropped: u64,
    /// Rows that wait for the writer now.
    pub queued: u64,
}

/// A cheap handle to the evaluation store. Rows still queued when the last handle goes away are written in the background; call
/// [`Store::close`] to wait for them.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    options: StoreOptions,
    commands: Sender<Command>,
    places: Arc<Semaphore>,
    turns: Semaphore,
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    ended: watch::Receiver<bool>,
}

impl Store {
    /// Opens the file, or makes it together with its folder. Blocks on the disk, for milliseconds.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let options = StoreOptions::default();
        let connection = schema::open_writer(path, options.busy_timeout)?;
        Self::start(path, Ok(connection), options)
    }

    /// Like [`Store::open`], but a file that cannot be used is only reported in the status and tried again in the background. An
    /// error is only possible when the system refuses a thread.
    pub fn open_or_retry(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        Self::start(path, schema::open_writer(path, options.busy_timeout), options)
    }

    fn start(
        path: &Path,
        opened: Result<rusqlite::Connection, StoreError>,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::new(None));
        let retry = Retry { first: options.retry_first, longest: options.retry_longest };
        let writer = Writer::new(path.to_owned(), opened, options.busy_timeout, retry, Arc::clone(&shared));
        let (commands, queue) = channel();
        let (end, ended) = watch::channel(false);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                writer.run(&queue);
                // Nobody may be left to hear it.
                end.send_replace(true);
            })
            .map_err(|error| StoreError::Failed { path: path.to_owned(), why: error.to_string() })?;
        let inner = Inner {
            path: path.to_owned(),
            options,
            commands,
            places: Arc::new(Semaphore::new(options.places())),
            turns: Semaphore::new(options.readers.clamp(1, Semaphore::MAX_PERMITS)),
            shared,
            readers: Arc::new(Readers::new(path.to_owned(), options.busy_timeout)),
            ended,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps a measurement; on return it is on the disk. The id is a UUID.
    pub async fn log_metric(&self, metric: NewMetric) -> Result<String, StoreError> {
        self.write(Row::metric(metric)?).await
    }

    /// Keeps an evaluation; on return it is on the disk. The id is a UUID.
    pub async fn log_evaluation(&self, evaluation: NewEvaluation) -> Result<String, StoreError> {
        self.write(Row::evaluation(evaluation)?).await
    }

    /// Hands a measurement to the writer and never waits. False: the queue is full, the store is closed, or the measurement cannot be
    /// stored; it is dropped and counted.
    pub fn log_metric_soon(&self, metric: NewMetric) -> bool {
        self.write_soon(Row::metric(metric))
    }

    fn write_soon(&self, row: Result<Row, StoreError>) -> bool {
        let sent = row.and_then(|row| {
            let places = Arc::clone(&self.inner.places);
            let permit = places.try_acquire_many_owned(self.places_of(&row)).map_err(|_| StoreError::Closed)?;
            self.hand_over(row, None, permit)
        });
        if sent.is_err() {
            self.inner.shared.dropped(1);
        }
        sent.is_ok()
    }

    /// Keeps a use of a model; on return it is on the disk.
    pub async fn log_usage(&self, usage: Usage) -> Result<(), StoreError> {
        self.write(Row::usage(usage)?).await.map(|_| ())
    }

    /// Hands a use of a model to the writer and never waits; false as in [`Store::log_metric_soon`].
    pub fn log_usage_soon(&self, usage: Usage) -> bool {
        self.write_soon(Row::usage(usage))
    }

    /// The uses of models that are kept, in the order of their times.
    pub async fn usage(&self) -> Result<Vec<Usage>, StoreError> {
        self.read(usage::all).await
    }

    /// Measurements, newest first.
    pub async fn metrics(&self, filter: MetricFilter) -> Result<Page<MetricRow>, StoreError> {
        self.read(move |connection| read::metrics(connection, &filter)).await
    }

    /// Evaluations, newest first.
    pub async fn evaluations(&self, filter: EvaluationFilter) -> Result<Page<EvaluationRow>, StoreError> {
        self.read(move |connection| read::evaluations(connection, &filter)).await
    }

    /// Every model name that was evaluated, with its last `each` trust scores, newest first.
    pub async fn last_trust_scores(&self, each: usize) -> Result<Vec<(String, Vec<f64>)>, StoreError> {
        self.read(move |connection| trust::last_scores(connection, each)).await
    }

    /// How it is, without touching the disk.
    pub fn status(&self) -> StoreStatus {
        self.inner.shared.status()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Writes what is queued, then ends the writer; later writes are refused. Safe to call twice.
    pub async fn close(&self) {
        self.inner.places.close();
        let asked = self.inner.commands.send(Command::Close);
        let mut ended = self.inner.ended.clone();
        // Either side may find that the writer has ended already.
        if asked.is_ok() && ended.wait_for(|ended| *ended).await.is_err() {
            tracing::warn!("the writer of the evaluation store ended unexpectedly");
        }
    }

    async fn write(&self, row: Row) -> Result<String, StoreError> {
        let id = row.id().to_owned();
        let places = Arc::clone(&self.inner.places);
        let permit = places.acquire_many_owned(self.places_of(&row)).await.map_err(|_| StoreError::Closed)?;
        let (ack, written) = oneshot::channel();
        self.hand_over(row, Some(ack), permit)?;
        written.await.map_err(|_| StoreError::Closed)??;
        Ok(id)
    }

    fn hand_over(&self, row: Row, ack: Option<Ack>, permit: OwnedSemaphorePermit) -> Result<(), StoreError> {
        let place = Place::new(permit, Arc::clone(&self.inner.shared));
        self.inner.commands.send(Command::Write { row, ack, place }).map_err(|_| StoreError::Closed)
    }

    /// Places in the queue that a row takes; never more than there are.
    fn places_of(&self, row: &Row) -> u32 {
        let places = (1 + row.data_bytes() / PLACE_BYTES).min(self.inner.options.places());
        u32::try_from(places).unwrap_or(u32::MAX)
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> Result<T, read::ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(self.inner.options.turn_timeout, self.inner.turns.acquire()).await;
        let _turn = turn.map_err(|_| StoreError::Busy)?.map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(&self.inner.readers);
        let path = self.inner.path.clone();
        tokio::task::spawn_blocking(move || readers.with(query))
            .await
            .map_err(|error| StoreError::Failed { path, why: error.to_string() })?
    }
}

impl StoreOptions {
    fn places(&self) -> usize {
        self.queue.clamp(1, Semaphore::MAX_PERMITS)
    }
}

/// A row's place in the queue; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, shared: Arc<Shared>) -> Self {
        shared.queued.fetch_add(1, Ordering::Relaxed);
        Self { _permit: permit, shared }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the writer tells and the handles show.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    fault: Mutex<Option<StoreError>>,
    metrics: AtomicU64,
    evaluations: AtomicU64,
    usage: AtomicU64,
    dropped: AtomicU64,
    queued: AtomicU64,
}

impl Shared {
    pub(crate) fn new(fault: Option<StoreError>) -> Self {
        Self { fault: Mutex::new(fault), ..Self::default() }
    }

    pub(crate) fn count(&self, row: &Row) {
        let counter = match row {
            Row::Metric { .. } => &self.metrics,
            Row::Evaluation { .. } => &self.evaluations,
            Row::Usage(_) => &self.usage,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, rows: u64) {
        self.dropped.fetch_add(rows, Ordering::Relaxed);
    }

    /// True when this changes whether, or why, the store does not work.
    pub(crate) fn set_fault(&self, fault: Option<StoreError>) -> bool {
        let mut current = self.fault();
        let news = *current != fault;
        *current = fault;
        news
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let fault = self.fault().clone();
        let metrics_written = self.metrics.load(Ordering::Relaxed);
        let evaluations_written = self.evaluations.load(Ordering::Relaxed);
        let usage_written = self.usage.load(Ordering::Relaxed);
        let written = metrics_written + evaluations_written + usage_written;
        StoreStatus {
            ok: fault.is_none(),
            detail: fault.map_or_else(|| format!("{written} rows written"), |fault| fault.to_string()),
            written,
            metrics_written,
            evaluations_written,
            usage_written,
            dropped: self.dropped.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
        }
    }

    fn fault(&self) -> MutexGuard<'_, Option<StoreError>> {
        // The value is replaced as a whole, so it is whole even after a panic elsewhere.
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
