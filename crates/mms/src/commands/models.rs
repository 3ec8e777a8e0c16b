//! `mms models`: the catalogue, and making models resident or not.

use mms_client::ClientError;
use serde_json::{Map, Value, json};

use super::ask::{PATIENT, QUICK, Server, args, number, text};
use super::wait::Waiting;
use crate::cli::{ModelTarget, ModelsAction, ModelsCommand, Target};
use crate::exit::Failure;
use crate::output::{count, mebibytes, pairs, table};

pub(super) async fn run(command: &ModelsCommand) -> Result<(), Failure> {
    match &command.action {
        None => list(&command.target).await,
        Some(ModelsAction::List(target)) => list(target).await,
        Some(ModelsAction::Show(model)) => show(model).await,
        Some(ModelsAction::Load(model)) => load(model).await,
        Some(ModelsAction::Unload(model)) => unload(model).await,
        Some(ModelsAction::Select { task, context, target }) => select(task, *context, target).await,
    }
}

async fn list(target: &Target) -> Result<(), Failure> {
    let server = Server::of(target)?;
    let reply = server.call("list_models", Map::new(), QUICK).await?;
    let models = reply.get("models").cloned().unwrap_or_default();
    Ok(server.output.either(&models, || {
        let rows: Vec<_> = models.as_array().into_iter().flatten().filter_map(Value::as_object).map(row).collect();
        if rows.is_empty() {
            return "no models; put GGUF files into a models folder of the server".to_owned();
        }
        let titles = ["MODEL", "STATE", "ARCH", "PARAMS", "QUANT", "CONTEXT", "MEMORY", ""];
        table(&titles, rows, &[3, 5, 6])
    })?)
}

fn row(model: &Map<String, Value>) -> Vec<String> {
    // A broken file tells neither.
    let known = |shown: String| if text(model, "architecture").is_empty() { String::new() } else { shown };
    let held = ["measured_mb", "estimated_vram_mb"].iter().map(|key| number(model, key)).find(|mb| *mb > 0.0);
    vec![
        text(model, "model_id").to_owned(),
        text(model, "status").to_owned(),
        text(model, "architecture").to_owned(),
        known(count(number(model, "parameters") as u64)),
        text(model, "quantization").to_owned(),
        known(format!("{}", number(model, "n_ctx"))),
        held.map(mebibytes).unwrap_or_default(),
        text(model, "message").to_owned(),
    ]
}

async fn show(model: &ModelTarget) -> Result<(), Failure> {
    let server = Server::of(&model.target)?;
    let reply = server.call("get_model_status", args([("model", model.model.as_str().into())]), QUICK).await?;
    let info = reply.get("model_info").and_then(Value::as_object).cloned().unwrap_or_default();
    Ok(server.output.either(&Value::Object(info.clone()), || {
        let shown: Vec<(&str, String)> = info.iter().map(|(key, value)| (key.as_str(), plain(value))).collect();
        pairs(&shown)
    })?)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

async fn load(model: &ModelTarget) -> Result<(), Failure> {
    let server = Server::of(&model.target)?;
    let id = model.model.as_str();
    let mut waiting = Waiting::new(&server, id, &format!("loading {id}"));
    let reply = waiting.during(server.call("load_model", args([("model", id.into())]), PATIENT)).await;
    drop(waiting);
    let reply = reply?;
    Ok(server.output.either(&Value::Object(reply.clone()), || {
        format!(
            "{} in {} ms, {} on {}",
            text(&reply, "message"),
            number(&reply, "load_ms"),
            mebibytes(number(&reply, "vram_mb")),
            text(&reply, "device"),
        )
    })?)
}

async fn unload(model: &ModelTarget) -> Result<(), Failure> {
    let server = Server::of(&model.target)?;
    let reply = server.call("unload_model", args([("model", model.model.as_str().into())]), PATIENT).await?;
    let json = Value::Object(reply.clone());
    Ok(server.output.either(&json, || text(&reply, "message").to_owned())?)
}

async fn select(task: &str, context: Option<u32>, target: &Target) -> Result<(), Failure> {
    let server = Server::of(target)?;
    let given = args([("task_type", task.into()), ("context_size", context.into())]);
    let reply = server.call("select_model", given, QUICK).await?;
    Ok(server.output.either(&Value::Object(reply.clone()), || {
        format!("{}\n{}", text(&reply, "selected_model"), text(&reply, "reason"))
    })?)
}

/// Whether a model is resident now.
pub(super) async fn is_loaded(client: &mut mms_client::Client, id: &str) -> Result<bool, ClientError> {
    let reply = client.call("get_model_status", args([("model", id.into())])).await?;
    Ok(reply.get("is_loaded") == Some(&json!(true)))
}
