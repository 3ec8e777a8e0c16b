//! `mms ping`: is a server there, and how far away?

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::ask::{QUICK, Server, text};
use crate::cli::Target;
use crate::exit::Failure;

pub(super) async fn run(target: &Target) -> Result<(), Failure> {
    let server = Server::of(target)?;
    let begun = Instant::now();
    let mut client = server.connect(QUICK).await?;
    let connected = begun.elapsed();
    let asked = Instant::now();
    let reply = client.call("ping", Map::new()).await?;
    let round_trip = asked.elapsed();
    let (connect_ms, reply_ms) = (connected.as_secs_f64() * 1e3, round_trip.as_secs_f64() * 1e3);
    let mut json = reply.clone();
    json.insert("endpoint".to_owned(), json!(server.endpoints.main));
    json.insert("connect_ms".to_owned(), json!(connect_ms));
    json.insert("reply_ms".to_owned(), json!(reply_ms));
    Ok(server.output.either(&Value::Object(json), || {
        format!(
            "{} {} at {}: connected in {connect_ms:.1} ms, answered in {reply_ms:.2} ms",
            text(&reply, "agent"),
            text(&reply, "version"),
            server.endpoints.main,
        )
    })?)
}
