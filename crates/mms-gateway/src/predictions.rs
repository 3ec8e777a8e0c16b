//! Uses of models: each is told to the manager's predictions and kept in the store, and those of earlier runs are read out of it again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mms_manager::Manager;
use mms_manager::prediction::Moment;
use mms_manager::prediction::replay::TraceUse;
use mms_protocol::prediction::{PredictionOperation, PredictionReply};
use mms_protocol::{Operation, Refusal, Reply};
use mms_store::{Store, StoreError, Usage};
use tokio::sync::OnceCell;

use crate::evaluations;
use crate::gateway::now;

/// Who asks, as far as that can be told: requests of one client follow each other as one agent's do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller(Option<String>);

impl Caller {
    /// Whoever is called so: what is kept of it tells only that it is the same again.
    pub(crate) fn of(name: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(Some(format!("{:016x}", hasher.finish())))
    }

    /// The caller, or who is called so where nobody is known.
    pub(crate) fn or(&self, name: Option<&str>) -> Self {
        match (&self.0, name) {
            (None, Some(name)) => Self::of(name),
            _ => self.clone(),
        }
    }
}

/// Uses, as the front doors tell them; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Uses {
    manager: Manager,
    store: Option<Store>,
    /// Done once those of earlier runs are known.
    recalled: Arc<OnceCell<()>>,
}

impl Uses {
    pub(crate) fn new(manager: Manager, store: Option<Store>) -> Self {
        Self { manager, store, recalled: Arc::default() }
    }

    /// The model has taken a request.
    pub(crate) fn note(&self, model: &str, caller: &Caller) {
        let used_at = now();
        if !self.manager.predictions().used(Moment::local(used_at), model, caller.0.as_deref()) {
            return;
        }
        self.manager.counters().usage_records.increment();
        let kept = Usage { model_id: model.to_owned(), client: caller.0.clone(), used_at };
        if self.store.as_ref().is_some_and(|store| !store.log_usage_soon(kept)) {
            tracing::debug!(
                model,
                "the evaluation store takes no more rows now; this use will be forgotten with this run"
            );
        }
    }

    pub(crate) async fn perform(&self, operation: PredictionOperation, caller: &Caller) -> Result<Reply, Refusal> {
        let what = operation.name();
        if matches!(operation, PredictionOperation::Predict) {
            // What cannot be read is told on the health board; what this run has seen is foreseen by without it.
            if let Err(error) = self.recall().await {
                tracing::debug!(%error, "uses of earlier runs are not known");
            }
        }
        let reply = self.manager.call(Operation::Prediction(operation)).await?;
        if let Reply::Prediction(PredictionReply::UsageRecorded { model }) = &reply {
            self.record(what, model, caller).await?;
        }
        Ok(reply)
    }

    /// A use that somebody tells of; on return it is on the disk.
    async fn record(&self, what: &str, model: &str, caller: &Caller) -> Result<(), Refusal> {
        let store = evaluations::required(self.store.as_ref(), what)?;
        let used_at = now();
        let kept = Usage { model_id: model.to_owned(), client: caller.0.clone(), used_at };
        store.log_usage(kept).await.map_err(|error| evaluations::refusal(what, &error))?;
        self.manager.predictions().used(Moment::local(used_at), model, caller.0.as_deref());
        self.manager.counters().usage_records.increment();
        Ok(())
    }

    /// Reads those of earlier runs, unless that was done.
    pub(crate) async fn recall(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let read = async || {
            let history = store.usage().await?.into_iter();
            let history: Vec<TraceUse> = history
                .map(|usage| TraceUse { time: usage.used_at, model: usage.model_id, client: usage.client })
                .collect();
            let manager = self.manager.clone();
            let learnt = tokio::task::spawn_blocking(move || manager.predictions().learn(&history)).await;
            learnt.map_err(|error| StoreError::Failed { path: store.path().to_owned(), why: error.to_string() })
        };
        self.recalled.get_or_try_init(read).await?;
        Ok(())
    }
}
