//! The dialects on the wire and the two profiles (contract sections 1 and 2): bytes become checked operations, replies become
//! JSON. Both ways are plain functions; whatever the bytes are, there is exactly one reply.

use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::call::{LoadArgs, Operation, model};
use crate::error::{ErrorCode, Refusal};
use crate::reply::Reply;

/// Which old system's words a listener uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// ModelManagerSuite.
    #[default]
    Suite,
    /// ModelManagerAgent.
    Legacy,
}

/// How a request was put, and so how its reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"jsonrpc": "2.0", ...}`
    JsonRpc,
    /// `{"method": ...}`
    Method,
    /// `{"action": ...}`
    Action,
    /// `{"command": ...}`
    Command,
    /// `{"type": ...}`
    Type,
    /// `{"model_id": ...}` and nothing that names an operation.
    ModelRequest,
}

/// What of the request the reply needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// How it was put.
    pub dialect: Dialect,
    /// Comes back as it was.
    pub request_id: Option<Value>,
    /// JSON-RPC's id; `None` for a notification.
    pub rpc_id: Option<Value>,
    /// The reply is that of `health_check`, which shows `request_id_received` on the legacy profile.
    health_check: bool,
}

impl Envelope {
    fn plain(dialect: Dialect) -> Self {
        Self { dialect, request_id: None, rpc_id: None, health_check: false }
    }

    /// For what was read out of `object`, whose `request_id` stands where arguments may stand.
    fn of(dialect: Dialect, object: &Map<String, Value>, operation: &Result<Operation, Refusal>) -> Self {
        let beside = || object.get("params")?.get("request_id");
        let request_id = object.get("request_id").or_else(beside).cloned();
        Self { dialect, request_id, rpc_id: None, health_check: matches!(operation, Ok(Operation::HealthCheck)) }
    }
}

/// One request: how to answer it, and what it asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// How to answer.
    pub envelope: Envelope,
    /// What to do.
    pub operation: Result<Operation, Refusal>,
}

/// What a message holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Inbound {
    /// One request.
    Single(Box<Call>),
    /// A JSON-RPC batch.
    Batch(Vec<Call>),
}

/// Most requests in one JSON-RPC batch.
pub const MAX_BATCH: usize = 64;

/// Reads one message.
pub fn decode(profile: Profile, bytes: &[u8]) -> Inbound {
    let value = match crate::json::parse(bytes) {
        Ok(value) => value,
        Err(error) => return Inbound::Single(Box::new(refused(not_json(bytes, &error)))),
    };
    match value {
        Value::Object(object) => Inbound::Single(Box::new(decode_object(profile, &object))),
        Value::Array(items) if items.iter().filter_map(Value::as_object).any(is_json_rpc) => {
            if items.len() > MAX_BATCH {
                let text = format!("a batch may hold at most {MAX_BATCH} requests, this one holds {}", items.len());
                return Inbound::Single(Box::new(rpc_refused(Refusal::new(ErrorCode::InvalidRequest, text))));
            }
            Inbound::Batch(items.iter().map(|item| decode_batch_item(profile, item)).collect())
        }
        _ => Inbound::Single(Box::new(refused(not_an_object(profile)))),
    }
}

/// Reads a request whose operation is named outside of its object, as by the path of an HTTP request. It is answered like one of the
/// dialect `method`.
pub fn decode_named(profile: Profile, name: &str, arguments: &Map<String, Value>) -> Call {
    let operation = Args::of_request(arguments).and_then(|args| read_operation(name, &args, profile, Dialect::Method));
    Call { envelope: Envelope::of(Dialect::Method, arguments, &operation), operation }
}

/// A call for a message that could not even be read, such as one over the listener's limits.
pub fn refused(refusal: Refusal) -> Call {
    Call { envelope: Envelope::plain(Dialect::Action), operation: Err(refusal) }
}

/// Writes the reply to one request. `now`: epoch seconds.
pub fn encode(profile: Profile, envelope: &Envelope, result: Result<&Reply, &Refusal>, now: f64) -> Value {
    let unknown = unload_of_unknown(profile, result);
    let result = unknown.as_ref().map_or(result, Err);
    if let (Profile::Legacy, Dialect::Command, Ok(Reply::Selected(selection))) = (profile, envelope.dialect, result) {
        return selection.pair(now);
    }
    let mut reply = match (envelope.dialect, result) {
        (Dialect::JsonRpc, result) => return encode_json_rpc(profile, envelope, result, now),
        (Dialect::ModelRequest, Ok(reply)) => model_ready(reply, now),
        (Dialect::ModelRequest, Err(refusal)) => model_error(refusal, now),
        (dialect, Ok(reply)) => {
            let mut fields = Map::from_iter([("status".to_owned(), Value::from(ok_word(profile, dialect)))]);
            fields.extend(reply.fields(profile, now));
            fields
        }
        (dialect, Err(refusal)) => encode_refusal(profile, dialect, refusal),
    };
    give_back_request_id(profile, envelope, &mut reply);
    Value::Object(reply)
}

fn give_back_request_id(profile: Profile, envelope: &Envelope, reply: &mut Map<String, Value>) {
    if let Some(id) = &envelope.request_id {
        reply.insert("request_id".to_owned(), id.clone());
        if envelope.health_check && profile == Profile::Legacy {
            reply.insert("request_id_received".to_owned(), id.clone());
        }
    }
}

/// Unloading a model that nobody knows: done on the legacy profile (the old agent said so too), an error on the suite's. [`encode`]
/// writes it so; who also counts, or shows a status besides the reply, asks here.
pub fn unload_of_unknown(profile: Profile, result: Result<&Reply, &Refusal>) -> Option<Refusal> {
    match (profile, result) {
        (Profile::Suite, Ok(Reply::Unloaded { model, known: false, .. })) => {
            let shown: String = model.chars().take(80).collect();
            Some(Refusal::new(ErrorCode::ModelNotFound, format!("Model not found: {shown}")).with("model_id", shown))
        }
        _ => None,
    }
}

/// Joins the replies of a batch: notifications have none, and a batch of nothing else is answered `{}`, so that a REQ client,
/// which must get something, never hangs.
pub fn encode_batch(replies: Vec<(Envelope, Value)>) -> Value {
    let answered: Vec<Value> =
        replies.into_iter().filter(|(envelope, _)| envelope.rpc_id.is_some()).map(|(_, value)| value).collect();
    if answered.is_empty() { json!({}) } else { Value::Array(answered) }
}

fn is_json_rpc(object: &Map<String, Value>) -> bool {
    object.get("jsonrpc").is_some_and(|version| version == "2.0")
}

fn not_json(bytes: &[u8], error: &serde_json::Error) -> Refusal {
    let why = if bytes.is_empty() { "the frame is empty".to_owned() } else { crate::json::explain(bytes, error) };
    Refusal::new(ErrorCode::InvalidJson, format!("Invalid JSON: {why}; send one frame holding one JSON object"))
}

fn not_an_object(profile: Profile) -> Refusal {
    let text = match profile {
        Profile::Suite => "Invalid request format",
        Profile::Legacy => "Request must be a dictionary",
    };
    Refusal::new(ErrorCode::InvalidRequest, text)
}

fn nothing_named(profile: Profile) -> Refusal {
    let text = match profile {
        Profile::Suite => "Missing action field: name an operation in 'action', 'method', 'command' or 'type'",
        Profile::Legacy => "Missing 'command' or 'action' field",
    };
    Refusal::new(ErrorCode::InvalidRequest, text)
}

fn decode_object(profile: Profile, object: &Map<String, Value>) -> Call {
    if is_json_rpc(object) {
        return decode_json_rpc(profile, object);
    }
    let named = [
        ("method", Dialect::Method),
        ("action", Dialect::Action),
        ("command", Dialect::Command),
        ("type", Dialect::Type),
    ]
    .into_iter()
    .find_map(|(key, dialect)| Some((key, dialect, object.get(key).filter(|name| !name.is_null())?)));
    let (key, dialect, name) = match named {
        Some(("command", _, Value::String(word)))
            if word.eq_ignore_ascii_case("process") && object.get("type").is_some_and(|name| !name.is_null()) =>
        {
            ("type", Dialect::Type, &object["type"])
        }
        Some(found) => found,
        None if object.contains_key("model_id") => return decode_model_request(object),
        None => {
            let operation = Err(nothing_named(profile));
            return Call { envelope: Envelope::of(Dialect::Action, object, &operation), operation };
        }
    };
    let operation = match name {
        Value::String(name) => Args::of_request(object).and_then(|args| read_operation(name, &args, profile, dialect)),
        other => Err(Refusal::invalid(key, "the name of an operation", other)),
    };
    Call { envelope: Envelope::of(dialect, object, &operation), operation }
}

fn read_operation(name: &str, args: &Args<'_>, profile: Profile, dialect: Dialect) -> Result<Operation, Refusal> {
    Operation::read(name, args, profile).unwrap_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        let text = match dialect {
            Dialect::JsonRpc => format!("Method not found: {shown}"),
            Dialect::Method | Dialect::Action | Dialect::ModelRequest => format!("Unknown action: {shown}"),
            Dialect::Command => format!("Unknown command: {shown}"),
            Dialect::Type => format!("Unknown request type: {shown}"),
        };
        Err(Refusal::new(ErrorCode::UnknownOperation, text))
    })
}

fn decode_model_request(object: &Map<String, Value>) -> Call {
    let read = || {
        let args = Args::of_request(object)?;
        let model = model(&args)?.ok_or_else(|| Refusal::missing("model_id required"))?;
        let level = object.get("context").and_then(|context| context.get("quantization_level"));
        let quantization_level = match level {
            None | Some(Value::Null) => None,
            Some(Value::String(level)) => Some(level.clone()),
            Some(other) => return Err(Refusal::invalid("context.quantization_level", "a string", other)),
        };
        Ok(Operation::LoadModel(LoadArgs { quantization_level, ..LoadArgs::of(model) }))
    };
    let operation = read();
    Call { envelope: Envelope::of(Dialect::ModelRequest, object, &operation), operation }
}

fn decode_batch_item(profile: Profile, item: &Value) -> Call {
    match item {
        Value::Object(object) if is_json_rpc(object) => decode_json_rpc(profile, object),
        _ => rpc_refused(Refusal::new(ErrorCode::InvalidRequest, "Invalid Request: not a JSON-RPC 2.0 object")),
    }
}

fn rpc_refused(refusal: Refusal) -> Call {
    let envelope = Envelope { rpc_id: Some(Value::Null), ..Envelope::plain(Dialect::JsonRpc) };
    Call { envelope, operation: Err(refusal) }
}

fn decode_json_rpc(profile: Profile, object: &Map<String, Value>) -> Call {
    let rpc_id = match object.get("id") {
        None => None,
        Some(id @ (Value::Null | Value::String(_) | Value::Number(_))) => Some(id.clone()),
        Some(other) => {
            let refusal = Refusal::invalid("Invalid Request: id", "a string, a number or null", other);
            return rpc_refused(Refusal::new(ErrorCode::InvalidRequest, refusal.message));
        }
    };
    let operation = match object.get("method") {
        Some(Value::String(name)) => {
            Args::of_request(object).and_then(|args| read_operation(name, &args, profile, Dialect::JsonRpc))
        }
        _ => Err(Refusal::new(ErrorCode::InvalidRequest, "Invalid Request: method must be a string")),
    };
    Call { envelope: Envelope { rpc_id, ..Envelope::of(Dialect::JsonRpc, object, &operation) }, operation }
}

fn ok_word(profile: Profile, dialect: Dialect) -> &'static str {
    match (dialect, profile) {
        (Dialect::Command, _) => "SUCCESS",
        (Dialect::ModelRequest, _) => "MODEL_READY",
        (Dialect::Action | Dialect::Method, Profile::Legacy) => "ok",
        (Dialect::Type, Profile::Legacy) => "success",
        (Dialect::Action | Dialect::Method | Dialect::Type | Dialect::JsonRpc, _) => "success",
    }
}

fn error_object(refusal: &Refusal) -> Map<String, Value> {
    let mut error = Map::from_iter([
        ("code".to_owned(), Value::from(refusal.code.as_str())),
        ("message".to_owned(), Value::from(refusal.message.clone())),
    ]);
    error.extend(refusal.details.clone());
    error
}

fn encode_refusal(profile: Profile, dialect: Dialect, refusal: &Refusal) -> Map<String, Value> {
    let word = if dialect == Dialect::Command { "ERROR" } else { "error" };
    let mut fields = Map::from_iter([
        ("status".to_owned(), Value::from(word)),
        ("message".to_owned(), Value::from(refusal.message.clone())),
    ]);
    match (profile, dialect) {
        (Profile::Suite, _) => {
            fields.insert("error".to_owned(), Value::Object(error_object(refusal)));
        }
        (Profile::Legacy, Dialect::Type) => {
            fields.insert("error".to_owned(), Value::from(refusal.message.clone()));
            fields.insert("error_code".to_owned(), Value::from(refusal.code.as_str()));
        }
        (Profile::Legacy, _) => {
            fields.insert("error_code".to_owned(), Value::from(refusal.code.as_str()));
        }
    }
    fields
}

fn encode_json_rpc(profile: Profile, envelope: &Envelope, result: Result<&Reply, &Refusal>, now: f64) -> Value {
    let Some(id) = &envelope.rpc_id else { return json!({}) };
    match result {
        Ok(reply) => {
            let mut fields = reply.fields(profile, now);
            if !fields.contains_key("status") {
                fields.insert("status".to_owned(), Value::from(ok_word(profile, Dialect::Method)));
            }
            give_back_request_id(profile, envelope, &mut fields);
            json!({"jsonrpc": "2.0", "id": id, "result": fields})
        }
        Err(refusal) => {
            let mut data = Map::from_iter([("code".to_owned(), Value::from(refusal.code.as_str()))]);
            data.extend(refusal.details.clone());
            give_back_request_id(profile, envelope, &mut data);
            let error = json!({"code": refusal.code.json_rpc(), "message": refusal.message, "data": data});
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        }
    }
}

fn model_ready(reply: &Reply, now: f64) -> Map<String, Value> {
    let mut fields = Map::from_iter([("status".to_owned(), Value::from("MODEL_READY"))]);
    if let Reply::Loaded(model) = reply {
        fields.insert("model_id".to_owned(), Value::from(model.model_id.clone()));
        fields.insert(
            "access_info".to_owned(),
            json!({
                "message": format!("Model {} is ready", model.model_id),
                "model_path_from_config": model.model_path,
                "vram_allocated_mb": crate::reply::mb(model.held_mb()),
                "quantization_level": model.quantization,
                "priority": model.priority,
            }),
        );
    }
    fields.insert("timestamp".to_owned(), Value::from(crate::time::iso_utc(now)));
    fields
}

fn model_error(refusal: &Refusal, now: f64) -> Map<String, Value> {
    Map::from_iter([
        ("status".to_owned(), Value::from("ERROR_LOADING_MODEL")),
        ("message".to_owned(), Value::from(refusal.message.clone())),
        ("error_message".to_owned(), Value::from(refusal.message.clone())),
        ("error_code".to_owned(), Value::from(refusal.code.model_request())),
        ("error".to_owned(), Value::Object(error_object(refusal))),
        ("timestamp".to_owned(), Value::from(crate::time::iso_utc(now))),
    ])
}
