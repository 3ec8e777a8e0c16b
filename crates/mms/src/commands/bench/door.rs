//! The two ways in: an OpenAI-compatible HTTP endpoint, answers streamed; or the suite's main port, answers whole with their timings.
//! Tokens are counted as the server counts them (`usage`), never by chunks.

use std::time::{Duration, Instant};

use futures::StreamExt;
use mms_client::{Client, ClientError, HttpClient};
use serde_json::{Map, Value, json};

use super::levels::{Sample, Usage};
use crate::commands::ask::{args, number};
use crate::commands::generate::{refusal_in, refusal_of};

/// Where requests go.
#[derive(Debug)]
pub(super) enum Door {
    Http { client: HttpClient, address: String, prefix: &'static str },
    Zmq { endpoint: String, timeout: Duration },
}

/// A way in of one stream.
#[derive(Debug)]
pub(super) enum Connection<'a> {
    Http { client: &'a HttpClient, address: &'a str, path: String },
    Zmq(Box<Client>),
}

impl Door {
    /// `prefix` stands before every path.
    pub(super) fn http(
        address: &str,
        prefix: &'static str,
        key: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let mut client = HttpClient::new(address)?.with_timeout(timeout);
        if let Some(key) = key {
            client = client.with_bearer(key)?;
        }
        Ok(Self::Http { client, address: address.to_owned(), prefix })
    }

    pub(super) fn zmq(endpoint: &str, timeout: Duration) -> Self {
        Self::Zmq { endpoint: endpoint.to_owned(), timeout }
    }

    /// `http` or `zmq`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Zmq { .. } => "zmq",
        }
    }

    pub(super) fn address(&self) -> &str {
        match self {
            Self::Http { address, .. } => address,
            Self::Zmq { endpoint, .. } => endpoint,
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection<'_>, ClientError> {
        match self {
            Self::Http { client, address, prefix } => {
                Ok(Connection::Http { client, address, path: format!("{prefix}/chat/completions") })
            }
            Self::Zmq { endpoint, timeout } => {
                Ok(Connection::Zmq(Box::new(Client::connect(endpoint, *timeout).await?)))
            }
        }
    }

    /// The first model that the endpoint lists.
    pub(super) async fn first_model(&self) -> Result<String, ClientError> {
        let Self::Http { client, address, prefix } = self else {
            return Err(protocol(self.address(), "only an HTTP endpoint lists its models".to_owned()));
        };
        let reply = client.get(&format!("{prefix}/models")).await?;
        if reply.status != 200 {
            return Err(ClientError::Refused(refusal_of(&reply)));
        }
        let id = reply.json().and_then(|list| list.pointer("/data/0/id")?.as_str().map(str::to_owned));
        id.ok_or_else(|| protocol(address, "GET /models lists no model; name one with --model".to_owned()))
    }
}

impl Connection<'_> {
    /// One request and its whole answer.
    pub(super) async fn ask(&mut self, model: &str, prompt: &str, tokens: u32) -> Result<Sample, ClientError> {
        match self {
            Self::Http { client, address, path } => stream(client, address, path, (model, prompt, tokens)).await,
            Self::Zmq(client) => whole(client, (model, prompt, tokens)).await,
        }
    }
}

async fn stream(
    client: &HttpClient,
    address: &str,
    path: &str,
    (model, prompt, tokens): (&str, &str, u32),
) -> Result<Sample, ClientError> {
    let begun = Instant::now();
    let body = json!({
        "model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let mut lines = match client.post_sse(path, &body).await? {
        Ok(lines) => lines,
        Err(reply) => return Err(ClientError::Refused(refusal_of(&reply))),
    };
    let mut sample = Sample::default();
    let mut last_text = None;
    while let Some(line) = lines.next().await {
        let line = line?;
        if line == "[DONE]" {
            return Ok(sample.ended(begun, last_text));
        }
        let chunk: Value = serde_json::from_str(&line)
            .map_err(|error| protocol(address, format!("a line of the stream is no JSON: {error} in {:.200}", line)))?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(ClientError::Refused(refusal_in(error)));
        }
        if has_text(&chunk) {
            last_text = Some(Instant::now());
            sample.first_token.get_or_insert_with(|| begun.elapsed());
        }
        if let Some(usage) = chunk.get("usage").and_then(Value::as_object) {
            sample.usage = Usage::of_openai(usage);
        }
    }
    Err(protocol(address, "the answer ended without [DONE]".to_owned()))
}

/// Whether a chunk brings something that the model said, thought or called.
fn has_text(chunk: &Value) -> bool {
    let Some(delta) = chunk.pointer("/choices/0/delta") else { return false };
    let text = |key: &str| delta.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    text("content") || text("reasoning_content") || delta.get("tool_calls").is_some_and(Value::is_array)
}

async fn whole(client: &mut Client, (model, prompt, tokens): (&str, &str, u32)) -> Result<Sample, ClientError> {
    let begun = Instant::now();
    let request = args([
        ("model", model.into()),
        ("prompt", prompt.into()),
        ("max_tokens", tokens.into()),
        ("temperature", 0.into()),
    ]);
    let reply = client.call("generate_text", request).await?;
    let total = begun.elapsed();
    let object = |key: &str| reply.get(key).and_then(Value::as_object);
    let Some(timings) = object("timings") else {
        return Err(protocol(client.endpoint(), "the reply to generate_text has no timings".to_owned()));
    };
    let first_token = timings.get("first_token_ms").and_then(Value::as_f64);
    let decoding = Duration::from_secs_f64((number(timings, "predicted_ms") / 1e3).max(0.0));
    Ok(Sample {
        first_token: first_token.map(|ms| Duration::from_secs_f64((ms / 1e3).max(0.0))),
        decoding,
        total,
        usage: object("usage").and_then(Usage::of_suite),
    })
}

fn protocol(endpoint: &str, why: String) -> ClientError {
    ClientError::Protocol { endpoint: endpoint.to_owned(), why }
}

impl Usage {
    fn of_openai(usage: &Map<String, Value>) -> Option<Self> {
        let cached = usage.get("prompt_tokens_details").and_then(|details| details.get("cached_tokens"));
        Some(Self {
            prompt_tokens: count(usage.get("prompt_tokens"))?,
            completion_tokens: count(usage.get("completion_tokens"))?,
            cached_tokens: count(cached).unwrap_or(0),
        })
    }

    fn of_suite(usage: &Map<String, Value>) -> Option<Self> {
        Some(Self {
            prompt_tokens: count(usage.get("prompt_tokens"))?,
            completion_tokens: count(usage.get("completion_tokens"))?,
            cached_tokens: count(usage.get("cached_tokens")).unwrap_or(0),
        })
    }
}

fn count(value: Option<&Value>) -> Option<u32> {
    value?.as_u64()?.try_into().ok()
}
