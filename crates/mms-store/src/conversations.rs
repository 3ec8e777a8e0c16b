//! Conversations on disk, so that they go on after the server was started again: one SQLite file of their own, which only its owner may
//! read.
//!
//! What holds is in the memory of whoever uses this; the file follows on a thread of its own, some milliseconds behind, and nobody waits
//! for it. Of each conversation only the newest state waits to be written, so what waits is bounded by what there is. While the file
//! cannot be used the thread tries again, with growing pauses, and then writes what it has missed. What is removed is overwritten, in
//! the file and in its log.

mod file;
mod keeper;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mms_protocol::generate::ChatMessage;
use serde::{Deserialize, Serialize};

use crate::StoreError;
use keeper::{Keeper, Shared};

/// What was said in one turn: what came in, and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    messages: Vec<ChatMessage>,
    spoken: Option<SpokenBy>,
    bytes: usize,
}

/// An answer as it was generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpokenBy {
    /// The model that gave it.
    pub model: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

/// A conversation, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// As clients name it.
    pub id: String,
    /// Names this conversation alone: one that begins anew under the same id has another.
    pub label: u64,
    /// What stands above it.
    pub system: Vec<ChatMessage>,
    /// Of its turns, the oldest first, those that are kept.
    pub turns: VecDeque<Arc<Turn>>,
    /// Older turns that are not kept any more.
    pub first_turn: u64,
    /// Messages of those.
    pub first_message: u64,
    /// By model: messages that are not shown to it, counted from the beginning of the conversation, as they are too old for its context.
    pub begins: BTreeMap<String, u64>,
    /// When it was used last, epoch seconds.
    pub used: f64,
}

/// Times of the file.
#[derive(Debug, Clone, Copy)]
pub struct ConversationFileOptions {
    /// How long to wait for another process that holds the file.
    pub busy_timeout: Duration,
    /// Pause before the file is tried again after a failure; doubled each time.
    pub retry_first: Duration,
    /// Longest such pause.
    pub retry_longest: Duration,
}

/// How the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationFileStatus {
    /// The last attempt to open it or to write to it worked.
    pub ok: bool,
    /// For a person: the file, or what is wrong.
    pub detail: String,
}

/// The file, and the thread that writes it. When this is dropped, the thread writes what waits and ends.
#[derive(Debug)]
pub struct ConversationFile {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Turn {
    /// Of these messages, the answer last; as it was generated, if that is known.
    pub fn new(messages: Vec<ChatMessage>, spoken: Option<SpokenBy>) -> Self {
        let tokens = spoken.as_ref().map_or(0, |spoken| spoken.model.len() + 4 * spoken.tokens.len());
        let bytes = tokens + messages.iter().map(bytes).sum::<usize>();
        Self { messages, spoken, bytes }
    }

    /// The last message as it was generated.
    pub fn spoken(&self) -> Option<&SpokenBy> {
        self.spoken.as_ref()
    }

    /// What was said.
    pub fn messages(&self) -> &[ChatMessage] {
        &self.messages
    }

    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Conversation {
    /// Memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let turns: usize = self.turns.iter().map(|turn| turn.bytes()).sum();
        size_of::<Self>() + self.id.len() + self.system.iter().map(bytes).sum::<usize>() + turns
    }
}

fn bytes(message: &ChatMessage) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let calls = message.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len() + 96);
    size_of::<ChatMessage>()
        + message.content.len()
        + text(&message.tool_call_id)
        + text(&message.name)
        + calls.sum::<usize>()
}

impl Default for ConversationFileOptions {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(2),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(30),
        }
    }
}

impl ConversationFile {
    /// Opens the file in the background, or makes it together with its folder. `opened` is told what is in it; with nothing, when the
    /// first attempt fails, and once more when a later one works. What was saved or removed meanwhile is not told. An error is only
    /// possible when the system refuses a thread.
    pub fn open(
        path: &Path,
        options: ConversationFileOptions,
        opened: impl FnMut(Vec<Conversation>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let keeper = Keeper::new(path.to_owned(), options, Arc::clone(&shared));
        std::thread::Builder::new()
            .name("conversations".to_owned())
            .spawn(move || keeper.run(opened))
            .map_err(|error| StoreError::Failed { path: path.to_owned(), why: error.to_string() })?;
        Ok(Self { path: path.to_owned(), shared })
    }

    /// Writes the conversation soon.
    pub fn save(&self, conversation: Arc<Conversation>) {
        self.shared.want(conversation.id.clone(), Some(conversation));
    }

    /// Removes the conversation soon.
    pub fn remove(&self, id: &str) {
        self.shared.want(id.to_owned(), None);
    }

    /// How it is, without touching the disk.
    pub fn status(&self) -> ConversationFileStatus {
        match self.shared.fault() {
            None => ConversationFileStatus { ok: true, detail: format!("kept in {}", self.path.display()) },
            Some(error) => {
                let detail = format!("{error}; conversations are kept in memory alone until it works");
                ConversationFileStatus { ok: false, detail }
            }
        }
    }

    /// Writes what waits, then ends the thread; blocks until that is done. What could not be written is lost.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Drop for ConversationFile {
    fn drop(&mut self) {
        self.shared.end();
    }
}
