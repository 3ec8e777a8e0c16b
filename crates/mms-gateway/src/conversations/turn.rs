//! One turn of a conversation: while it lives, the conversation's next request waits. It is kept at the end of its generation, and only
//! then; dropping it before leaves the conversation as it was.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};
use mms_manager::{GenerateEvent, TokenStream};
use mms_protocol::conversation::{ConversationView, History};
use mms_protocol::generate::{ChatMessage, Prompt, Role};
use mms_protocol::view::Generation;
use mms_protocol::{ErrorCode, Refusal};
use mms_store::{Conversation, SpokenBy};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::Seat;
use super::book::{Done, history};
use crate::gateway::now;

/// See the module.
#[derive(Debug)]
pub(super) struct Turn {
    /// Goes before the seat, so that whoever waits finds it free.
    _order: OwnedMutexGuard<()>,
    seat: Seat,
    /// See [`super::Lane`].
    cleared: u64,
    label: u64,
    system: Vec<ChatMessage>,
    input: Vec<ChatMessage>,
    history: History,
    /// Messages of the conversation that are not kept any more.
    first_message: u64,
    /// Messages that the worker left out.
    left_out: u32,
}

impl Turn {
    /// `system`: what is to stand above the conversation from now on; nothing: what stood there before.
    pub(super) fn new(
        order: OwnedMutexGuard<()>,
        seat: Seat,
        system: Vec<ChatMessage>,
        input: Vec<ChatMessage>,
    ) -> Self {
        Self {
            _order: order,
            cleared: seat.lane.cleared.load(Ordering::Relaxed),
            seat,
            label: Uuid::new_v4().as_u64_pair().1,
            system,
            input,
            history: History::default(),
            first_message: 0,
            left_out: 0,
        }
    }

    /// The prompt after what was said before, and how much that was.
    pub(super) fn prompt(&mut self, kept: Option<&Conversation>) -> (Prompt, History) {
        let mut past = Vec::new();
        if let Some(kept) = kept {
            (self.label, self.first_message) = (kept.label, kept.first_message);
            (past, self.history) = history(kept);
            if self.system.is_empty() {
                self.system.clone_from(&kept.system);
            }
        }
        self.seat.lane.label.store(self.label, Ordering::Relaxed);
        let messages = self.system.iter().cloned().chain(past).chain(self.input.iter().cloned()).collect();
        (Prompt::Chat(messages), self.history.clone())
    }

    /// Names the conversation's KV states.
    pub(super) fn label(&self) -> u64 {
        self.label
    }

    /// Keeps the turn, and tells in the reply what the conversation is then.
    fn keep(self, generation: &mut Generation) {
        let Self { _order, seat, cleared, label, system, input: mut messages, history, first_message, left_out } = self;
        let not_shown =
            history.left_out.get(&generation.model_id).map_or(0, |messages| (*messages).min(history.messages));
        let mut answer = ChatMessage::new(Role::Assistant, generation.text.clone());
        answer.tool_calls.clone_from(&generation.tool_calls);
        messages.push(answer);
        let tokens = std::mem::take(&mut generation.tokens);
        let spoken = (!tokens.is_empty()).then(|| SpokenBy { model: generation.model_id.clone(), tokens });
        let done = Done {
            id: seat.id.clone(),
            label,
            system,
            turn: mms_store::Turn::new(messages, spoken),
            model: generation.model_id.clone(),
            begins: first_message + u64::from(not_shown) + u64::from(left_out),
        };
        let conversations = &seat.conversations;
        let mut state = conversations.state();
        if seat.lane.cleared.load(Ordering::Relaxed) != cleared {
            generation.conversation = Some(ConversationView::default());
            return;
        }
        let (whole, view, gone) = state.book.add(done, now());
        generation.conversation = Some(view);
        conversations.forget(&gone);
        if let Some(file) = &conversations.inner.file {
            file.save(Arc::clone(&whole));
        }
    }
}

/// The events of a generation that may be a turn of a conversation. Dropping it cancels the work.
pub(crate) struct Answering {
    tokens: TokenStream,
    turn: Option<Turn>,
}

impl Answering {
    pub(super) fn new(tokens: TokenStream, turn: Option<Turn>) -> Self {
        Self { tokens, turn }
    }

    /// The model that answers.
    pub(crate) fn model_id(&self) -> &str {
        self.tokens.model_id()
    }

    /// The whole answer.
    pub(crate) async fn whole(mut self) -> Result<Box<Generation>, Refusal> {
        while let Some(event) = self.next().await {
            match event {
                GenerateEvent::Started { .. } | GenerateEvent::Text { .. } | GenerateEvent::ToolCall(_) => {}
                GenerateEvent::Finished(generation) => return Ok(generation),
                GenerateEvent::Failed(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::new(ErrorCode::Internal, "the generation ended without a result"))
    }
}

impl Stream for Answering {
    type Item = GenerateEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<GenerateEvent>> {
        let mut event = ready!(self.tokens.poll_next_unpin(cx));
        match &mut event {
            Some(GenerateEvent::Started { left_out, .. }) => {
                if let Some(turn) = &mut self.turn {
                    turn.left_out = *left_out;
                }
            }
            Some(GenerateEvent::Finished(generation)) => {
                if let Some(turn) = self.turn.take() {
                    turn.keep(generation);
                }
            }
            Some(GenerateEvent::Failed(_)) | None => self.turn = None,
            Some(GenerateEvent::Text { .. } | GenerateEvent::ToolCall(_)) => {}
        }
        Poll::Ready(event)
    }
}
