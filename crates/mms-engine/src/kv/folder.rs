//! The folder of saved states, which workers of all models share. Names are `FINGERPRINT-TOKENS.kv`, two hashes, or
//! `FINGERPRINT-TOKENS.LABEL.kv` for a conversation's, so that these can be found without being read; a file that is being
//! written has `.new` behind that and is locked by its writer, so that what a killed writer left behind is known as such. Files come
//! into being whole, by renaming. Bounds are kept under the lock of a file of its own, which is held for a look at the folder only.
//!
//! Anybody may remove a state at any time: a reader that has it open reads on, one that has not finds it missing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mms_protocol::worker::KvStoreSpec;
use xxhash_rust::xxh3::xxh3_64;

use super::file::{Head, Unusable, head, read_head, read_payload};

const STATE: &str = "kv";
const UNFINISHED: &str = "new";
const LOCK: &str = "lock";
/// Others hold the lock while they look at the folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A file's name in the folder.
pub(super) type Name = String;

/// The folder as one model sees it.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    most_bytes: u64,
    most_states: usize,
    most_age: Duration,
    fingerprint: String,
    /// What names of this model's states begin with.
    prefix: String,
}

/// A state of this model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) name: Name,
    pub(super) head: Head,
    modified: SystemTime,
}

struct Entry {
    name: Name,
    bytes: u64,
    modified: SystemTime,
}

impl Folder {
    /// Makes the folder when it is missing. `fingerprint`: everything that a state depends on.
    pub(super) fn open(spec: &KvStoreSpec, fingerprint: String) -> io::Result<Self> {
        let path = PathBuf::from(&spec.folder);
        // What people have asked and been told is nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self {
            path,
            most_bytes: spec.max_mb.saturating_mul(1 << 20),
            most_states: spec.max_states as usize,
            most_age: Duration::from_secs(spec.max_age_s),
            prefix: format!("{:016x}-", xxh3_64(fingerprint.as_bytes())),
            fingerprint,
        })
    }

    /// This model's states, the one used longest ago first. Those that are too old or broken are removed.
    pub(super) fn index(&self) -> io::Result<Vec<Stored>> {
        let mut stored: Vec<Stored> = Vec::new();
        for Entry { name, modified, .. } in self.sweep()? {
            if !name.starts_with(&self.prefix) {
                continue;
            }
            match self.open_state(&name) {
                Ok((_, head)) => stored.push(Stored { name, head, modified }),
                Err(unusable) => self.give_up(&name, &unusable),
            }
        }
        stored.sort_by_key(|state| state.modified);
        Ok(stored)
    }

    /// Names of this model's states, after those that are too old were removed.
    pub(super) fn names(&self) -> io::Result<Vec<Name>> {
        let names = self.sweep()?.into_iter().map(|entry| entry.name);
        Ok(names.filter(|name| name.starts_with(&self.prefix)).collect())
    }

    fn sweep(&self) -> io::Result<Vec<Entry>> {
        let _lock = self.lock()?;
        self.make_room(0, 0)
    }

    /// Saves a state; what was used longest ago goes when there are too many or they take too much. Nothing stays of what could not be
    /// written as a whole.
    pub(super) fn write(
        &self,
        tokens: &[i32],
        cut_from: usize,
        payload: &[u8],
        label: Option<u64>,
    ) -> io::Result<Name> {
        let head = head(&self.fingerprint, tokens, cut_from, payload)?;
        let bytes = (head.len() + payload.len()) as u64;
        if bytes > self.most_bytes {
            return Err(io::Error::other(format!("{bytes} bytes are more than all states together may take")));
        }
        let ending = label.map_or_else(|| format!(".{STATE}"), KvStoreSpec::file_ending);
        let name = format!("{}{:016x}{ending}", self.prefix, xxh3_64(&head[..head.len() - 8]));
        let beside = self.path.join(format!("{name}.{}.{UNFINISHED}", std::process::id()));
        let written = self.reserve(&beside, bytes).and_then(|mut file| {
            file.write_all(&head)?;
            file.write_all(payload)?;
            fs::rename(&beside, self.path.join(&name))
        });
        match written {
            Ok(()) => Ok(name),
            Err(error) => {
                remove(&beside);
                Err(error)
            }
        }
    }

    /// A new file of that length, which others see and count from now on.
    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<File> {
        let _lock = self.lock()?;
        self.make_room(bytes, 1)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.try_lock()?;
        // Where the file system can say so, a full disk is known before anything is written.
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
                file.set_len(bytes)?
            }
            Err(error) => return Err(error.into()),
        }
        Ok(file)
    }

    /// The payload of a state, which counts as used. A broken one is removed.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Unusable> {
        let read = self.open_state(name).and_then(|(mut file, head)| {
            let payload = read_payload(&mut file, &head)?;
            if let Err(error) = file.set_modified(SystemTime::now()) {
                tracing::debug!(%error, name, "a saved state's last use cannot be noted");
            }
            Ok(payload)
        });
        if let Err(unusable) = &read {
            self.give_up(name, unusable);
        }
        read
    }

    pub(super) fn remove(&self, name: &str) {
        remove(&self.path.join(name));
    }

    fn open_state(&self, name: &str) -> Result<(File, Head), Unusable> {
        let mut file = File::open(self.path.join(name))?;
        let length = file.metadata()?.len();
        if length > self.most_bytes {
            return Err(Unusable::Broken("it is larger than all states together may be"));
        }
        let head = read_head(&mut file, length, &self.fingerprint)?;
        Ok((file, head))
    }

    /// Removes what is of no use to anybody. What cannot be read now may be readable later.
    fn give_up(&self, name: &str, unusable: &Unusable) {
        match unusable {
            Unusable::Io(error) if error.kind() == io::ErrorKind::NotFound => {}
            Unusable::Io(error) => tracing::warn!(name, %error, "a saved state cannot be read"),
            Unusable::Broken(_) | Unusable::Foreign => {
                tracing::warn!(name, reason = %unusable, "a saved state is removed");
                self.remove(name);
            }
        }
    }

    /// Removes states until so much more is within the bounds, and what killed writers left; returns the states that stay. The lock
    /// must be held.
    fn make_room(&self, bytes: u64, states: usize) -> io::Result<Vec<Entry>> {
        let now = SystemTime::now();
        let mut stay = Vec::new();
        let mut unfinished = (0, 0);
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Somebody else may have removed it in this moment.
            let Ok(metadata) = entry.metadata() else { continue };
            if !metadata.is_file() {
                continue;
            }
            let is_too_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > self.most_age);
            let modified = metadata.modified()?;
            match kind(&name) {
                Kind::Foreign => {}
                Kind::State if is_too_old(modified) => self.remove(&name),
                Kind::State => stay.push(Entry { name, bytes: metadata.len(), modified }),
                Kind::Unfinished if is_abandoned(&entry.path()) => self.remove(&name),
                Kind::Unfinished => unfinished = (unfinished.0 + metadata.len(), unfinished.1 + 1),
            }
        }
        stay.sort_by_key(|entry| std::cmp::Reverse(entry.modified));
        let (beside_bytes, beside_states) = unfinished;
        let mut all = stay.iter().map(|entry| entry.bytes).sum::<u64>() + beside_bytes;
        while all.saturating_add(bytes) > self.most_bytes || stay.len() + beside_states + states > self.most_states {
            let Some(oldest) = stay.pop() else {
                return Err(io::Error::other("what other workers are just saving takes all that states may take"));
            };
            all -= oldest.bytes;
            self.remove(&oldest.name);
        }
        Ok(stay)
    }

    fn lock(&self) -> io::Result<File> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.path.join(LOCK))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_PATIENCE => thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

enum Kind {
    State,
    Unfinished,
    /// Not ours, so not ours to remove.
    Foreign,
}

fn kind(name: &str) -> Kind {
    let Some((first, rest)) = name.split_once('-') else { return Kind::Foreign };
    let Some((second, rest)) = rest.split_once('.') else { return Kind::Foreign };
    if !is_hash(first) || !is_hash(second) {
        return Kind::Foreign;
    }
    match rest.split('.').collect::<Vec<_>>()[..] {
        [STATE] => Kind::State,
        [label, STATE] if is_hash(label) => Kind::State,
        [STATE, pid, UNFINISHED] if is_pid(pid) => Kind::Unfinished,
        [label, STATE, pid, UNFINISHED] if is_hash(label) && is_pid(pid) => Kind::Unfinished,
        _ => Kind::Foreign,
    }
}

fn is_hash(part: &str) -> bool {
    part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_pid(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

/// The conversation whose state has this name.
pub(super) fn label(name: &str) -> Option<u64> {
    let parts: Vec<&str> = name.split('.').collect();
    let [_, label, STATE] = parts[..] else { return None };
    u64::from_str_radix(label, 16).ok()
}

/// Its writer holds a lock on it as long as it lives.
fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "a saved state cannot be removed"),
    }
}

#[cfg(test)]
mod tests;
