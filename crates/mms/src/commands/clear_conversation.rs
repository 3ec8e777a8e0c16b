//! `mms clear-conversation`: the server forgets what was said under a name.

use serde_json::{Map, Value};

use super::ask::{QUICK, Server, text};
use crate::cli::ClearConversationCommand;
use crate::exit::Failure;

pub(super) async fn run(command: &ClearConversationCommand) -> Result<(), Failure> {
    let server = Server::of(&command.target)?;
    let args = Map::from_iter([("conversation_id".to_owned(), Value::from(command.conversation.as_str()))]);
    let reply = server.call("clear_conversation", args, QUICK).await?;
    Ok(server.output.either(&Value::Object(reply.clone()), || text(&reply, "message").to_owned())?)
}
