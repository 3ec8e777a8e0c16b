//! Queries, on connections of their own that may only read.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, Row, ToSql};
use serde_json::Value;

use crate::rows::{EvaluationFilter, EvaluationRow, MAX_LIMIT, MetricFilter, MetricRow};
use crate::schema::{self, Identity};
use crate::{StoreError, time};

const DEFAULT_LIMIT: u32 = 100;
/// Connections that are kept for the next query.
const SPARE: usize = 4;

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

/// Conditions that must all hold, and their values.
#[derive(Default)]
struct Conditions {
    clauses: Vec<String>,
    values: Vec<SqlValue>,
}

impl Conditions {
    fn add(&mut self, left: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.values.push(SqlValue::Text(value.to_owned()));
            self.clauses.push(format!("{left} ?{}", self.values.len()));
        }
    }

    fn select(mut self, columns_and_table: &str, time: &str, limit: Option<u32>) -> (String, Vec<SqlValue>) {
        let clauses = if self.clauses.is_empty() { "1".to_owned() } else { self.clauses.join(" AND ") };
        self.values.push(SqlValue::Integer(i64::from(limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT))));
        let sql = format!(
            "SELECT {columns_and_table} WHERE {clauses} ORDER BY {time} DESC, rowid DESC LIMIT ?{}",
            self.values.len()
        );
        (sql, self.values)
    }
}

/// As the indexes have it: old rows may have a space where ISO 8601 has a T.
const METRIC_TIME: &str = "replace(timestamp, ' ', 'T')";
const EVALUATION_TIME: &str = "replace(evaluation_timestamp, ' ', 'T')";

pub(crate) fn metrics(connection: &Connection, filter: &MetricFilter) -> Result<Vec<MetricRow>, ReadError> {
    let bound = |field, said: &Option<String>| said.as_deref().map(|said| time::given(field, said)).transpose();
    let (start, end) = (bound("start_time", &filter.start_time)?, bound("end_time", &filter.end_time)?);
    let mut conditions = Conditions::default();
    conditions.add("agent_name =", filter.agent_name.as_deref());
    conditions.add("metric_name =", filter.metric_name.as_deref());
    conditions.add(&format!("{METRIC_TIME} >="), start.as_deref());
    conditions.add(&format!("{METRIC_TIME} <="), end.as_deref());
    let (sql, values) = conditions.select(
        "metric_id, agent_name, metric_name, value, timestamp, context FROM performance_metrics",
        METRIC_TIME,
        filter.limit,
    );
    rows(connection, &sql, &values, |row| {
        Ok(MetricRow {
            metric_id: row.get(0)?,
            agent_name: row.get(1)?,
            metric_name: row.get(2)?,
            value: row.get(3)?,
            timestamp: row.get(4)?,
            context: json(row, 5)?,
        })
    })
}

pub(crate) fn evaluations(connection: &Connection, filter: &EvaluationFilter) -> Result<Vec<EvaluationRow>, ReadError> {
    let mut conditions = Conditions::default();
    conditions.add("model_name =", filter.model_name.as_deref());
    conditions.add("cycle_id =", filter.cycle_id.as_deref());
    let (sql, values) = conditions.select(
        "evaluation_id, model_name, cycle_id, trust_score, accuracy, f1_score, avg_latency_ms, evaluation_timestamp, \
         comparison_data FROM model_evaluation_scores",
        EVALUATION_TIME,
        filter.limit,
    );
    rows(connection, &sql, &values, |row| {
        Ok(EvaluationRow {
            evaluation_id: row.get(0)?,
            model_name: row.get(1)?,
            cycle_id: row.get(2)?,
            trust_score: row.get(3)?,
            accuracy: row.get(4)?,
            f1_score: row.get(5)?,
            avg_latency_ms: row.get(6)?,
            evaluation_timestamp: row.get(7)?,
            comparison_data: json(row, 8)?,
        })
    })
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    values: &[SqlValue],
    make: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, ReadError> {
    let mut statement = connection.prepare_cached(sql)?;
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    let mut rows = statement.query(values.as_slice())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(make(row)?);
    }
    Ok(found)
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
