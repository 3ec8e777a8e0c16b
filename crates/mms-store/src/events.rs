//! What the manager's events leave in the store.

use mms_protocol::Event;
use mms_protocol::view::Generation;
use serde_json::{Value, json};

use crate::NewMetric;

/// The measurements that an event is worth: for a generation its latency and tokens, for a load its duration.
///
/// | event | `metric_name` | value |
/// |---|---|---|
/// | `Generated` | `generation_latency_ms` | from the request's arrival to its end |
/// | `Generated` | `generation_tokens` | tokens produced |
/// | `Generated` | `generation_first_token_ms` | from the arrival to the first text; left out when there was none |
/// | `ModelLoaded` | `model_load_ms` | duration of the load |
pub fn metrics_of(agent_name: &str, event: &Event) -> Vec<NewMetric> {
    let metric = |metric_name: &str, value: f64, context: &Value| NewMetric {
        agent_name: agent_name.to_owned(),
        metric_name: metric_name.to_owned(),
        value,
        context: Some(context.clone()),
    };
    match event {
        Event::Generated(generation) => {
            let context = circumstances(generation);
            let mut metrics = vec![
                metric("generation_latency_ms", generation.total_ms, &context),
                metric("generation_tokens", f64::from(generation.usage.completion_tokens), &context),
            ];
            metrics.extend(generation.first_token_ms.map(|ms| metric("generation_first_token_ms", ms, &context)));
            metrics
        }
        Event::ModelLoaded { model_id, memory_mb, load_ms, device } => {
            let context = json!({ "model_id": model_id, "memory_mb": memory_mb, "device": device });
            vec![metric("model_load_ms", *load_ms as f64, &context)]
        }
        Event::ModelUnloaded { .. } | Event::ModelFailed { .. } => Vec::new(),
    }
}

fn circumstances(generation: &Generation) -> Value {
    json!({
        "model_id": generation.model_id,
        "prompt_tokens": generation.usage.prompt_tokens,
        "completion_tokens": generation.usage.completion_tokens,
        "cached_tokens": generation.usage.cached_tokens,
        "finish_reason": generation.finish_reason.as_str(),
        "first_token_ms": generation.first_token_ms,
        "queue_ms": generation.timings.queue_ms,
        "prompt_ms": generation.timings.prompt_ms,
        "predicted_ms": generation.timings.predicted_ms,
        "tokens_per_second": generation.timings.predicted_per_second,
    })
}

#[cfg(test)]
mod tests {
    use mms_protocol::Event;
    use mms_protocol::generate::{FinishReason, Timings, Usage};
    use mms_protocol::view::Generation;

    use super::metrics_of;

    fn generated(first_token_ms: Option<f64>) -> Event {
        Event::Generated(Box::new(Generation {
            model_id: "m".to_owned(),
            reason: None,
            text: "secret text".to_owned(),
            finish_reason: FinishReason::Stop,
            usage: Usage { prompt_tokens: 7, completion_tokens: 3, cached_tokens: 2 },
            timings: Timings {
                queue_ms: 0.5,
                prompt_ms: 4.0,
                predicted_ms: 6.0,
                predicted_per_second: 500.0,
                ..Timings::default()
            },
            first_token_ms,
            total_ms: 12.5,
            conversation_id: None,
            conversation: None,
            tokens: Vec::new(),
            tool_calls: Vec::new(),
            logprobs: Vec::new(),
        }))
    }

    #[test]
    fn a_generation_leaves_latency_and_tokens_but_no_text() {
        let metrics = metrics_of("Agent", &generated(Some(5.0)));
        let figures: Vec<(&str, f64)> =
            metrics.iter().map(|metric| (metric.metric_name.as_str(), metric.value)).collect();
        assert_eq!(
            figures,
            [("generation_latency_ms", 12.5), ("generation_tokens", 3.0), ("generation_first_token_ms", 5.0)]
        );
        for metric in &metrics {
            let context = metric.context.as_ref().unwrap();
            assert_eq!((context["model_id"].as_str(), context["tokens_per_second"].as_f64()), (Some("m"), Some(500.0)));
            assert!(!context.to_string().contains("secret"), "{context}");
            assert_eq!(metric.agent_name, "Agent");
        }
        assert_eq!(metrics_of("Agent", &generated(None)).len(), 2);
    }

    #[test]
    fn a_load_leaves_its_duration_and_an_unload_nothing() {
        let loaded =
            Event::ModelLoaded { model_id: "m".to_owned(), memory_mb: 90.0, load_ms: 120, device: "cpu".to_owned() };
        let metrics = metrics_of("Agent", &loaded);
        assert_eq!((metrics.len(), metrics[0].metric_name.as_str(), metrics[0].value), (1, "model_load_ms", 120.0));
        assert!(metrics_of("Agent", &Event::ModelUnloaded { model_id: "m".to_owned(), reason: "idle" }).is_empty());
    }
}
