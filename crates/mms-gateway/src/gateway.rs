//! The one path behind every front door: count, time, call the manager or the store, and turn a panic into an `internal` refusal.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, Stream, StreamExt};
use mms_manager::{GenerateEvent, Manager};
use mms_protocol::dialect::unload_of_unknown;
use mms_protocol::view::StreamFigures;
use mms_protocol::{ErrorCode, GenerateArgs, ModelChoice, Operation, Profile, Refusal, Reply};
use mms_store::{Store, StoreError};
use serde_json::Value;

use crate::conversations::Conversations;
use crate::evaluations;
use crate::feed::Feed;
use crate::metrics::{InFlight, Metrics, Snapshot};
use crate::predictions::{Caller, Uses};
use crate::services::Services;

/// What became of the events for each stream, by its name.
pub type BusFigures = Arc<dyn Fn() -> Vec<(&'static str, StreamFigures)> + Send + Sync>;

/// What every front door works with; clones share everything.
#[derive(Clone)]
pub struct Gateway {
    /// Does the work.
    pub manager: Manager,
    /// The evaluation store; `None`: there is none, and what is for it is refused.
    pub store: Option<Store>,
    /// What was said before.
    pub conversations: Conversations,
    /// What is told to those who follow the events.
    pub feed: Feed,
    /// Downstream services that `verify_services` asks.
    pub services: Services,
    pub(crate) uses: Uses,
    pub(crate) metrics: Arc<Metrics>,
    /// Epoch seconds of the start.
    pub(crate) started: u64,
}

impl Gateway {
    /// Front doors to `manager`, with conversations that live in memory alone.
    pub fn new(manager: Manager, store: Option<Store>) -> Self {
        let conversations = Conversations::in_memory(manager.clone());
        Self::with_events(manager, store, conversations, Feed::new(now()), Arc::new(Vec::new))
    }

    /// The same with a feed of events, and with figures of what becomes of them elsewhere.
    pub fn with_events(
        manager: Manager,
        store: Option<Store>,
        conversations: Conversations,
        feed: Feed,
        bus: BusFigures,
    ) -> Self {
        let (told, feed_too) = (conversations.clone(), feed.clone());
        let snapshot =
            Snapshot { manager: manager.clone(), store: store.clone(), conversations: told, feed: feed_too, bus };
        let metrics = Arc::new(Metrics::new(snapshot));
        let services = Services::default();
        let uses = Uses::new(manager.clone(), store.clone());
        Self { uses, manager, store, conversations, feed, services, metrics, started: now() as u64 }
    }

    /// Reads the uses of models in earlier runs out of the store. `predict_models` does that too; with this it is done before.
    pub async fn recall_uses(&self) -> Result<(), StoreError> {
        self.uses.recall().await
    }

    /// Does one operation that came through the door called `dialect`; dropping the future cancels the work.
    pub(crate) async fn perform(
        &self,
        profile: Profile,
        dialect: &'static str,
        operation: Result<Operation, Refusal>,
    ) -> Result<Reply, Refusal> {
        self.perform_for(&Caller::default(), profile, dialect, operation).await
    }

    /// The same for a caller that is known.
    pub(crate) async fn perform_for(
        &self,
        caller: &Caller,
        profile: Profile,
        dialect: &'static str,
        operation: Result<Operation, Refusal>,
    ) -> Result<Reply, Refusal> {
        let name = operation.as_ref().map_or("none", Operation::name);
        let counted = self.metrics.begin(name, dialect, self.manager.clone());
        let result = match operation {
            Ok(Operation::Evaluation(operation)) => {
                caught(evaluations::perform(self.store.as_ref(), &self.manager, operation)).await
            }
            Ok(Operation::VerifyServices) => caught(async { Ok(Reply::Services(self.services.verify().await)) }).await,
            Ok(Operation::ClearConversation { conversation_id }) => {
                caught(self.conversations.clear(conversation_id)).await
            }
            Ok(Operation::Generate(args) | Operation::GenerateText(args)) => caught(self.answer(args, caller)).await,
            Ok(Operation::Prediction(operation)) => caught(self.uses.perform(operation, caller)).await,
            Ok(operation) => caught(self.manager.call(operation)).await,
            Err(refusal) => Err(refusal),
        };
        let result = unload_of_unknown(profile, result.as_ref()).map_or(result, Err);
        match &result {
            Ok(Reply::Generated(generation)) => self.metrics.generated(generation),
            Ok(Reply::Embedded(embedding)) => {
                self.metrics.embedded(embedding);
                self.uses.note(&embedding.model_id, caller);
            }
            // Whoever loads a model is going to use it.
            Ok(Reply::Loaded(model)) => self.uses.note(&model.model_id, caller),
            Ok(_) | Err(_) => {}
        }
        counted.end(result.as_ref().err());
        result
    }

    /// Starts the generations of one request together, by one model; dropping what is returned cancels them.
    pub(crate) async fn generate(&self, dialect: &'static str, choices: Vec<GenerateArgs>) -> Result<Choices, Refusal> {
        let counted = self.metrics.begin("generate", dialect, self.manager.clone());
        let left = choices.len();
        match self.start(choices).await {
            Ok(events) => Ok(Choices { events, left, counted: Some(counted), metrics: self.metrics.clone() }),
            Err(refusal) => {
                counted.end(Some(&refusal));
                Err(refusal)
            }
        }
    }

    async fn answer(&self, args: GenerateArgs, caller: &Caller) -> Result<Reply, Refusal> {
        let caller = caller.or(args.conversation_id.as_deref());
        let answering = self.conversations.generate(args).await?;
        self.uses.note(answering.model_id(), &caller);
        answering.whole().await.map(Reply::Generated)
    }

    async fn start(&self, choices: Vec<GenerateArgs>) -> Result<SelectAll<Indexed>, Refusal> {
        let mut events = SelectAll::new();
        let mut model: Option<String> = None;
        for (index, mut args) in choices.into_iter().enumerate() {
            if let Some(model) = &model {
                args.choice = ModelChoice::Named(model.clone());
            }
            let caller = Caller::default().or(args.conversation_id.as_deref());
            let tokens = caught(self.conversations.generate(args)).await?;
            if model.is_none() {
                self.uses.note(tokens.model_id(), &caller);
            }
            model.get_or_insert_with(|| tokens.model_id().to_owned());
            events.push(tokens.map(move |event| (index, event)).boxed());
        }
        Ok(events)
    }
}

type Indexed = BoxStream<'static, (usize, GenerateEvent)>;

/// The events of the generations of one request, each with the index of its generation, counted as they pass. Ends after the last
/// `Finished`, or after the first `Failed`: a request whose parts do not all work does not work.
pub(crate) struct Choices {
    events: SelectAll<Indexed>,
    /// Generations that have not ended.
    left: usize,
    counted: Option<InFlight>,
    metrics: Arc<Metrics>,
}

impl Stream for Choices {
    type Item = (usize, GenerateEvent);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.counted.is_none() {
            return Poll::Ready(None);
        }
        let (index, event) = ready!(self.events.poll_next_unpin(cx)).unwrap_or_else(|| {
            let text = "the generation ended without a result";
            (0, GenerateEvent::Failed(Refusal::new(ErrorCode::Internal, text)))
        });
        match &event {
            GenerateEvent::Started { .. } | GenerateEvent::Text { .. } | GenerateEvent::ToolCall(_) => {}
            GenerateEvent::Finished(generation) => {
                self.metrics.generated(generation);
                self.left -= 1;
                if self.left == 0 {
                    self.end(None);
                }
            }
            GenerateEvent::Failed(refusal) => {
                self.end(Some(refusal));
                self.events.clear();
            }
        }
        Poll::Ready(Some((index, event)))
    }
}

impl Choices {
    fn end(&mut self, refusal: Option<&Refusal>) {
        if let Some(counted) = self.counted.take() {
            counted.end(refusal);
        }
    }
}

/// Runs `work`; a panic in it becomes a refusal, so that its client still gets a reply.
pub(crate) async fn caught<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
}

/// The refusal that stands for a panic; its message and place are in the log.
pub(crate) fn panicked() -> Refusal {
    tracing::error!("a request handler panicked");
    Refusal::new(ErrorCode::Internal, "internal error: the server failed on this request; its log has the details")
}

/// `value` as one frame.
pub(crate) fn json_bytes(value: &Value) -> Bytes {
    let mut frame = Vec::with_capacity(512);
    // Only keys that are no strings could fail, and a `Value` has none; the other way of writing it is slower but cannot fail.
    match serde_json::to_writer(&mut frame, value) {
        Ok(()) => Bytes::from(frame),
        Err(_) => Bytes::from(value.to_string()),
    }
}

/// Epoch seconds.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_refusal() {
        let refusal = caught::<()>(async { panic!("a fault of ours") }).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Internal);
        assert_eq!(caught(async { Ok(5) }).await, Ok(5));
    }
}
