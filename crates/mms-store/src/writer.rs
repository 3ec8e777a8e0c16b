//! The one thread that writes.
//!
//! ```text
//! log_metric ─────▶ queue (bounded) ─▶ group ─▶ one transaction ─▶ fsync ─▶ every ack of the group
//! log_metric_soon ─▶      "               └─ on failure: acks get the error; rows without an ack wait in the backlog
//! ```
//!
//! While the file cannot be used the thread tries to open it again, with growing pauses; rows that somebody waits for are refused at
//! once meanwhile, the others are kept, up to [`BACKLOG`], the oldest dropped first.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use crate::StoreError;
use crate::rows::Row;
use crate::schema::{self, Identity};
use crate::store::{Place, Shared};
use crate::usage;

/// Most rows in one transaction.
const GROUP: usize = 1024;
/// Most rows without an ack that wait for the file to become usable.
pub(crate) const BACKLOG: usize = 4096;

/// Tells whoever waits for a row whether it is on the disk.
pub(crate) type Ack = oneshot::Sender<Result<(), StoreError>>;

/// What the handles ask for.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are rows; `Close` comes once")]
pub(crate) enum Command {
    /// Write this.
    Write {
        row: Row,
        /// Who waits for it; nobody when `None`.
        ack: Option<Ack>,
        /// Its place in the queue, free again when the command was dealt with.
        place: Place,
    },
    /// Write all that came before, then end.
    Close,
}

/// A row and who waits for it.
struct Pending {
    row: Row,
    ack: Option<Ack>,
    _place: Option<Place>,
}

/// Times between two attempts to open the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

pub(crate) struct Writer {
    path: PathBuf,
    busy_timeout: Duration,
    retry: Retry,
    shared: Arc<Shared>,
    state: State,
    backlog: VecDeque<Row>,
    /// After a failure: when to try again, and how long to wait after that.
    again: Option<(Instant, Duration)>,
}

enum State {
    Open(Connection, Option<Identity>),
    Shut(StoreError),
}

impl Writer {
    pub(crate) fn new(
        path: PathBuf,
        opened: Result<Connection, StoreError>,
        busy_timeout: Duration,
        retry: Retry,
        shared: Arc<Shared>,
    ) -> Self {
        let identity = schema::identity(&path);
        let mut writer = Self {
            path,
            busy_timeout,
            retry,
            shared,
            state: State::Shut(StoreError::Closed),
            backlog: VecDeque::new(),
            again: None,
        };
        match opened {
            Ok(connection) => writer.state = State::Open(connection, identity),
            Err(error) => writer.fail(error, Instant::now()),
        }
        writer
    }

    /// Runs until it is told to close or the last handle is gone.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let first = match self.again {
                Some((when, _)) => match commands.recv_timeout(when.saturating_duration_since(Instant::now())) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                },
                None => match commands.recv() {
                    Ok(command) => Some(command),
                    Err(_) => break,
                },
            };
            let (group, closing) = gather(first, commands);
            self.reopen(Instant::now());
            self.write(group);
            if closing {
                break;
            }
        }
        // The last chance for rows that nobody waits for.
        self.write(Vec::new());
        self.drop_rows(self.backlog.len());
    }

    /// Opens the file again when it is time, or when it is not the file any more that was opened.
    fn reopen(&mut self, now: Instant) {
        if let State::Open(_, identity) = &self.state {
            if *identity == schema::identity(&self.path) {
                return;
            }
            tracing::warn!(path = %self.path.display(), "the evaluation database was removed or replaced; opening it again");
            // What would be written to the old file would be lost with it.
            self.state = State::Shut(StoreError::Closed);
        } else if self.again.is_some_and(|(when, _)| now < when) {
            return;
        }
        match schema::open_writer(&self.path, self.busy_timeout) {
            Ok(connection) => {
                self.state = State::Open(connection, schema::identity(&self.path));
                self.recover();
            }
            Err(error) => self.fail(error, now),
        }
    }

    /// One transaction for the backlog and the group; all or nothing. After a failure an empty one shows whether the file works again.
    fn write(&mut self, group: Vec<Pending>) {
        if group.is_empty() && self.backlog.is_empty() && self.again.is_none() {
            return;
        }
        let rows: Vec<&Row> = self.backlog.iter().chain(group.iter().map(|pending| &pending.row)).collect();
        let written = match &mut self.state {
            State::Open(connection, _) => {
                commit(connection, &rows).map_err(|error| StoreError::sqlite(&self.path, &error))
            }
            State::Shut(error) => Err(error.clone()),
        };
        match &written {
            Ok(()) => {
                for row in &rows {
                    self.shared.count(row);
                }
                self.backlog.clear();
                self.recover();
            }
            Err(error) => {
                if matches!(self.state, State::Open(..)) {
                    self.fail(error.clone(), Instant::now());
                }
            }
        }
        for pending in group {
            match (pending.ack, &written) {
                // Whoever has stopped waiting does not mind.
                (Some(ack), _) => drop(ack.send(written.clone())),
                (None, Ok(())) => {}
                (None, Err(_)) => self.backlog.push_back(pending.row),
            }
        }
        self.drop_rows(self.backlog.len().saturating_sub(BACKLOG));
    }

    fn drop_rows(&mut self, count: usize) {
        self.backlog.drain(..count);
        self.shared.dropped(count as u64);
    }

    fn fail(&mut self, error: StoreError, now: Instant) {
        let pause = self.again.map_or(self.retry.first, |(_, pause)| (pause * 2).min(self.retry.longest));
        self.again = Some((now + pause, pause));
        if self.shared.set_fault(Some(error.clone())) {
            tracing::warn!(%error, "the evaluation store does not work; measurements are kept for later");
        }
        if !error.keeps_connection() || matches!(self.state, State::Shut(_)) {
            self.state = State::Shut(error);
        }
    }

    fn recover(&mut self) {
        self.again = None;
        if self.shared.set_fault(None) {
            tracing::info!(path = %self.path.display(), "the evaluation store works again");
        }
    }
}

/// The command, and whatever else waits by now; true when the last of them is the end.
fn gather(first: Option<Command>, commands: &Receiver<Command>) -> (Vec<Pending>, bool) {
    let mut group = Vec::new();
    let waiting = std::iter::from_fn(|| commands.try_recv().ok());
    for command in first.into_iter().chain(waiting).take(GROUP) {
        match command {
            Command::Write { row, ack, place } => group.push(Pending { row, ack, _place: Some(place) }),
            Command::Close => return (group, true),
        }
    }
    (group, false)
}

fn commit(connection: &mut Connection, rows: &[&Row]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for row in rows {
        insert(&transaction, row)?;
    }
    transaction.commit()
}

fn insert(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    match row {
        Row::Metric { id, agent_name, metric_name, value, timestamp, context } => {
            let mut statement = connection.prepare_cached(
                "INSERT INTO performance_metrics (metric_id, agent_name, metric_name, value, timestamp, context) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            statement.execute(params![id, agent_name, metric_name, value, timestamp, context])?;
        }
        Row::Evaluation {
            id,
            model_name,
            cycle_id,
            trust_score,
            accuracy,
            f1_score,
            avg_latency_ms,
            timestamp,
            comparison_data,
        } => {
            let mut statement = connection.prepare_cached(
                "INSERT INTO model_evaluation_scores (evaluation_id, model_name, cycle_id, trust_score, accuracy, f1_score, \
                 avg_latency_ms, evaluation_timestamp, comparison_data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            statement.execute(params![
                id,
                model_name,
                cycle_id,
                trust_score,
                accuracy,
                f1_score,
                avg_latency_ms,
                timestamp,
                comparison_data
            ])?;
        }
        Row::Usage(one) => usage::insert(connection, one)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{BACKLOG, Pending, Retry, State, Writer};
    use crate::rows::Row;
    use crate::store::Shared;
    use crate::{NewMetric, schema};

    fn pending(text: &str) -> Pending {
        let metric = NewMetric {
            agent_name: "agent".to_owned(),
            metric_name: "metric".to_owned(),
            value: 1.0,
            context: Some(serde_json::Value::String(text.to_owned())),
        };
        Pending { row: Row::metric(metric).unwrap(), ack: None, _place: None }
    }

    /// A full disk, made by forbidding the file to grow.
    #[test]
    fn a_full_disk_loses_nothing_but_the_oldest_of_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let wait = Duration::from_millis(50);
        let connection = schema::open_writer(&path, wait).unwrap();
        connection.pragma_update(None, "max_page_count", 1).unwrap();
        let shared = Arc::new(Shared::new(None));
        let retry = Retry { first: wait, longest: wait };
        let mut writer = Writer::new(path.clone(), Ok(connection), wait, retry, Arc::clone(&shared));

        writer.write((0..10).map(|_| pending(&"x".repeat(10_000))).collect());
        assert_eq!(writer.backlog.len(), 10);
        assert_eq!(shared.status().detail, format!("no space left for the database {}", path.display()));
        writer.write((0..BACKLOG).map(|_| pending("small")).collect());
        assert_eq!((writer.backlog.len(), shared.status().dropped), (BACKLOG, 10));

        let State::Open(connection, _) = &writer.state else { panic!("the connection is still good") };
        connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        writer.write(vec![pending("last")]);
        let status = shared.status();
        assert!(status.ok, "{status:?}");
        assert_eq!((status.written, status.dropped), (BACKLOG as u64 + 1, 10));
    }

    #[test]
    fn nothing_goes_to_a_file_that_was_replaced_while_the_new_one_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let wait = Duration::from_millis(1);
        let shared = Arc::new(Shared::new(None));
        let retry = Retry { first: Duration::ZERO, longest: Duration::ZERO };
        let opened = schema::open_writer(&path, wait);
        let mut writer = Writer::new(path.clone(), opened, wait, retry, Arc::clone(&shared));
        std::fs::rename(&path, folder.path().join("old.db")).unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE; CREATE TABLE t (x)").unwrap();

        writer.reopen(Instant::now());
        writer.write(vec![pending("kept")]);
        let status = shared.status();
        assert_eq!((status.ok, status.written, writer.backlog.len()), (false, 0, 1), "{status:?}");

        other.execute_batch("COMMIT").unwrap();
        writer.reopen(Instant::now());
        writer.write(Vec::new());
        assert_eq!((shared.status().written, shared.status().ok), (1, true));
        let rows: i64 = other.query_row("SELECT count(*) FROM performance_metrics", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }
}
