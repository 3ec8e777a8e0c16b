//! Where the worker program is.

use std::path::{Path, PathBuf};

use crate::config::EngineConfig;
use crate::serve_error::ServeError;

const NAME: &str = "mms-worker";

/// The program that the configuration names, else the one beside this program.
pub(crate) fn find(config: &EngineConfig) -> Result<PathBuf, ServeError> {
    let looked = match &config.worker {
        Some(named) => named.clone(),
        None => beside().map_err(|source| ServeError::System { what: "find the path of this program", source })?,
    };
    if is_program(&looked) { Ok(looked) } else { Err(ServeError::WorkerMissing { looked }) }
}

fn beside() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(NAME))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use mms_protocol::worker::EngineSettings;

    use super::find;
    use crate::config::EngineConfig;

    #[test]
    fn only_a_program_will_do() {
        let named = |path: &str| EngineConfig { worker: Some(path.into()), settings: EngineSettings::default() };
        assert_eq!(find(&named("/bin/sh")).unwrap(), std::path::Path::new("/bin/sh"));
        for path in ["/", "/etc/passwd", "/nowhere/mms-worker"] {
            let error = find(&named(path)).expect_err(path).to_string();
            assert!(error.contains(path) && error.contains("cargo build -p mms-engine"), "{error}");
        }
    }
}
