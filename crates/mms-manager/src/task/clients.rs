//! Those who wait for something, and how each is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use mms_protocol::generate::{Constraint, GenerateSpec, Logprob, ToolCall};
use mms_protocol::view::{Embedding, Generation, ModelView};
use mms_protocol::worker::{RequestId, ToWorker};
use mms_protocol::{Refusal, Reply};
use tokio::sync::{mpsc, oneshot};

use super::{EmbedOrder, GenerateOrder};
use crate::handle::GenerateEvent;
use crate::lifecycle::{CONSTRAINT, Finish, Vectors};

/// Everybody who waits, by request. A receiver that is gone needs no answer: its guard has sent a cancellation.
#[derive(Debug, Default)]
pub(super) struct Clients {
    waiting: HashMap<RequestId, Client>,
}

#[derive(Debug)]
enum Client {
    Generation(Box<Generating>),
    Embedding(Box<EmbedOrder>),
    Load {
        model: String,
        reply: oneshot::Sender<Result<Arc<ModelView>, Refusal>>,
    },
    Unload {
        model: String,
        reply: oneshot::Sender<Result<Reply, Refusal>>,
    },
    /// Loaded at the start.
    Preload {
        model: String,
    },
    /// Loaded ahead of requests.
    Guess {
        model: String,
    },
}

#[derive(Debug)]
struct Generating {
    model: String,
    spec: GenerateSpec,
    conversation_id: Option<String>,
    arrived: Instant,
    first_text: Option<Instant>,
    text: String,
    tool_calls: Vec<ToolCall>,
    logprobs: Vec<Logprob>,
    events: mpsc::UnboundedSender<GenerateEvent>,
    accepted: Option<oneshot::Sender<Result<(), Refusal>>>,
}

fn ms_between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

impl Clients {
    pub(super) fn add_generation(&mut self, order: GenerateOrder) -> RequestId {
        let client = Generating {
            model: order.model,
            spec: order.spec,
            conversation_id: order.conversation_id,
            arrived: order.arrived,
            first_text: None,
            text: String::new(),
            tool_calls: Vec::new(),
            logprobs: Vec::new(),
            events: order.events,
            accepted: Some(order.accepted),
        };
        self.waiting.insert(order.request, Client::Generation(Box::new(client)));
        order.request
    }

    pub(super) fn add_embedding(&mut self, order: Box<EmbedOrder>) {
        self.waiting.insert(order.request, Client::Embedding(order));
    }

    pub(super) fn add_load(
        &mut self,
        request: RequestId,
        model: String,
        reply: oneshot::Sender<Result<Arc<ModelView>, Refusal>>,
    ) {
        self.waiting.insert(request, Client::Load { model, reply });
    }

    pub(super) fn add_unload(
        &mut self,
        request: RequestId,
        model: String,
        reply: oneshot::Sender<Result<Reply, Refusal>>,
    ) {
        self.waiting.insert(request, Client::Unload { model, reply });
    }

    pub(super) fn add_preload(&mut self, request: RequestId, model: String) {
        self.waiting.insert(request, Client::Preload { model });
    }

    pub(super) fn add_guess(&mut self, request: RequestId, model: String) {
        self.waiting.insert(request, Client::Guess { model });
    }

    /// The model that is loaded ahead of requests with this one.
    pub(super) fn guessed(&self, request: RequestId) -> Option<&str> {
        match self.waiting.get(&request)? {
            Client::Guess { model } => Some(model),
            Client::Generation(_)
            | Client::Embedding(_)
            | Client::Load { .. }
            | Client::Unload { .. }
            | Client::Preload { .. } => None,
        }
    }

    pub(super) fn forget(&mut self, request: RequestId) {
        self.waiting.remove(&request);
    }

    /// The request is in; what comes now comes as events.
    pub(super) fn accept(&mut self, request: RequestId) {
        if let Some(accepted) = self.generating(request).and_then(|client| client.accepted.take()) {
            _ = accepted.send(Ok(()));
        }
    }

    /// What a worker is told to do for the request.
    pub(super) fn order(&self, request: RequestId) -> Option<ToWorker> {
        match self.waiting.get(&request) {
            Some(Client::Generation(client)) => {
                Some(ToWorker::Generate { id: request, spec: Box::new(client.spec.clone()) })
            }
            Some(Client::Embedding(order)) => Some(ToWorker::Embed { id: request, spec: Box::new(order.spec.clone()) }),
            Some(Client::Load { .. } | Client::Unload { .. } | Client::Preload { .. } | Client::Guess { .. })
            | None => None,
        }
    }

    /// The model of a generation or of embeddings that somebody waits for.
    pub(super) fn asked_of(&self, request: RequestId) -> Option<&str> {
        match self.waiting.get(&request)? {
            Client::Generation(client) => Some(&client.model),
            Client::Embedding(order) => Some(&order.model),
            Client::Load { .. } | Client::Unload { .. } | Client::Preload { .. } | Client::Guess { .. } => None,
        }
    }

    pub(super) fn started(&mut self, request: RequestId, prompt_tokens: u32, cached_tokens: u32, left_out: u32) {
        if let Some(client) = self.generating(request) {
            let model_id = client.model.clone();
            _ = client.events.send(GenerateEvent::Started { model_id, prompt_tokens, cached_tokens, left_out });
        }
    }

    pub(super) fn text(&mut self, request: RequestId, text: String, logprobs: Vec<Logprob>) {
        if let Some(client) = self.generating(request) {
            client.first_text.get_or_insert_with(Instant::now);
            client.text.push_str(&text);
            client.logprobs.extend_from_slice(&logprobs);
            _ = client.events.send(GenerateEvent::Text { text, logprobs });
        }
    }

    pub(super) fn tool_call(&mut self, request: RequestId, call: ToolCall) {
        if let Some(client) = self.generating(request) {
            client.first_text.get_or_insert_with(Instant::now);
            client.tool_calls.push(call.clone());
            _ = client.events.send(GenerateEvent::ToolCall(call));
        }
    }

    /// Tells the client of its finished generation, and gives that for the counters and the event.
    pub(super) fn finished(&mut self, request: RequestId, finish: Finish) -> Option<Box<Generation>> {
        let Some(Client::Generation(client)) = self.waiting.remove(&request) else { return None };
        let generation = Box::new(Generation {
            model_id: client.model,
            reason: None,
            text: client.text,
            finish_reason: finish.reason,
            usage: finish.usage,
            timings: finish.timings,
            first_token_ms: client.first_text.map(|at| ms_between(client.arrived, at)),
            total_ms: ms_between(client.arrived, Instant::now()),
            conversation_id: client.conversation_id,
            conversation: None,
            tokens: finish.tokens,
            tool_calls: client.tool_calls,
            logprobs: client.logprobs,
        });
        _ = client.events.send(GenerateEvent::Finished(generation.clone()));
        Some(generation)
    }

    /// Tells the client of its embeddings. `false`: it has gone.
    pub(super) fn embedded(&mut self, request: RequestId, Vectors { vectors, prompt_tokens }: Vectors) -> bool {
        let Some(Client::Embedding(order)) = self.waiting.remove(&request) else { return false };
        let total_ms = ms_between(order.arrived, Instant::now());
        let embedding = Embedding { model_id: order.model, vectors, prompt_tokens, total_ms };
        order.reply.send(Ok(embedding)).is_ok()
    }

    pub(super) fn loaded(&mut self, request: RequestId, view: impl FnOnce(&str) -> Option<Arc<ModelView>>) {
        if let Some(Client::Load { model, reply }) = self.waiting.remove(&request) {
            let gone = || Refusal::new(mms_protocol::ErrorCode::ModelNotFound, format!("Model not found: {model}"));
            _ = reply.send(view(&model).ok_or_else(gone));
        }
    }

    pub(super) fn unloaded(&mut self, request: RequestId, was_loaded: bool) {
        if let Some(Client::Unload { model, reply }) = self.waiting.remove(&request) {
            _ = reply.send(Ok(Reply::Unloaded { model, known: true, was_loaded }));
        }
    }

    /// Gives whether the request had been let in before.
    pub(super) fn refused(&mut self, request: RequestId, refusal: Refusal) -> bool {
        match self.waiting.remove(&request) {
            Some(Client::Generation(client)) => match client.accepted {
                Some(accepted) => {
                    _ = accepted.send(Err(refusal));
                    return false;
                }
                None => _ = client.events.send(GenerateEvent::Failed(with_argument(refusal, &client.spec))),
            },
            Some(Client::Embedding(order)) => _ = order.reply.send(Err(refusal)),
            Some(Client::Load { reply, .. }) => _ = reply.send(Err(refusal)),
            Some(Client::Unload { reply, .. }) => _ = reply.send(Err(refusal)),
            Some(Client::Preload { model }) => tracing::warn!(model, %refusal, "not loaded at the start"),
            // What is guessed is nobody's request.
            Some(Client::Guess { .. }) | None => return false,
        }
        true
    }

    fn generating(&mut self, request: RequestId) -> Option<&mut Generating> {
        match self.waiting.get_mut(&request) {
            Some(Client::Generation(client)) => Some(client),
            Some(
                Client::Embedding(_)
                | Client::Load { .. }
                | Client::Unload { .. }
                | Client::Preload { .. }
                | Client::Guess { .. },
            )
            | None => None,
        }
    }
}

/// A worker that cannot keep a constraint does not know how the client named it.
fn with_argument(mut refusal: Refusal, spec: &GenerateSpec) -> Refusal {
    if refusal.details.get("argument").is_some_and(|name| name == CONSTRAINT) {
        let name = match (&spec.constraint, &spec.tools) {
            (Some(Constraint::Grammar(_)), _) => "grammar",
            (Some(Constraint::JsonSchema(_)), _) => "json_schema",
            (Some(Constraint::JsonObject), _) => "json",
            (None, Some(_)) => "tools",
            (None, None) => "logit_bias",
        };
        refusal.details.insert("argument".to_owned(), name.into());
    }
    refusal
}
