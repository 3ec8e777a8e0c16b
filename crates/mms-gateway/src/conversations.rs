//! Conversations: with a `conversation_id`, a generation is shown what was said under it before, and its own turn is kept when it has
//! ended well. All other turns leave the conversation as it was.
//!
//! Requests of one conversation are answered one after the other, in the order in which they came. [`book`] decides what is kept;
//! here are the order, the clock and the file that outlives the server.

mod book;
mod turn;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use mms_manager::Manager;
use mms_protocol::conversation::system_messages;
use mms_protocol::generate::Prompt;
use mms_protocol::{ErrorCode, GenerateArgs, Refusal, Reply};
use mms_store::{Conversation, ConversationFile, ConversationFileOptions, StoreError};
use tokio::sync::{Mutex as Turns, mpsc, watch};

pub(crate) use self::book::Gone;
use self::book::{Book, Bounds};
use self::turn::{Answering, Turn};
use crate::gateway::now;

/// Requests of one conversation that may wait for their turn.
const MOST_WAITING: usize = 64;
/// When a request may be sent again for which there was no place.
const NO_PLACE_RETRY_MS: u64 = 1000;
/// A file that takes longer to be read keeps no request waiting; its conversations begin anew.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for conversations that are too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds of what is kept, and where.
#[derive(Debug, Clone)]
pub struct ConversationOptions {
    /// Most conversations; 0: none, and `conversation_id` only comes back.
    pub max_conversations: usize,
    /// A conversation that was not used for so long is forgotten.
    pub max_age: Duration,
    /// Memory of all together.
    pub max_bytes: usize,
    /// The file in which they outlive the server; `None`: nowhere.
    pub file: Option<PathBuf>,
    /// Of a request that names no time: how long it may wait for its turn and be answered.
    pub request_timeout: Duration,
}

impl Default for ConversationOptions {
    fn default() -> Self {
        Self {
            max_conversations: 50,
            max_age: Duration::from_secs(3600),
            max_bytes: 512 << 20,
            file: None,
            request_timeout: Duration::from_secs(600),
        }
    }
}

/// What is kept now, and what has gone since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConversationFigures {
    pub(crate) conversations: usize,
    pub(crate) bytes: usize,
    pub(crate) gone: Gone,
}

/// A handle to the conversations; clones share everything.
#[derive(Debug, Clone)]
pub struct Conversations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ConversationOptions,
    manager: Manager,
    state: Mutex<State>,
    file: Option<ConversationFile>,
    /// The file was read, or cannot be read now.
    is_read: watch::Receiver<bool>,
}

#[derive(Debug)]
struct State {
    book: Book,
    lanes: HashMap<String, Arc<Lane>>,
}

/// The order of one conversation's requests.
#[derive(Debug, Default)]
struct Lane {
    turns: Arc<Turns<()>>,
    /// Rises when the conversation is cleared: what was begun before is not kept.
    cleared: AtomicU64,
    /// Of the turn that is in work.
    label: AtomicU64,
}

/// A request's place in the order of its conversation.
#[derive(Debug)]
struct Seat {
    conversations: Conversations,
    id: String,
    lane: Arc<Lane>,
}

impl Conversations {
    /// Reads the file in the background. Conversations that nobody uses are looked after until the last handle is gone. An error is only
    /// possible when the system refuses a thread. Needs a tokio runtime.
    pub fn start(manager: Manager, options: ConversationOptions) -> Result<Self, StoreError> {
        let bounds =
            Bounds { conversations: options.max_conversations, bytes: options.max_bytes, age: options.max_age };
        let path = options.file.as_ref().filter(|_| options.max_conversations > 0);
        let (read, is_read) = watch::channel(path.is_none());
        let (found, come) = mpsc::unbounded_channel();
        let open = |path: &PathBuf| {
            let opened = move |conversations| drop(found.send(conversations));
            ConversationFile::open(path, ConversationFileOptions::default(), opened)
        };
        let file = path.map(open).transpose()?;
        let state = Mutex::new(State { book: Book::new(bounds), lanes: HashMap::new() });
        let inner = Arc::new(Inner { options, manager, state, file, is_read });
        inner.tell();
        tokio::spawn(look_after(Arc::downgrade(&inner), come, read));
        Ok(Self { inner })
    }

    /// Those that live in memory alone, with the usual bounds.
    pub(crate) fn in_memory(manager: Manager) -> Self {
        let options = ConversationOptions::default();
        let bounds =
            Bounds { conversations: options.max_conversations, bytes: options.max_bytes, age: options.max_age };
        let state = Mutex::new(State { book: Book::new(bounds), lanes: HashMap::new() });
        let (_, is_read) = watch::channel(true);
        Self { inner: Arc::new(Inner { options, manager, state, file: None, is_read }) }
    }

    /// Starts a generation, as a turn of its conversation where it has one.
    pub(crate) async fn generate(&self, mut args: GenerateArgs) -> Result<Answering, Refusal> {
        let turn = match &args.conversation_id {
            Some(id) if self.inner.options.max_conversations > 0 => Some(self.begin(id.clone(), &mut args).await?),
            Some(_) | None => None,
        };
        Ok(Answering::new(self.inner.manager.generate(args).await?, turn))
    }

    /// Forgets a conversation. A turn of it that is in work goes on and is not kept.
    pub(crate) async fn clear(&self, id: String) -> Result<Reply, Refusal> {
        self.is_read(self.inner.options.request_timeout).await?;
        let mut state = self.state();
        self.forget(&state.book.expire(now()));
        let cleared = state.book.clear(&id);
        self.forget(cleared.as_slice());
        if let Some(file) = &self.inner.file {
            // It may be there and not read yet.
            file.remove(&id);
        }
        if let Some(lane) = state.lanes.get(&id) {
            lane.cleared.fetch_add(1, Ordering::Relaxed);
            // The first turn of a conversation that is not kept yet.
            self.inner.manager.forget_conversations(vec![lane.label.load(Ordering::Relaxed)]);
        }
        Ok(Reply::ConversationCleared { conversation_id: id, known: cleared.is_some() })
    }

    /// What is kept.
    pub(crate) fn figures(&self) -> ConversationFigures {
        let (conversations, bytes, gone) = self.state().book.figures();
        ConversationFigures { conversations, bytes, gone }
    }

    /// Brings what waits to the file; blocks until that is done.
    pub fn close(&self) {
        if let Some(file) = &self.inner.file {
            file.close();
        }
    }

    /// Waits for the request's turn and shows it what was said before.
    async fn begin(&self, id: String, args: &mut GenerateArgs) -> Result<Turn, Refusal> {
        let Prompt::Chat(messages) = &mut args.spec.prompt else {
            let text = "conversation_id cannot be used with raw: what was said before is shown by the chat template";
            return Err(Refusal::argument("conversation_id", text));
        };
        let arrived = Instant::now();
        let limit = args.timeout_ms.map_or(self.inner.options.request_timeout, Duration::from_millis);
        self.is_read(limit).await?;
        let seat = self.enter(id)?;
        let turns = Arc::clone(&seat.lane.turns);
        let wait = tokio::time::timeout(limit.saturating_sub(arrived.elapsed()), turns.lock_owned());
        let lock = wait.await.map_err(|_| time_is_up(limit))?;
        let waited = arrived.elapsed();
        if waited >= Duration::from_millis(1) {
            let left = limit.saturating_sub(waited).as_millis().max(1);
            args.timeout_ms = Some(u64::try_from(left).unwrap_or(u64::MAX));
        }
        let input = messages.split_off(system_messages(messages));
        let kept = self.state().book.get(&seat.id).cloned();
        let mut turn = Turn::new(lock, seat, std::mem::take(messages), input);
        (args.spec.prompt, args.history) = turn.prompt(kept.as_deref());
        args.spec.label = Some(turn.label());
        Ok(turn)
    }

    fn enter(&self, id: String) -> Result<Seat, Refusal> {
        let mut state = self.state();
        self.forget(&state.book.expire(now()));
        let most = self.inner.options.max_conversations;
        let Some(before) = state.book.enter(&id) else {
            let text = format!(
                "{most} conversations are in use, which is as many as are kept (conversations.max_conversations)"
            );
            return Err(no_place(text));
        };
        let lane = Arc::clone(state.lanes.entry(id.clone()).or_default());
        let seat = Seat { conversations: self.clone(), id, lane };
        drop(state);
        if before > MOST_WAITING {
            return Err(no_place(format!("{MOST_WAITING} requests of this conversation wait for their turn already")));
        }
        Ok(seat)
    }

    async fn is_read(&self, limit: Duration) -> Result<(), Refusal> {
        let mut is_read = self.inner.is_read.clone();
        let read = tokio::time::timeout(limit.min(READ_PATIENCE), is_read.wait_for(|is_read| *is_read)).await;
        // Whoever reads the file may have ended with the server.
        if read.is_err() && limit < READ_PATIENCE { Err(time_is_up(limit)) } else { Ok(()) }
    }

    /// Removes what has gone from the file, too, and its KV states.
    fn forget(&self, gone: &[Arc<Conversation>]) {
        if gone.is_empty() {
            return;
        }
        if let Some(file) = &self.inner.file {
            gone.iter().for_each(|gone| file.remove(&gone.id));
        }
        self.inner.manager.forget_conversations(gone.iter().map(|gone| gone.label).collect());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Says on the health board how the file is.
    fn tell(&self) {
        if let Some(file) = &self.file {
            let status = file.status();
            self.manager.board().report("conversations", false, status.ok, status.detail);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.conversations.state();
        if state.book.leave(&self.id) {
            state.lanes.remove(&self.id);
        }
    }
}

/// Takes in what the file had, forgets what is too old, and tells how the file is.
async fn look_after(
    inner: Weak<Inner>,
    mut come: mpsc::UnboundedReceiver<Vec<Conversation>>,
    read: watch::Sender<bool>,
) {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let found = tokio::select! {
            Some(found) = come.recv() => Some(found),
            _ = sweep.tick() => None,
        };
        let Some(inner) = inner.upgrade() else { return };
        let conversations = Conversations { inner };
        let mut state = conversations.state();
        let is_news = found.is_some();
        let gone = match found {
            Some(found) => state.book.take_in(found, now()),
            None => state.book.expire(now()),
        };
        conversations.forget(&gone);
        drop(state);
        conversations.inner.tell();
        if is_news {
            read.send_replace(true);
        }
    }
}

fn time_is_up(limit: Duration) -> Refusal {
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let text = format!("the time of {ms} ms was up while an earlier request of this conversation was answered");
    Refusal::new(ErrorCode::Timeout, text).with("phase", "queued").with("timeout_ms", ms)
}

fn no_place(text: String) -> Refusal {
    Refusal::new(ErrorCode::QueueFull, text).with("retry_after_ms", NO_PLACE_RETRY_MS)
}
