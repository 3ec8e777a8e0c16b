//! OpenAI's interface: models, chat completions and completions, whole or streamed. What a parameter means and may be is read by
//! the same code as for every other door; this module only knows OpenAI's names and shapes.

mod answer;
mod chat;
mod completions;
pub(super) mod error;
mod messages;
mod models;
mod params;
mod sse;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, body::Body};
use mms_protocol::{ErrorCode, Operation, Profile, Refusal, Reply};
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
        Ok(asked) if asked.stream => streamed(http, asked, kind, peer).await,
        Ok(asked) => whole(http, asked, kind).await,
        // Counted like every other refusal.
        Err(refusal) => {
            http.gateway.perform(Profile::Suite, DIALECT, Err(refusal)).await.map(|_| Body::empty().into_response())
        }
    };
    result.unwrap_or_else(|refusal| error::response(&refusal))
}

async fn whole(http: &Http, asked: Asked, kind: Kind) -> Result<Response, Refusal> {
    let answer = Answer::new(kind);
    match http.gateway.perform(Profile::Suite, DIALECT, Ok(Operation::Generate(asked.args))).await? {
        Reply::Generated(generation) => Ok(Json(answer.whole(&generation)).into_response()),
        _ => Err(Refusal::new(ErrorCode::Internal, "the generation gave another reply than a generation")),
    }
}

async fn streamed(http: &Http, asked: Asked, kind: Kind, peer: Option<Peer>) -> Result<Response, Refusal> {
    let tokens = http.gateway.generate(DIALECT, asked.args).await?;
    sse::response(tokens, Answer::new(kind), asked.include_usage, Waiting::with(peer)).await
}
