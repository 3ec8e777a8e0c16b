//! A file that a command writes for a person: it appears whole or not at all, and what is there already stays unless that was asked for.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// A file in the making, beside its target; dropped without [`Draft::keep`] it leaves nothing.
#[derive(Debug)]
pub(crate) struct Draft {
    target: PathBuf,
    path: PathBuf,
    file: File,
    force: bool,
}

impl Draft {
    /// Begins it. A target that is there is refused at once, unless `force`.
    pub(crate) fn new(target: &Path, force: bool) -> Result<Self, Failure> {
        let name = target.file_name().ok_or_else(|| Failure::Usage(format!("{} names no file", target.display())))?;
        if !force && target.symlink_metadata().is_ok() {
            return Err(failure(target, &io::ErrorKind::AlreadyExists.into()));
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let path = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let file = File::create_new(&path).map_err(|error| failure(target, &error))?;
        Ok(Self { target: target.to_owned(), path, file, force })
    }

    /// Gives it its name; whatever came there meanwhile stays, unless `force`.
    pub(crate) fn keep(mut self) -> Result<(), Failure> {
        let path = &self.path;
        let kept = self.file.flush().and_then(|()| self.file.sync_all()).and_then(|()| {
            // A second name is given only where there is none yet.
            if self.force { std::fs::rename(path, &self.target) } else { std::fs::hard_link(path, &self.target) }
        });
        kept.map_err(|error| failure(&self.target, &error))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| named(&self.target, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // The draft's own name; after a rename it is gone already.
        drop(std::fs::remove_file(&self.path));
    }
}

fn named(target: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} cannot be written: {error}", target.display()))
}

fn failure(target: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::Usage(format!("{} is there already; --force overwrites it", target.display()))
        }
        _ => Failure::Output(named(target, error)),
    }
}
