//! What a load would take, asked of a worker that does not load, against what one that does is measured to hold.

use std::path::Path;

use mms_protocol::worker::{
    CacheType, EXIT_LOAD_FAILED, EngineSettings, FlashAttention, LoadSpec, LoadedInfo, LoraAdapter, MemoryPlan, ToHost,
    ToWorker,
};

use crate::embed::{embed, texts};
use crate::gguf::{Gguf, Kind, adapter, encoder_model, random_model};
use crate::support::{Host, demo, demo_model, ramble};

const MIB: f64 = 1024.0 * 1024.0;

/// The plan, or why there can be none; either way the worker ends.
fn plan(spec: &LoadSpec) -> Result<MemoryPlan, String> {
    let mut host = Host::spawn();
    host.shake_hands();
    host.send(&ToWorker::Plan(Box::new(spec.clone())));
    let (answer, code) = match host.next() {
        ToHost::Planned(plan) => (Ok(plan), 0),
        ToHost::LoadFailed { reason } => (Err(reason), EXIT_LOAD_FAILED),
        other => panic!("no plan but {other:?}"),
    };
    assert_eq!(host.exit().code(), Some(code), "{answer:?}");
    answer
}

fn total_mb(plan: &MemoryPlan) -> f64 {
    let devices = plan.devices.iter().map(|device| device.total_bytes()).sum::<u64>();
    (devices + plan.process_bytes) as f64 / MIB
}

/// Resident memory of a process, less pages of a mapped model that nobody needs, MiB: what `mms` shows.
fn held_mb(host: &Host, info: &LoadedInfo) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.worker.id())).expect("it runs");
    let mb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
        line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<f64>().expect("a number") / 1024.0
    };
    let files = (info.program_bytes + info.mapped_bytes) as f64 / MIB;
    mb("RssAnon") + mb("RssShmem") + mb("RssFile").min(files)
}

/// Plans, loads and compares, after the load and after an answer to a prompt of this many words.
fn check(what: &str, spec: LoadSpec, words: usize) -> MemoryPlan {
    check_besides(what, spec, words, 0.0)
}

/// The same for a plan of which so much is not taken before the largest batch meets a full KV cache, MiB.
fn check_besides(what: &str, spec: LoadSpec, words: usize, later: f64) -> MemoryPlan {
    let planned = plan(&spec).unwrap_or_else(|why| panic!("{what}: {why}"));
    let mut host = Host::spawn();
    host.shake_hands();
    let info = host.load(spec).unwrap_or_else(|why| panic!("{what}: {why}"));
    let loaded = held_mb(&host, &info);
    if info.generates {
        host.generate(&ramble(&"word ".repeat(words), 4));
    }
    let text = "word ".repeat(words);
    embed(&mut host, &texts(&[&text, &text, &text])).unwrap_or_else(|why| panic!("{what}: {why:?}"));
    let estimated = total_mb(&planned);
    for (when, measured) in [("loaded", loaded), ("has answered", held_mb(&host, &info))] {
        let off = measured + later - estimated;
        // The slack is what the program itself takes more or less: code that was run, memory of its allocator.
        assert!(
            off.abs() < 0.03 * estimated + 6.0,
            "{what}, {when}: {measured:.1} MiB measured, {estimated:.1} estimated, {planned:?}, {info:?}"
        );
    }
    let ram = &planned.devices[0];
    assert_eq!((planned.devices.len(), ram.device.as_str()), (1, "cpu"));
    assert_eq!((ram.context_bytes, planned.context_length), (info.kv_bytes, info.context_length), "{what}");
    assert!(ram.compute_bytes > 0 && planned.process_bytes > 1 << 20, "{what}: {planned:?}");
    planned
}

fn random(folder: &Path) -> LoadSpec {
    let path = folder.join("random.gguf");
    std::fs::write(&path, random_model(Kind::F32, 3072).bytes()).expect("a file");
    LoadSpec { path: path.to_str().expect("UTF-8").to_owned(), ..demo() }
}

#[test]
fn the_built_in_model_takes_what_was_planned() {
    let with = |settings| check("built-in", LoadSpec { settings, ..demo() }, 100);
    let base = with(EngineSettings { context_length: 4096, ..EngineSettings::default() });
    let small = with(EngineSettings { context_length: 512, slots: 1, ..EngineSettings::default() });
    assert_eq!(base.devices[0].context_bytes, 32 * small.devices[0].context_bytes);
    let eight = CacheType::Q8_0;
    let quantized =
        EngineSettings { context_length: 4096, cache_type_k: eight, cache_type_v: eight, ..EngineSettings::default() };
    assert_eq!(64 * with(quantized).devices[0].context_bytes, 34 * base.devices[0].context_bytes);
}

#[test]
fn a_larger_model_takes_what_was_planned_however_it_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = random(folder.path());
    let with = |what: &str, settings: EngineSettings| check(what, LoadSpec { settings, ..spec.clone() }, 40);
    let base = with("mapped", EngineSettings::default());
    let ram = &base.devices[0];
    // 40 MiB of weights, as its file has them.
    let weights = std::fs::metadata(&spec.path).expect("a file").len();
    assert!(ram.model_bytes.abs_diff(weights) < 1 << 20, "{ram:?} {weights}");
    for (what, settings) in [
        ("read", EngineSettings { mmap: false, ..EngineSettings::default() }),
        ("locked", EngineSettings { mlock: true, ..EngineSettings::default() }),
        ("read and locked", EngineSettings { mmap: false, mlock: true, ..EngineSettings::default() }),
    ] {
        assert_eq!(with(what, settings).devices[0].model_bytes, ram.model_bytes, "{what}");
    }
    let settings = EngineSettings { flash_attention: FlashAttention::Off, ..EngineSettings::default() };
    // The CPU makes 16-bit numbers of the scores of 512 tokens, 8192 cells, 4 heads when it multiplies them.
    let plain = check_besides("without flash attention", LoadSpec { settings, ..spec.clone() }, 40, 32.0);
    let scores = plain.devices[0].compute_bytes;
    assert!(scores > ram.compute_bytes + (64 << 20), "the scores of all cells: {scores} {ram:?}");
    let settings = EngineSettings { ubatch_size: 64, ..EngineSettings::default() };
    assert!(with("small steps", settings).devices[0].compute_bytes < ram.compute_bytes);
    let settings = EngineSettings { slots: 16, context_length: 1024, batch_size: 1024, ..EngineSettings::default() };
    with("many slots", settings);
}

/// Where the CPU has kernels for another order of such weights, they are copied into that order.
#[test]
fn weights_that_are_copied_count_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("quantized.gguf");
    std::fs::write(&path, random_model(Kind::Q4_0, 16_384).bytes()).expect("a file");
    let spec = LoadSpec { path: path.to_str().expect("UTF-8").to_owned(), ..demo() };
    let planned = check("quantized", spec.clone(), 40);
    let weights = std::fs::metadata(&path).expect("a file").len();
    let ram = &planned.devices[0];
    assert!(ram.model_bytes.abs_diff(weights) < 1 << 20, "{ram:?} {weights}");
    // Locked in place, the file's pages count too.
    let settings = EngineSettings { mlock: true, ..EngineSettings::default() };
    let locked = check("quantized and locked", LoadSpec { settings, ..spec }, 40);
    assert!((ram.model_bytes..2 * ram.model_bytes).contains(&locked.devices[0].model_bytes), "{locked:?} {planned:?}");
}

#[test]
fn adapters_are_part_of_the_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, file: &Gguf| {
        let path = folder.path().join(name);
        std::fs::write(&path, file.bytes()).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let large = Gguf::default()
        .key("general.type", "adapter")
        .key("general.architecture", "llama")
        .key("adapter.type", "lora")
        .random("blk.0.attn_q.weight.lora_a", &[256, 8192], 0.01)
        .random("blk.0.attn_q.weight.lora_b", &[8192, 256], 0.01);
    let with = |path: String| {
        let lora = vec![LoraAdapter { path, scale: 1.0 }];
        LoadSpec { settings: EngineSettings { lora, ..EngineSettings::default() }, ..demo() }
    };
    let without = plan(&demo()).expect("a plan");
    let adapted = check("adapted", with(write("large.gguf", &large)), 40);
    let more = |figure: fn(&MemoryPlan) -> u64| (figure(&adapted) as f64 - figure(&without) as f64) / MIB;
    // Its two matrices, and what is computed with them.
    assert!((more(|plan| plan.devices[0].model_bytes) - 16.0).abs() < 0.1, "{adapted:?} {without:?}");
    assert!(more(|plan| plan.devices[0].compute_bytes) > 1.0, "{adapted:?} {without:?}");
    assert!(more(|plan| plan.process_bytes).abs() < 3.0, "{adapted:?} {without:?}");
    let why = plan(&with(write("other.gguf", &adapter("gpt2")))).expect_err("it does not fit");
    assert!(why.contains("arch mismatch"), "{why}");
}

/// The outputs of all tokens of a batch are the most of it.
#[test]
fn an_encoder_takes_what_was_planned() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("encoder.gguf");
    std::fs::write(&path, encoder_model(20_000, 1024).bytes()).expect("a file");
    let spec = LoadSpec { path: path.to_str().expect("UTF-8").to_owned(), ..demo() };
    let base = check("encoder", spec.clone(), 80);
    let outputs = 1024 * (20_000 + 128) * 4;
    assert!(base.devices[0].compute_bytes > outputs, "{base:?}");
    let settings = EngineSettings { context_length: 512, warm_up: false, ..EngineSettings::default() };
    let half = plan(&LoadSpec { settings, ..spec }).expect("a plan");
    assert!(half.devices[0].compute_bytes < base.devices[0].compute_bytes - outputs / 3, "{half:?} {base:?}");
}

#[test]
fn what_cannot_be_loaded_cannot_be_planned_for_the_same_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(demo_model()).expect("the built-in model");
    let mut cases = vec![LoadSpec { path: folder.path().join("none.gguf").display().to_string(), ..demo() }];
    for (name, bytes) in [
        ("text.gguf", &b"this is no model at all"[..]),
        ("header.gguf", &whole[..2000]),
        ("half.gguf", &whole[..whole.len() / 2]),
        ("almost.gguf", &whole[..whole.len() - 100]),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        cases.push(LoadSpec { path: path.display().to_string(), ..demo() });
    }
    let settings = EngineSettings { context_length: u32::MAX, slots: 64, ..EngineSettings::default() };
    cases.push(LoadSpec { settings, ..demo() });
    for spec in cases {
        let why = plan(&spec).expect_err("no plan");
        let mut host = Host::spawn();
        host.shake_hands();
        assert_eq!(host.load(spec.clone()).expect_err("no model"), why, "{}", spec.path);
        assert!(!why.is_empty() && !why.contains('\n'), "{why}");
    }
}

/// What is large is planned all the same: nothing of it is taken.
#[test]
fn a_plan_takes_nothing() {
    let settings = EngineSettings { context_length: 1 << 16, slots: 64, ..EngineSettings::default() };
    let planned = plan(&LoadSpec { settings, ..demo() }).expect("a plan");
    assert_eq!(planned.devices[0].context_bytes, 8 << 30, "{planned:?}");
    assert!(planned.process_bytes < 1 << 30, "only what llama.cpp keeps about each cell: {planned:?}");
}
