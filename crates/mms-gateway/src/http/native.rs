//! Every operation as `POST /api/v1/{operation}` with a JSON object of arguments; replies are those of the dialect `method` on the
//! suite profile, the HTTP status tells a refusal's kind.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, routing::post};
use mms_protocol::dialect::decode_named;
use mms_protocol::{Profile, encode};

use super::{Http, body, error};
use crate::gateway::now;

pub(super) fn routes() -> Router<Http> {
    Router::new().route("/api/v1/{operation}", post(operation))
}

async fn operation(State(http): State<Http>, Path(name): Path<String>, request: Request) -> Response {
    let arguments = match body::object(request, &http.body).await {
        Ok(arguments) => arguments,
        Err(refusal) => {
            let refused = http.gateway.perform(Profile::Suite, "http", Err(refusal.clone())).await;
            return error::response(refused.as_ref().err().unwrap_or(&refusal));
        }
    };
    let call = decode_named(Profile::Suite, &name, &arguments);
    let result = http.gateway.perform(Profile::Suite, "http", call.operation).await;
    let reply = encode(Profile::Suite, &call.envelope, result.as_ref(), now());
    match &result {
        Ok(_) => (StatusCode::OK, Json(reply)).into_response(),
        Err(refusal) => error::with_status(error::status(refusal), refusal, reply),
    }
}
