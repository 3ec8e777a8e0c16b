//! `mms embed`: vectors of texts, one JSON array a line.

use serde_json::Value;

use super::ask::{PATIENT, Server, given_text};
use super::wait::Waiting;
use crate::cli::EmbedCommand;
use crate::exit::Failure;
use crate::output;

pub(super) async fn run(command: &EmbedCommand) -> Result<(), Failure> {
    let texts = command.texts.iter().map(|text| given_text(text)).collect::<Result<Vec<_>, _>>()?;
    if texts.iter().any(String::is_empty) {
        return Err(Failure::Usage("a text is empty".to_owned()));
    }
    let server = Server::of(&command.target)?;
    let given = [
        ("input", Some(Value::from(texts))),
        ("model_pref", command.model.as_deref().map(Value::from)),
        ("dimensions", command.dimensions.map(Value::from)),
        ("keep_alive", command.keep_alive.as_deref().map(Value::from)),
    ];
    let args = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    let wanted = command.model.as_deref().unwrap_or("embedding");
    let mut waiting = Waiting::new(&server, wanted, "computing");
    let reply = waiting.during(server.call("embed", args, PATIENT)).await;
    drop(waiting);
    let reply = reply?;
    let vectors = || {
        let vectors = reply.get("embeddings").and_then(Value::as_array);
        vectors.into_iter().flatten().map(|vector| format!("{vector}\n")).collect::<String>()
    };
    if server.output.is_json() {
        return Ok(output::line(&format!("{:#}", Value::Object(reply)))?);
    }
    Ok(output::piece(&vectors())?)
}
