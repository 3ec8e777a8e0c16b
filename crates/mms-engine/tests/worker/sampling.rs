//! How tokens are chosen: log probabilities and biases of single tokens.

use mms_protocol::generate::{FinishReason, GenerateSpec, Sampling};
use mms_protocol::worker::{EngineSettings, GenerateFailure};

use crate::support::{End, Host, ask, ramble};

fn host() -> Host {
    Host::with(EngineSettings::default())
}

fn biased(logit_bias: &[(u32, f32)], temperature: f32) -> GenerateSpec {
    let sampling = Sampling { temperature, logit_bias: logit_bias.to_vec(), ..Sampling::default() };
    GenerateSpec { sampling, ..ask("Hello, who are you?", 12) }
}

#[test]
fn each_token_comes_with_its_log_probability() {
    let mut host = host();
    let plain = host.generate(&ask("Hello, who are you?", 16));
    assert!(plain.logprobs.is_empty());
    let answer = host.generate(&GenerateSpec { logprobs: Some(3), ..ask("Hello, who are you?", 16) });
    assert_eq!(answer.text, plain.text);
    assert_eq!(answer.logprobs.len(), answer.usage().completion_tokens as usize);
    let text: Vec<u8> = answer.logprobs.iter().flat_map(|one| one.chosen.bytes.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), answer.text);
    for one in &answer.logprobs {
        // Greedy: the chosen one is the likeliest.
        assert_eq!((one.top.len(), &one.top[0]), (3, &one.chosen));
        assert!(one.top.is_sorted_by(|a, b| a.logprob >= b.logprob) && one.chosen.logprob <= 0.0);
        assert!(one.top.iter().map(|token| token.logprob.exp()).sum::<f32>() <= 1.001);
    }
    // They are the model's own, whatever the sampling settings make of them.
    let hot = ask("Hello, who are you?", 1);
    let sampling = Sampling { temperature: 5.0, top_k: 1, ..hot.sampling.clone() };
    let hot = host.generate(&GenerateSpec { sampling, logprobs: Some(0), ..hot });
    assert!((hot.logprobs[0].chosen.logprob - answer.logprobs[0].chosen.logprob).abs() < 0.01);
    assert!(hot.logprobs[0].top.is_empty());
}

#[test]
fn no_log_probability_is_lost() {
    let mut host = host();
    // At this temperature single bytes come, too, some of them never completed.
    for seed in 0..4 {
        let spec = ramble("é🙂", 60);
        let sampling = Sampling { seed: Some(seed), ..spec.sampling.clone() };
        let answer = host.generate(&GenerateSpec { logprobs: Some(1), sampling, ..spec });
        assert_eq!(answer.logprobs.len(), answer.usage().completion_tokens as usize);
    }
    let whole = host.generate(&GenerateSpec { logprobs: Some(0), ..ask("Hello, who are you?", 16) });
    let middle: String = whole.text.chars().skip(6).take(4).collect();
    let cut = GenerateSpec { logprobs: Some(0), stop: vec![middle], ..ask("Hello, who are you?", 16) };
    let cut = host.generate(&cut);
    assert_eq!(cut.reason(), FinishReason::Stop);
    assert_eq!(cut.logprobs, whole.logprobs[..cut.logprobs.len()]);
    let without_last: usize = cut.logprobs.iter().rev().skip(1).map(|one| one.chosen.bytes.len()).sum();
    assert!(without_last < cut.text.len());
}

#[test]
fn a_bias_forces_and_forbids() {
    let mut host = host();
    let plain = host.generate(&GenerateSpec { logprobs: Some(2), ..biased(&[], 0.0) });
    let first = host.generate(&GenerateSpec { max_tokens: Some(1), ..biased(&[], 0.0) }).text;
    for temperature in [0.0, 1.0] {
        // Token 300 again and again; several share.
        let forced = host.generate(&biased(&[(300, 100.0)], temperature));
        assert_eq!((forced.reason(), forced.usage().completion_tokens), (FinishReason::Length, 12));
        let one = host.generate(&GenerateSpec { max_tokens: Some(1), ..biased(&[(300, 150.0)], temperature) }).text;
        assert_eq!(forced.text, one.repeat(12));
    }
    // Forbidding the likeliest first token gives the second.
    let token = (0..).find(|&id| {
        let spec = GenerateSpec { max_tokens: Some(1), ..biased(&[(id, 100.0)], 0.0) };
        host.generate(&spec).text == first
    });
    let token = token.expect("some token has this text");
    let without = host.generate(&GenerateSpec { max_tokens: Some(1), ..biased(&[(token, -100.0)], 0.0) });
    assert_eq!(without.text.as_bytes(), plain.logprobs[0].top[1].bytes);
}

#[test]
fn a_bias_of_an_unknown_token_is_refused() {
    let mut host = host();
    match host.generate(&biased(&[(5, 1.0), (99_999_999, 1.0)], 1.0)).end {
        End::Failed(GenerateFailure::Constraint { message }) => assert!(message.contains("99999999"), "{message}"),
        end => panic!("{end:?}"),
    }
    // All that is forced is forbidden, too.
    match host.generate(&biased(&[(5, 100.0), (5, -100.0)], 1.0)).end {
        End::Failed(GenerateFailure::Constraint { message }) => assert!(message.contains("forbid"), "{message}"),
        end => panic!("{end:?}"),
    }
}
