//! The file of conversations: its tables, and what is written to them. One process holds it at a time.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mms_protocol::generate::ChatMessage;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keeper::Wanted;
use super::{Conversation, Turn};
use crate::StoreError;
use crate::schema::{self, Identity};

/// Applied in this order; `user_version` counts how many of them a file has had.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/conversations/0001_tables.sql"),
    include_str!("../../migrations/conversations/0002_spoken.sql"),
];

pub(super) struct File {
    path: PathBuf,
    connection: Connection,
    identity: Option<Identity>,
}

impl File {
    pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Self, StoreError> {
        schema::make_folder(path)?;
        // What people have asked and been told is nobody else's business. SQLite's own files get the permissions of this one.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        made.map_err(|error| StoreError::Failed { path: path.to_owned(), why: error.to_string() })?;
        let mut connection = schema::connect_writer(path, busy_timeout)?;
        prepare(&mut connection, path)?;
        Ok(Self { path: path.to_owned(), connection, identity: schema::identity(path) })
    }

    /// What was opened is not what is there.
    pub(super) fn was_replaced(&self) -> bool {
        self.identity != schema::identity(&self.path)
    }

    /// All conversations. One that cannot be read is told and removed.
    pub(super) fn read(&mut self) -> Result<Vec<Conversation>, StoreError> {
        let mut broken = Wanted::new();
        let mut read = || -> rusqlite::Result<Vec<Conversation>> {
            let mut all = self.connection.prepare(
                "SELECT id, label, system, begins, first_turn, first_message, used FROM conversations ORDER BY used",
            )?;
            let mut turns = self
                .connection
                .prepare("SELECT number, messages, spoken FROM turns WHERE conversation = ?1 ORDER BY number")?;
            let heads: Vec<(Conversation, bool)> = all.query_map([], head)?.collect::<rusqlite::Result<_>>()?;
            let mut found = Vec::with_capacity(heads.len());
            for (mut conversation, mut is_whole) in heads {
                let mut rows = turns.query([&conversation.id])?;
                let mut next = conversation.first_turn;
                while let Some(row) = rows.next()? {
                    let number: i64 = row.get(0)?;
                    match parsed::<Vec<ChatMessage>>(row, 1) {
                        Some(messages) if number as u64 == next => {
                            conversation.turns.push_back(Arc::new(Turn::new(messages, parsed(row, 2))));
                            next += 1;
                        }
                        Some(_) | None => is_whole = false,
                    }
                }
                if is_whole {
                    found.push(conversation);
                } else {
                    broken.insert(conversation.id, None);
                }
            }
            Ok(found)
        };
        let found = read().map_err(|error| StoreError::sqlite(&self.path, &error))?;
        if !broken.is_empty() {
            tracing::warn!(path = %self.path.display(), conversations = broken.len(), "some conversations cannot be read and begin anew");
        }
        self.write(&broken)?;
        Ok(found)
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        let text = "DELETE FROM turns; DELETE FROM conversations; PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.execute_batch(text).map_err(|error| StoreError::sqlite(&self.path, &error))
    }

    /// All or nothing.
    pub(super) fn write(&mut self, wanted: &Wanted) -> Result<(), StoreError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut write = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (id, conversation) in wanted {
                match conversation {
                    Some(conversation) => put(&transaction, conversation)?,
                    None => remove(&transaction, id)?,
                }
            }
            transaction.commit()?;
            if wanted.values().any(Option::is_none) {
                // Until then what was removed stands in the log.
                let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
                self.connection.query_row(truncate, [], |_| Ok(()))?;
            }
            Ok(())
        };
        write().map_err(|error| StoreError::sqlite(&self.path, &error))
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    if connection.is_readonly("main").map_err(sqlite)? {
        return Err(StoreError::ReadOnly { path: path.to_owned() });
    }
    // Two servers would overwrite each other's conversations.
    let texts = ["PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL"];
    for text in texts {
        let _mode: String = connection.query_row(text, [], |row| row.get(0)).map_err(sqlite)?;
    }
    // A power cut may take the last turns, a killed server none.
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(sqlite)?;
    connection.pragma_update(None, "secure_delete", true).map_err(sqlite)?;

    let known = MIGRATIONS.len() as i64;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}

/// A conversation without its turns, and whether the rest of it can be read.
fn head(row: &Row<'_>) -> rusqlite::Result<(Conversation, bool)> {
    let (system, begins) = (parsed(row, 2), parsed(row, 3));
    let is_whole = system.is_some() && begins.is_some();
    let conversation = Conversation {
        id: row.get(0)?,
        label: row.get::<_, i64>(1)? as u64,
        system: system.unwrap_or_default(),
        begins: begins.unwrap_or_default(),
        first_turn: row.get::<_, i64>(4)? as u64,
        first_message: row.get::<_, i64>(5)? as u64,
        used: row.get(6)?,
        turns: Default::default(),
    };
    Ok((conversation, is_whole))
}

/// Turns never change, so only those are written that are not there.
fn put(transaction: &Transaction<'_>, conversation: &Conversation) -> rusqlite::Result<()> {
    let Conversation { id, label, system, turns, first_turn, first_message, begins, used } = conversation;
    let query = "SELECT label FROM conversations WHERE id = ?1";
    let there: Option<i64> = transaction.prepare_cached(query)?.query_row([id], |row| row.get(0)).optional()?;
    if there.is_some_and(|there| there as u64 != *label) {
        remove(transaction, id)?;
    }
    let text = "INSERT OR REPLACE INTO conversations (id, label, system, begins, first_turn, first_message, used) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (label, first, message) = (*label as i64, *first_turn as i64, *first_message as i64);
    transaction.prepare_cached(text)?.execute(params![
        id,
        label,
        json(system)?,
        json(begins)?,
        first,
        message,
        used
    ])?;
    let text = "DELETE FROM turns WHERE conversation = ?1 AND number < ?2";
    transaction.prepare_cached(text)?.execute(params![id, first])?;
    let query = "SELECT max(number) FROM turns WHERE conversation = ?1";
    let last: Option<i64> = transaction.prepare_cached(query)?.query_row([id], |row| row.get(0))?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO turns (conversation, number, messages, spoken) VALUES (?1, ?2, ?3, ?4)")?;
    for (number, turn) in (first..).zip(turns).filter(|(number, _)| last.is_none_or(|last| *number > last)) {
        insert.execute(params![id, number, json(turn.messages())?, turn.spoken().map(json).transpose()?])?;
    }
    Ok(())
}

fn remove(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM turns WHERE conversation = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM conversations WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn json(value: &(impl Serialize + ?Sized)) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn parsed<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Option<T> {
    serde_json::from_str(&row.get::<_, String>(column).ok()?).ok()
}
