//! The handle that front doors hold.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mms_protocol::view::{Generation, HealthView, ModelView};
use mms_protocol::{Event, GenerateArgs, Operation, Refusal, Reply};

use crate::config::{ManagerConfig, StartError};
use crate::counters::Counters;
use crate::health::HealthBoard;

/// A cheap handle to the running manager.
#[derive(Debug, Clone)]
pub struct Manager {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    board: HealthBoard,
    counters: Arc<Counters>,
}

/// What happens to one generation; `Finished` or `Failed` is the last, and there is exactly one of them.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerateEvent {
    /// The model works on it.
    Started {
        /// The model that answers.
        model_id: String,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Of them, found in the KV cache.
        cached_tokens: u32,
    },
    /// What to append to the answer: whole UTF-8 characters, not empty.
    Text(String),
    /// It ended well.
    Finished(Box<Generation>),
    /// It ended otherwise.
    Failed(Refusal),
}

/// The events of one generation. Dropping it cancels the work at once, wherever it is.
#[derive(Debug)]
pub struct TokenStream {
    events: tokio::sync::mpsc::UnboundedReceiver<GenerateEvent>,
}

impl futures::Stream for TokenStream {
    type Item = GenerateEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<GenerateEvent>> {
        self.events.poll_recv(context)
    }
}

/// What [`Manager::drain`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainReport {
    /// Requests that ended by themselves during the drain.
    pub finished: u64,
    /// Requests that were ended because the deadline had come.
    pub refused: u64,
    /// Workers that were ended.
    pub workers_ended: u64,
    /// Of them, those that had to be killed.
    pub workers_killed: u64,
    /// How long it took.
    pub took: Duration,
}

impl Manager {
    /// Reads the catalogue and starts the one task. `events`: where what happens is told; an event that finds it full is dropped
    /// and counted.
    pub async fn start(_config: ManagerConfig, _events: tokio::sync::mpsc::Sender<Event>) -> Result<Self, StartError> {
        Err(StartError::Catalogue("not built yet".to_owned()))
    }

    /// Does `operation`: the one path of every front door. Dropping the future cancels the work.
    pub async fn call(&self, operation: Operation) -> Result<Reply, Refusal> {
        Err(Refusal::new(mms_protocol::ErrorCode::Internal, format!("{} is not built yet", operation.name())))
    }

    /// Starts a generation. Refusals that are known at once (no such model, queue full...) come as `Err`, later ones as
    /// [`GenerateEvent::Failed`].
    pub async fn generate(&self, _args: GenerateArgs) -> Result<TokenStream, Refusal> {
        Err(Refusal::new(mms_protocol::ErrorCode::Internal, "not built yet"))
    }

    /// Everything about the server's health, from the snapshot.
    pub fn health(&self) -> HealthView {
        let (checks, ready, initialized) = self.shared.board.read();
        HealthView {
            agent: String::new(),
            version: String::new(),
            ready,
            initialized,
            draining: false,
            uptime_s: 0.0,
            checks,
            memory: mms_protocol::view::MemoryView::default(),
            models: self.models(),
            stats: self.shared.counters.stats(),
        }
    }

    /// The catalogue, from the snapshot.
    pub fn models(&self) -> Arc<[Arc<ModelView>]> {
        Arc::from([])
    }

    /// Where the parts of the server report how they are.
    pub fn board(&self) -> &HealthBoard {
        &self.shared.board
    }

    /// The counters behind [`mms_protocol::view::Stats`].
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Refuses new work, waits up to `deadline` for what runs, ends every worker.
    pub async fn drain(&self, _deadline: Duration) -> DrainReport {
        DrainReport::default()
    }
}
