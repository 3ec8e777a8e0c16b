//! Conversations that are forgotten: workers are told to give up their KV states, and what unloaded models left of them on disk is removed.

use std::fs;
use std::io;
use std::path::Path;

use mms_protocol::worker::{KvStoreSpec, ToWorker};

use super::Task;

/// A worker that is just ending saves what it has; so many conversations are looked for once more when it has gone.
const MOST_REMEMBERED: usize = 1024;

impl Task {
    pub(super) fn forget_conversations(&mut self, labels: Vec<u64>) {
        for resident in self.workers.values().filter(|resident| resident.facts.info.is_some()) {
            resident.worker.say(ToWorker::Forget { labels: labels.clone() });
        }
        self.forgotten.extend(labels);
        let too_many = self.forgotten.len().saturating_sub(MOST_REMEMBERED);
        self.forgotten.drain(..too_many);
        self.remove_forgotten();
    }

    /// Removes what is on disk of forgotten conversations.
    pub(super) fn remove_forgotten(&mut self) {
        if let Some(store) = self.config.kv_store.as_ref().filter(|_| !self.forgotten.is_empty()) {
            let (folder, labels) = (store.folder.clone(), self.forgotten.clone());
            // Nobody waits for a disk; what cannot be removed now ages there.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = remove(&folder, &labels) {
                    tracing::warn!(%error, folder = %folder.display(), "KV states of forgotten conversations cannot be removed");
                }
            });
        }
        if self.workers.is_empty() {
            self.forgotten.clear();
        }
    }
}

fn remove(folder: &Path, labels: &[u64]) -> io::Result<()> {
    let endings: Vec<String> = labels.iter().map(|label| KvStoreSpec::file_ending(*label)).collect();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let is_of = |name: &str| endings.iter().any(|ending| name.ends_with(ending));
        if !entry.file_name().to_str().is_some_and(is_of) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            // Its worker was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}
