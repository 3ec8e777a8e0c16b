//! llama.cpp's own plans of what models take, kept on disk: a model that was planned once needs no measuring worker again, until its
//! file, its settings, the devices or the worker program change.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mms_protocol::worker::{EngineSettings, MemoryPlan};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Plans that are kept; those that were not used for longest go.
const MOST: usize = 1024;
/// Far more than that many plans take.
const MOST_BYTES: u64 = 16 << 20;
/// Raised when older files cannot be used any more.
const FORMAT: u32 = 1;

/// What a plan depends on, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PlanKey(String);

impl PlanKey {
    /// `fingerprint` tells the content of the model's files, `settings` are those it is loaded with, `gpus` the devices there are.
    pub(crate) fn new(fingerprint: u64, settings: &EngineSettings, gpus: &[String], program: &str) -> Self {
        // What is put aside later is no part of a load.
        let settings = EngineSettings { kv_store_mb: 0, ..settings.clone() };
        let adapters: Vec<String> = settings.lora.iter().map(|adapter| stamp(Path::new(&adapter.path))).collect();
        let fingerprint = format!("{fingerprint:016x}");
        Self(json!([fingerprint, settings, adapters, gpus, program]).to_string())
    }
}

/// Tells a file from its replacement, as far as that can be seen from outside.
pub(crate) fn stamp(path: &Path) -> String {
    let modified = |metadata: &fs::Metadata| metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok();
    match fs::metadata(path) {
        Ok(file) => format!("{}:{}:{}", path.display(), file.len(), modified(&file).map_or(0, |time| time.as_nanos())),
        Err(_) => format!("{}:missing", path.display()),
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    key: PlanKey,
    plan: MemoryPlan,
    /// Epoch seconds.
    used: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    plans: Vec<Kept>,
}

/// Every plan that is known.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    /// `None`: nothing is kept on disk.
    path: Option<PathBuf>,
    known: BTreeMap<PlanKey, Kept>,
}

impl Plans {
    /// What the file holds. One that is not there yet is empty; one that cannot be read is told and replaced later.
    pub(crate) fn open(path: Option<PathBuf>) -> Self {
        let known = path.as_deref().map(read).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, path = ?path, "the memory plans of earlier runs cannot be read; models are measured anew");
            None
        });
        let known = known.unwrap_or_default().into_iter().map(|kept| (kept.key.clone(), kept)).collect();
        Self { path, known }
    }

    pub(crate) fn get(&self, key: &PlanKey) -> Option<&MemoryPlan> {
        self.known.get(key).map(|kept| &kept.plan)
    }

    /// Takes note that a plan was of use, so that it stays; written with the next new one.
    pub(crate) fn used(&mut self, key: &PlanKey) {
        if let Some(kept) = self.known.get_mut(key) {
            kept.used = now();
        }
    }

    pub(crate) fn insert(&mut self, key: PlanKey, plan: MemoryPlan) {
        self.known.insert(key.clone(), Kept { key, plan, used: now() });
        while self.known.len() > MOST {
            let oldest = self.known.values().min_by_key(|kept| kept.used).map(|kept| kept.key.clone());
            let Some(oldest) = oldest else { return };
            self.known.remove(&oldest);
        }
    }

    /// What writes everything to disk; blocks on it, so it runs elsewhere.
    pub(crate) fn writer(&self) -> impl FnOnce() + Send + use<> {
        let path = self.path.clone();
        let plans: Vec<Kept> = self.known.values().cloned().collect();
        move || {
            let Some(path) = path else { return };
            if let Err(error) = write(&path, &File { format: FORMAT, plans }) {
                tracing::warn!(%error, path = %path.display(), "memory plans cannot be kept; they are made again after a restart");
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn read(path: &Path) -> io::Result<Vec<Kept>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.len() > MOST_BYTES => return Err(io::Error::other("it is too large")),
        Ok(_) => {}
    }
    let file: File = serde_json::from_slice(&fs::read(path)?)?;
    Ok(if file.format == FORMAT { file.plans } else { Vec::new() })
}

/// Whole or not at all: written beside, then renamed.
fn write(path: &Path, file: &File) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("json.new");
    fs::write(&beside, serde_json::to_vec(file)?)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mms_protocol::worker::{EngineSettings, MemoryPlan};

    use super::{MOST, PlanKey, Plans};

    fn key(fingerprint: u64, settings: &EngineSettings) -> PlanKey {
        PlanKey::new(fingerprint, settings, &[], "worker")
    }

    fn plan(context_length: u32) -> MemoryPlan {
        MemoryPlan { devices: Vec::new(), process_bytes: 1, context_length }
    }

    #[test]
    fn a_key_changes_with_whatever_changes_the_plan() {
        let settings = EngineSettings::default();
        let base = key(1, &settings);
        assert_eq!(key(1, &EngineSettings { kv_store_mb: 9, ..settings.clone() }), base);
        assert_ne!(key(2, &settings), base);
        assert_ne!(key(1, &EngineSettings { slots: 9, ..settings.clone() }), base);
        assert_ne!(PlanKey::new(1, &settings, &["CUDA0".to_owned()], "worker"), base);
        assert_ne!(PlanKey::new(1, &settings, &[], "another worker"), base);
    }

    #[test]
    fn plans_outlive_the_process_and_a_broken_file_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/plans.json");
        let mut plans = Plans::open(Some(path.clone()));
        let wanted = key(7, &EngineSettings::default());
        plans.insert(wanted.clone(), plan(512));
        plans.writer()();
        assert_eq!(Plans::open(Some(path.clone())).get(&wanted), Some(&plan(512)));
        fs::write(&path, "{\"format\": 1, \"plans\": [").unwrap();
        let mut broken = Plans::open(Some(path.clone()));
        assert_eq!(broken.get(&wanted), None);
        broken.insert(wanted.clone(), plan(9));
        broken.writer()();
        assert_eq!(Plans::open(Some(path.clone())).get(&wanted), Some(&plan(9)));
        fs::write(&path, "{\"format\": 99, \"plans\": []}").unwrap();
        assert_eq!(Plans::open(Some(path)).get(&wanted), None);
    }

    #[test]
    fn there_is_a_bound() {
        let mut plans = Plans::open(None);
        for fingerprint in 0..=MOST as u64 {
            plans.insert(key(fingerprint, &EngineSettings::default()), plan(1));
        }
        assert_eq!(plans.known.len(), MOST);
        plans.writer()();
    }
}
