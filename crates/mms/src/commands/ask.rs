//! What the client commands share: whom to ask, how long to wait, how to print.

use std::io::Read;
use std::time::Duration;

use mms_client::{Client, HttpClient};
use serde_json::{Map, Value};

use crate::cli::Target;
use crate::config::{Endpoints, Environment};
use crate::exit::Failure;
use crate::output::Output;

/// For requests that are answered at once.
pub(super) const QUICK: Duration = Duration::from_secs(5);
/// For requests that a model works on; loading counts.
pub(super) const PATIENT: Duration = Duration::from_secs(600);

/// A server, and how to talk about it.
pub(super) struct Server {
    pub(super) endpoints: Endpoints,
    pub(super) output: Output,
    timeout: Option<Duration>,
}

impl Server {
    pub(super) fn of(target: &Target) -> Result<Self, Failure> {
        let (endpoint, http) = (target.endpoint.as_deref(), target.http.as_deref());
        let endpoints = Endpoints::find(endpoint, http, &Environment::of_process())?;
        Ok(Self { endpoints, output: Output::new(target.json), timeout: target.timeout })
    }

    /// Connects; each request has `usual` to be answered, or what the user said.
    pub(super) async fn connect(&self, usual: Duration) -> Result<Client, Failure> {
        let mut client = Client::connect(&self.endpoints.main, self.timeout(QUICK)).await?;
        client.set_timeout(self.timeout(usual));
        Ok(client)
    }

    /// One request on a connection of its own.
    pub(super) async fn call(
        &self,
        operation: &str,
        args: Map<String, Value>,
        usual: Duration,
    ) -> Result<Map<String, Value>, Failure> {
        Ok(self.connect(usual).await?.call(operation, args).await?)
    }

    pub(super) fn http(&self, usual: Duration) -> Result<HttpClient, Failure> {
        Ok(HttpClient::new(&self.endpoints.http)?.with_timeout(self.timeout(usual)))
    }

    /// What the user said, else `usual`.
    pub(super) fn timeout(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }
}

/// What was given as text on the command line; `-`: what stands on standard input.
pub(super) fn given_text(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|error| Failure::Usage(format!("the prompt on standard input is no text: {error}")))
}

/// The text under a key; empty when there is none.
pub(super) fn text<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The number under a key; 0 when there is none.
pub(super) fn number(object: &Map<String, Value>, key: &str) -> f64 {
    object.get(key).and_then(Value::as_f64).unwrap_or_default()
}

/// The arguments of a request.
pub(super) fn args<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
