//! Events of the manager become rows of the evaluation store, and the store's own state goes on the health board.

use std::time::Duration;

use mms_manager::Manager;
use mms_protocol::Event;
use mms_protocol::view::Generation;
use mms_store::{NewMetric, Store};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Records events until the manager has ended. Never waits for the disk: the store's queue is bounded and counts what it drops.
pub(crate) async fn record(mut events: mpsc::Receiver<Event>, agent: String, store: Store, manager: Manager) {
    while let Some(event) = events.recv().await {
        for metric in metrics(&agent, &event) {
            if store.log_metric_soon(metric) {
                manager.counters().performance_logs.increment();
            }
        }
        match event {
            Event::ModelLoaded { model_id, memory_mb, load_ms, device } => {
                info!(model_id, memory_mb, load_ms, device, "model loaded");
            }
            Event::ModelUnloaded { model_id, reason } => info!(model_id, reason, "model unloaded"),
            Event::ModelFailed { model_id, reason } => warn!(model_id, reason, "model failed"),
            Event::Generated(_) => {}
        }
    }
}

/// Puts the store's state on the health board once in each interval, for ever.
pub(crate) async fn watch(store: Store, manager: Manager, interval: Duration) {
    loop {
        report(&store, &manager);
        tokio::time::sleep(interval).await;
    }
}

/// Puts the store's state on the health board.
pub(crate) fn report(store: &Store, manager: &Manager) {
    let status = store.status();
    manager.board().report("evaluation_store", false, status.ok, status.detail);
}

fn metrics(agent: &str, event: &Event) -> Vec<NewMetric> {
    let metric = |name: &str, value: f64, context: Value| NewMetric {
        agent_name: agent.to_owned(),
        metric_name: name.to_owned(),
        value,
        context: Some(context),
    };
    match event {
        Event::Generated(generation) => {
            let context = context_of(generation);
            vec![
                metric("generation_latency_ms", generation.total_ms, context.clone()),
                metric("generation_tokens", generation.usage.completion_tokens.into(), context),
            ]
        }
        Event::ModelLoaded { model_id, memory_mb, load_ms, device } => {
            let context = json!({"model_id": model_id, "memory_mb": memory_mb, "device": device});
            vec![metric("model_load_ms", *load_ms as f64, context)]
        }
        Event::ModelUnloaded { .. } | Event::ModelFailed { .. } => Vec::new(),
    }
}

fn context_of(generation: &Generation) -> Value {
    json!({
        "model_id": generation.model_id,
        "finish_reason": generation.finish_reason.as_str(),
        "prompt_tokens": generation.usage.prompt_tokens,
        "completion_tokens": generation.usage.completion_tokens,
        "cached_tokens": generation.usage.cached_tokens,
        "first_token_ms": generation.first_token_ms,
        "predicted_per_second": generation.timings.predicted_per_second,
        "conversation_id": generation.conversation_id,
    })
}

#[cfg(test)]
mod tests {
    use mms_protocol::Event;
    use mms_protocol::generate::{FinishReason, Timings, Usage};
    use mms_protocol::view::Generation;

    use super::metrics;

    #[test]
    fn every_generation_records_latency_and_tokens() {
        let generation = Generation {
            model_id: "m".to_owned(),
            text: "secret".to_owned(),
            finish_reason: FinishReason::Stop,
            usage: Usage { prompt_tokens: 3, completion_tokens: 5, cached_tokens: 1 },
            timings: Timings::default(),
            first_token_ms: Some(4.0),
            total_ms: 12.5,
            conversation_id: None,
        };
        let rows = metrics("Agent", &Event::Generated(Box::new(generation)));
        let shown: Vec<_> = rows.iter().map(|row| (row.metric_name.as_str(), row.value)).collect();
        assert_eq!(shown, [("generation_latency_ms", 12.5), ("generation_tokens", 5.0)]);
        for row in rows {
            let context = row.context.expect("a context");
            assert_eq!(context["model_id"], "m");
            assert!(!context.to_string().contains("secret"), "what was said is not kept");
        }
    }
}
