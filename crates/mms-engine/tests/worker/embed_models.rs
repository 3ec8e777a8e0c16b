//! Embeddings of models that generate, beside their answers; files that cannot give embeddings; memory.

use mms_protocol::generate::{EmbedInput, EmbedSpec, FinishReason};
use mms_protocol::worker::{EngineSettings, GenerateFailure, LoadSpec, Pooling, Speculation, ToHost, ToWorker};

use crate::bert::Bert;
use crate::embed::{embed, loaded, near, texts};
use crate::gguf::{Gguf, Kind, random_model, recurrent_model, windowed_model};
use crate::support::{Host, ask, demo, ramble};

const STORY: &str = "Tell me about models. The suite keeps several of them in memory, and each one has slots. ";

fn write(folder: &tempfile::TempDir, name: &str, file: &Gguf) -> std::path::PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, file.bytes()).expect("a file");
    path
}

#[test]
fn a_model_that_answers_gives_embeddings_as_well() {
    let mut host = Host::with(EngineSettings::default());
    let long = STORY.repeat(8);
    let list = ["Hello!", "Good morning", STORY, &long, "x"];
    let (vectors, tokens) = embed(&mut host, &texts(&list)).expect("vectors");
    assert_eq!(vectors[0].len(), 256);
    assert!(tokens > 200, "{tokens}");
    for (text, vector) in list.iter().zip(&vectors) {
        near(&embed(&mut host, &texts(&[text])).expect("a vector").0[0], vector, 2e-3);
    }
    assert!(vectors[0].iter().zip(&vectors[1]).any(|(a, b)| (a - b).abs() > 0.01));
}

/// However a text is cut into steps, its vector is the same: few outputs make many steps.
#[test]
fn steps_change_nothing() {
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
        let mut whole = None;
        for (batch_size, slots) in [(512, 4), (7, 1), (3, 3)] {
            let settings = EngineSettings { batch_size, ubatch_size: 3, slots, pooling, ..EngineSettings::default() };
            let mut host = Host::with(EngineSettings { speculation: Speculation::Off, ..settings });
            let (vectors, _) = embed(&mut host, &texts(&[STORY, "Hello!"])).expect("vectors");
            let before = whole.get_or_insert_with(|| vectors.clone());
            before.iter().zip(&vectors).for_each(|(a, b)| near(a, b, 2e-3));
        }
    }
}

#[test]
fn models_of_all_kinds_of_memory_give_embeddings() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, file, width) in [
        ("plain", random_model(Kind::F32, 256), 256),
        ("recurrent", recurrent_model(), 64),
        ("windowed", windowed_model(64), 64),
    ] {
        for pooling in [Pooling::Auto, Pooling::Last] {
            let settings = EngineSettings { pooling, ..EngineSettings::default() };
            let (mut host, info) = loaded(&write(&folder, &format!("{name}.gguf"), &file), settings);
            assert_eq!((info.generates, info.embedding_length), (true, Some(width)), "{name}");
            let (vectors, _) = embed(&mut host, &texts(&[STORY, "Hello!", STORY])).expect(name);
            near(&vectors[0], &vectors[2], 2e-3);
            host.generate(&ramble(STORY, 8));
            near(&embed(&mut host, &texts(&[STORY])).expect(name).0[0], &vectors[0], 2e-3);
        }
    }
}

/// As causal embedding models are made: the last token is the end of the text, which the vocabulary puts there.
#[test]
fn a_causal_embedding_model_reads_the_end_of_the_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = random_model(Kind::F32, 256).key("llama.pooling_type", 3).key("tokenizer.ggml.add_eos_token", true);
    let (mut host, info) = loaded(&write(&folder, "last.gguf", &file), EngineSettings::default());
    assert_eq!(info.embedding_length, Some(256));
    let (by_text, tokens) = embed(&mut host, &texts(&["ab"])).expect("a vector");
    // Beginning, the three bytes of the sign for a space, two letters, end; a byte's token is its number and three.
    let bytes = "▁ab".bytes().map(|byte| u32::from(byte) + 3);
    let ids: Vec<u32> = std::iter::once(1).chain(bytes).chain([2]).collect();
    assert_eq!((tokens, ids.len()), (7, 7));
    let given = |ids: &[u32]| EmbedSpec { inputs: vec![EmbedInput::Tokens(ids.to_vec())], dimensions: None };
    near(&embed(&mut host, &given(&ids)).expect("a vector").0[0], &by_text[0], 2e-3);
    let (without, _) = embed(&mut host, &given(&ids[..6])).expect("a vector");
    assert!(without[0].iter().zip(&by_text[0]).any(|(a, b)| (a - b).abs() > 0.01));
}

/// With all slots answering, and with embeddings between, answers are what they are alone, and find their conversations again.
#[test]
fn answers_go_on_and_are_the_same() {
    let mut host = Host::with(EngineSettings { slots: 2, ..EngineSettings::default() });
    let questions = [ask("What is a slot?", 60), ask("Who are you?", 60), ask("Tell me about models.", 60)];
    let alone: Vec<String> = questions.iter().map(|question| host.generate(question).text).collect();
    let vector = embed(&mut host, &texts(&[STORY])).expect("a vector").0.remove(0);
    for (id, question) in (0..).zip(&questions) {
        host.start(id, question);
    }
    let many = vec![STORY; 20];
    host.send(&ToWorker::Embed { id: 7, spec: Box::new(texts(&many)) });
    let (mut answers, mut vectors, mut ends) = (vec![String::new(); 3], Vec::new(), 0);
    while ends < 4 {
        match host.next() {
            ToHost::Text { id, text, .. } => answers[usize::try_from(id).expect("ours")].push_str(&text),
            ToHost::Finished { .. } => ends += 1,
            ToHost::Embedded { id: 7, vectors: given, .. } => {
                vectors = given;
                ends += 1;
            }
            ToHost::Started { .. } => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(answers, alone);
    assert_eq!(vectors.len(), 20);
    vectors.iter().for_each(|given| near(given, &vector, 2e-3));
}

#[test]
fn a_conversation_outlives_embeddings() {
    let mut host = Host::with(EngineSettings { slots: 1, ..EngineSettings::default() });
    let question = ask(&STORY.repeat(6), 8);
    let first = host.generate(&question);
    embed(&mut host, &texts(&[STORY, "Hello!"])).expect("vectors");
    let again = host.generate(&question);
    assert_eq!((again.reason(), &again.text), (FinishReason::Length, &first.text));
    assert!(again.cached_tokens > first.prompt_tokens / 2, "{again:?}");
}

#[test]
fn a_decoder_refuses_what_is_too_long_and_what_its_pooling_forbids() {
    let mut host = Host::with(EngineSettings { context_length: 64, ..EngineSettings::default() });
    for (text, at_least) in [(STORY.repeat(4), false), ("word".repeat(20_000), true)] {
        match embed(&mut host, &texts(&["x", &text])).expect_err("too long") {
            GenerateFailure::ContextExceeded { prompt_tokens, at_least: least, context_length: 64 } => {
                assert!(prompt_tokens > 64 && least == at_least, "{prompt_tokens}");
            }
            other => panic!("{other:?}"),
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let ranks = random_model(Kind::F32, 256).key("llama.pooling_type", 4);
    let (mut host, info) = loaded(&write(&folder, "ranks.gguf", &ranks), EngineSettings::default());
    assert_eq!((info.generates, info.embedding_length), (true, None));
    match embed(&mut host, &texts(&["x"])).expect_err("no embeddings") {
        GenerateFailure::Unsupported { message } => assert!(message.contains("pooling_type rank"), "{message}"),
        other => panic!("{other:?}"),
    }
    host.generate(&ramble("x", 4));
}

#[test]
fn an_encoder_that_can_do_nothing_is_not_loaded_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let bert = Bert::new();
    let longer = EngineSettings { context_length: 65, ..EngineSettings::default() };
    for (name, file, settings, part) in [
        ("ranks", bert.file(Some(4)), EngineSettings::default(), "pooling_type rank"),
        ("unknown", bert.file(Some(9)), EngineSettings::default(), "pooling_type of 9"),
        ("longer", bert.file(None), longer, "positions for 64 tokens only"),
        (
            "bare",
            bert.file(None).without("tokenizer.ggml.seperator_token_id"),
            EngineSettings::default(),
            "text ends with",
        ),
    ] {
        let path = write(&folder, &format!("{name}.gguf"), &file).to_str().expect("UTF-8").to_owned();
        let mut host = Host::spawn();
        host.shake_hands();
        let why = host.load(LoadSpec { path, settings, ..demo() }).expect_err(name);
        assert!(why.contains(part), "{name}: {why}");
    }
}

#[test]
fn a_request_is_cancelled_in_the_middle_of_a_text() {
    let mut host = Host::with(EngineSettings { slots: 1, context_length: 4096, ..EngineSettings::default() });
    let long = texts(&[&STORY.repeat(60), &STORY.repeat(60)]);
    host.send(&ToWorker::Embed { id: 1, spec: Box::new(long) });
    // It is at work when the first step has been told of.
    loop {
        match host.receive() {
            ToHost::Heartbeat(beat) if beat.busy_slots == 1 => break,
            ToHost::Heartbeat(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    host.send(&ToWorker::Cancel { id: 1 });
    assert_eq!(host.next(), ToHost::Failed { id: 1, failure: GenerateFailure::Cancelled });
    embed(&mut host, &texts(&["Hello!"])).expect("a vector");
}
