//! The texts of refusals: what happened, on what, why, and what to do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mms_protocol::reply::mb;
use mms_protocol::worker::{GenerateFailure, RequestId};
use mms_protocol::{ErrorCode, Refusal};
use serde_json::{Map, Value};

use super::model::{Model, Phase};
use crate::memory::{Amounts, RAM};

/// Stands as the argument of a refused constraint until it is known which argument that was.
pub const CONSTRAINT: &str = "constraint";
/// Stands in the refusal of a guess that made room, with the model for which it did.
pub const GAVE_WAY: &str = "gave_way_to";

pub(super) fn shutting_down() -> Refusal {
    Refusal::new(ErrorCode::ShuttingDown, "the server is shutting down and takes no new work")
}

pub(super) fn not_found(id: &str) -> Refusal {
    Refusal::new(ErrorCode::ModelNotFound, format!("Model not found: {id}")).with("model_id", id)
}

pub(super) fn broken(id: &str, why: &str) -> Refusal {
    Refusal::new(ErrorCode::ModelBroken, format!("{id} cannot be loaded, its file is broken: {why}"))
        .with("model_id", id)
}

pub(super) fn unloaded(id: &str) -> Refusal {
    Refusal::new(ErrorCode::Cancelled, format!("{id} was unloaded before it was ready; ask again to load it again"))
        .with("model_id", id)
}

/// A guess that came while its model goes or rests.
pub(super) fn leaving(id: &str) -> Refusal {
    let text = format!("{id} was not loaded ahead: it is leaving memory, or was refused lately; ask for it to load it");
    Refusal::new(ErrorCode::Cancelled, text).with("model_id", id)
}

/// A guess for which there is no room.
pub(super) fn no_free_memory(id: &str, needed_mb: f64, free_mb: f64) -> Refusal {
    let text = format!(
        "{id} was not loaded ahead: it needs about {needed_mb:.0} MiB, and {:.0} MiB are free; nothing goes for a guess, load_model \
         makes room",
        free_mb.max(0.0)
    );
    let refusal = Refusal::new(ErrorCode::InsufficientMemory, text).with("model_id", id);
    refusal.with("needed_mb", mb(needed_mb)).with("free_mb", mb(free_mb.max(0.0)))
}

/// A guess that comes while others wait for memory, or while as many models are in memory as may be.
pub(super) fn no_place(id: &str) -> Refusal {
    let text = format!(
        "{id} was not loaded ahead: others wait for memory, or as many models as may be are in memory (max_loaded_models); nothing goes \
         for a guess, load_model makes room"
    );
    Refusal::new(ErrorCode::InsufficientMemory, text).with("model_id", id)
}

/// A guess that had to go before it was loaded.
pub(super) fn gave_way(id: &str, newcomer: &str) -> Refusal {
    let text = format!("{id} was being loaded ahead, and made room for {newcomer}, which was asked for");
    Refusal::new(ErrorCode::InsufficientMemory, text).with("model_id", id).with(GAVE_WAY, newcomer)
}

pub(super) fn load_failed(id: &str, reason: &str) -> Refusal {
    Refusal::new(ErrorCode::LoadFailed, format!("{id} could not be loaded: {reason}"))
        .with("model_id", id)
        .with("reason", reason)
}

pub(super) fn quarantined(id: &str, why: &str, failures: u32, left: Duration) -> Refusal {
    let text = format!(
        "{id} has failed {failures} times in a row and is tried again in {} s; the last time: {why}",
        left.as_secs_f64().ceil()
    );
    Refusal::new(ErrorCode::Quarantined, text)
        .with("model_id", id)
        .with("reason", why)
        .with("retry_after_ms", left.as_millis() as u64)
}

pub(super) fn queue_full(model: &Model, now: Instant) -> Refusal {
    let waiting = model.queue.len() + model.loaders.len();
    let after = model.retry_after(now).as_millis() as u64;
    let text = format!("{waiting} requests wait for {} already; ask again in {after} ms", model.facts.id);
    Refusal::new(ErrorCode::QueueFull, text)
        .with("model_id", model.facts.id.clone())
        .with("queued", waiting)
        .with("retry_after_ms", after)
}

/// Why a model cannot be loaded for want of memory.
pub(super) struct Shortage<'a> {
    pub(super) id: &'a str,
    /// Where memory is short; the figures below are of this device.
    pub(super) device: &'a str,
    pub(super) needed_mb: f64,
    pub(super) budget_mb: f64,
    /// What could be reserved now.
    pub(super) free_mb: f64,
    /// What the device itself has left, whoever holds the rest.
    pub(super) available_mb: f64,
    /// Of all devices.
    pub(super) need: &'a Amounts,
    /// Who holds how much, and whether it is pinned.
    pub(super) holders: BTreeMap<&'a str, (f64, bool)>,
}

pub(super) fn insufficient(shortage: &Shortage<'_>) -> Refusal {
    let Shortage { id, device, needed_mb, budget_mb, free_mb, available_mb, .. } = *shortage;
    let list = |only_pinned: bool| -> Vec<String> {
        let holders = shortage.holders.iter().filter(|(_, (_, pinned))| *pinned || !only_pinned);
        holders.map(|(holder, (mb, _))| format!("{holder} {mb:.0} MiB")).collect()
    };
    let (held, pinned) = (list(false), list(true));
    let held = if held.is_empty() { "no model is resident".to_owned() } else { format!("held by {}", held.join(", ")) };
    let of = if device == RAM { "MiB".to_owned() } else { format!("MiB on {device}") };
    let figures = format!(
        "{id} needs about {needed_mb:.0} {of}, the budget is {budget_mb:.0} MiB, of which {free_mb:.0} MiB can be had ({held})"
    );
    let smaller = "choose a smaller model, context_length, slots or cache_type";
    let text = if needed_mb > budget_mb {
        let key = if device == RAM { "memory.budget" } else { "memory.gpu_budget" };
        format!("{figures}; it can never fit: {smaller}, or raise {key}")
    } else if pinned.is_empty() {
        format!(
            "{figures}; the rest is in use outside of this server, which leaves {available_mb:.0} MiB: end other programs, or {smaller}"
        )
    } else {
        format!("{figures}; pinned models stay ({}): unload one, or {smaller}", pinned.join(", "))
    };
    let holders: Map<String, Value> =
        shortage.holders.iter().map(|(holder, (held, _))| ((*holder).to_owned(), mb(*held))).collect();
    let need: Map<String, Value> =
        shortage.need.iter().map(|(device, needed)| (device.to_owned(), mb(needed))).collect();
    Refusal::new(ErrorCode::InsufficientMemory, text)
        .with("model_id", id)
        .with("device", device)
        .with("needed_mb", mb(needed_mb))
        .with("budget_mb", mb(budget_mb))
        .with("free_mb", mb(free_mb))
        .with("available_mb", mb(available_mb))
        .with("needed_by_device", need)
        .with("holders", holders)
}

pub(super) fn too_many(id: &str, most: usize, pinned: Vec<String>) -> Refusal {
    let text = format!(
        "{id} cannot be loaded: at most {most} models may be in memory (max_loaded_models), and {} of them are pinned ({}); unload one \
         of these, or raise the limit",
        pinned.len(),
        pinned.join(", ")
    );
    Refusal::new(ErrorCode::InsufficientMemory, text)
        .with("model_id", id)
        .with("max_loaded_models", most)
        .with("pinned", pinned)
}

/// `took`: the time that the request had.
pub(super) fn timeout(model: &Model, request: RequestId, took: Duration, now: Instant) -> Refusal {
    let id = &model.facts.id;
    let running = model.active().is_some_and(|active| active.contains_key(&request));
    let ahead = model.queue.iter().position(|&waiting| waiting == request);
    let progress = model.progress(now);
    let (phase, detail) = match (&model.phase, ahead) {
        _ if running => ("generating", format!("{id} was generating")),
        (Phase::Queued, _) if model.is_measured_first() => {
            ("measuring", format!("measuring how much memory {id} needs"))
        }
        (Phase::Queued, _) => ("queued", format!("waiting for memory to load {id}")),
        (Phase::Loading { .. }, _) => {
            let how_far = progress.map_or_else(String::new, |progress| progress.text());
            ("loading", format!("loading {id} ({how_far})"))
        }
        (Phase::Draining { .. } | Phase::Ending { .. }, None) => ("unloading", format!("ending the worker of {id}")),
        (_, Some(ahead)) => ("queued", format!("waiting in the queue of {id} behind {ahead} others")),
        (_, None) => ("generating", format!("{id} was generating")),
    };
    let refusal =
        Refusal::new(ErrorCode::Timeout, format!("the time of {} ms was up while {detail}", took.as_millis()))
            .with("model_id", id.clone())
            .with("phase", phase)
            .with("timeout_ms", took.as_millis() as u64);
    let Some(progress) = progress else {
        let waits = phase == "queued";
        return if waits { refusal.with("retry_after_ms", model.retry_after(now).as_millis() as u64) } else { refusal };
    };
    let round = |seconds: f64| (seconds * 10.0).round() / 10.0;
    let refusal = refusal
        .with("load_percent", (progress.fraction * 100.0).round() as u64)
        .with("load_fraction", round(f64::from(progress.fraction) * 100.0) / 100.0)
        .with("load_elapsed_s", round(progress.elapsed.as_secs_f64()))
        .with("retry_after_ms", model.retry_after(now).as_millis() as u64);
    match progress.remaining {
        Some(remaining) => refusal.with("load_remaining_s", round(remaining.as_secs_f64())),
        None => refusal,
    }
}

pub(super) fn died(id: &str, reason: &str) -> Refusal {
    Refusal::new(ErrorCode::WorkerDied, format!("the worker of {id} ended while it worked on this request: {reason}"))
        .with("model_id", id)
        .with("reason", reason)
}

pub(super) fn failed(id: &str, failure: GenerateFailure) -> Refusal {
    let refusal = match failure {
        GenerateFailure::ContextExceeded { prompt_tokens, at_least, context_length } => {
            let least = if at_least { "at least " } else { "" };
            let text = format!(
                "the prompt has {least}{prompt_tokens} tokens, the context of {id} holds {context_length}; shorten the prompt or load \
                 a model with a longer context"
            );
            Refusal::new(ErrorCode::ContextExceeded, text)
                .with("prompt_tokens", prompt_tokens)
                .with("context_length", context_length)
        }
        GenerateFailure::Cancelled => Refusal::new(ErrorCode::Cancelled, format!("{id} was told to stop generating")),
        GenerateFailure::Template { message } => {
            let text = format!("the chat template of {id} refused these messages: {message}");
            Refusal::new(ErrorCode::InvalidArgument, text)
        }
        GenerateFailure::EmptyPrompt => {
            Refusal::new(ErrorCode::InvalidArgument, format!("the prompt has no tokens for {id} to go on from"))
        }
        GenerateFailure::Constraint { message } => {
            Refusal::new(ErrorCode::InvalidArgument, format!("{id} cannot answer as asked: {message}"))
                .with("argument", CONSTRAINT)
        }
        GenerateFailure::Unsupported { message } => {
            Refusal::new(ErrorCode::InvalidArgument, format!("{id} cannot do this: {message}"))
        }
        GenerateFailure::Engine { message } => {
            Refusal::new(ErrorCode::Internal, format!("the engine failed on this request to {id}: {message}"))
        }
    };
    refusal.with("model_id", id)
}
