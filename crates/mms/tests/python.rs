//! The tests that are written in Python, against real servers: `tests/python` (pyzmq and the `openai` package, the clients that users
//! have) and `clients/python/tests` (our own client package).
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "this program uses a part of it")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::Server;

#[test]
fn pyzmq_and_openai() {
    pytest(&root());
}

#[test]
fn client_package() {
    pytest(&root().join("clients/python"));
}

/// Runs pytest in `folder`, with the addresses of a server of each profile in the environment.
fn pytest(folder: &Path) {
    let python = root().join(".venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run scripts/setup-test.sh (`make test` does it first), which installs pyzmq, openai and pytest",
        python.display()
    );
    let suite = Server::start("");
    let legacy = Server::start_in(tempfile::tempdir().unwrap(), &["--profile", "legacy"]);
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest"]).current_dir(folder).env("MMS_TEST_PROGRAM", env!("CARGO_BIN_EXE_mms"));
    for (name, server) in [("SUITE", &suite), ("LEGACY", &legacy)] {
        for (part, address) in [("MAIN", &server.main), ("HEALTH", &server.health), ("HTTP", &server.http)] {
            pytest.env(format!("MMS_TEST_{name}_{part}"), address);
        }
    }
    let output = pytest.output().unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{printed}");
    assert!(output.status.success(), "pytest: {}\n{printed}\nserver log:\n{}", output.status, suite.log());
    suite.stop();
    legacy.stop();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
