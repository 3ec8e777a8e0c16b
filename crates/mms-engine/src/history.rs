//! A chat whose beginning was said in earlier turns, and that may have outgrown the context: then its oldest turns are left out. A
//! turn begins with a message of the user that no other one stands before, so a call of a tool is never torn from its question or its
//! result. The system message and what is new stay.
//!
//! Each change of what is left out makes the KV cache useless from there on. So when turns have to go, as many go that the rest takes
//! half of the room, and the following turns go on from what is cached.

use llama_cpp_2::token::LlamaToken;
use mms_protocol::conversation::system_messages;
use mms_protocol::generate::{ChatMessage, Prompt, Role, Spoken, Tool};
use mms_protocol::worker::GenerateFailure;

use crate::prompt::Prompter;
use crate::slot::count;

/// What a template writes around a message, tokens, about.
const AROUND: usize = 8;

/// What is asked with a history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past<'a> {
    /// Messages of it.
    pub(crate) messages: usize,
    /// Answers of it as they were generated.
    pub(crate) spoken: &'a [Spoken],
    /// Tokens that the answer may have.
    pub(crate) max_tokens: Option<u32>,
}

/// The tokens of a prompt, and how many messages of its history were left out.
pub(crate) fn tokens(
    prompter: &Prompter,
    prompt: &Prompt,
    offered: &[Tool],
    past: Past<'_>,
) -> Result<(Vec<LlamaToken>, usize), GenerateFailure> {
    let whole = prompter.tokens(prompt, offered, past.spoken);
    let Prompt::Chat(messages) = prompt else { return whole.map(|tokens| (tokens, 0)) };
    let room = room(prompter.context_length() as usize, past.max_tokens);
    match whole {
        Ok(tokens) if past.messages == 0 || tokens.len() <= room => return Ok((tokens, 0)),
        Err(failure) if past.messages == 0 || !matches!(failure, GenerateFailure::ContextExceeded { .. }) => {
            return Err(failure);
        }
        Ok(_) | Err(_) => {}
    }
    let begin = system_messages(messages);
    let begins = begins(messages, begin, past.messages);
    let Some(&last) = begins.last() else { return whole.map(|tokens| (tokens, 0)) };
    let first = first_within(messages, &begins, room / 2, |message| prompter.about(message));
    for &from in begins.iter().filter(|from| **from >= first) {
        let shown = messages[..begin].iter().chain(&messages[from..]).cloned().collect();
        let spoken = past.spoken.iter().filter_map(|spoken| {
            let behind = (spoken.message as usize).checked_sub(from)?;
            Some(Spoken { message: count(begin + behind), tokens: spoken.tokens.clone() })
        });
        match prompter.tokens(&Prompt::Chat(shown), offered, &spoken.collect::<Vec<_>>()) {
            Ok(tokens) if tokens.len() <= room || from == last => return Ok((tokens, from - begin)),
            Err(GenerateFailure::ContextExceeded { .. }) if from != last => {}
            Err(failure) => return Err(failure),
            Ok(_) => {}
        }
    }
    whole.map(|tokens| (tokens, 0))
}

/// Tokens that a prompt may have beside its answer, which has a quarter of the context at most.
fn room(context: usize, max_tokens: Option<u32>) -> usize {
    let answer = max_tokens.map_or(usize::MAX, |most| most as usize).min(context / 4);
    context - answer
}

/// Where, behind turns that are left out, what is shown may begin.
fn begins(messages: &[ChatMessage], begin: usize, history: usize) -> Vec<usize> {
    let is_user = |at: usize| messages.get(at).is_some_and(|message| message.role == Role::User);
    let end = (begin + history).min(messages.len());
    (begin + 1..=end).filter(|&at| is_user(at) && !is_user(at - 1)).collect()
}

/// The first of these beginnings behind which there are at most so many tokens, else the last.
fn first_within(
    messages: &[ChatMessage],
    begins: &[usize],
    most: usize,
    about: impl Fn(&ChatMessage) -> usize,
) -> usize {
    let (mut tokens, mut to) = (0, messages.len());
    let mut first = begins.last().copied().unwrap_or(0);
    for &from in begins.iter().rev() {
        tokens += messages[from..to].iter().map(|message| about(message) + AROUND).sum::<usize>();
        to = from;
        if tokens > most {
            break;
        }
        first = from;
    }
    first
}

#[cfg(test)]
mod tests {
    use mms_protocol::generate::{ChatMessage, Role};

    use super::{begins, first_within, room};

    /// `s`, `u`, `a`, `t`: who speaks.
    fn talk(who: &str) -> Vec<ChatMessage> {
        let role = |who| match who {
            's' => Role::System,
            'u' => Role::User,
            'a' => Role::Assistant,
            't' => Role::Tool,
            other => panic!("{other}"),
        };
        who.chars().map(|who| ChatMessage::new(role(who), "ten tokens")).collect()
    }

    #[test]
    fn turns_begin_with_the_user() {
        assert_eq!(begins(&talk("suauau"), 1, 4), [3, 5]);
        assert_eq!(begins(&talk("uau"), 0, 2), [2]);
        // A call and its result stay with their question; a second message of the user belongs to the turn of the first.
        assert_eq!(begins(&talk("uatauuau"), 0, 7), [4, 7]);
        // What is new is the result of a call in the history.
        assert_eq!(begins(&talk("uauat"), 0, 4), [2]);
        assert_eq!(begins(&talk("uat"), 0, 2), [0; 0]);
    }

    #[test]
    fn half_of_the_room_is_taken_again() {
        let messages = talk("uauauauau");
        let begins = begins(&messages, 0, 8);
        let first = |most| first_within(&messages, &begins, most, |_| 10);
        assert_eq!((first(17), first(18), first(53), first(54), first(10_000)), (8, 8, 8, 6, 2));
    }

    #[test]
    fn the_answer_has_room() {
        assert_eq!((room(1000, Some(100)), room(1000, Some(900)), room(1000, None)), (900, 750, 750));
    }
}
