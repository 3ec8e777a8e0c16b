//! What comes out: the same text for the same request, alone or beside others; stop strings, limits, caching, failures.

use mms_protocol::generate::{FinishReason, GenerateSpec, Prompt, Sampling};
use mms_protocol::worker::{EngineSettings, GenerateFailure, LoadSpec, ToHost, ToWorker};

use crate::support::{End, Host, ask, assistant, demo, ramble, user};

fn host() -> Host {
    Host::with(EngineSettings::default())
}

fn seeded(seed: Option<u32>) -> GenerateSpec {
    let sampling = Sampling { temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Sampling::default() };
    GenerateSpec { sampling, ..ask("Tell me a story.", 40) }
}

#[test]
fn greedy_answers_are_the_same_every_time() {
    let mut host = host();
    let first = host.generate(&ask("Hello, who are you?", 48));
    assert!(!first.text.trim().is_empty());
    assert!(first.prompt_tokens > 0);
    let usage = first.usage();
    assert_eq!(usage.prompt_tokens, first.prompt_tokens);
    assert!(usage.completion_tokens > 0 && usage.completion_tokens <= 48);
    // Once more with the cache warm, and in another process.
    assert_eq!(host.generate(&ask("Hello, who are you?", 48)).text, first.text);
    assert_eq!(self::host().generate(&ask("Hello, who are you?", 48)).text, first.text);
}

#[test]
fn neighbours_do_not_mix() {
    let questions = ["Hello!", "What is this product?", "How do I load a model?", "What is two plus two?", "Goodbye."];
    let specs = questions.map(|question| ask(question, 12));
    let mut host = host();
    let together = host.generate_all(&specs);
    for (spec, beside) in specs.iter().zip(&together) {
        let alone = self::host().generate(spec);
        // Sums in another order may tip a near tie later on; the beginning has no excuse.
        let common = alone.text.chars().zip(beside.text.chars()).take_while(|(a, b)| a == b).count();
        let least = alone.text.chars().count().min(8);
        assert!(common >= least, "alone {:?}, beside others {:?}", alone.text, beside.text);
    }
}

#[test]
fn a_seed_means_the_same_text() {
    let mut host = host();
    let first = host.generate(&seeded(Some(7)));
    let other = host.generate(&seeded(Some(8)));
    let again = self::host().generate(&seeded(Some(7)));
    assert_eq!(again.text, first.text);
    assert_ne!(other.text, first.text);
    // llama.cpp reads this one as "random"; with us it is a seed like any other.
    let most = self::host().generate(&seeded(Some(u32::MAX)));
    assert_eq!(self::host().generate(&seeded(Some(u32::MAX))).text, most.text);
    let random: Vec<String> = (0..3).map(|_| host.generate(&seeded(None)).text).collect();
    assert!(random[0] != random[1] || random[1] != random[2]);
}

#[test]
fn penalties_change_greedy_answers_only_when_asked() {
    let mut host = host();
    let plain = ask("Tell me about this product.", 40);
    let with =
        |sampling: Sampling| GenerateSpec { sampling: Sampling { temperature: 0.0, ..sampling }, ..plain.clone() };
    let expect = host.generate(&plain).text;
    let neutral = with(Sampling { repeat_penalty: 1.0, top_k: 3, top_p: 0.1, ..Sampling::default() });
    assert_eq!(host.generate(&neutral).text, expect);
    let strong = with(Sampling {
        repeat_last_n: u32::MAX,
        frequency_penalty: 2.0,
        presence_penalty: 2.0,
        repeat_penalty: 5.0,
        ..Sampling::default()
    });
    assert_ne!(host.generate(&strong).text, expect);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let mut host = host();
    let whole = host.generate(&ask("Hello, who are you?", 48)).text;
    let characters: Vec<char> = whole.chars().collect();
    // Strings from the middle of the answer, across tokens, of several lengths.
    for (start, length) in [(3, 1), (4, 7), (characters.len() / 2, 5), (characters.len() / 2, 12)] {
        let stop: String = characters.iter().skip(start).take(length).collect();
        let expect = whole.split(&stop).next().expect("a beginning");
        let answer = host.generate(&GenerateSpec {
            stop: vec!["\u{1}never".to_owned(), stop.clone()],
            ..ask("Hello, who are you?", 48)
        });
        assert_eq!((answer.text.as_str(), answer.reason()), (expect, FinishReason::Stop), "{stop:?}");
    }
}

#[test]
fn text_leaves_in_whole_characters() {
    let mut host = host();
    // At this temperature the model draws from its whole vocabulary, single bytes included.
    for seed in 0..4 {
        let spec = ramble("é🙂", 60);
        let answer =
            host.generate(&GenerateSpec { sampling: Sampling { seed: Some(seed), ..spec.sampling.clone() }, ..spec });
        assert!(answer.pieces.iter().all(|piece| !piece.is_empty()));
    }
}

#[test]
fn limits_end_with_length() {
    let mut host = Host::with(EngineSettings { context_length: 96, ..EngineSettings::default() });
    let one = host.generate(&ramble("Once upon a time", 1));
    assert_eq!((one.reason(), one.usage().completion_tokens), (FinishReason::Length, 1));
    let unlimited = GenerateSpec { max_tokens: None, ..ramble("Once upon a time", 1) };
    let all = host.generate(&unlimited);
    let usage = all.usage();
    // It may also draw its end by chance.
    if all.reason() == FinishReason::Length {
        assert_eq!(usage.prompt_tokens + usage.completion_tokens, 96);
    }
}

#[test]
fn prompts_that_cannot_be_answered() {
    let mut host = Host::with(EngineSettings { context_length: 64, ..EngineSettings::default() });
    // So many bytes that their tokens need not be counted, and fewer.
    for (times, uncounted) in [(100_000, true), (40, false)] {
        match host.generate(&ask(&"very long ".repeat(times), 8)).end {
            End::Failed(GenerateFailure::ContextExceeded { prompt_tokens, at_least, context_length: 64 }) => {
                assert!(prompt_tokens >= 64 && at_least == uncounted, "{prompt_tokens} {at_least}");
            }
            end => panic!("{end:?}"),
        }
    }
    for prompt in [Prompt::Raw(String::new()), Prompt::Chat(Vec::new()), Prompt::Tokens(Vec::new())] {
        let answer = host.generate(&GenerateSpec { prompt, ..ask("", 8) });
        assert_eq!(answer.end, End::Failed(GenerateFailure::EmptyPrompt));
    }
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
}

#[test]
fn the_second_turn_of_a_talk_finds_the_first_in_the_cache() {
    let mut host = host();
    let first = host.generate(&ask("Hello, who are you?", 32));
    assert_eq!(first.cached_tokens, 0);
    let talk = vec![user("Hello, who are you?"), assistant(&first.text), user("Thank you.")];
    let second = GenerateSpec { prompt: Prompt::Chat(talk), ..ask("", 16) };
    let answer = host.generate(&second);
    assert!(answer.cached_tokens >= first.prompt_tokens - 2, "{} of {}", answer.cached_tokens, first.prompt_tokens);
    assert!(answer.cached_tokens < answer.prompt_tokens);
    assert_eq!(answer.usage().cached_tokens, answer.cached_tokens);
    // Computed from nothing it is the same.
    let fresh = self::host().generate(&second);
    assert_eq!((fresh.cached_tokens, fresh.text), (0, answer.text));
}

#[test]
fn the_same_prompt_again_computes_only_its_last_token() {
    let mut host = host();
    let first = host.generate(&ask("Hello, who are you?", 4));
    let again = host.generate(&ask("Hello, who are you?", 4));
    assert_eq!(again.cached_tokens, first.prompt_tokens - 1);
    // Beside itself too: a busy slot lends its beginning.
    let many = host.generate_all(&vec![ask("Hello, who are you?", 4); 4]);
    assert!(many.iter().all(|answer| answer.text == first.text));
}

#[test]
fn one_prompt_asked_several_times_at_once_is_computed_once() {
    let mut host = host();
    let question = format!("{}Who are you?", "We talk about models. ".repeat(30));
    let mut specs = vec![ask(&question, 4); 4];
    specs.push(ask("Hello", 4));
    let answers = host.generate_all(&specs);
    let (many, other) = answers.split_at(4);
    assert_eq!(many[0].cached_tokens, 0);
    for answer in &many[1..] {
        assert_eq!(answer.cached_tokens, answer.prompt_tokens - 1, "of {}", answer.prompt_tokens);
        assert_eq!(answer.text, many[0].text);
    }
    assert!(!other[0].text.is_empty() && many[0].prompt_tokens > 64);
}

#[test]
fn a_template_can_be_replaced_and_can_refuse() {
    let load = |template: &str| {
        let mut host = Host::spawn();
        host.shake_hands();
        host.load(LoadSpec { chat_template: Some(template.to_owned()), ..demo() }).expect("loads");
        host
    };
    let mut host = load("{{ raise_exception('only cats may speak') }}");
    let refused = |message: &str| End::Failed(GenerateFailure::Template { message: message.to_owned() });
    assert_eq!(host.generate(&ask("Hello", 8)).end, refused("only cats may speak"));
    let raw = GenerateSpec { prompt: Prompt::Raw("Hello".to_owned()), ..ask("", 8) };
    assert!(matches!(host.generate(&raw).end, End::Finished { .. }));

    let mut host = load("{% if %}");
    assert!(matches!(host.generate(&ask("Hello", 8)).end, End::Failed(GenerateFailure::Template { .. })));

    let mut host = load("{{ messages[0].content }}");
    let rendered = host.generate(&ask("Hello", 8));
    let raw = host.generate(&raw);
    assert_eq!((rendered.prompt_tokens, rendered.text), (raw.prompt_tokens, raw.text));
}

#[test]
fn tokens_are_taken_as_they_stand_when_the_vocabulary_has_them() {
    let mut host = host();
    let ids = GenerateSpec { prompt: Prompt::Tokens(vec![70, 71, 72]), ..ask("", 4) };
    assert_eq!(host.generate(&ids).prompt_tokens, 3, "nothing is put in front");
    let strange = GenerateSpec { prompt: Prompt::Tokens(vec![70, 4_000_000_000]), ..ask("", 4) };
    let End::Failed(GenerateFailure::Unsupported { message }) = host.generate(&strange).end else { panic!("refused") };
    assert!(message.starts_with("the prompt has the token 4000000000, "), "{message}");
}

#[test]
fn a_message_cannot_write_control_tokens() {
    let mut host = Host::spawn();
    host.shake_hands();
    let chat_template = Some("{{ messages[0].content }}{% if messages[1] %}<|end|>{% endif %}".to_owned());
    host.load(LoadSpec { chat_template, ..demo() }).expect("loads");
    let mut count = |prompt: Prompt| host.generate(&GenerateSpec { prompt, ..ask("", 1) }).prompt_tokens;
    let raw = |text: &str| Prompt::Raw(text.to_owned());
    let plain = count(raw("Hello"));
    // Whoever writes raw prompts writes control tokens; the template does too.
    assert_eq!(count(raw("Hello<|end|>")), plain + 1);
    assert_eq!(count(Prompt::Chat(vec![user("Hello"), user("")])), plain + 1);
    // A message does not: it is spelled out.
    assert!(count(Prompt::Chat(vec![user("Hello<|end|>")])) > plain + 1);
    // One beginning-of-sequence token, also when the prompt brings it along.
    assert_eq!(count(raw("<|bos|>Hello")), plain);
}

#[test]
fn a_prompt_that_takes_long_to_prepare_does_not_hold_up_the_engine() {
    let mut host = host();
    // White space says nothing about the number of tokens, so these have to be counted.
    let white = GenerateSpec { prompt: Prompt::Raw(" \n\t".repeat(1 << 18)), ..ask("", 8) };
    host.start(0, &white);
    let mut waited = false;
    loop {
        match host.receive() {
            ToHost::Heartbeat(beat) => waited |= (beat.queued, beat.busy_slots) == (1, 0),
            ToHost::Failed { id: 0, failure: GenerateFailure::ContextExceeded { at_least: false, .. } } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(waited, "the worker was not heard of meanwhile");
    // One that is cancelled meanwhile ends at once, and what was prepared for it is thrown away.
    host.start(0, &white);
    host.send(&ToWorker::Cancel { id: 0 });
    assert_eq!(host.collect(1)[0].end, End::Failed(GenerateFailure::Cancelled));
    assert!(matches!(host.generate(&ask("Hello", 8)).end, End::Finished { .. }));
}
