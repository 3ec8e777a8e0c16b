//! What can go wrong with the store, in words for the person who can mend it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store did not do what it was asked. Cheap to clone: all rows of a failed transaction get the same one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The folder of the file cannot be made or read.
    #[error("cannot use the folder {}: {why}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Another process holds the file for longer than we wait.
    #[error("the database {} is locked by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder may not be written.
    #[error("the database {} is read-only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a database.
    #[error("{} is not an SQLite database", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A database with inconsistent content.
    #[error("the database {} is damaged: {why}; move it away and a new one is made", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        why: String,
    },
    /// No room.
    #[error("no space left for the database {}", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// One of the two tables lacks a column.
    #[error("the database {} is of another make: its table {table} has no column {column}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Which table.
        table: &'static str,
        /// Which column.
        column: &'static str,
    },
    /// Written by a later version of this program.
    #[error("the database {} has format {found}, this program knows formats up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// As the file says.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// Anything else that SQLite or the system said.
    #[error("the database {} failed: {why}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What was said.
        why: String,
    },
    /// A value that cannot be stored.
    #[error("{field} {why}")]
    Invalid {
        /// Which argument.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Queries that came before take too long.
    #[error("too many queries of the evaluation store wait already")]
    Busy,
    /// The store was closed.
    #[error("the evaluation store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let why = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, why },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(_) | None => Self::Failed { path, why },
        }
    }

    pub(crate) fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }

    /// The caller's fault: the same call can never work.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid { .. })
    }

    /// Whether the connection is still good after this.
    pub(crate) fn keeps_connection(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::DiskFull { .. } | Self::Invalid { .. })
    }
}
