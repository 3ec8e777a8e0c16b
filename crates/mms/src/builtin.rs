//! The built-in model: it travels inside this program and is written to the data folder when it is not there yet. Its file name
//! carries its hash, so another version of the program brings its own file, and a file of that name and size is the right one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::serve_error::ServeError;

/// Its name in the catalogue.
pub(crate) const ID: &str = "mms-demo";

static MODEL: &[u8] = include_bytes!("../../../demo-model/mms-demo.gguf");
/// The first eight hex digits of the SHA-256 of [`MODEL`], from the build script.
const HASH: &str = env!("MMS_DEMO_HASH");

/// Makes sure that the file is there, and says where.
pub(crate) fn install(data_dir: &Path) -> Result<PathBuf, ServeError> {
    write_model(data_dir).map_err(|(path, source)| ServeError::DataDir { path, source })
}

fn write_model(data_dir: &Path) -> Result<PathBuf, (PathBuf, std::io::Error)> {
    let folder = data_dir.join("builtin");
    fs::create_dir_all(&folder).map_err(|error| (folder.clone(), error))?;
    let path = folder.join(format!("{ID}-{HASH}.gguf"));
    if path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == MODEL.len() as u64) {
        return Ok(path);
    }
    // Another server may be doing the same: each writes a file of its own, and the last rename wins with equal bytes.
    let temporary = folder.join(format!("{ID}-{HASH}.{}.part", std::process::id()));
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(MODEL)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    });
    match written {
        Ok(()) => Ok(path),
        Err(error) => {
            // Best effort: the error that matters is the one that is reported.
            drop(fs::remove_file(&temporary));
            Err((path, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MODEL, install};

    #[test]
    fn written_when_missing_or_damaged_and_else_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let path = install(data.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), MODEL);
        let written = path.metadata().unwrap().modified().unwrap();
        assert_eq!(install(data.path()).unwrap(), path);
        assert_eq!(path.metadata().unwrap().modified().unwrap(), written, "it was there already");
        std::fs::write(&path, "half").unwrap();
        install(data.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), MODEL);
        let files: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing temporary is left: {files:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let data = tempfile::NamedTempFile::new().unwrap();
        let error = install(data.path()).expect_err("a file is no folder").to_string();
        assert!(error.contains("builtin") && error.contains("--data-dir"), "{error}");
    }
}
