//! A disk that a test can fill: a small tmpfs that only the server under test sees, gone with it. Where nothing may be mounted, a limit
//! on the length of what the server writes does the same to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Space on the small disk.
const SMALL_DISK: &str = "8m";

/// The disk of a server under test.
#[derive(Debug, Clone)]
pub enum Disk {
    /// A tmpfs, seen from outside.
    Small(PathBuf),
    /// None of its own: the process is limited.
    Limited(u32),
}

impl Disk {
    /// Nothing more can be written.
    pub fn fill(&self) {
        match self {
            Self::Small(folder) => {
                let mut filler = std::fs::File::create(folder.join("filler")).unwrap();
                for size in [65_536, 4096, 1] {
                    while filler.write_all(&vec![0; size]).is_ok() {}
                }
            }
            Self::Limited(pid) => limit(*pid, Some(0)),
        }
    }

    /// There is space again.
    pub fn free(&self) {
        match self {
            // It is not there when the disk was not full.
            Self::Small(folder) => drop(std::fs::remove_file(folder.join("filler"))),
            Self::Limited(pid) => limit(*pid, None),
        }
    }
}

fn limit(pid: u32, current: Option<u64>) {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let maximum = prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None });
    maximum.unwrap();
}

/// The command that runs `mms` with a tmpfs on `folder` in a mount namespace of its own; `None`: that is not allowed here.
pub(super) fn mounting(folder: &Path) -> Option<Command> {
    let allowed = |flags: &[&str]| {
        let mut tried = Command::new("unshare");
        tried.args(flags).args(["sh", "-c", &format!("mount -t tmpfs -o size=4k none '{}'", folder.display())]);
        tried.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let kinds: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let flags = kinds.into_iter().find(|flags| allowed(flags))?;
    let script = format!("mount -t tmpfs -o size={SMALL_DISK} none '{}' && exec \"$0\" \"$@\"", folder.display());
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(flags).args(["sh", "-c", &script, env!("CARGO_BIN_EXE_mms")]);
    Some(command)
}
