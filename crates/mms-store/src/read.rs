//! Queries, on connections of their own that may only read.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mms_protocol::evaluation::{
    DEFAULT_ROWS, EvaluationFilter, EvaluationRow, MAX_ROWS, MetricFilter, MetricRow, Page, Window,
};
use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, Row, ToSql};
use serde_json::Value;

use crate::schema::{self, Identity};
use crate::{StoreError, time};

/// Connections that are kept for the next query.
const SPARE: usize = 4;
/// A page ends before its limit once its rows hold so much text.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Why a query failed: the caller's or SQLite's fault.
pub(crate) enum ReadError {
    Refused(StoreError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// Connections for reading; each query has one to itself.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    busy_timeout: Duration,
    spare: Mutex<Vec<(Connection, Option<Identity>)>>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, busy_timeout: Duration) -> Self {
        Self { path, busy_timeout, spare: Mutex::new(Vec::new()) }
    }

    /// Runs a query. Blocks.
    pub(crate) fn with<T>(&self, query: impl FnOnce(&Connection) -> Result<T, ReadError>) -> Result<T, StoreError> {
        let identity = schema::identity(&self.path);
        let spare = self.spare().pop().filter(|(_, opened)| *opened == identity);
        let connection = match spare {
            Some((connection, _)) => connection,
            None => schema::open_reader(&self.path, self.busy_timeout)?,
        };
        match query(&connection) {
            Ok(found) => {
                let mut spare = self.spare();
                if spare.len() < SPARE {
                    spare.push((connection, identity));
                }
                Ok(found)
            }
            Err(ReadError::Refused(error)) => Err(error),
            Err(ReadError::Sqlite(error)) => Err(StoreError::sqlite(&self.path, &error)),
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Option<Identity>)>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is read from one of the two tables. The order of `columns` is that in which rows are made.
struct Table {
    name: &'static str,
    columns: &'static str,
    /// How many columns that is.
    width: usize,
    /// As the indexes have it: old rows may have a space where ISO 8601 has a T.
    time: &'static str,
}

const METRICS: Table = Table {
    name: "performance_metrics",
    columns: "metric_id, agent_name, metric_name, value, timestamp, context",
    width: 6,
    time: "replace(timestamp, ' ', 'T')",
};

const EVALUATIONS: Table = Table {
    name: "model_evaluation_scores",
    columns: "evaluation_id, model_name, cycle_id, trust_score, accuracy, f1_score, avg_latency_ms, evaluation_timestamp, \
              comparison_data",
    width: 9,
    time: "replace(evaluation_timestamp, ' ', 'T')",
};

pub(crate) fn metrics(connection: &Connection, filter: &MetricFilter) -> Result<Page<MetricRow>, ReadError> {
    let mut conditions = Conditions::default();
    conditions.add("agent_name =", filter.agent_name.as_deref());
    conditions.add("metric_name =", filter.metric_name.as_deref());
    page(connection, &METRICS, conditions, &filter.window, |row| {
        Ok(MetricRow {
            metric_id: text(row, 0)?,
            agent_name: text(row, 1)?,
            metric_name: text(row, 2)?,
            value: number(row, 3)?,
            timestamp: moment(row, 4)?,
            context: json(row, 5)?,
        })
    })
}

pub(crate) fn evaluations(
    connection: &Connection,
    filter: &EvaluationFilter,
) -> Result<Page<EvaluationRow>, ReadError> {
    let mut conditions = Conditions::default();
    conditions.add("model_name =", filter.model_name.as_deref());
    conditions.add("cycle_id =", filter.cycle_id.as_deref());
    page(connection, &EVALUATIONS, conditions, &filter.window, |row| {
        Ok(EvaluationRow {
            evaluation_id: text(row, 0)?,
            model_name: text(row, 1)?,
            cycle_id: text(row, 2)?,
            trust_score: number(row, 3)?,
            accuracy: number(row, 4)?,
            f1_score: number(row, 5)?,
            avg_latency_ms: number(row, 6)?,
            evaluation_timestamp: moment(row, 7)?,
            comparison_data: json(row, 8)?,
        })
    })
}

/// Conditions that must all hold, and their values.
#[derive(Default)]
struct Conditions {
    clauses: Vec<String>,
    values: Vec<SqlValue>,
}

impl Conditions {
    fn add(&mut self, left: &str, value: Option<&str>) {
        if let Some(value) = value {
            let name = self.value(SqlValue::Text(value.to_owned()));
            self.clauses.push(format!("{left} {name}"));
        }
    }

    /// The name of a value in the query.
    fn value(&mut self, value: SqlValue) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    /// The query for `limit` rows and one more, which shows whether there are more.
    fn select(mut self, table: &Table, window: &Window, limit: usize) -> Result<(String, Vec<SqlValue>), StoreError> {
        let Table { name, columns, time, .. } = table;
        if let Some(said) = &window.start_time {
            self.add(&format!("{time} >="), Some(&time::not_before("start_time", said)?));
        }
        if let Some(said) = &window.end_time {
            self.add(&format!("{time} <="), Some(&time::not_after("end_time", said)?));
        }
        if let Some(cursor) = &window.cursor {
            let (after, rowid) = place_of(cursor)?;
            let (after, rowid) = (self.value(SqlValue::Text(after)), self.value(SqlValue::Integer(rowid)));
            self.clauses.push(format!("{time} <= {after} AND ({time} < {after} OR rowid < {rowid})"));
        }
        let clauses = if self.clauses.is_empty() { "1".to_owned() } else { self.clauses.join(" AND ") };
        let limit = self.value(SqlValue::Integer(limit as i64 + 1));
        let sql = format!(
            "SELECT {columns}, {time}, rowid FROM {name} WHERE {clauses} ORDER BY {time} DESC, rowid DESC LIMIT {limit}"
        );
        Ok((sql, self.values))
    }
}

/// A cursor names the last row of its page: time, as rows are ordered, and rowid.
fn cursor_of(time: &str, rowid: i64) -> String {
    format!("{time}/{rowid}")
}

fn place_of(cursor: &str) -> Result<(String, i64), StoreError> {
    let place = cursor.rsplit_once('/').and_then(|(time, rowid)| Some((time.to_owned(), rowid.parse().ok()?)));
    place.ok_or_else(|| {
        let shown: String = cursor.chars().take(40).collect();
        StoreError::invalid("cursor", format!("must be the next_cursor of an earlier reply, not {shown:?}"))
    })
}

fn page<T>(
    connection: &Connection,
    table: &Table,
    conditions: Conditions,
    window: &Window,
    make: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Page<T>, ReadError> {
    let limit = window.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS) as usize;
    let (sql, values) = conditions.select(table, window, limit)?;
    let mut statement = connection.prepare_cached(&sql)?;
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    let mut rows = statement.query(values.as_slice())?;
    let (mut found, mut bytes, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        if found.len() >= limit || bytes >= PAGE_BYTES {
            return Ok(Page { rows: found, next_cursor: last });
        }
        bytes +=
            (0..table.width).filter_map(|at| row.get_ref(at).ok()?.as_bytes().ok()).map(<[u8]>::len).sum::<usize>();
        found.push(make(row)?);
        last = Some(cursor_of(&text(row, table.width)?, row.get(table.width + 1)?));
    }
    Ok(Page { rows: found, next_cursor: None })
}

/// A text, or what stands in its place as one: SQLite's columns take anything.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Null => String::new(),
    })
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<f64>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => Some(number as f64),
        ValueRef::Real(number) => Some(number),
        ValueRef::Text(_) | ValueRef::Blob(_) | ValueRef::Null => None,
    })
}

/// Epoch seconds.
fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<f64>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(said) => time::epoch(&String::from_utf8_lossy(said)),
        ValueRef::Integer(_) | ValueRef::Real(_) => number(row, column)?,
        ValueRef::Blob(_) | ValueRef::Null => None,
    })
}

/// JSON as the old suite and this one write it; a text that is none stays a text.
fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Value>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            Some(serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned())))
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => None,
    })
}
