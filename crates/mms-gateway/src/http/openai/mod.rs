//! OpenAI's interface: models, chat completions and completions, whole or streamed. What a parameter means and may be is read by
//! the same code as for every other door; this module only knows OpenAI's names and shapes.

mod answer;
mod chat;
mod completions;
mod embeddings;
pub(super) mod error;
mod format;
mod logprobs;
mod models;
mod params;
mod sse;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::{Stream, StreamExt};
use mms_manager::GenerateEvent;
use mms_protocol::view::Generation;
use mms_protocol::{ErrorCode, Profile, Refusal};
use serde_json::{Map, Value};

use self::answer::{Answer, Kind};
use self::params::Asked;
use self::sse::Waiting;
use super::{Http, body};
use crate::peer::Peer;

/// How metrics call this door.
const DIALECT: &str = "openai";

pub(super) fn routes() -> Router<Http> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
}

async fn chat_completions(State(http): State<Http>, request: Request) -> Response {
    respond(&http, request, Kind::Chat, chat::read).await
}

async fn completions(State(http): State<Http>, request: Request) -> Response {
    respond(&http, request, Kind::Completion, completions::read).await
}

async fn respond(
    http: &Http,
    request: Request,
    kind: Kind,
    read: fn(&Map<String, Value>) -> Result<Asked, Refusal>,
) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let asked = body::object(request, &http.body).await.and_then(|object| read(&object));
    let result = match asked {
        Ok(asked) => answered(http, asked, kind, peer).await,
        // Counted like every other refusal.
        Err(refusal) => match http.gateway.perform(Profile::Suite, DIALECT, Err(refusal)).await {
            Err(refusal) => Err(refusal),
            Ok(_) => Err(without_result()),
        },
    };
    result.unwrap_or_else(|refusal| error::response(&refusal))
}

async fn answered(http: &Http, asked: Asked, kind: Kind, peer: Option<Peer>) -> Result<Response, Refusal> {
    let answer = Answer::new(kind, &asked);
    let Asked { choices, stream, include_usage, constraint_name, .. } = asked;
    let count = choices.len();
    let events = http.gateway.generate(DIALECT, choices).await?.map(move |(index, event)| match event {
        GenerateEvent::Failed(refusal) => (index, GenerateEvent::Failed(renamed(refusal, constraint_name))),
        other => (index, other),
    });
    if stream {
        return sse::response(events, answer, include_usage, Waiting::with(peer)).await;
    }
    Ok(Json(answer.whole(&collected(events, count).await?)).into_response())
}

/// The generations of all choices, in the order of their indices.
async fn collected(
    mut events: impl Stream<Item = (usize, GenerateEvent)> + Unpin,
    count: usize,
) -> Result<Vec<Box<Generation>>, Refusal> {
    let mut generations: Vec<Option<Box<Generation>>> = vec![None; count];
    while let Some((index, event)) = events.next().await {
        match event {
            GenerateEvent::Started { .. } | GenerateEvent::Text { .. } | GenerateEvent::ToolCall(_) => {}
            GenerateEvent::Finished(generation) => {
                if let Some(place) = generations.get_mut(index) {
                    *place = Some(generation);
                }
            }
            GenerateEvent::Failed(refusal) => return Err(refusal),
        }
    }
    generations.into_iter().collect::<Option<Vec<_>>>().ok_or_else(without_result)
}

/// A constraint that cannot be kept is called by the name that the request had for it.
fn renamed(mut refusal: Refusal, constraint_name: Option<&'static str>) -> Refusal {
    let ours = refusal.details.get("argument").is_some_and(|name| name == "json" || name == "json_schema");
    if let (true, Some(name)) = (ours, constraint_name) {
        refusal.details.insert("argument".to_owned(), name.into());
    }
    refusal
}

fn without_result() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the generation ended without a result")
}
