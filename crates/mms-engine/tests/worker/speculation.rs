//! Guessed tokens change how fast an answer comes, never what it says.

use mms_protocol::generate::{GenerateSpec, Prompt, Sampling, Timings};
use mms_protocol::worker::{EngineSettings, Speculation};

use crate::support::{Answer, End, Host, ask, assistant, user};

fn with(speculation: Speculation) -> Host {
    Host::with(EngineSettings { speculation, ..EngineSettings::default() })
}

fn timings(answer: &Answer) -> Timings {
    match &answer.end {
        End::Finished { timings, .. } => *timings,
        End::Failed(failure) => panic!("{failure:?}"),
    }
}

/// Talks in which the answer is known from an earlier turn. The built-in model is sure of its answers, so that rounding, which differs
/// with the size of a batch, decides nothing.
fn specs() -> Vec<GenerateSpec> {
    let questions = ["Hello, who are you?", "How do I load a model?", "What is this product?"];
    let mut host = with(Speculation::Off);
    let talks = questions.map(|question| {
        let answer = host.generate(&ask(question, 64)).text;
        Prompt::Chat(vec![user(question), assistant(&answer), user(question)])
    });
    let sampled = Sampling { temperature: 0.5, seed: Some(7), ..Sampling::default() };
    let [first, second, third] = talks.map(|prompt| GenerateSpec { prompt, ..ask("", 64) });
    vec![
        GenerateSpec { sampling: sampled.clone(), ..first.clone() },
        GenerateSpec { sampling: sampled, logprobs: Some(2), ..second.clone() },
        GenerateSpec { stop: vec!["odel".to_owned()], ..first.clone() },
        GenerateSpec { max_tokens: Some(5), ..second.clone() },
        first,
        second,
        third,
    ]
}

#[test]
fn answers_are_the_same_with_and_without() {
    let mut off = with(Speculation::Off);
    let mut on = with(Speculation::PromptLookup);
    let mut auto = with(Speculation::Auto);
    let (mut drafted, mut accepted) = (0, 0);
    for spec in specs() {
        let expect = off.generate(&spec);
        assert_eq!((timings(&expect).drafted_tokens, timings(&expect).accepted_tokens), (0, 0));
        for host in [&mut on, &mut auto] {
            // The second time finds what the first has left in the KV cache: nothing of a wrong guess.
            for _ in 0..2 {
                let answer = host.generate(&spec);
                assert_eq!((&answer.text, answer.reason()), (&expect.text, expect.reason()), "{spec:?}");
                assert_eq!(answer.usage().completion_tokens, expect.usage().completion_tokens);
                drafted += timings(&answer).drafted_tokens;
                accepted += timings(&answer).accepted_tokens;
            }
        }
    }
    assert!(accepted > 0 && accepted <= drafted, "{accepted} of {drafted}");
}

#[test]
fn guesses_beside_other_answers() {
    let settings = EngineSettings {
        speculation: Speculation::PromptLookup,
        draft_tokens: 64,
        context_length: 256,
        batch_size: 8,
        ..EngineSettings::default()
    };
    let mut host = Host::with(settings);
    let specs: Vec<GenerateSpec> = specs().into_iter().chain(specs()).collect();
    for answer in host.generate_all(&specs) {
        let usage = answer.usage();
        let timings = timings(&answer);
        assert!(timings.accepted_tokens <= timings.drafted_tokens && timings.accepted_tokens < usage.completion_tokens);
        assert!(usage.prompt_tokens + usage.completion_tokens <= 256);
    }
}
