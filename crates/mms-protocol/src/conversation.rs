//! Conversations: what names one, and what a generation takes of what was said before.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::error::Refusal;
use crate::generate::{ChatMessage, GenerateSpec, Prompt, Role, Spoken};

/// Longest accepted `conversation_id`, bytes.
pub const MAX_CONVERSATION_ID_BYTES: usize = 256;

/// The part of a generation's messages that was said before. They stand between the system message and what is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// How many.
    pub messages: u32,
    /// Of them, so many are not shown to this model, whose context they had outgrown before.
    pub left_out: BTreeMap<String, u32>,
    /// Of them, answers whose tokens are known, each with the model that gave it. Messages are counted from the first of the history.
    pub spoken: Vec<(String, Spoken)>,
}

impl History {
    /// Takes out of `spec` what `model` is not shown, and marks the rest as history there.
    pub fn show(&self, model: &str, spec: &mut GenerateSpec) {
        let left_out = self.left_out.get(model).map_or(0, |messages| (*messages).min(self.messages));
        spec.history = self.messages - left_out;
        if let Prompt::Chat(messages) = &mut spec.prompt {
            let begin = system_messages(messages);
            let own = self.spoken.iter().filter(|(speaker, spoken)| speaker == model && spoken.message >= left_out);
            let place = |message: u32| u32::try_from(begin).unwrap_or(u32::MAX).saturating_add(message - left_out);
            let placed =
                own.map(|(_, spoken)| Spoken { message: place(spoken.message), tokens: spoken.tokens.clone() });
            spec.spoken = placed.collect();
            let end = (begin + left_out as usize).min(messages.len());
            messages.drain(begin..end);
        }
    }
}

/// How many messages of the system a chat begins with.
pub fn system_messages(messages: &[ChatMessage]) -> usize {
    messages.iter().take_while(|message| message.role == Role::System).count()
}

/// What a conversation has become with a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConversationView {
    /// Turns so far, this one included. 0: the conversation was cleared meanwhile, and this turn is not kept.
    pub turns: u64,
    /// Of the earlier ones, so many were not shown to the model: they are too old for its context, or not kept any more.
    pub turns_left_out: u64,
}

/// Reads `conversation_id`; an empty one counts as none.
pub fn read_conversation_id(args: &Args<'_>) -> Result<Option<String>, Refusal> {
    let id = args.string("conversation_id", MAX_CONVERSATION_ID_BYTES)?.filter(|id| !id.is_empty());
    match id {
        Some(id) if id.chars().any(char::is_control) => {
            Err(Refusal::invalid("conversation_id", "a string without control characters", &Value::from(id)))
        }
        id => Ok(id),
    }
}

/// The keys of a cleared conversation's reply.
pub(crate) fn cleared(id: &str, known: bool) -> Value {
    let message = if known {
        format!("Conversation {id} cleared")
    } else {
        format!("No conversation {id} is kept, so there was nothing to clear")
    };
    json!({"message": message, "conversation_id": id, "cleared": known})
}

impl ConversationView {
    /// Adds its keys to the reply of a generation.
    pub(crate) fn add_to(self, fields: &mut Map<String, Value>) {
        fields.insert("conversation_turns".to_owned(), self.turns.into());
        fields.insert("turns_left_out".to_owned(), self.turns_left_out.into());
    }
}
