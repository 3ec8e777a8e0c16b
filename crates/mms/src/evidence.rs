//! What routing knows from earlier runs: the speeds of models and the trust in them, read out of the evaluation store. Speeds are read
//! once, when the store can be read for the first time; trust again and again, as others may write to the file, too.

use std::time::Duration;

use mms_manager::Manager;
use mms_manager::routing::evidence::{Answered, EVALUATIONS};
use mms_protocol::evaluation::{MetricFilter, MetricRow, Window};
use mms_store::{Store, StoreError};
use serde_json::Value;
use tracing::debug;

/// Between two looks at the evaluations.
const INTERVAL: Duration = Duration::from_secs(30);
/// Before the store is tried again; doubled each time, up to [`INTERVAL`].
const RETRY: Duration = Duration::from_secs(1);
/// Answers of earlier runs that are read.
const ANSWERS: u32 = 500;

/// Reads for ever.
pub(crate) async fn watch(store: Store, manager: Manager, agent: String) {
    let (mut speeds_known, mut retry) = (false, RETRY);
    loop {
        let read = async {
            if !speeds_known {
                speeds(&store, &manager, &agent).await?;
                speeds_known = true;
            }
            trust(&store, &manager).await
        };
        let pause = match read.await {
            Ok(true) => {
                retry = RETRY;
                INTERVAL
            }
            Ok(false) => RETRY,
            // The health board tells what is wrong with the store.
            Err(error) => {
                debug!(%error, "what earlier runs measured is not known yet");
                let pause = retry;
                retry = (2 * retry).min(INTERVAL);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn speeds(store: &Store, manager: &Manager, agent: &str) -> Result<(), StoreError> {
    let page = store.metrics(MetricFilter {
        agent_name: Some(agent.to_owned()),
        metric_name: Some("generation_latency_ms".to_owned()),
        window: Window { limit: Some(ANSWERS), ..Window::default() },
    });
    for row in page.await?.rows.iter().rev() {
        if let Some((model, answer)) = answer_of(row) {
            manager.evidence().answered(model, &answer);
        }
    }
    Ok(())
}

/// `false`: there were evaluations meanwhile, so it has to be read again.
async fn trust(store: &Store, manager: &Manager) -> Result<bool, StoreError> {
    let mark = manager.evidence().mark();
    let scores = store.last_trust_scores(EVALUATIONS).await?;
    Ok(manager.evidence().replace_trust(mark, scores))
}

/// The answer that a row tells of; others may have written rows of that name.
fn answer_of(row: &MetricRow) -> Option<(&str, Answered)> {
    let context = row.context.as_ref()?;
    let number = |key: &str| context.get(key).and_then(Value::as_f64).filter(|number| *number >= 0.0);
    let tokens = |key: &str| number(key).map(|tokens| tokens as u32);
    let answer = Answered {
        prompt_tokens: tokens("prompt_tokens")?.saturating_sub(tokens("cached_tokens")?),
        prompt_ms: number("prompt_ms")?,
        tokens: tokens("completion_tokens")?,
        predicted_ms: number("predicted_ms")?,
    };
    Some((context.get("model_id")?.as_str()?, answer))
}
