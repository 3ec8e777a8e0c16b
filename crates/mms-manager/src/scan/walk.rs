//! Which GGUF files lie below the models folders.

use std::fs::{self, DirEntry, Metadata};
use std::path::{Path, PathBuf};

use crate::catalogue::{CatalogueConfig, Place, is_model_file};

/// One file.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) metadata: Metadata,
}

/// All files, and what could not be read.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) files: Vec<Found>,
    pub(super) warnings: Vec<String>,
}

/// Lists the models folders. Hidden files and folders are passed over.
pub(super) fn walk(config: &CatalogueConfig) -> Walked {
    let mut walk = Walk { config, roots: Vec::new(), out: Walked::default(), full: false };
    let mut starts = Vec::new();
    for (root, folder) in config.folders.iter().enumerate() {
        match fs::canonicalize(folder) {
            Ok(real) => {
                walk.roots.push(real);
                starts.push((root, folder));
            }
            Err(error) if config.folders_are_default && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                walk.out.warnings.push(format!("cannot read the models folder {}: {error}", folder.display()));
            }
        }
    }
    for (root, folder) in starts {
        walk.folder(root, folder, Path::new(""), 0);
    }
    walk.out.warnings.sort();
    walk.out
}

struct Walk<'a> {
    config: &'a CatalogueConfig,
    /// The models folders without symbolic links.
    roots: Vec<PathBuf>,
    out: Walked,
    /// `max_files` reached, and said so.
    full: bool,
}

impl Walk<'_> {
    fn folder(&mut self, root: usize, folder: &Path, below: &Path, depth: usize) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.warn(format!("cannot read the folder {}: {error}", folder.display())),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(root, &entry, below, depth),
                Err(error) => self.warn(format!("cannot read all of the folder {}: {error}", folder.display())),
            }
        }
    }

    fn entry(&mut self, root: usize, entry: &DirEntry, below: &Path, depth: usize) {
        let path = entry.path();
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            return;
        }
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) => return self.warn(format!("cannot look at {}: {error}", path.display())),
        };
        if kind.is_dir() {
            if depth >= self.config.max_depth {
                return self.warn(format!(
                    "{} is deeper than {} folders and is not searched",
                    path.display(),
                    self.config.max_depth
                ));
            }
            return self.folder(root, &path, &below.join(&name), depth + 1);
        }
        if name.to_str().is_none() {
            if name.as_encoded_bytes().ends_with(b".gguf") {
                self.warn(format!("the name of {} is not UTF-8; not listed", path.display()));
            }
            return;
        }
        let link = kind.is_symlink();
        if !is_model_file(&path) || !(kind.is_file() || link && self.follows(&path)) {
            return;
        }
        if self.out.files.len() >= self.config.max_files {
            if !self.full {
                self.full = true;
                self.warn(format!("more than {} GGUF files; the rest is not listed", self.config.max_files));
            }
            return;
        }
        // Follows a link, which was checked above.
        match fs::metadata(&path) {
            Ok(metadata) => {
                self.out.files.push(Found { path, place: Place { root, folder: below.to_owned(), link }, metadata });
            }
            // Removed since the folder was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.warn(format!("cannot look at {}: {error}", path.display())),
        }
    }

    /// Whether a link with a model's name leads to a file inside the models folders.
    fn follows(&mut self, path: &Path) -> bool {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => {
                self.warn(format!("the link {} leads nowhere: {error}", path.display()));
                return false;
            }
        };
        if !real.is_file() {
            return false;
        }
        let inside = self.roots.iter().any(|root| real.starts_with(root));
        if !inside {
            self.warn(format!(
                "{} is a link out of the models folders, to {}; not listed (add that folder to the models folders)",
                path.display(),
                real.display()
            ));
        }
        inside
    }

    fn warn(&mut self, warning: String) {
        self.out.warnings.push(warning);
    }
}
