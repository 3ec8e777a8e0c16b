//! `mms generate`: one prompt, one answer.

use std::path::Path;

use futures::StreamExt;
use mms_client::{ClientError, HttpReply};
use mms_protocol::{ErrorCode, Refusal};
use serde_json::{Map, Value, json};

use super::ask::{PATIENT, Server, given_text, text};
use super::wait::Waiting;
use crate::cli::{ConstraintArgs, GenerateCommand, SamplingArgs};
use crate::exit::Failure;
use crate::output;

/// The preference of a request that names no model.
const DEFAULT_MODEL: &str = "fast";

pub(super) async fn run(command: &GenerateCommand) -> Result<(), Failure> {
    let prompt = given_text(&command.prompt)?;
    if prompt.trim().is_empty() {
        return Err(Failure::Usage("the prompt is empty".to_owned()));
    }
    let mut request = sampling(&command.sampling);
    request.extend(constraint(&command.constraint)?);
    request.extend(command.keep_alive.as_deref().map(|time| ("keep_alive".to_owned(), time.into())));
    let conversation = command.conversation.as_deref();
    request.extend(conversation.map(|id| ("conversation_id".to_owned(), id.into())));
    let server = Server::of(&command.target)?;
    if command.stream {
        request.insert("model".to_owned(), model_of(&command.sampling));
        let mut messages = system_message(&command.sampling);
        messages.push(json!({"role": "user", "content": prompt}));
        stream_chat(&server, request, &messages).await?;
        return Ok(output::piece("\n")?);
    }
    let mut args = request;
    args.insert("prompt".to_owned(), prompt.into());
    if let Some(model) = &command.sampling.model {
        args.insert("model_pref".to_owned(), model.as_str().into());
    }
    if let Some(system) = &command.sampling.system {
        args.insert("system_prompt".to_owned(), system.as_str().into());
    }
    let wanted = command.sampling.model.as_deref().unwrap_or(DEFAULT_MODEL);
    let mut waiting = Waiting::new(&server, wanted, "generating");
    let reply = waiting.during(server.call("generate", args, PATIENT)).await;
    drop(waiting);
    let reply = reply?;
    Ok(server.output.either(&Value::Object(reply.clone()), || text(&reply, "text").to_owned())?)
}

/// The model of an OpenAI request.
pub(super) fn model_of(given: &SamplingArgs) -> Value {
    given.model.as_deref().unwrap_or(DEFAULT_MODEL).into()
}

/// What the answer must look like, when it was said.
fn constraint(given: &ConstraintArgs) -> Result<Option<(String, Value)>, Failure> {
    let read = |file: &Path| {
        std::fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))
    };
    let schema = match &given.json_schema {
        None => None,
        Some(file) => Some(
            serde_json::from_str::<Value>(&read(file)?)
                .map_err(|error| Failure::Usage(format!("{} is no JSON: {error}", file.display())))?,
        ),
    };
    let grammar = given.grammar.as_deref().map(read).transpose()?.map(Value::from);
    let object = given.json_object.then_some(Value::Bool(true));
    let given = [("json_schema", schema), ("grammar", grammar), ("json", object)];
    Ok(given.into_iter().find_map(|(key, value)| Some((key.to_owned(), value?))))
}

/// The settings that were given.
pub(super) fn sampling(given: &SamplingArgs) -> Map<String, Value> {
    let mut args = Map::new();
    let numbers = [
        ("temperature", given.temperature),
        ("top_p", given.top_p),
        ("min_p", given.min_p),
        ("repeat_penalty", given.repeat_penalty),
    ];
    args.extend(numbers.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
    let integers = [("max_tokens", given.max_tokens), ("top_k", given.top_k), ("seed", given.seed)];
    args.extend(integers.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
    if !given.stop.is_empty() {
        args.insert("stop".to_owned(), given.stop.clone().into());
    }
    args
}

/// The instructions above a conversation, when there are any.
pub(super) fn system_message(given: &SamplingArgs) -> Vec<Value> {
    given.system.iter().map(|system| json!({"role": "system", "content": system})).collect()
}

/// Prints the answer to a conversation while it comes, and gives it whole. `request`: the model and settings. Dropping the future cancels the generation.
pub(super) async fn stream_chat(
    server: &Server,
    request: Map<String, Value>,
    messages: &[Value],
) -> Result<String, Failure> {
    let mut body = request;
    body.insert("messages".to_owned(), messages.to_vec().into());
    body.insert("stream".to_owned(), true.into());
    let http = server.http(PATIENT)?;
    let mut waiting = Some(Waiting::new(server, text(&body, "model"), "generating"));
    let body = Value::Object(body);
    let mut lines = match during(&mut waiting, http.post_sse("/v1/chat/completions", &body)).await? {
        Ok(lines) => lines,
        Err(reply) => return Err(ClientError::Refused(refusal_of(&reply)).into()),
    };
    let mut answer = String::new();
    while let Some(line) = during(&mut waiting, lines.next()).await {
        let line = line?;
        if line == "[DONE]" {
            return Ok(answer);
        }
        let chunk: Value =
            serde_json::from_str(&line).map_err(|error| broken(server, &format!("{error} in {line}")))?;
        if let Some(error) = chunk.get("error") {
            return Err(ClientError::Refused(refusal_in(error)).into());
        }
        if let Some(text) = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str) {
            // The text takes the place of what was shown of the wait for it.
            waiting = waiting.filter(|_| text.is_empty());
            output::piece(text)?;
            answer.push_str(text);
        }
    }
    Err(broken(server, "the answer ended without [DONE]"))
}

async fn during<T>(waiting: &mut Option<Waiting<'_>>, work: impl Future<Output = T>) -> T {
    match waiting {
        Some(waiting) => waiting.during(work).await,
        None => work.await,
    }
}

fn broken(server: &Server, why: &str) -> Failure {
    ClientError::Protocol { endpoint: server.endpoints.http.clone(), why: why.to_owned() }.into()
}

/// The refusal that a whole HTTP reply stands for.
pub(super) fn refusal_of(reply: &HttpReply) -> Refusal {
    let json = reply.json().unwrap_or_default();
    match json.get("error") {
        Some(error) => refusal_in(error),
        None => {
            let text = String::from_utf8_lossy(&reply.body);
            Refusal::new(ErrorCode::Internal, format!("HTTP status {}: {}", reply.status, text.trim()))
        }
    }
}

/// The refusal in an error object of OpenAI's shape.
pub(super) fn refusal_in(error: &Value) -> Refusal {
    let code = error.get("code").and_then(Value::as_str).and_then(ErrorCode::from_name);
    let message = error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned);
    Refusal::new(code.unwrap_or(ErrorCode::Internal), message)
}
