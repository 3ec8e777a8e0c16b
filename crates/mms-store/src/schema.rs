//! Opening the file: folder, pragmas, migrations, and the check that the two tables have their shape.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// Applied in this order; `user_version` counts how many of them a file has had. None of them ever alters the old suite's tables.
const MIGRATIONS: [&str; 4] = [
    include_str!("../migrations/0001_tables.sql"),
    include_str!("../migrations/0002_indexes.sql"),
    include_str!("../migrations/0003_filters.sql"),
    include_str!("../migrations/0004_usage.sql"),
];

const METRICS: [&str; 6] = ["metric_id", "agent_name", "metric_name", "value", "timestamp", "context"];
const EVALUATIONS: [&str; 9] = [
    "evaluation_id",
    "model_name",
    "cycle_id",
    "trust_score",
    "accuracy",
    "f1_score",
    "avg_latency_ms",
    "evaluation_timestamp",
    "comparison_data",
];

/// Device and inode of a file, to notice when it was removed or replaced.
pub(crate) type Identity = (u64, u64);

pub(crate) fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Opens for writing; makes what is missing.
pub(crate) fn open_writer(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    make_folder(path)?;
    let mut connection = connect_writer(path, busy_timeout)?;
    prepare(path, &mut connection)?;
    Ok(connection)
}

/// Makes the folder of a file where it is missing.
pub(crate) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|error| StoreError::Folder { path: folder.to_owned(), why: error.to_string() })
}

/// Opens a file of whatever make, or makes it, for writing.
pub(crate) fn connect_writer(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    connect(path, flags, busy_timeout)
}

/// Opens for reading only.
pub(crate) fn open_reader(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect(path, flags, busy_timeout)?;
    connection.pragma_update(None, "query_only", true).map_err(|error| StoreError::sqlite(path, &error))?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(busy_timeout).map_err(sqlite)?;
    Ok(connection)
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    if connection.is_readonly("main").map_err(sqlite)? {
        return Err(StoreError::ReadOnly { path: path.to_owned() });
    }
    let _mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sqlite)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;

    let known = MIGRATIONS.len() as i64;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(sqlite)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    // Another program's tables of the same name are found out before anything is added to the file.
    check_shape(path, &transaction)?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}

fn check_shape(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    for (table, columns) in [("performance_metrics", &METRICS[..]), ("model_evaluation_scores", &EVALUATIONS[..])] {
        let mut statement = connection
            .prepare("SELECT name FROM pragma_table_info(?1)")
            .map_err(|error| StoreError::sqlite(path, &error))?;
        let names: Vec<String> = statement
            .query_map([table], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(|error| StoreError::sqlite(path, &error))?;
        if names.is_empty() {
            continue;
        }
        if let Some(&column) = columns.iter().find(|column| !names.iter().any(|name| name == **column)) {
            return Err(StoreError::Shape { path: path.to_owned(), table, column });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::{Connection, OpenFlags};

    use super::{connect, open_writer, prepare};
    use crate::StoreError;

    const WAIT: Duration = Duration::from_millis(50);

    #[test]
    fn a_read_only_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        drop(open_writer(&path, WAIT).unwrap());
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, WAIT).unwrap();
        assert_eq!(prepare(&path, &mut connection), Err(StoreError::ReadOnly { path }));
    }

    #[test]
    fn wal_and_full_sync_are_on() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open_writer(&folder.path().join("deep/er/x.db"), WAIT).unwrap();
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }

    #[test]
    fn other_makes_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE performance_metrics (metric_id TEXT, agent_name TEXT)").unwrap();
        let error = open_writer(&path, WAIT).unwrap_err();
        assert!(
            matches!(error, StoreError::Shape { table: "performance_metrics", column: "metric_name", .. }),
            "{error}"
        );
        let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 1);
        other.execute_batch("DROP TABLE performance_metrics; PRAGMA user_version = 99").unwrap();
        let error = open_writer(&path, WAIT).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, known: 4, .. }), "{error}");
    }
}
