//! `mms events`: follows what the server tells of models and errors, live, one event in a line. Ends with the server.

use std::time::Duration;

use futures::StreamExt;
use mms_client::{ClientError, refusal_in};
use mms_protocol::time::iso_utc;
use serde_json::{Map, Value};

use super::ask::{Server, number, text};
use crate::cli::EventsArgs;
use crate::exit::Failure;
use crate::output;

/// The server gives a sign of life each 10 s.
const SILENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(args: &EventsArgs) -> Result<(), Failure> {
    let server = Server::of(&args.target)?;
    let path = match args.since {
        Some(since) => format!("/events?since_s={}", since.as_secs_f64()),
        None => "/events".to_owned(),
    };
    let mut events = match server.http(SILENCE)?.get_sse(&path).await? {
        Ok(events) => events,
        Err(reply) => {
            let refusal = reply.json().and_then(|json| refusal_in(json.as_object()?));
            let endpoint = server.endpoints.http.clone();
            let why = format!("GET /events was answered with status {}", reply.status);
            return Err(refusal.map_or(ClientError::Protocol { endpoint, why }, ClientError::Refused).into());
        }
    };
    while let Some(event) = events.next().await {
        let event = event?;
        if server.output.is_json() {
            output::line(&event)?;
            continue;
        }
        let parsed = serde_json::from_str(&event).map_err(|error| {
            let why = format!("GET /events: {error} in {event}");
            ClientError::Protocol { endpoint: server.endpoints.http.clone(), why }
        })?;
        output::line(&line(&parsed))?;
    }
    Ok(())
}

/// An event for a person: when, what, of whom, why.
fn line(event: &Map<String, Value>) -> String {
    let subject = text(event, "subject");
    if subject == "lagged" {
        return format!("(too slow: {} events were missed)", number(event, "missed"));
    }
    let at = iso_utc(number(event, "at").floor());
    let empty = Map::new();
    let data = event.get("data").and_then(Value::as_object).unwrap_or(&empty);
    let told = if subject.starts_with("models.") {
        let reason = text(data, "reason");
        let size = format!("{} ({:.1} MB, {})", text(data, "model_id"), number(data, "vram_mb"), text(data, "device"));
        if reason.is_empty() { size } else { format!("{size}: {reason}") }
    } else {
        let over = if data.get("resolved") == Some(&Value::Bool(true)) { "resolved " } else { "" };
        format!("{over}{} ({}) {}", text(data, "severity"), text(data, "category"), text(data, "message"))
    };
    format!("{at}  {subject}  {told}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::line;

    #[test]
    fn events_are_put_into_words() {
        for (event, expect) in [
            (
                json!({"at": 0.9, "subject": "models.model.loaded", "data": {"model_id": "m", "vram_mb": 53.3, "device": "cpu"}}),
                "1970-01-01T00:00:00Z  models.model.loaded  m (53.3 MB, cpu)",
            ),
            (
                json!({"at": 1.0, "subject": "models.model.unloaded", "data": {"model_id": "m", "vram_mb": 1, "device": "cpu", "reason": "idle"}}),
                "1970-01-01T00:00:01Z  models.model.unloaded  m (1.0 MB, cpu): idle",
            ),
            (
                json!({"at": 1.0, "subject": "errors.events", "data": {"severity": "info", "category": "network", "message": "redis: ok", "resolved": true}}),
                "1970-01-01T00:00:01Z  errors.events  resolved info (network) redis: ok",
            ),
            (json!({"subject": "lagged", "missed": 3}), "(too slow: 3 events were missed)"),
        ] {
            assert_eq!(line(event.as_object().unwrap()), expect);
        }
    }
}
