//! For those who watch the server: health, readiness, liveness, metrics, and an index of what there is.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mms_protocol::reply::health_object;
use mms_protocol::view::HealthView;
use mms_protocol::{ErrorCode, Operation, Refusal};
use serde_json::{Value, json};

use super::{Http, error};
use crate::gateway::now;

pub(super) fn routes() -> Router<Http> {
    Router::new()
        .route("/", get(index))
        .route("/health", get(health))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/livez", get(livez))
        .route("/metrics", get(metrics))
}

/// 200 when ready, else 503.
fn ready_status(health: &HealthView) -> StatusCode {
    if health.ready && !health.draining { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Everything about the server's health.
async fn health(State(http): State<Http>) -> Response {
    let health = http.gateway.manager.health();
    (ready_status(&health), Json(health_object(&health, now()))).into_response()
}

/// The level in short.
async fn healthz(State(http): State<Http>) -> Response {
    let health = http.gateway.manager.health();
    let body = json!({"status": health.level().as_str(), "ready": health.ready, "message": health.message()});
    (ready_status(&health), Json(body)).into_response()
}

/// May requests be sent here? When not, why.
async fn readyz(State(http): State<Http>) -> Response {
    let health = http.gateway.manager.health();
    let failing: Vec<Value> = health
        .checks
        .iter()
        .filter(|check| check.required && !check.ok)
        .map(|check| json!({"name": check.name, "detail": check.detail}))
        .collect();
    let status = ready_status(&health);
    let body = json!({"ready": status == StatusCode::OK, "message": health.message(), "failing": failing});
    (status, Json(body)).into_response()
}

/// The process answers; whether it is of use, `/readyz` tells.
async fn livez(State(http): State<Http>) -> Response {
    let health = http.gateway.manager.health();
    Json(json!({"alive": true, "uptime": health.uptime_s})).into_response()
}

async fn metrics(State(http): State<Http>) -> Response {
    match http.gateway.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(fault) => {
            error::response(&Refusal::new(ErrorCode::Internal, format!("the metrics cannot be written: {fault}")))
        }
    }
}

/// What there is.
async fn index(State(http): State<Http>) -> Response {
    let health = http.gateway.manager.health();
    let operations: Vec<String> = Operation::NAMES.iter().map(|name| format!("POST /api/v1/{name}")).collect();
    Json(json!({
        "agent": health.agent,
        "version": health.version,
        "status": health.level().as_str(),
        "events": ["GET /events"],
        "health": ["GET /health", "GET /healthz", "GET /readyz", "GET /livez", "GET /metrics"],
        "openai": [
            "GET /v1/models",
            "GET /v1/models/{id}",
            "POST /v1/chat/completions",
            "POST /v1/completions",
            "POST /v1/embeddings",
        ],
        "operations": operations,
    }))
    .into_response()
}
