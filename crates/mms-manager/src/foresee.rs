//! The operations about uses to come, as far as the manager does them; what is kept of uses is the front doors' and the store's.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use mms_protocol::prediction::{PredictionOperation, PredictionReply};
use mms_protocol::{Refusal, Reply};
use tokio::sync::oneshot;

use crate::handle::{Manager, task_gone};
use crate::prediction::Moment;
use crate::task::Message;

impl Manager {
    pub(crate) async fn foresee(&self, operation: PredictionOperation) -> Result<Reply, Refusal> {
        let reply = match operation {
            PredictionOperation::Predict => {
                let snapshot = self.snapshot();
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
                let known = |id: &str| snapshot.model(id).is_some();
                let prediction = self.predictions().predict(Moment::local(now), known);
                self.counters().predictions_made.increment();
                PredictionReply::Predicted(Box::new(prediction))
            }
            PredictionOperation::RecordUsage { model } => {
                let model = self.model(&model)?.model_id.clone();
                PredictionReply::UsageRecorded { model }
            }
            PredictionOperation::Preload { models } => self.preload(models).await,
        };
        Ok(Reply::Prediction(reply))
    }

    /// Loads those for which there is free memory, all at once; in their order where it is not enough for all.
    async fn preload(&self, models: Vec<String>) -> PredictionReply {
        let outcomes = join_all(models.iter().map(|name| self.preload_one(name))).await;
        let (mut loaded, mut failed) = (Vec::new(), BTreeMap::new());
        for (name, outcome) in models.into_iter().zip(outcomes) {
            match outcome {
                Ok(id) if loaded.contains(&id) => {}
                Ok(id) => loaded.push(id),
                Err(refusal) => _ = failed.insert(name, refusal.message),
            }
        }
        PredictionReply::Preloaded { loaded, failed }
    }

    async fn preload_one(&self, name: &str) -> Result<String, Refusal> {
        let model = self.model(name)?.model_id.clone();
        let mut guard = self.guard();
        let (reply, answer) = oneshot::channel();
        self.send(Message::Preload { request: guard.request, model, reply })?;
        let loaded = answer.await.map_err(|_| task_gone())?;
        guard.disarm();
        Ok(loaded?.model_id.clone())
    }
}
