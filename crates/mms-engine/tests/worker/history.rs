//! Chats that have outgrown the context: the oldest turns go, whole, and it is told how much; what follows goes on from the cache.

use mms_protocol::generate::{ChatMessage, Constraint, GenerateSpec, Prompt, Role, Sampling, Spoken};
use mms_protocol::worker::{EngineSettings, GenerateFailure};

use crate::support::{Answer, End, Host, ask, ramble};

const CONTEXT: u32 = 512;

fn host() -> Host {
    Host::with(EngineSettings { context_length: CONTEXT, slots: 1, ..EngineSettings::default() })
}

fn say(role: Role, text: &str) -> ChatMessage {
    ChatMessage::new(role, text)
}

fn turn(number: usize) -> [ChatMessage; 2] {
    [
        say(Role::User, &format!("Question {number}: {}", "what is this about? ".repeat(3))),
        say(Role::Assistant, &format!("Answer {number}: {}", "it is about ships. ".repeat(3))),
    ]
}

/// Asks with so many earlier turns.
fn asked(host: &mut Host, turns: std::ops::Range<usize>) -> Answer {
    let past: Vec<ChatMessage> = turns.flat_map(turn).collect();
    let history = u32::try_from(past.len()).expect("few");
    let mut messages = vec![say(Role::System, "Be brief.")];
    messages.extend(past);
    messages.push(say(Role::User, "And what else?"));
    host.generate(&GenerateSpec { prompt: Prompt::Chat(messages), history, ..ask("", 8) })
}

#[test]
fn the_oldest_turns_go_when_the_context_is_full() {
    let mut host = host();
    let mut turns = 0;
    let full = loop {
        let answer = asked(&mut host, 0..turns);
        assert!(answer.prompt_tokens + 8 <= CONTEXT, "{answer:?}");
        if answer.left_out > 0 {
            break answer;
        }
        turns += 1;
    };
    // Whole turns, and so many that the next ones find room and their beginning in the cache.
    assert!(turns > 4 && full.left_out % 2 == 0, "{turns} turns, {full:?}");
    let gone = (full.left_out / 2) as usize;
    assert!(full.prompt_tokens < CONTEXT * 6 / 10 && gone < turns, "{full:?}");
    let next = asked(&mut host, gone..turns + 1);
    assert_eq!(next.left_out, 0);
    assert!(next.cached_tokens + 80 > next.prompt_tokens, "{next:?}");
    // Without those that have gone it is the same.
    let mut fresh = self::host();
    assert_eq!(asked(&mut fresh, gone..turns).text, full.text);
}

#[test]
fn what_is_new_is_never_left_out() {
    let mut host = host();
    let long = say(Role::User, &"word after word after word ".repeat(200));
    let [question, answer] = turn(0);
    let messages = vec![question, answer, long];
    let spec = GenerateSpec { prompt: Prompt::Chat(messages), history: 2, ..ask("", 8) };
    let End::Failed(GenerateFailure::ContextExceeded { context_length, .. }) = host.generate(&spec).end else {
        panic!("it does not fit")
    };
    assert_eq!(context_length, CONTEXT);
    // Without a history nothing is left out of messages, however many.
    let messages = (0..40).flat_map(turn).chain([say(Role::User, "And?")]).collect();
    let spec = GenerateSpec { prompt: Prompt::Chat(messages), ..ask("", 8) };
    assert!(matches!(host.generate(&spec).end, End::Failed(GenerateFailure::ContextExceeded { .. })));
}

/// So hot that the tokens of an answer are hardly ever those that its text would get.
fn hot(seed: u32) -> GenerateSpec {
    let sampling = Sampling { seed: Some(seed), ..ramble("", 1).sampling };
    let constraint = Some(Constraint::Grammar("root ::= [a-z ] root".to_owned()));
    GenerateSpec { sampling, constraint, label: Some(seed.into()), ..ask("Tell me about ships.", 40) }
}

#[test]
fn an_answer_is_found_in_the_cache_as_it_was_generated() {
    let mut host = host();
    let mut differed = 0;
    for seed in 0..6 {
        let first = host.generate(&hot(seed));
        assert_eq!(first.tokens.len(), first.usage().completion_tokens as usize);
        let talk = vec![
            say(Role::User, "Tell me about ships."),
            say(Role::Assistant, &first.text),
            say(Role::User, "And boats?"),
        ];
        let plain = GenerateSpec { prompt: Prompt::Chat(talk), history: 2, ..ask("", 8) };
        let with = |tokens: &[u32]| {
            let spoken = vec![Spoken { message: 1, tokens: tokens.to_vec() }];
            GenerateSpec { spoken, ..plain.clone() }
        };
        let second = host.generate(&with(&first.tokens));
        let whole = first.prompt_tokens + first.usage().completion_tokens;
        assert!(second.cached_tokens + 1 >= whole, "{} of {whole}", second.cached_tokens);
        // Tokens that make another text count for nothing.
        let mut others = first.tokens.clone();
        others.reverse();
        let usual = host.generate(&plain);
        for wrong in [with(&others), with(&[5, 4_000_000]), with(&[])] {
            assert_eq!(host.generate(&wrong).prompt_tokens, usual.prompt_tokens);
        }
        differed += u32::from(usual.prompt_tokens != second.prompt_tokens);
    }
    assert!(differed > 3, "{differed}");
}
