//! Looking at the models folders again and again: new, changed and removed files appear without a restart.
//!
//! A look lists the folders and compares length, time and inode of every file with the last look; headers are read only where these
//! differ, so thousands of unchanged files cost milliseconds. A file at rest that has another time and the same content ([`mark`])
//! has not changed. What was seen becomes a catalogue in [`crate::catalogue::compose`].
//!
//! Symbolic links: one to a file inside any of the models folders is followed, one that leads out of them is not (a warning says so:
//! add the other folder to the configuration instead), and one to a folder never is, since what lies inside the models folders is
//! found at its own place. The models folders themselves, and files that the configuration names, may be links to anywhere.

mod mark;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mms_protocol::worker::EngineSettings;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::catalogue::{
    Catalogue, CatalogueConfig, FileState, Observed, Place, SeenFile, Stamp, compose, part_file_name, part_name,
};
use crate::gguf::{GgufError, Header};

/// An incomplete file that was written to this lately is taken for one that is still being written.
const STILL_WARM: Duration = Duration::from_secs(10);

/// Finds models; remembers between two looks what each file was.
#[derive(Debug)]
pub struct Scanner {
    config: CatalogueConfig,
    engine: EngineSettings,
    known: HashMap<PathBuf, Known>,
    last: Option<(Observed, Arc<Catalogue>)>,
}

/// What the last look found out about a file.
#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    /// The content was another one the look before, for the same inode.
    changing: bool,
    /// It has been left alone for a while.
    at_rest: bool,
    mark: u64,
    content: Result<Arc<Header>, GgufError>,
}

impl Known {
    fn read(path: &Path, stamp: Stamp) -> Self {
        let content = Header::read(path).map(Arc::new);
        let mark = mark::mark(path, stamp.len).unwrap_or_else(|error| {
            // It is changing under our eyes, or the header could not be read either; then its time tells changes.
            tracing::debug!(path = %path.display(), %error, "cannot be read");
            stamp.modified_ns as u64
        });
        Self { stamp, changing: false, at_rest: false, mark, content }
    }

    /// What this look found, `before` being what the look before did.
    fn after(self, before: &Self) -> Self {
        let same_file = before.stamp.identity == self.stamp.identity;
        let same_content =
            before.stamp.len == self.stamp.len && before.mark == self.mark && before.content == self.content;
        if before.stamp == self.stamp || (same_file && same_content && before.at_rest) {
            return Self { at_rest: true, ..self };
        }
        Self { changing: same_file, ..self }
    }
}

impl Scanner {
    /// A scanner that has not looked yet.
    pub fn new(config: CatalogueConfig, engine: EngineSettings) -> Self {
        Self { config, engine, known: HashMap::new(), last: None }
    }

    /// Looks once. `None`: nothing differs from the last look. Blocks on the disk.
    pub fn look(&mut self, now: SystemTime) -> Option<Arc<Catalogue>> {
        let observed = self.observe(now);
        if self.last.as_ref().is_some_and(|(last, _)| *last == observed) {
            return None;
        }
        let catalogue = Arc::new(compose(&self.config, &self.engine, &observed));
        let same = self
            .last
            .as_ref()
            .is_some_and(|(_, last)| last.changes_to(&catalogue).is_empty() && last.warnings() == catalogue.warnings());
        self.last = Some((observed, Arc::clone(&catalogue)));
        (!same).then_some(catalogue)
    }

    fn observe(&mut self, now: SystemTime) -> Observed {
        let mut observed = Observed::default();
        let mut known = HashMap::with_capacity(self.known.len());
        let walked = walk::walk(&self.config);
        observed.warnings = walked.warnings;
        for found in walked.files {
            let file = self.see(found.path, Some(found.place), &found.metadata, now, &mut known);
            observed.files.insert(file.path.clone(), file);
        }
        let mut named: Vec<PathBuf> = self.config.builtin.iter().map(|model| model.path.clone()).collect();
        for model in &self.config.models {
            let located = model.path.as_deref().map(|path| locate(path, &self.config.folders));
            named.extend(located.iter().flatten().cloned());
            observed.located.push(located);
        }
        for path in named.iter().flat_map(|path| with_parts(path)) {
            if observed.files.contains_key(&path) {
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) => {
                    let file = self.see(path, None, &metadata, now, &mut known);
                    observed.files.insert(file.path.clone(), file);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => observed.warnings.push(format!("cannot look at {}: {error}", path.display())),
            }
        }
        self.known = known;
        observed
    }

    fn see(
        &self,
        path: PathBuf,
        place: Option<Place>,
        metadata: &fs::Metadata,
        now: SystemTime,
        known: &mut HashMap<PathBuf, Known>,
    ) -> SeenFile {
        let stamp = stamp(metadata);
        let warm =
            metadata.modified().is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age < STILL_WARM));
        let fresh = match self.known.get(&path) {
            Some(before) if before.stamp == stamp && !matches!(before.content, Err(GgufError::Io { .. })) => {
                Known { changing: false, at_rest: true, ..before.clone() }
            }
            Some(before) => Known::read(&path, stamp).after(before),
            None => Known { at_rest: !warm, ..Known::read(&path, stamp) },
        };
        let state = match &fresh.content {
            Ok(header) if fresh.changing => FileState::Writing { needs: Some(header.file_bytes) },
            Ok(header) => FileState::Whole(Arc::clone(header)),
            // One that is filled in any order looks like anything until it is whole.
            Err(error) if fresh.changing || (error.is_incomplete() && warm) => FileState::Writing {
                needs: match error {
                    GgufError::TensorsTruncated { needs, .. } => Some(*needs),
                    _ => None,
                },
            },
            Err(error) => FileState::Faulty(error.clone()),
        };
        let mark = fresh.mark;
        known.insert(path.clone(), fresh);
        SeenFile { path, place, stamp, mark, state }
    }
}

/// Looks every `scan_interval`, and at once when nudged, until `stop`; sends each new catalogue. The scanner has usually looked
/// once before, so that a first catalogue is there from the start.
pub async fn run(
    mut scanner: Scanner,
    catalogues: watch::Sender<Arc<Catalogue>>,
    nudge: Arc<Notify>,
    stop: CancellationToken,
) {
    let interval = scanner.config.scan_interval.max(Duration::from_millis(10));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = nudge.notified() => {}
            () = tokio::time::sleep(interval) => {}
        }
        let looked = tokio::task::spawn_blocking(move || {
            let found = scanner.look(SystemTime::now());
            (scanner, found)
        });
        let found;
        (scanner, found) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "the scan of the models folders ended; new files are not noticed any more");
                return;
            }
        };
        if let Some(catalogue) = found {
            report(&catalogues.borrow(), &catalogue);
            catalogues.send_replace(catalogue);
        }
    }
}

fn report(old: &Catalogue, new: &Catalogue) {
    let changes = old.changes_to(new);
    if !changes.is_empty() {
        tracing::info!(
            added = changes.added.join(", "),
            changed = changes.changed.join(", "),
            removed = changes.removed.join(", "),
            "the catalogue changed"
        );
    }
    for warning in new.warnings().iter().filter(|warning| !old.warnings().contains(warning)) {
        tracing::warn!("{warning}");
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    let modified_ns = match metadata.modified().map(|modified| modified.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) => after.as_nanos().cast_signed(),
        Ok(Err(before)) => -before.duration().as_nanos().cast_signed(),
        Err(_) => 0,
    };
    Stamp { len: metadata.len(), modified_ns, identity: (metadata.dev(), metadata.ino()) }
}

/// Where a configured path leads: as it is when absolute, else below the first models folder that has it.
fn locate(path: &Path, folders: &[PathBuf]) -> Result<PathBuf, String> {
    let candidates: Vec<PathBuf> = if path.is_absolute() {
        vec![path.to_owned()]
    } else {
        folders.iter().map(|folder| folder.join(path)).collect()
    };
    if let Some(found) = candidates.iter().find(|candidate| candidate.exists()) {
        return Ok(found.clone());
    }
    // Of a split model any part will do: the catalogue says which are missing.
    if let Some(found) = candidates.iter().find(|candidate| with_parts(candidate).iter().any(|part| part.exists())) {
        return Ok(found.clone());
    }
    match candidates.as_slice() {
        [] => Err(format!("{} is a relative path, and no models folder is configured", path.display())),
        [only] => Err(format!("no such file: {}", only.display())),
        [..] => Err(format!("no file {} in any of the models folders", path.display())),
    }
}

/// The path itself, or all parts of the split model that it names.
fn with_parts(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(part_name);
    match (name, path.parent()) {
        (Some(part), Some(folder)) => {
            (1..=part.count).map(|no| folder.join(part_file_name(&part.base, no, part.count))).collect()
        }
        (Some(_), None) | (None, _) => vec![path.to_owned()],
    }
}
