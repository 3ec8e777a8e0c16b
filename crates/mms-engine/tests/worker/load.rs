//! Settings that change how a model is loaded: types of the KV cache, flash attention, adapters, warm-up; and the plain loop.

use std::path::Path;
use std::process::Command;

use mms_protocol::worker::{CacheType, EngineSettings, FlashAttention, LoadSpec, LoadedInfo, LoraAdapter};
use serde_json::Value;

use crate::gguf::{Gguf, adapter};
use crate::support::{Host, ask, demo, demo_model};

fn load(settings: EngineSettings) -> Result<(Host, LoadedInfo), String> {
    let mut host = Host::spawn();
    host.shake_hands();
    let info = host.load(LoadSpec { settings, ..demo() })?;
    Ok((host, info))
}

fn write(folder: &Path, name: &str, file: &Gguf) -> String {
    let path = folder.join(name);
    std::fs::write(&path, file.bytes()).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn types_of_the_kv_cache() {
    let with = |cache_type_k, cache_type_v, flash_attention| EngineSettings {
        cache_type_k,
        cache_type_v,
        flash_attention,
        ..EngineSettings::default()
    };
    let bytes = |settings| {
        let (mut host, info) = load(settings).expect("loads");
        assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
        info.kv_bytes as f64
    };
    let f16 = bytes(EngineSettings::default());
    let close = |measured: f64, expect: f64| assert!((measured / expect - 1.0).abs() < 0.02, "{measured} {expect}");
    close(bytes(with(CacheType::Q8_0, CacheType::Q8_0, FlashAttention::Auto)), f16 * 34.0 / 64.0);
    close(bytes(with(CacheType::F32, CacheType::F16, FlashAttention::Off)), f16 * 1.5);
    close(bytes(with(CacheType::Q4_0, CacheType::Iq4Nl, FlashAttention::On)), f16 * 18.0 / 64.0);

    let why = load(with(CacheType::F16, CacheType::Q8_0, FlashAttention::Off)).err().expect("contradictory");
    assert!(why.contains("cache_type_v = q8_0") && why.contains("flash_attention = off"), "{why}");
}

#[test]
fn adapters_change_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = write(folder.path(), "adapter.gguf", &adapter("llama"));
    let answer = |lora: Vec<LoraAdapter>| {
        let (mut host, _) = load(EngineSettings { lora, ..EngineSettings::default() }).expect("loads");
        host.generate(&ask("What is a model?", 24)).text
    };
    let one = |scale| vec![LoraAdapter { path: path.clone(), scale }];
    let without = answer(Vec::new());
    assert_eq!(answer(one(0.0)), without);
    let with = answer(one(1.0));
    assert_ne!(with, without);
    assert_ne!(answer(one(-1.0)), with);
    // Applied twice with half the strength.
    assert_eq!(answer([one(0.5), one(0.5)].concat()), with);
}

#[test]
fn an_adapter_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = adapter("gpt2");
    let wrong_shape = Gguf::default()
        .key("general.type", "adapter")
        .key("general.architecture", "llama")
        .key("adapter.type", "lora")
        .random("blk.0.attn_q.weight.lora_a", &[128, 2], 0.5)
        .random("blk.0.attn_q.weight.lora_b", &[2, 256], 0.5);
    let cases = [
        (folder.path().join("none.gguf").to_str().expect("UTF-8").to_owned(), "No such file"),
        (write(folder.path(), "other.gguf", &other), "arch mismatch"),
        (write(folder.path(), "shape.gguf", &wrong_shape), "incorrect shape"),
        (demo_model().to_str().expect("UTF-8").to_owned(), "adapter"),
    ];
    for (path, expect) in cases {
        let lora = vec![LoraAdapter { path: path.clone(), scale: 1.0 }];
        let why = load(EngineSettings { lora, ..EngineSettings::default() }).err().expect("does not fit");
        assert!(why.contains(expect) && why.contains(&path), "{path}: {why}");
    }
}

#[test]
fn a_warm_up_leaves_no_trace() {
    let answer = |warm_up| {
        let (mut host, _) = load(EngineSettings { warm_up, ..EngineSettings::default() }).expect("loads");
        let answer = host.generate(&ask("Hello", 16));
        (answer.text, answer.cached_tokens)
    };
    assert_eq!(answer(true), answer(false));
}

#[test]
fn the_plain_loop_measures() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mms-worker"));
        command.arg("plain").arg("--model").arg(demo_model()).args(arguments).output().expect("the worker starts")
    };
    let output = run(&["--streams", "3", "--prompt-tokens", "600", "--tokens", "9", "--rounds", "2"]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!((&said["streams"], &said["tokens"], &said["context_length"]), (&3.into(), &9.into(), &609.into()));
    for figure in ["tokens_per_second", "prompt_tokens_per_second", "prompt_ms", "predicted_ms"] {
        assert!(said[figure].as_f64().is_some_and(|value| value > 0.0), "{said}");
    }
    assert_eq!(run(&["--streams", "0"]).status.code(), Some(2));
    assert_eq!(run(&["--cache-type-v", "q8_0", "--flash-attention", "off"]).status.code(), Some(3));
}
