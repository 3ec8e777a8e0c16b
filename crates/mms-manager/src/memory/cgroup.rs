//! Memory limits of control groups, versions 1 and 2: the group of this process and every group above it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::oom::counter;
use super::probe::field_kib;

/// Version 1 says "no limit" with a number near the largest one, rounded down to whole pages.
const NO_LIMIT: u64 = 1 << 60;

/// One group that has a limit, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) path: PathBuf,
    pub(super) limit: u64,
    used: u64,
    /// Pages of files, which the kernel takes back before it refuses memory. Without them a group that has once read a large
    /// model file would look full for ever.
    file_cache: u64,
}

impl Group {
    pub(super) fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used.saturating_sub(self.file_cache))
    }
}

/// The names that one version of the interface uses.
struct Names {
    limit: &'static str,
    used: &'static str,
    file_cache: [&'static str; 2],
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    file_cache: ["total_inactive_file", "total_active_file"],
};
const V2: Names = Names { limit: "memory.max", used: "memory.current", file_cache: ["inactive_file", "active_file"] };

/// Every group with a limit that holds for this process. `own` is the text of `/proc/self/cgroup`.
pub(super) fn limits(root: &Path, own: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            upwards(root, path, &V2, &mut groups);
        } else if controllers.split(',').any(|controller| controller == "memory") {
            upwards(&root.join("memory"), path, &V1, &mut groups);
        }
    }
    groups
}

/// How many processes of the own group and those below it the kernel has ended for want of memory. Where the own group cannot be seen,
/// inside a container, it is the mounted root.
pub(super) fn own_oom_kills(root: &Path, own: &str) -> Option<u64> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.events"),
            other if other.split(',').any(|controller| controller == "memory") => {
                (root.join("memory"), "memory.oom_control")
            }
            _ => return None,
        };
        let own = root.join(below(path));
        let group = if own.is_dir() { own } else { root };
        counter(&group.join(file), "oom_kill")
    })
}

/// The group at `path` and those above it. Inside a container the path may be one of the host's that cannot be seen here; the
/// mounted root is then the container's own group, and the only one to ask.
fn upwards(root: &Path, path: &str, names: &Names, groups: &mut Vec<Group>) {
    let mut folder = root.join(below(path));
    loop {
        groups.extend(read(&folder, names));
        if folder == root || !folder.pop() {
            return;
        }
    }
}

fn below(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn read(folder: &Path, names: &Names) -> Option<Group> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number(names.limit).filter(|&limit| limit < NO_LIMIT)?;
    let used = number(names.used)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default().replace(' ', ": ");
    let file_cache = names.file_cache.iter().filter_map(|name| field_kib(&stat, name)).sum();
    Some(Group { path: folder.to_owned(), limit, used, file_cache })
}
