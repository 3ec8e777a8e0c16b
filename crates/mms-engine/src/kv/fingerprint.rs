//! What a saved state depends on. One that was saved under another fingerprint is never restored: it would be wrong, or would not fit.

use std::fs;
use std::time::UNIX_EPOCH;

use mms_protocol::worker::{EngineSettings, LoadedInfo};
use serde_json::json;

/// What the fingerprint is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Basis<'a> {
    /// Of the model's files.
    pub(crate) model: &'a str,
    pub(crate) settings: &'a EngineSettings,
    pub(crate) info: &'a LoadedInfo,
}

/// As text, so that it can be compared as a whole. Some models scale their positions by the length of the context and the number of
/// slots. The program stands for llama.cpp and its form of states, which no number tells.
pub(crate) fn fingerprint(Basis { model, settings, info }: Basis<'_>) -> String {
    let adapters: Vec<_> =
        settings.lora.iter().map(|adapter| (&adapter.path, stamp(&adapter.path), adapter.scale)).collect();
    json!({
        "model": model,
        "context": [info.context_length, info.slots],
        "kv": [settings.cache_type_k, settings.cache_type_v],
        "flash_attention": settings.flash_attention,
        "device": info.device,
        "adapters": adapters,
        "program": [env!("CARGO_PKG_VERSION"), &stamp("/proc/self/exe")],
    })
    .to_string()
}

/// Tells a file from its replacement, as far as that can be seen from outside.
fn stamp(path: &str) -> String {
    let modified = |file: &fs::Metadata| file.modified().ok()?.duration_since(UNIX_EPOCH).ok();
    match fs::metadata(path) {
        Ok(file) => format!("{}:{}", file.len(), modified(&file).map_or(0, |time| time.as_nanos())),
        Err(_) => "missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mms_protocol::worker::{CacheType, EngineSettings, LoadedInfo, LoraAdapter};

    use super::{Basis, fingerprint};

    #[test]
    fn it_changes_with_whatever_makes_states_differ() {
        let info = LoadedInfo {
            context_length: 512,
            slots: 4,
            vocab_size: 1,
            model_bytes: 1,
            mapped_bytes: 1,
            program_bytes: 1,
            kv_bytes: 1,
            load_ms: 1,
            device: "cpu".to_owned(),
            generates: true,
            embedding_length: None,
        };
        let settings = EngineSettings::default();
        let of =
            |model: &str, settings: &EngineSettings, info: &LoadedInfo| fingerprint(Basis { model, settings, info });
        let base = of("a", &settings, &info);
        assert_eq!(of("a", &EngineSettings { kv_store_mb: 1, threads: 9, ..settings.clone() }, &info), base);
        assert_eq!(of("a", &settings, &LoadedInfo { load_ms: 9, ..info.clone() }), base);

        let adapter = LoraAdapter { path: "none.gguf".to_owned(), scale: 1.0 };
        let others = [
            of("b", &settings, &info),
            of("a", &EngineSettings { cache_type_k: CacheType::F32, ..settings.clone() }, &info),
            of("a", &EngineSettings { lora: vec![adapter], ..settings.clone() }, &info),
            of("a", &settings, &LoadedInfo { context_length: 1024, ..info.clone() }),
            of("a", &settings, &LoadedInfo { slots: 1, ..info.clone() }),
        ];
        assert!(others.iter().all(|other| *other != base), "{others:?}");
    }
}
