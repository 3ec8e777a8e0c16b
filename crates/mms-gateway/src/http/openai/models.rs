//! `/v1/models`: the models that can be asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use mms_protocol::view::{ModelState, ModelView};
use mms_protocol::{Operation, Profile, Reply};
use serde_json::{Value, json};

use super::{DIALECT, error};
use crate::http::Http;

/// Every model whose file is whole.
pub(super) async fn list(State(http): State<Http>) -> Response {
    match http.gateway.perform(Profile::Suite, DIALECT, Ok(Operation::ListModels)).await {
        Ok(Reply::ListModels(models)) => {
            let usable = models.iter().filter(|model| model.status != ModelState::Broken);
            let data: Vec<Value> = usable.map(|model| object(model, http.gateway.started)).collect();
            Json(json!({"object": "list", "data": data})).into_response()
        }
        other => unexpected(other),
    }
}

/// One model of the catalogue, a broken one too.
pub(super) async fn one(State(http): State<Http>, Path(id): Path<String>) -> Response {
    match http.gateway.perform(Profile::Suite, DIALECT, Ok(Operation::GetModelStatus { model: id })).await {
        Ok(Reply::ModelStatus(model)) => Json(object(&model, http.gateway.started)).into_response(),
        other => unexpected(other),
    }
}

/// OpenAI's keys, then ours. `created` is the start of this server, since files tell no better time.
fn object(model: &Arc<ModelView>, started: u64) -> Value {
    json!({
        "id": model.model_id,
        "object": "model",
        "created": started,
        "owned_by": "mms",
        "status": model.status.as_str(),
        "context_length": model.n_ctx,
        "trained_context_length": model.context_length,
        "capabilities": model.capabilities,
        "architecture": model.architecture,
        "quantization": model.quantization,
        "parameters": model.parameters,
    })
}

fn unexpected(result: Result<Reply, mms_protocol::Refusal>) -> Response {
    let refusal = result.err().unwrap_or_else(|| {
        mms_protocol::Refusal::new(mms_protocol::ErrorCode::Internal, "the catalogue gave another reply than models")
    });
    error::response(&refusal)
}
