//! `mms services`: which of the server's downstream services answer.

use serde_json::{Map, Value};

use super::ask::{PATIENT, Server, number, text};
use crate::cli::Target;
use crate::exit::Failure;
use crate::output::table;

pub(super) async fn run(target: &Target) -> Result<(), Failure> {
    let server = Server::of(target)?;
    let reply = server.call("verify_services", Map::new(), PATIENT).await?;
    let services = reply.get("services").and_then(Value::as_object).cloned().unwrap_or_default();
    let answers = |service: &Map<String, Value>| service.get("ok") == Some(&Value::Bool(true));
    server.output.either(&Value::Object(services.clone()), || {
        let rows: Vec<_> = services
            .iter()
            .filter_map(|(name, service)| {
                let service = service.as_object()?;
                let answers = if answers(service) { "answers" } else { "does not answer" };
                let took = format!("{:.0} ms", number(service, "took_ms"));
                Some(vec![
                    name.clone(),
                    answers.to_owned(),
                    took,
                    text(service, "address").to_owned(),
                    text(service, "detail").to_owned(),
                ])
            })
            .collect();
        if rows.is_empty() {
            return "no services; [services] in the server's configuration names them".to_owned();
        }
        table(&["SERVICE", "STATE", "TOOK", "ADDRESS", ""], rows, &[2])
    })?;
    let failed = services.values().filter_map(Value::as_object).filter(|service| !answers(service)).count();
    if failed > 0 { Err(Failure::Checks { failed, all: services.len() }) } else { Ok(()) }
}
