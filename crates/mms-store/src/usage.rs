//! Uses of models: which was used when, and by whom. Only the newest are kept.

use rusqlite::{Connection, params};

use crate::read::ReadError;

/// Uses that are kept.
pub(crate) const KEPT: i64 = 50_000;

/// A use of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The model.
    pub model_id: String,
    /// Who used it, where that is known; the same word for the same client.
    pub client: Option<String>,
    /// When, epoch seconds.
    pub used_at: f64,
}

/// Keeps one more, and forgets the oldest of too many.
pub(crate) fn insert(connection: &Connection, usage: &Usage) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO model_usage (model_id, client, used_at) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![usage.model_id, usage.client, usage.used_at])?;
    let newest = connection.last_insert_rowid();
    connection.prepare_cached("DELETE FROM model_usage WHERE usage_id <= ?1")?.execute([newest - KEPT])?;
    Ok(())
}

/// All that are kept, in the order of their times.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Usage>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT model_id, client, used_at FROM \
         (SELECT * FROM model_usage WHERE typeof(used_at) = 'real' AND typeof(model_id) = 'text' \
         AND typeof(client) IN ('text', 'null') ORDER BY usage_id DESC LIMIT ?1) \
         ORDER BY used_at, usage_id",
    )?;
    let rows = statement
        .query_map([KEPT], |row| Ok(Usage { model_id: row.get(0)?, client: row.get(1)?, used_at: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
