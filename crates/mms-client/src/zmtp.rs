//! Calls over ZMTP: one JSON object in one frame, one back.

use std::time::Duration;

use bytes::Bytes;
use mms_protocol::{ErrorCode, Refusal};
use mms_zmtp::ClientOptions;
use serde_json::{Map, Value};

use crate::error::ClientError;

/// Words with which a reply says that the request was not done, on either profile and in every dialect.
const FAILED: [&str; 3] = ["error", "ERROR", "ERROR_LOADING_MODEL"];

/// A connection to a main port or a health port. It is made anew when it was lost.
#[derive(Debug)]
pub struct Client {
    endpoint: String,
    socket: mms_zmtp::Client,
    timeout: Duration,
}

impl Client {
    /// Connects to `tcp://host:port` or `host:port`. `timeout` holds for the TCP connection, for the handshake, and then for each
    /// request.
    pub async fn connect(endpoint: &str, timeout: Duration) -> Result<Self, ClientError> {
        let options =
            ClientOptions { connect_timeout: timeout, handshake_timeout: timeout, ..ClientOptions::default() };
        // The outer bound is for what the inner ones do not cover, such as a name server that does not answer.
        let connecting = tokio::time::timeout(timeout * 2, mms_zmtp::Client::connect(endpoint, options));
        match connecting.await {
            Ok(Ok(socket)) => Ok(Self { endpoint: endpoint.to_owned(), socket, timeout }),
            Ok(Err(error)) => Err(ClientError::of_connect(endpoint, error)),
            Err(_elapsed) => Err(ClientError::Timeout {
                endpoint: endpoint.to_owned(),
                after: timeout * 2,
                what: "connection".to_owned(),
            }),
        }
    }

    /// The endpoint as it was given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The time that each further request has.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Asks for `operation` in the action dialect. A reply that says `error` is given as [`ClientError::Refused`].
    pub async fn call(&mut self, operation: &str, args: Map<String, Value>) -> Result<Map<String, Value>, ClientError> {
        let mut request = Map::from_iter([("action".to_owned(), Value::from(operation))]);
        request.extend(args);
        self.ask(operation, &Value::Object(request)).await
    }

    /// Asks for `operation` in the method dialect, its arguments under `params`.
    pub async fn call_method(
        &mut self,
        operation: &str,
        params: Map<String, Value>,
    ) -> Result<Map<String, Value>, ClientError> {
        self.ask(operation, &serde_json::json!({"method": operation, "params": params})).await
    }

    /// Asks a health port: the health object, whatever it says about the server's health.
    pub async fn health(&mut self) -> Result<Map<String, Value>, ClientError> {
        let reply = self.send_json("health", &serde_json::json!({"action": "health_check"})).await?;
        self.object("health", reply)
    }

    /// Sends any JSON and gives back the JSON of the reply; `what` names it in errors.
    pub async fn send_json(&mut self, what: &str, request: &Value) -> Result<Value, ClientError> {
        let frames = self.request_named(what, vec![Bytes::from(request.to_string())]).await?;
        let [body] = frames.as_slice() else {
            return Err(self.protocol(format!("{what}: the reply has {} frames, 1 was expected", frames.len())));
        };
        serde_json::from_slice(body).map_err(|error| self.protocol(format!("{what}: the reply is not JSON: {error}")))
    }

    /// Sends frames as they are and gives back those of the reply.
    pub async fn request_raw(&mut self, frames: Vec<Bytes>) -> Result<Vec<Bytes>, ClientError> {
        self.request_named("request", frames).await
    }

    async fn ask(&mut self, operation: &str, request: &Value) -> Result<Map<String, Value>, ClientError> {
        let reply = self.send_json(operation, request).await?;
        let reply = self.object(operation, reply)?;
        match refusal_in(&reply) {
            Some(refusal) => Err(ClientError::Refused(refusal)),
            None => Ok(reply),
        }
    }

    async fn request_named(&mut self, what: &str, frames: Vec<Bytes>) -> Result<Vec<Bytes>, ClientError> {
        let outcome = self.socket.request(frames, self.timeout).await;
        outcome.map_err(|error| ClientError::of_request(&self.endpoint, what, error))
    }

    fn object(&self, what: &str, reply: Value) -> Result<Map<String, Value>, ClientError> {
        match reply {
            Value::Object(object) => Ok(object),
            other => Err(self.protocol(format!("{what}: the reply is not a JSON object: {other}"))),
        }
    }

    fn protocol(&self, why: String) -> ClientError {
        ClientError::Protocol { endpoint: self.endpoint.clone(), why }
    }
}

/// The refusal that a reply carries, on either profile; `None` when it is an answer.
pub fn refusal_in(reply: &Map<String, Value>) -> Option<Refusal> {
    let status = reply.get("status").and_then(Value::as_str)?;
    if !FAILED.contains(&status) {
        return None;
    }
    let error = reply.get("error").and_then(Value::as_object);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let message = text(reply.get("message"))
        .or_else(|| text(reply.get("error_message")))
        .or_else(|| text(error.and_then(|error| error.get("message"))))
        .or_else(|| text(reply.get("error")))
        .unwrap_or_else(|| format!("the server gave no reason: {}", Value::Object(reply.clone())));
    let code = text(error.and_then(|error| error.get("code")))
        .or_else(|| text(reply.get("error_code")))
        .and_then(|code| ErrorCode::from_name(&code))
        .unwrap_or(ErrorCode::Internal);
    let mut refusal = Refusal::new(code, message);
    for (key, value) in error.into_iter().flatten().filter(|(key, _)| !matches!(key.as_str(), "code" | "message")) {
        refusal = refusal.with(key, value.clone());
    }
    Some(refusal)
}

#[cfg(test)]
mod tests {
    use mms_protocol::dialect::{Call, encode, refused};
    use mms_protocol::{ErrorCode, Inbound, Profile, Refusal, decode};
    use serde_json::{Value, json};

    use super::refusal_in;

    #[test]
    fn reads_the_refusals_of_both_profiles_and_every_dialect() {
        let refusal = Refusal::new(ErrorCode::ContextExceeded, "too long").with("context_length", 512);
        for profile in [Profile::Suite, Profile::Legacy] {
            for key in ["method", "action", "command", "type"] {
                let bytes = json!({ key: "ping" }).to_string();
                let Inbound::Single(call) = decode(profile, bytes.as_bytes()) else { panic!("one request") };
                let Value::Object(reply) = encode(profile, &call.envelope, Err(&refusal), 0.0) else { panic!() };
                let read = refusal_in(&reply).expect("a refusal");
                assert_eq!((read.code, read.message.as_str()), (ErrorCode::ContextExceeded, "too long"), "{reply:?}");
                if profile == Profile::Suite {
                    assert_eq!(read.details["context_length"], 512);
                }
            }
        }
    }

    #[test]
    fn an_answer_is_no_refusal() {
        for status in ["success", "ok", "SUCCESS", "healthy", "degraded", "MODEL_READY"] {
            let Value::Object(reply) = json!({"status": status, "message": "error"}) else { panic!() };
            assert_eq!(refusal_in(&reply), None);
        }
    }

    #[test]
    fn a_refusal_without_a_reason_shows_the_whole_reply() {
        let Value::Object(reply) = json!({"status": "error", "x": 1}) else { panic!() };
        assert!(refusal_in(&reply).expect("a refusal").message.contains("\"x\":1"));
    }

    #[test]
    fn the_model_request_has_its_own_words() {
        let Call { envelope, .. } = refused(Refusal::missing("x"));
        assert_eq!(envelope.request_id, None);
        let Inbound::Single(call) = decode(Profile::Legacy, br#"{"model_id": "m"}"#) else { panic!("one request") };
        let refusal = Refusal::new(ErrorCode::ModelNotFound, "no model m");
        let Value::Object(reply) = encode(Profile::Legacy, &call.envelope, Err(&refusal), 0.0) else { panic!() };
        assert_eq!(refusal_in(&reply).expect("a refusal").code, ErrorCode::ModelNotFound);
    }
}
