//! The one path behind every front door: count, time, call the manager, and turn a panic into an `internal` refusal.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream::BoxStream};
use mms_manager::{GenerateEvent, Manager};
use mms_protocol::dialect::unload_of_unknown;
use mms_protocol::{ErrorCode, GenerateArgs, Operation, Profile, Refusal, Reply};
use mms_store::Store;
use serde_json::Value;

use crate::metrics::{InFlight, Metrics};

/// What every front door works with; clones share everything.
#[derive(Clone)]
pub struct Gateway {
    /// Does the work.
    pub manager: Manager,
    /// The evaluation store, whose state `/metrics` shows.
    pub store: Option<Store>,
    pub(crate) metrics: Arc<Metrics>,
    /// Epoch seconds of the start.
    pub(crate) started: u64,
}

impl Gateway {
    /// Front doors to `manager`.
    pub fn new(manager: Manager, store: Option<Store>) -> Self {
        let metrics = Arc::new(Metrics::new(manager.clone(), store.clone()));
        Self { manager, store, metrics, started: now() as u64 }
    }

    /// Does one operation that came through the door called `dialect`; dropping the future cancels the work.
    pub(crate) async fn perform(
        &self,
        profile: Profile,
        dialect: &'static str,
        operation: Result<Operation, Refusal>,
    ) -> Result<Reply, Refusal> {
        let name = operation.as_ref().map_or("none", Operation::name);
        let counted = self.metrics.begin(name, dialect, self.manager.clone());
        let result = match operation {
            Ok(operation) => caught(self.manager.call(operation)).await,
            Err(refusal) => Err(refusal),
        };
        let result = unload_of_unknown(profile, result.as_ref()).map_or(result, Err);
        if let Ok(Reply::Generated(generation)) = &result {
            self.metrics.generated(generation);
        }
        counted.end(result.as_ref().err());
        result
    }

    /// Starts a generation whose text is wanted piece by piece; dropping what is returned cancels it.
    pub(crate) async fn generate(&self, dialect: &'static str, args: GenerateArgs) -> Result<Tokens, Refusal> {
        let counted = self.metrics.begin("generate", dialect, self.manager.clone());
        match caught(self.manager.generate(args)).await {
            Ok(events) => Ok(Tokens { events: events.boxed(), counted: Some(counted), metrics: self.metrics.clone() }),
            Err(refusal) => {
                counted.end(Some(&refusal));
                Err(refusal)
            }
        }
    }
}

/// The events of one generation, counted as they pass. Ends after `Finished` or `Failed`, one of which always comes.
pub(crate) struct Tokens {
    events: BoxStream<'static, GenerateEvent>,
    counted: Option<InFlight>,
    metrics: Arc<Metrics>,
}

impl Stream for Tokens {
    type Item = GenerateEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<GenerateEvent>> {
        if self.counted.is_none() {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_next_unpin(cx)).unwrap_or_else(|| {
            GenerateEvent::Failed(Refusal::new(ErrorCode::Internal, "the generation ended without a result"))
        });
        match &event {
            GenerateEvent::Started { .. } | GenerateEvent::Text { .. } | GenerateEvent::ToolCall(_) => {}
            GenerateEvent::Finished(generation) => {
                self.metrics.generated(generation);
                self.end(None);
            }
            GenerateEvent::Failed(refusal) => self.end(Some(refusal)),
        }
        Poll::Ready(Some(event))
    }
}

impl Tokens {
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
