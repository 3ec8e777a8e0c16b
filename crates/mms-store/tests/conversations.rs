//! Conversations in real files: what was kept comes back, what was removed does not, whatever happened to the file meanwhile.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mms_protocol::generate::{ChatMessage, Role};
use mms_store::{Conversation, ConversationFile, ConversationFileOptions, SpokenBy, Turn};
use rusqlite::Connection;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/conversations.db");
    (folder, path)
}

/// Quick to give up and quick to try again.
fn open(path: &Path) -> (ConversationFile, Receiver<Vec<Conversation>>) {
    let options = ConversationFileOptions {
        busy_timeout: Duration::from_millis(20),
        retry_first: Duration::from_millis(10),
        retry_longest: Duration::from_millis(50),
    };
    let (tell, told) = channel();
    let file = ConversationFile::open(path, options, move |found| drop(tell.send(found))).unwrap();
    (file, told)
}

fn turn(text: &str) -> Arc<Turn> {
    let messages = [(Role::User, text), (Role::Assistant, "Yes.")];
    let spoken = SpokenBy { model: "m".to_owned(), tokens: vec![1, 2, 31_000] };
    Arc::new(Turn::new(
        messages.map(|(role, text)| ChatMessage::new(role, text)).into(),
        (text != "x").then_some(spoken),
    ))
}

fn conversation(id: &str, label: u64, turns: &[&str]) -> Conversation {
    Conversation {
        id: id.to_owned(),
        label,
        system: vec![ChatMessage::new(Role::System, "Be brief.")],
        turns: turns.iter().map(|text| turn(text)).collect(),
        first_turn: 0,
        first_message: 0,
        begins: [("model".to_owned(), 2)].into(),
        used: 1_700_000_000.5,
    }
}

fn found(told: &Receiver<Vec<Conversation>>) -> Vec<Conversation> {
    told.recv_timeout(PATIENCE).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a new server finds.
fn kept(path: &Path) -> Vec<Conversation> {
    let (file, told) = open(path);
    let kept = found(&told);
    file.close();
    kept
}

#[test]
fn conversations_come_back_as_they_were() {
    let (_folder, path) = folder();
    let (file, told) = open(&path);
    assert_eq!(found(&told), []);
    let mut long = conversation("long", 1, &["one", "two"]);
    let other = Conversation { used: 5.0, label: u64::MAX, ..conversation("other 'id'", 2, &["x"]) };
    for conversation in [&long, &other] {
        file.save(Arc::new(conversation.clone()));
    }
    file.close();
    assert_eq!(kept(&path), [other.clone(), long.clone()], "the one used longest ago first");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    // Turns are added and given up; one conversation begins anew under its id; one is removed.
    let (file, told) = open(&path);
    assert_eq!(found(&told).len(), 2);
    long.turns.extend([turn("three"), turn("four")]);
    file.save(Arc::new(long.clone()));
    long.turns.pop_front();
    (long.first_turn, long.first_message) = (1, 2);
    file.save(Arc::new(long.clone()));
    file.save(Arc::new(conversation("other 'id'", 3, &["a", "b"])));
    file.remove("never there");
    file.close();
    let anew = conversation("other 'id'", 3, &["a", "b"]);
    assert_eq!(kept(&path).iter().find(|kept| kept.label == 3), Some(&anew));
    let (file, told) = open(&path);
    found(&told);
    file.remove("other 'id'");
    file.close();
    assert_eq!(kept(&path), [long]);
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"other 'id'"), "what is removed is overwritten");
}

#[test]
fn what_came_while_the_file_could_not_be_used_is_written_later() {
    let (_folder, path) = folder();
    let (file, told) = open(&path);
    found(&told);
    for id in ["old", "gone", "changed"] {
        file.save(Arc::new(conversation(id, 1, &["before"])));
    }
    file.close();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (file, told) = open(&path);
    assert_eq!(found(&told), [], "nobody waits for it");
    until("the lock to be told", || !file.status().ok);
    let detail = file.status().detail;
    assert!(detail.contains("is locked by another process") && detail.contains("memory alone"), "{detail}");
    file.save(Arc::new(conversation("new", 2, &["meanwhile"])));
    file.save(Arc::new(conversation("changed", 2, &["meanwhile"])));
    file.remove("gone");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    assert_eq!(found(&told), [conversation("old", 1, &["before"])], "only what is not known by now");
    until("the file to work again", || file.status().ok);
    file.close();
    let mut ids: Vec<(String, u64)> = kept(&path).into_iter().map(|kept| (kept.id, kept.label)).collect();
    ids.sort();
    assert_eq!(ids, [("changed".to_owned(), 2), ("new".to_owned(), 2), ("old".to_owned(), 1)]);
}

#[test]
fn a_file_that_is_taken_away_is_made_anew_with_everything() {
    let (_folder, path) = folder();
    let (file, told) = open(&path);
    found(&told);
    file.save(Arc::new(conversation("first", 1, &["x"])));
    until("the file to be written", || fs::read(path.with_extension("db-wal")).is_ok_and(|log| log.len() > 1000));
    fs::rename(&path, path.with_extension("away")).unwrap();
    fs::remove_file(path.with_extension("db-wal")).unwrap();
    file.save(Arc::new(conversation("second", 2, &["y"])));
    file.close();
    let ids: Vec<String> = kept(&path).into_iter().map(|kept| kept.id).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[test]
fn what_cannot_be_read_is_left_out_and_later_formats_are_left_alone() {
    let (_folder, path) = folder();
    let (file, told) = open(&path);
    found(&told);
    for id in ["whole", "no JSON", "a turn missing"] {
        file.save(Arc::new(conversation(id, 1, &["one", "two", "three"])));
    }
    file.close();
    let alter = |text: &str| Connection::open(&path).unwrap().execute_batch(text).unwrap();
    alter("UPDATE turns SET messages = '[{' WHERE conversation = 'no JSON' AND number = 1");
    alter("UPDATE turns SET messages = x'00' WHERE conversation = 'no JSON' AND number = 2");
    alter("DELETE FROM turns WHERE conversation = 'a turn missing' AND number = 1");
    let ids: Vec<String> = kept(&path).into_iter().map(|kept| kept.id).collect();
    assert_eq!(ids, ["whole"]);
    let rows: i64 = {
        let other = Connection::open(&path).unwrap();
        other.query_row("SELECT count(*) FROM turns", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows, 3, "what nobody can read does not stay either");
    alter("PRAGMA user_version = 99");
    let (file, told) = open(&path);
    assert_eq!(found(&told), []);
    until("the format to be told", || {
        file.status().detail.contains("has format 99, this program knows formats up to 2")
    });
    file.close();
}
