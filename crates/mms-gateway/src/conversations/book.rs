//! Which conversations are kept: plain code, without a clock, locks or a disk. Bounded in number, in bytes and in age; what was used
//! longest ago goes first, and nothing goes that is in use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mms_protocol::conversation::{ConversationView, History};
use mms_protocol::generate::{ChatMessage, Spoken};
use mms_store::{Conversation, SpokenBy, Turn};

/// One conversation has at most so many bytes; no context holds more text than that.
const MOST_BYTES_OF_ONE: usize = 4 << 20;

/// What is kept at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) conversations: usize,
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

#[derive(Debug)]
pub(super) struct Book {
    bounds: Bounds,
    kept: HashMap<String, Arc<Conversation>>,
    /// How many requests each conversation has that are in work or wait for their turn.
    in_use: HashMap<String, usize>,
    bytes: usize,
    gone: Gone,
}

/// What has gone since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Not used for too long.
    pub(crate) age: u64,
    /// Too many, or too many bytes.
    pub(crate) room: u64,
    /// A client said so.
    pub(crate) cleared: u64,
}

/// A turn that is complete.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) id: String,
    /// Of the conversation that it goes on with, or begins.
    pub(super) label: u64,
    /// What stands above the conversation from now on.
    pub(super) system: Vec<ChatMessage>,
    pub(super) turn: Turn,
    pub(super) model: String,
    /// Of the messages before it, so many were not shown to the model, counted from the beginning of the conversation.
    pub(super) begins: u64,
}

impl Book {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, kept: HashMap::new(), in_use: HashMap::new(), bytes: 0, gone: Gone::default() }
    }

    /// A request is there; [`Book::leave`] must follow. So many are there before it; `None`: too many conversations are in use.
    pub(super) fn enter(&mut self, id: &str) -> Option<usize> {
        if !self.in_use.contains_key(id) && self.in_use.len() >= self.bounds.conversations {
            return None;
        }
        let requests = self.in_use.entry(id.to_owned()).or_default();
        *requests += 1;
        Some(*requests - 1)
    }

    /// The request has gone. True: it was the last one.
    pub(super) fn leave(&mut self, id: &str) -> bool {
        let Some(requests) = self.in_use.get_mut(id) else { return true };
        *requests -= 1;
        let is_last = *requests == 0;
        if is_last {
            self.in_use.remove(id);
        }
        is_last
    }

    /// The conversation as it is now.
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Conversation>> {
        self.kept.get(id)
    }

    /// Takes in what was kept on disk; what is here already is newer.
    pub(super) fn take_in(&mut self, found: Vec<Conversation>, now: f64) -> Vec<Arc<Conversation>> {
        for conversation in found {
            if !self.kept.contains_key(&conversation.id) && !self.in_use.contains_key(&conversation.id) {
                self.put(Arc::new(conversation));
            }
        }
        let mut gone = self.expire(now);
        gone.extend(self.make_room(0, 0));
        gone
    }

    /// Adds a turn. Gives the conversation as it is then, and those that had to go.
    pub(super) fn add(
        &mut self,
        done: Done,
        now: f64,
    ) -> (Arc<Conversation>, ConversationView, Vec<Arc<Conversation>>) {
        let Done { id, label, system, turn, model, begins } = done;
        let mut whole = self.take(&id).unwrap_or_else(|| {
            Arc::new(Conversation {
                id,
                label,
                system: Vec::new(),
                turns: Default::default(),
                first_turn: 0,
                first_message: 0,
                begins: BTreeMap::new(),
                used: now,
            })
        });
        let conversation = Arc::make_mut(&mut whole);
        let view = ConversationView {
            turns: conversation.first_turn + conversation.turns.len() as u64 + 1,
            turns_left_out: conversation.first_turn + turns_before(conversation, begins),
        };
        conversation.system = system;
        conversation.turns.push_back(Arc::new(turn));
        conversation.used = now;
        if begins > conversation.first_message {
            conversation.begins.insert(model, begins);
        } else {
            conversation.begins.remove(&model);
        }
        cut(conversation, MOST_BYTES_OF_ONE.min(self.bounds.bytes));
        let gone = self.make_room(1, whole.bytes());
        // What others that are in use hold stays; this one makes do with the rest.
        cut(Arc::make_mut(&mut whole), self.bounds.bytes.saturating_sub(self.bytes));
        self.put(Arc::clone(&whole));
        (whole, view, gone)
    }

    /// Forgets a conversation.
    pub(super) fn clear(&mut self, id: &str) -> Option<Arc<Conversation>> {
        let gone = self.take(id)?;
        self.gone.cleared += 1;
        Some(gone)
    }

    /// Forgets those that nobody has used for too long.
    pub(super) fn expire(&mut self, now: f64) -> Vec<Arc<Conversation>> {
        let age = self.bounds.age.as_secs_f64();
        let is_old = |kept: &&Arc<Conversation>| now - kept.used > age && !self.in_use.contains_key(&kept.id);
        let old: Vec<String> = self.kept.values().filter(is_old).map(|kept| kept.id.clone()).collect();
        let gone: Vec<_> = old.iter().filter_map(|id| self.take(id)).collect();
        self.gone.age += gone.len() as u64;
        gone
    }

    /// Conversations, their bytes, and what has gone.
    pub(super) fn figures(&self) -> (usize, usize, Gone) {
        (self.kept.len(), self.bytes, self.gone)
    }

    /// Sees to it that so many more, with so many bytes, are within the bounds, as far as those that are in use let it.
    fn make_room(&mut self, conversations: usize, bytes: usize) -> Vec<Arc<Conversation>> {
        let mut gone = Vec::new();
        while self.kept.len() + conversations > self.bounds.conversations || self.bytes + bytes > self.bounds.bytes {
            let idle = self.kept.values().filter(|kept| !self.in_use.contains_key(&kept.id));
            let Some(oldest) = idle.min_by(|a, b| a.used.total_cmp(&b.used)).map(|kept| kept.id.clone()) else { break };
            gone.extend(self.take(&oldest));
        }
        self.gone.room += gone.len() as u64;
        gone
    }

    fn put(&mut self, conversation: Arc<Conversation>) {
        self.bytes += conversation.bytes();
        if let Some(before) = self.kept.insert(conversation.id.clone(), conversation) {
            self.bytes -= before.bytes();
        }
    }

    fn take(&mut self, id: &str) -> Option<Arc<Conversation>> {
        let taken = self.kept.remove(id)?;
        self.bytes -= taken.bytes();
        Some(taken)
    }
}

/// What of a conversation is shown to a model; see [`History::show`].
pub(super) fn history(conversation: &Conversation) -> (Vec<ChatMessage>, History) {
    let messages: Vec<ChatMessage> =
        conversation.turns.iter().flat_map(|turn| turn.messages().iter().cloned()).collect();
    let left_out = |begins: u64| count(begins.saturating_sub(conversation.first_message));
    let left_out = conversation.begins.iter().map(|(model, begins)| (model.clone(), left_out(*begins))).collect();
    let mut spoken = Vec::new();
    let mut at = 0;
    for turn in &conversation.turns {
        at += turn.messages().len() as u64;
        spoken.extend(turn.spoken().map(|SpokenBy { model, tokens }| {
            (model.clone(), Spoken { message: count(at.saturating_sub(1)), tokens: tokens.clone() })
        }));
    }
    let history = History { messages: count(messages.len() as u64), left_out, spoken };
    (messages, history)
}

/// Of the kept turns, those of which messages stand before this one.
fn turns_before(conversation: &Conversation, message: u64) -> u64 {
    let mut at = conversation.first_message;
    let mut turns = 0;
    for turn in &conversation.turns {
        if at >= message {
            break;
        }
        at += turn.messages().len() as u64;
        turns += 1;
    }
    turns
}

/// Gives up the oldest turns until the conversation has at most so many bytes.
fn cut(conversation: &mut Conversation, most: usize) {
    let mut bytes = conversation.bytes();
    while bytes > most {
        let Some(turn) = conversation.turns.pop_front() else { break };
        bytes -= turn.bytes();
        conversation.first_turn += 1;
        conversation.first_message += turn.messages().len() as u64;
    }
    let first = conversation.first_message;
    conversation.begins.retain(|_, begins| *begins > first);
}

fn count(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
