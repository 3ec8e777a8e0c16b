//! Embeddings of an encoder: its vectors against figures computed without llama.cpp, requests and their ends.

use std::path::Path;

use mms_protocol::generate::{EmbedInput, EmbedSpec};
use mms_protocol::worker::{EngineSettings, GenerateFailure, LoadSpec, LoadedInfo, Pooling, ToHost, ToWorker};

use crate::bert::{Bert, CLS, CONTEXT, SEP, added};
use crate::support::{End, Host, ask, demo};

/// Vectors and tokens, or why there are none.
pub(crate) type Embedded = Result<(Vec<Vec<f32>>, u32), GenerateFailure>;

pub(crate) fn texts(texts: &[&str]) -> EmbedSpec {
    EmbedSpec { inputs: texts.iter().map(|text| EmbedInput::Text((*text).to_owned())).collect(), dimensions: None }
}

pub(crate) fn embed(host: &mut Host, spec: &EmbedSpec) -> Embedded {
    host.send(&ToWorker::Embed { id: 1000, spec: Box::new(spec.clone()) });
    loop {
        match host.next() {
            ToHost::Embedded { id: 1000, vectors, prompt_tokens, .. } => {
                assert_eq!(vectors.len(), spec.inputs.len());
                for vector in &vectors {
                    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                    assert!((length - 1.0).abs() < 1e-5, "a length of {length}");
                }
                return Ok((vectors, prompt_tokens));
            }
            ToHost::Failed { id: 1000, failure } => return Err(failure),
            ToHost::Text { .. } | ToHost::Started { .. } => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

pub(crate) fn near(a: &[f32], b: &[f32], most: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < most, "{a} is not {b}");
    }
}

pub(crate) fn loaded(path: &Path, settings: EngineSettings) -> (Host, LoadedInfo) {
    let mut host = Host::spawn();
    host.shake_hands();
    let spec = LoadSpec { path: path.to_str().expect("UTF-8").to_owned(), settings, ..demo() };
    let info = host.load(spec).expect("it loads");
    (host, info)
}

fn with_bert(pooling: Option<u32>, settings: EngineSettings) -> (Host, LoadedInfo, Bert) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bert.gguf");
    let bert = Bert::new();
    std::fs::write(&path, bert.file(pooling).bytes()).expect("a file");
    let (host, info) = loaded(&path, settings);
    (host, info, bert)
}

fn unit(vector: &[f64]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter().map(|value| (value / length) as f32).collect()
}

#[test]
fn vectors_are_those_that_the_model_has_by_its_definition() {
    for (header, setting, take) in [
        (None, Pooling::Auto, Pooling::Mean),
        (Some(1), Pooling::Auto, Pooling::Mean),
        (Some(2), Pooling::Auto, Pooling::Cls),
        (Some(3), Pooling::Auto, Pooling::Last),
        (Some(1), Pooling::Cls, Pooling::Cls),
        (Some(4), Pooling::Last, Pooling::Last),
    ] {
        let (mut host, info, bert) =
            with_bert(header, EngineSettings { pooling: setting, ..EngineSettings::default() });
        assert_eq!((info.generates, info.embedding_length, info.context_length), (false, Some(16), 64));
        for text in ["the cat sees a dog", "model", "the model reads the text the model reads"] {
            let states = bert.compute(&Bert::tokens(text));
            let pooled = match take {
                Pooling::Mean | Pooling::Auto => states.iter().skip(1).fold(states[0].clone(), |sum, s| added(&sum, s)),
                Pooling::Cls => states[0].clone(),
                Pooling::Last => states[states.len() - 1].clone(),
            };
            let (vectors, tokens) = embed(&mut host, &texts(&[text])).expect("a vector");
            assert_eq!(tokens as usize, states.len());
            near(&vectors[0], &unit(&pooled), 5e-3);
        }
    }
}

#[test]
fn a_text_has_the_same_vector_alone_in_a_batch_and_as_tokens() {
    let (mut host, _, _) = with_bert(Some(1), EngineSettings::default());
    let sentences = ["the cat sees a dog", "a dog sees the cat", "model", "the models"];
    let many: Vec<&str> = sentences.iter().copied().cycle().take(200).collect();
    let (vectors, tokens) = embed(&mut host, &texts(&many)).expect("vectors");
    assert_eq!(tokens, 50 * (7 + 7 + 3 + 5));
    for (index, text) in sentences.iter().enumerate() {
        let (alone, _) = embed(&mut host, &texts(&[text])).expect("a vector");
        for vector in vectors.iter().skip(index).step_by(4) {
            near(vector, &alone[0], 1e-3);
        }
    }
    assert!(vectors[0].iter().zip(&vectors[1]).any(|(a, b)| (a - b).abs() > 0.02), "the order of words counts");
    let tokens = EmbedSpec { inputs: vec![EmbedInput::Tokens(Bert::tokens(sentences[0]))], dimensions: None };
    near(&embed(&mut host, &tokens).expect("a vector").0[0], &vectors[0], 1e-3);
    // The first dimensions, at length 1 again.
    let (short, _) = embed(&mut host, &EmbedSpec { dimensions: Some(4), ..texts(&sentences[..1]) }).expect("a vector");
    let four: Vec<f64> = vectors[0][..4].iter().map(|value| f64::from(*value)).collect();
    near(&short[0], &unit(&four), 1e-3);
}

#[test]
fn small_steps_hold_a_whole_text_all_the_same() {
    let settings = EngineSettings { context_length: 8, batch_size: 1, ubatch_size: 1, ..EngineSettings::default() };
    let (mut host, info, _) = with_bert(None, settings);
    assert_eq!(info.context_length, 8);
    let (vectors, _) = embed(&mut host, &texts(&["the cat reads a text s"; 40])).expect("vectors");
    vectors.iter().for_each(|vector| near(vector, &vectors[0], 1e-3));
    let expect = GenerateFailure::ContextExceeded { prompt_tokens: 9, at_least: false, context_length: 8 };
    assert_eq!(embed(&mut host, &texts(&["the cat reads a text s s"])).expect_err("too long"), expect);
}

#[test]
fn control_tokens_in_a_text_are_text() {
    let (mut host, _, _) = with_bert(None, EngineSettings::default());
    let (_, plain) = embed(&mut host, &texts(&["the cat"])).expect("a vector");
    let (_, spelled) = embed(&mut host, &texts(&["the [SEP] cat"])).expect("a vector");
    assert_eq!((plain, spelled), (4, 7), "three unknown words: a bracket, a word, a bracket");
}

#[test]
fn what_is_too_long_or_empty_or_unknown_is_refused_with_figures() {
    let (mut host, _, _) = with_bert(None, EngineSettings::default());
    let long = "cat ".repeat(CONTEXT - 2);
    assert_eq!(embed(&mut host, &texts(&[&long])).expect("it just fits").1, 64);
    let failure = embed(&mut host, &texts(&["cat", &"cat ".repeat(CONTEXT - 1)])).expect_err("one more");
    let expect = GenerateFailure::ContextExceeded { prompt_tokens: 65, at_least: false, context_length: 64 };
    assert_eq!(failure, expect);
    let tokens = |ids: &[u32]| EmbedSpec { inputs: vec![EmbedInput::Tokens(ids.to_vec())], dimensions: None };
    assert_eq!(embed(&mut host, &tokens(&[])).expect_err("nothing"), GenerateFailure::EmptyPrompt);
    assert_eq!(embed(&mut host, &texts(&[])).expect_err("nothing"), GenerateFailure::EmptyPrompt);
    for (spec, part) in [
        (tokens(&[14]), "the prompt has the token 14, the vocabulary ends before 14"),
        (EmbedSpec { dimensions: Some(17), ..texts(&["cat"]) }, "dimensions is 17, its embeddings have 16"),
    ] {
        match embed(&mut host, &spec).expect_err("refused") {
            GenerateFailure::Unsupported { message } => assert_eq!(message, part),
            other => panic!("{other:?}"),
        }
    }
    // Of a text without a word, what is around it is left.
    assert_eq!(embed(&mut host, &texts(&["  "])).expect("a vector").1, 2);
    assert_eq!(embed(&mut host, &tokens(&[CLS, SEP])).expect("a vector").1, 2);
}

#[test]
fn an_encoder_generates_nothing_and_says_so() {
    let (mut host, _, _) = with_bert(None, EngineSettings::default());
    match host.generate(&ask("Hello", 4)).end {
        End::Failed(GenerateFailure::Unsupported { message }) => {
            assert_eq!(message, "it is an encoder: it gives embeddings and cannot generate text");
        }
        other => panic!("{other:?}"),
    }
    embed(&mut host, &texts(&["cat"])).expect("a vector");
}

#[test]
fn a_cancelled_request_ends_and_the_others_do_not() {
    let (mut host, _, _) = with_bert(None, EngineSettings::default());
    let many = vec!["the cat sees a dog the model reads a text"; 256];
    let ask = |id, list: &[&str]| ToWorker::Embed { id, spec: Box::new(texts(list)) };
    host.send_all(&[
        ask(1, &many),
        ask(2, &many),
        ask(3, &["cat"]),
        ToWorker::Cancel { id: 1 },
        ToWorker::Cancel { id: 9 },
    ]);
    let mut ends = Vec::new();
    while ends.len() < 3 {
        match host.next() {
            ToHost::Embedded { id, vectors, .. } => ends.push((id, Some(vectors.len()))),
            ToHost::Failed { id, failure: GenerateFailure::Cancelled } => ends.push((id, None)),
            other => panic!("unexpected {other:?}"),
        }
    }
    ends.sort_unstable();
    assert_eq!(ends, [(1, None), (2, Some(256)), (3, Some(1))]);
}
