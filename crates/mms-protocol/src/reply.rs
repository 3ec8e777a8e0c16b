//! The replies, one for each operation, and their keys on the wire (contract section 3). A profile adds keys; it never removes or
//! renames one.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::conversation::cleared;
use crate::dialect::Profile;
use crate::evaluation::EvaluationReply;
use crate::prediction::PredictionReply;
use crate::select::{self, Selection, ServiceCheck};
use crate::view::{Embedding, Generation, HealthLevel, HealthView, MemoryView, ModelView, StatsView, StatusView};

/// What an operation gives when it works.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To `ping`.
    Ping {
        /// Name of the agent.
        agent: String,
        /// Version of the program.
        version: String,
    },
    /// To `health_check`.
    HealthCheck(Box<HealthView>),
    /// To `status`.
    Status(Box<StatusView>),
    /// To `list_models`.
    ListModels(Arc<[Arc<ModelView>]>),
    /// To `get_model_status`.
    ModelStatus(Arc<ModelView>),
    /// To `load_model`.
    Loaded(Arc<ModelView>),
    /// To `unload_model`.
    Unloaded {
        /// As asked for.
        model: String,
        /// The catalogue knows it.
        known: bool,
        /// It was resident.
        was_loaded: bool,
    },
    /// To `generate` and `generate_text`.
    Generated(Box<Generation>),
    /// To `clear_conversation`.
    ConversationCleared {
        /// As asked for.
        conversation_id: String,
        /// It was kept.
        known: bool,
    },
    /// To `embed`.
    Embedded(Box<Embedding>),
    /// To `get_all_models`.
    AllModels {
        /// The catalogue.
        models: Arc<[Arc<ModelView>]>,
        /// The budget.
        memory: MemoryView,
    },
    /// To `get_loaded_models_status`.
    LoadedModels {
        /// The catalogue.
        models: Arc<[Arc<ModelView>]>,
        /// The budget.
        memory: MemoryView,
    },
    /// To `get_memory_status`.
    Memory {
        /// The catalogue.
        models: Arc<[Arc<ModelView>]>,
        /// The budget.
        memory: MemoryView,
    },
    /// To `get_stats`.
    Stats(Box<StatsView>),
    /// To `select_model`.
    Selected(Box<Selection>),
    /// To `verify_services`.
    Services(Vec<ServiceCheck>),
    /// To what was asked of the evaluation store.
    Evaluation(EvaluationReply),
    /// To what was asked about uses to come.
    Prediction(PredictionReply),
}

const MIB: f64 = 1024.0 * 1024.0;

/// MiB with two decimals, as all replies show them.
pub fn mb(value: f64) -> Value {
    json!((value * 100.0).round() / 100.0)
}

impl Reply {
    /// The keys of the reply, without `status` unless the operation has status words of its own. `now`: epoch seconds.
    pub fn fields(&self, profile: Profile, now: f64) -> Map<String, Value> {
        let value = match self {
            Self::Ping { agent, version } => json!({"agent": agent, "version": version, "timestamp": now}),
            Self::HealthCheck(health) => health_check(health, profile, now),
            Self::Status(status) => status_fields(status, now),
            Self::ListModels(models) => {
                json!({"models": models.iter().map(|model| catalogue_entry(model, now)).collect::<Vec<_>>()})
            }
            Self::ModelStatus(model) => json!({
                "model_name": model.model_id,
                "model_id": model.model_id,
                "model_info": catalogue_entry(model, now),
                "is_loaded": model.is_loaded(),
                "model_status": model.status.as_str(),
                "last_used_timestamp": model.last_used,
                "current_memory_usage_mb": mb(model.held_mb()),
            }),
            Self::Loaded(model) => json!({
                "loaded": true,
                "message": format!("Model {} loaded", model.model_id),
                "model_status": "loaded",
                "model_id": model.model_id,
                "vram_mb": mb(model.held_mb()),
                "load_ms": model.load_ms,
                "device": model.device,
                "quantization": model.quantization,
                "n_ctx": model.n_ctx,
            }),
            Self::Unloaded { model, known, was_loaded } => json!({
                "unloaded": true,
                "message": match (known, was_loaded) {
                    (false, _) => format!("No model {model} is known, so there was nothing to unload"),
                    (true, false) => format!("Model {model} was not loaded"),
                    (true, true) => format!("Model {model} unloaded"),
                },
                "model_status": if *known { "available_not_loaded" } else { "unknown" },
                "model_id": model,
                "was_loaded": was_loaded,
            }),
            Self::Generated(generation) => generated(generation, now),
            Self::ConversationCleared { conversation_id, known } => cleared(conversation_id, *known),
            Self::Embedded(embedding) => json!({
                "embeddings": embedding.vectors,
                "model_id": embedding.model_id,
                "usage": {"prompt_tokens": embedding.prompt_tokens, "total_tokens": embedding.prompt_tokens},
                "dimensions": embedding.vectors.first().map_or(0, Vec::len),
                "timings": {"total_ms": embedding.total_ms},
                "timestamp": now,
            }),
            Self::AllModels { models, memory } => all_models(models, memory, now),
            Self::LoadedModels { models, memory } => loaded_models(models, memory, now),
            Self::Memory { models, memory } => memory_status(models, memory),
            Self::Stats(view) => stats(view, now),
            Self::Selected(selection) => selection.fields(now),
            Self::Services(checks) => select::services(checks),
            Self::Evaluation(reply) => reply.fields(),
            Self::Prediction(reply) => reply.fields(now),
        };
        into_map(value)
    }
}

/// The object that the health port and `GET /health` give (contract section 4).
pub fn health_object(health: &HealthView, now: f64) -> Map<String, Value> {
    let checks: Map<String, Value> =
        health.checks.iter().map(|check| (check.name.clone(), Value::from(check.ok))).collect();
    let details: Map<String, Value> =
        health.checks.iter().map(|check| (check.name.clone(), Value::from(check.detail.clone()))).collect();
    let mut object = into_map(json!({
        "status": health.level().as_str(),
        "agent": health.agent,
        "version": health.version,
        "ready": health.ready,
        "initialized": health.initialized,
        "message": health.message(),
        "uptime": (health.uptime_s * 1000.0).round() / 1000.0,
        "timestamp": now,
        "commands_processed": health.stats.requests,
        "loaded_models": health.loaded().count(),
        "vram_used_mb": mb(health.memory.used_mb),
        "vram_budget_mb": mb(health.memory.budget_mb),
        "device": health.memory.device,
        "metrics": health.stats,
        "health_checks": checks,
        "health_details": details,
    }));
    object.insert("draining".to_owned(), health.draining.into());
    object
}

fn health_check(health: &HealthView, profile: Profile, now: f64) -> Value {
    let details: Map<String, Value> = health
        .models
        .iter()
        .map(|model| (model.model_id.clone(), json!({"status": model.status.as_str(), "message": model.message})))
        .collect();
    let loaded = health.loaded().count();
    let online = health.models.iter().filter(|model| model.status != crate::view::ModelState::Broken).count();
    let mut fields = json!({
        "status": match (health.level(), profile) {
            (HealthLevel::Ok | HealthLevel::Degraded, Profile::Legacy) => "ok",
            (HealthLevel::Error, Profile::Legacy) => "error",
            (HealthLevel::Ok, Profile::Suite) => "healthy",
            (HealthLevel::Degraded | HealthLevel::Error, Profile::Suite) => "degraded",
        },
        "message": health.message(),
        "total_models": health.models.len(),
        "online_models": online,
        "loaded_models": loaded,
        "vram_used_mb": mb(health.memory.used_mb),
        "vram_budget_mb": mb(health.memory.budget_mb),
        "model_details": details,
        "timestamp": now,
        "agent": health.agent,
        "version": health.version,
        "ready": health.ready,
        "initialized": health.initialized,
        "device": health.memory.device,
        "uptime": health.uptime_s,
        "health_checks": health.checks.iter().map(|c| (c.name.clone(), Value::from(c.ok))).collect::<Map<_, _>>(),
    });
    if profile == Profile::Legacy {
        fields["details"] = json!({
            "models": health.models.len(),
            "loaded_models": loaded,
            "vram_usage": {
                "total_budget_mb": mb(health.memory.budget_mb),
                "used_mb": mb(health.memory.used_mb),
                "remaining_mb": mb(health.memory.free_mb()),
            },
        });
        fields["request_id_received"] = Value::Null;
    }
    fields
}

/// One entry of `list_models`.
pub fn catalogue_entry(model: &ModelView, now: f64) -> Value {
    let mut entry = into_map(json!({
        "model_id": model.model_id,
        "model_path": model.model_path,
        "type": "gguf",
        "quantization": model.quantization,
        "estimated_vram_mb": mb(model.estimated_mb),
        "measured_mb": model.measured_mb.map(mb),
        "estimate_error_mb": model.estimate_error_mb.map(mb),
        "reclaimable_mb": model.reclaimable_mb.map(mb),
        "estimate_source": model.estimate_source,
        "n_ctx": model.n_ctx,
        "context_length": model.context_length,
        "n_gpu_layers": model.n_gpu_layers,
        "capabilities": model.capabilities,
        "priority": model.priority,
        "loaded": model.is_loaded(),
        "status": model.status.as_str(),
        "message": model.message,
        "last_used": model.last_used,
        "idle_time": model.last_used.map(|used| (now - used).max(0.0)),
        "architecture": model.architecture,
        "parameters": model.parameters,
        "layers": model.layers,
        "chat_template": model.chat_template,
        "tensor_bytes": model.tensor_bytes,
        "file_bytes": model.file_bytes,
        "device": model.device,
        "pinned": model.pinned,
        "preloaded": model.preloaded,
        "builtin": model.builtin,
    }));
    entry.extend(into_map(json!({
        "idle_unload_s": model.idle_unload_s,
        "expires_at": model.expires_at,
        "load_fraction": model.load_fraction,
        "load_elapsed_s": model.load_elapsed_s,
        "load_remaining_s": model.load_remaining_s,
        "held_by_device": by_device(&model.held_by_device),
        "measured_by_device": by_device(&model.measured_by_device),
        "kv_store_mb": model.kv.map(|kv| mb(kv.ram_bytes as f64 / MIB)),
        "kv_store_disk_mb": model.kv.map(|kv| mb(kv.disk_bytes as f64 / MIB)),
        "kv_restored": model.kv.map(|kv| kv.restored),
        "load_ms": model.load_ms,
        "active_requests": model.active_requests,
        "queued_requests": model.queued_requests,
        "slots": model.slots,
        "worker_pid": model.worker_pid,
    })));
    Value::Object(entry)
}

fn by_device(amounts: &std::collections::BTreeMap<String, f64>) -> Map<String, Value> {
    amounts.iter().map(|(device, amount)| (device.clone(), mb(*amount))).collect()
}

fn resident_entry(model: &ModelView) -> Value {
    json!({
        "status": "online",
        "last_used": model.last_used,
        "vram_usage": mb(model.held_mb()),
        "vram_usage_mb": mb(model.held_mb()),
        "estimated_mb": mb(model.estimated_mb),
        "measured_mb": model.measured_mb.map(mb),
        "estimate_error_mb": model.estimate_error_mb.map(mb),
        "device": model.device,
        "is_active": model.active_requests > 0,
        "quantization": model.quantization,
    })
}

fn resident_map(models: &[Arc<ModelView>]) -> Map<String, Value> {
    models.iter().filter(|model| model.is_loaded()).map(|m| (m.model_id.clone(), resident_entry(m))).collect()
}

fn status_fields(status: &StatusView, now: f64) -> Value {
    let health = &status.health;
    json!({
        "loaded_models": resident_map(&health.models),
        "total_models": health.models.len(),
        "total_vram_used_mb": mb(health.memory.used_mb),
        "total_vram_mb": mb(health.memory.total_mb),
        "vram_budget_mb": mb(health.memory.budget_mb),
        "device": health.memory.device,
        "devices": devices(&health.memory),
        "routing_policy": status.routing_policy,
        "routing_models": status.routing_models,
        "preloading": status.preloading,
        "health": health.level().as_str(),
        "message": health.message(),
        "ready": health.ready,
        "agent": health.agent,
        "version": health.version,
        "uptime": health.uptime_s,
        "timestamp": now,
    })
}

fn all_models(models: &[Arc<ModelView>], memory: &MemoryView, now: f64) -> Value {
    let each = models.iter().map(|model| {
        let entry = json!({
            "info": catalogue_entry(model, now),
            "is_loaded": model.is_loaded(),
            "current_memory_usage_mb": mb(model.held_mb()),
            "last_used_timestamp": model.last_used,
        });
        (model.model_id.clone(), entry)
    });
    let held = models.iter().filter(|model| model.held_mb() > 0.0);
    json!({
        "models": each.collect::<Map<_, _>>(),
        "loaded_models": resident_map(models),
        "vram_usage": {
            "total_budget_mb": mb(memory.budget_mb),
            "used_mb": mb(memory.used_mb),
            "remaining_mb": mb(memory.free_mb()),
            "by_model": held.map(|model| (model.model_id.clone(), mb(model.held_mb()))).collect::<Map<_, _>>(),
        },
        "timestamp": now,
    })
}

fn loaded_models(models: &[Arc<ModelView>], memory: &MemoryView, now: f64) -> Value {
    json!({
        "loaded_models": resident_map(models),
        "total_models": models.len(),
        "total_vram_used_mb": mb(memory.used_mb),
        "total_vram_mb": mb(memory.total_mb),
        "timestamp": now,
    })
}

fn devices(memory: &MemoryView) -> Vec<Value> {
    let each = memory.devices.iter().map(|device| {
        json!({
            "device": device.device,
            "total_mb": mb(device.total_mb),
            "budget_mb": mb(device.budget_mb),
            "used_mb": mb(device.used_mb),
            "available_mb": mb(device.available_mb),
        })
    });
    each.collect()
}

fn memory_status(models: &[Arc<ModelView>], memory: &MemoryView) -> Value {
    let cpu = memory.device == "cpu";
    let percent = if memory.budget_mb > 0.0 { memory.used_mb / memory.budget_mb * 100.0 } else { 0.0 };
    let held = models.iter().filter(|model| model.held_mb() > 0.0);
    json!({
        "device": memory.device,
        "total_gpu_memory_mb": if cpu { mb(0.0) } else { mb(memory.total_mb) },
        "total_memory_mb": mb(memory.total_mb),
        "vram_budget_mb": mb(memory.budget_mb),
        "mma_estimated_used_vram_mb": mb(memory.used_mb),
        "mma_estimated_free_vram_mb_in_budget": mb(memory.free_mb()),
        "usage_percent_of_budget": mb(percent),
        "loaded_model_instances": held.clone().map(|m| (m.model_id.clone(), mb(m.held_mb()))).collect::<Map<_, _>>(),
        "models": held.map(|m| (m.model_id.clone(), json!({
            "estimated_mb": mb(m.estimated_mb),
            "measured_mb": m.measured_mb.map(mb),
            "estimate_error_mb": m.estimate_error_mb.map(mb),
            "reclaimable_mb": m.reclaimable_mb.map(mb),
            "devices": by_device(&m.held_by_device),
            "status": m.status.as_str(),
        }))).collect::<Map<_, _>>(),
        "devices": devices(memory),
    })
}

fn generated(generation: &Generation, now: f64) -> Value {
    let mut fields = into_map(json!({
        "text": generation.text,
        "response_text": generation.text,
        "model_id": generation.model_id,
        "model_used": generation.model_id,
        "tokens_generated": generation.usage.completion_tokens,
        "finish_reason": generation.finish_reason.as_str(),
        "usage": {
            "prompt_tokens": generation.usage.prompt_tokens,
            "completion_tokens": generation.usage.completion_tokens,
            "cached_tokens": generation.usage.cached_tokens,
        },
        "timings": {
            "queue_ms": generation.timings.queue_ms,
            "prompt_ms": generation.timings.prompt_ms,
            "predicted_ms": generation.timings.predicted_ms,
            "predicted_per_second": generation.timings.predicted_per_second,
            "first_token_ms": generation.first_token_ms,
            "total_ms": generation.total_ms,
        },
        "conversation_id": generation.conversation_id,
        "timestamp": now,
    }));
    if let Some(reason) = &generation.reason {
        fields.insert("reason".to_owned(), reason.as_str().into());
    }
    if !generation.tool_calls.is_empty() {
        fields.insert("tool_calls".to_owned(), json!(generation.tool_calls));
    }
    if !generation.logprobs.is_empty() {
        fields.insert("logprobs".to_owned(), json!(generation.logprobs));
    }
    if generation.timings.drafted_tokens > 0 {
        fields["timings"]["drafted_tokens"] = generation.timings.drafted_tokens.into();
        fields["timings"]["accepted_tokens"] = generation.timings.accepted_tokens.into();
    }
    if generation.conversation_id.is_some() {
        fields.insert("using_kv_cache".to_owned(), Value::from(generation.usage.cached_tokens > 0));
    }
    if let Some(conversation) = generation.conversation {
        conversation.add_to(&mut fields);
    }
    Value::Object(fields)
}

fn stats(view: &StatsView, now: f64) -> Value {
    let mut metrics = into_map(json!(view.health.stats));
    metrics.insert("models_tracked".to_owned(), view.health.models.len().into());
    json!({
        "metrics": metrics,
        "models": view.traffic,
        "recent_errors": view.recent_errors,
        "preloading": view.preloading,
        "uptime": view.health.uptime_s,
        "timestamp": now,
    })
}

/// The map inside `value`, which the callers build as an object.
fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}
