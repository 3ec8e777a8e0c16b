//! Registration with a SystemDigitalTwin: a request over ZeroMQ, made once the server is ready and from time to time again, as a twin
//! that was restarted knows nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mms_zmtp::{Client, ClientOptions};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::now;
use crate::part::Part;

/// Largest reply that is read.
const MAX_REPLY: u64 = 1 << 20;
/// Most of a reply that is shown.
const SHOWN: usize = 200;

/// Where the twin is.
#[derive(Debug, Clone, PartialEq)]
pub struct TwinConfig {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where this server says that it runs.
    pub location: String,
    /// Between two registrations.
    pub refresh: Duration,
    /// Time for the connection, and for the reply.
    pub timeout: Duration,
}

/// The task that registers.
pub(crate) struct Twin {
    pub(crate) config: TwinConfig,
    pub(crate) identity: Identity,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) part: Arc<Part>,
    pub(crate) stop: CancellationToken,
}

impl Twin {
    /// Registers until `stop`.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.keep_registered()).await;
    }

    async fn keep_registered(&mut self) {
        let mut backoff = Backoff::new();
        // The sender is gone only when the server ends.
        while self.ready.wait_for(|ready| *ready).await.is_ok() {
            let pause = match self.register().await {
                Ok(()) => {
                    backoff.reset();
                    self.part.works(format!("{}: registered as {}", self.endpoint(), self.identity.agent));
                    self.config.refresh
                }
                Err(why) => {
                    self.part.fails(why);
                    backoff.pause()
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn endpoint(&self) -> String {
        let host = &self.config.host;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        format!("tcp://{host}:{}", self.config.port)
    }

    async fn register(&self) -> Result<(), String> {
        let endpoint = self.endpoint();
        let mut options = ClientOptions {
            connect_timeout: self.config.timeout,
            handshake_timeout: self.config.timeout,
            ..ClientOptions::default()
        };
        options.limits.max_message = MAX_REPLY;
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = self.identity.twin_request(&self.config.location, &request_id, now());
        let mut client = Client::connect(&endpoint, options).await.map_err(|error| {
            format!("{endpoint} cannot be reached: {error}; start it, or correct digital_twin.host and port (DIGITAL_TWIN_HOST, DIGITAL_TWIN_PORT)")
        })?;
        let reply = client
            .request(vec![Bytes::from(request.to_string())], self.config.timeout)
            .await
            .map_err(|error| format!("{endpoint} does not answer the registration: {error}"))?;
        let reply = reply.first().map(|frame| String::from_utf8_lossy(frame).into_owned()).unwrap_or_default();
        if accepted(&reply) {
            return Ok(());
        }
        let shown: String = reply.chars().take(SHOWN).collect();
        Err(format!("{endpoint} refuses the registration: {shown}"))
    }
}

/// Whether a reply says that the registration was taken: an object whose status is no word of failure.
fn accepted(reply: &str) -> bool {
    let Ok(Value::Object(reply)) = serde_json::from_str(reply) else { return false };
    let status = reply.get("status").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    let failed = matches!(status.as_str(), "error" | "failed" | "failure" | "rejected");
    !failed && reply.get("error").is_none_or(|error| error.is_null() || *error == Value::Bool(false))
}

#[cfg(test)]
mod tests {
    use super::accepted;

    #[test]
    fn only_an_object_without_a_word_of_failure_is_a_yes() {
        for yes in [r#"{"status":"success"}"#, r#"{"status":"ok","error":null}"#, r#"{"registered":true}"#] {
            assert!(accepted(yes), "{yes}");
        }
        for no in
            ["", "ok", "[]", r#"{"status":"error","message":"who?"}"#, r#"{"status":"FAILED"}"#, r#"{"error":"no"}"#]
        {
            assert!(!accepted(no), "{no}");
        }
    }
}
