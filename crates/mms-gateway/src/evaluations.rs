//! What is asked of the evaluation store: metrics and evaluations, kept and given back. What is kept is answered after it is on the
//! disk, or refused.

use mms_manager::Manager;
use mms_protocol::evaluation::{EvaluationOperation, EvaluationReply};
use mms_protocol::{ErrorCode, Refusal, Reply};
use mms_store::{Store, StoreError};

/// When a query may be sent again for which there was no turn.
const BUSY_RETRY_MS: u64 = 1000;

pub(crate) async fn perform(
    store: Option<&Store>,
    manager: &Manager,
    operation: EvaluationOperation,
) -> Result<Reply, Refusal> {
    let what = operation.name();
    let store = required(store, what)?;
    let done = match operation {
        EvaluationOperation::LogMetric(metric) => {
            store.log_metric(metric).await.map(|metric_id| EvaluationReply::MetricLogged { metric_id })
        }
        EvaluationOperation::LogEvaluation(evaluation) => {
            let (model, trust_score) = (evaluation.model_name.clone(), evaluation.trust_score);
            let logged = store.log_evaluation(evaluation).await;
            if logged.is_ok() {
                manager.evidence().evaluated(&model, trust_score);
            }
            logged.map(|evaluation_id| EvaluationReply::EvaluationLogged { evaluation_id })
        }
        EvaluationOperation::GetMetrics(filter) => store.metrics(filter).await.map(EvaluationReply::Metrics),
        EvaluationOperation::GetScores(filter) => store.evaluations(filter).await.map(EvaluationReply::Scores),
    };
    done.map(Reply::Evaluation).map_err(|error| refusal(what, &error))
}

pub(crate) fn required<'s>(store: Option<&'s Store>, what: &str) -> Result<&'s Store, Refusal> {
    store.ok_or_else(|| {
        let text = format!("{what} was not done: this server has no evaluation store");
        Refusal::new(ErrorCode::StoreUnavailable, text)
    })
}

pub(crate) fn refusal(what: &str, error: &StoreError) -> Refusal {
    let text = format!("{what} was not done: {error}");
    match error {
        StoreError::Invalid { field, .. } => Refusal::argument(field, error.to_string()),
        StoreError::Busy => Refusal::new(ErrorCode::QueueFull, text).with("retry_after_ms", BUSY_RETRY_MS),
        StoreError::Closed => Refusal::new(ErrorCode::ShuttingDown, text),
        StoreError::Locked { .. }
        | StoreError::DiskFull { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Folder { .. }
        | StoreError::NotADatabase { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Shape { .. }
        | StoreError::Newer { .. }
        | StoreError::Failed { .. } => {
            let text = format!("{text}; GET /health tells when the store works again");
            Refusal::new(ErrorCode::StoreUnavailable, text)
        }
    }
}
