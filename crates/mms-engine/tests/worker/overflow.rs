//! What happens when an answer has filled its context.

use mms_protocol::generate::{FinishReason, GenerateSpec, Sampling};
use mms_protocol::worker::{ContextOverflow, EngineSettings, ToHost};

use crate::support::{Host, ask, ramble};

const CONTEXT: u32 = 96;

fn shifting() -> EngineSettings {
    EngineSettings {
        context_length: CONTEXT,
        context_overflow: ContextOverflow::Shift,
        context_keep: 8,
        ..EngineSettings::default()
    }
}

fn seeded(spec: &GenerateSpec, seed: u32) -> GenerateSpec {
    GenerateSpec { sampling: Sampling { seed: Some(seed), ..spec.sampling.clone() }, ..spec.clone() }
}

#[test]
fn a_shifted_answer_goes_on() {
    let mut host = Host::with(shifting());
    // It may draw its end by chance, but not every time.
    let long = (0..50).find_map(|seed| {
        let answer = host.generate(&seeded(&ramble("Once upon a time there was", 300), seed));
        (answer.reason() == FinishReason::Length).then_some(answer)
    });
    let usage = long.expect("one of them goes on").usage();
    assert_eq!(usage.completion_tokens, 300);
    // What such an answer leaves behind is not taken for what its tokens alone would give.
    let spec = ask("Hello, who are you?", 24);
    assert_eq!(host.generate(&spec).text, Host::with(shifting()).generate(&spec).text);
}

#[test]
fn without_a_limit_of_its_own_an_answer_ends_with_the_context() {
    for context_overflow in [ContextOverflow::Shift, ContextOverflow::Stop] {
        let mut host = Host::with(EngineSettings { context_overflow, ..shifting() });
        let answer = host.generate(&GenerateSpec { max_tokens: None, ..ramble("Once upon a time", 1) });
        assert!(answer.usage().prompt_tokens + answer.usage().completion_tokens <= CONTEXT);
        let answer = host.generate(&ask(&"very long ".repeat(60), 8));
        assert!(matches!(answer.end, crate::support::End::Failed(_)), "{answer:?}");
    }
}

#[test]
fn what_another_answer_shares_does_not_move_under_it() {
    let mut host = Host::with(shifting());
    let prompt = &"one two three four five six seven eight nine ten eleven twelve thirteen ".repeat(4);
    let short = GenerateSpec { max_tokens: Some(2), ..seeded(&ramble(prompt, 2), 1) };
    let expect = Host::with(shifting()).generate(&short).text;
    let mut happened = false;
    for seed in 0..50 {
        host.start(0, &seeded(&ramble(prompt, 400), seed));
        while !matches!(host.next(), ToHost::Text { .. } | ToHost::Finished { .. }) {}
        host.start(1, &short);
        let mut shared = 0;
        let mut generated = 0;
        let mut ends = 0;
        while ends < 2 {
            match host.next() {
                ToHost::Started { id: 1, cached_tokens, .. } => shared = cached_tokens,
                ToHost::Finished { id, usage, .. } => {
                    ends += 1;
                    generated += if id == 0 { usage.completion_tokens } else { 0 };
                }
                ToHost::Started { .. } | ToHost::Text { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        // The other one has shared with it while it ran, and then it was shifted.
        happened |= shared > CONTEXT / 2 + 8 && generated > CONTEXT;
        let again = host.generate(&short);
        assert_eq!(again.text, expect);
        if happened {
            return;
        }
    }
    panic!("no answer was shifted while another shared its beginning");
}
