//! Total and available memory: the machine's, or the smaller limit of the control group (container) that the process runs in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::MIB;
use super::cgroup;

/// What the memory is limited by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// The machine's RAM.
    Machine,
    /// The control group at this path, version 1 or 2.
    ControlGroup(PathBuf),
}

/// Memory as it is now, MiB.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryFacts {
    /// In all: the RAM, or the control group's limit where that is smaller.
    pub total_mb: f64,
    /// Free or reclaimable at once, under every limit.
    pub available_mb: f64,
    /// What `available_mb` is limited by.
    pub limit: Limit,
}

/// Why memory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file lacks a figure.
    #[error("{} has no line {line}", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// The line looked for.
        line: &'static str,
    },
}

/// Reads the memory of the machine and of the control group. The two roots can be replaced, for tests.
#[derive(Debug, Clone)]
pub struct MemoryProbe {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Default for MemoryProbe {
    fn default() -> Self {
        Self::new("/proc", "/sys/fs/cgroup")
    }
}

impl MemoryProbe {
    /// A probe that reads below these folders instead of `/proc` and `/sys/fs/cgroup`.
    pub fn new(proc: impl Into<PathBuf>, cgroup: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), cgroup: cgroup.into() }
    }

    pub(super) fn proc(&self) -> &Path {
        &self.proc
    }

    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Memory as it is now. A handful of small reads: well under a millisecond.
    pub fn read(&self) -> Result<MemoryFacts, MemoryError> {
        let path = self.proc.join("meminfo");
        let text = read(&path)?;
        let kib = |line: &'static str| {
            field_kib(&text, line).ok_or_else(|| MemoryError::Missing { path: path.clone(), line })
        };
        let total = kib("MemTotal")? * 1024;
        // Kernels before 3.14 have no MemAvailable; free and cached pages come closest.
        let available = match field_kib(&text, "MemAvailable") {
            Some(available) => available * 1024,
            None => (kib("MemFree")? + field_kib(&text, "Cached").unwrap_or(0)) * 1024,
        };
        let machine =
            MemoryFacts { total_mb: total as f64 / MIB, available_mb: available as f64 / MIB, limit: Limit::Machine };
        let groups = fs::read_to_string(self.proc.join("self/cgroup")).unwrap_or_default();
        Ok(cgroup::limits(&self.cgroup, &groups).into_iter().fold(machine, tighten))
    }
}

/// Both limits hold, so the smaller figure of each kind stands.
fn tighten(facts: MemoryFacts, group: cgroup::Group) -> MemoryFacts {
    let group_total = group.limit as f64 / MIB;
    let group_available = group.available() as f64 / MIB;
    MemoryFacts {
        total_mb: facts.total_mb.min(group_total),
        available_mb: facts.available_mb.min(group_available),
        limit: if group_available < facts.available_mb { Limit::ControlGroup(group.path) } else { facts.limit },
    }
}

fn read(path: &Path) -> Result<String, MemoryError> {
    fs::read_to_string(path).map_err(|source| MemoryError::Read { path: path.to_owned(), source })
}

/// The figure of a line such as `MemTotal:  16384 kB`.
pub(super) fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::{Limit, MemoryError, MemoryProbe};

    const MEMINFO: &str = "MemTotal:       8388608 kB\nMemFree:  100 kB\nMemAvailable:   4194304 kB\nCached: 1 kB\n";

    struct Machine {
        root: TempDir,
    }

    impl Machine {
        fn new(meminfo: &str, groups: &str) -> Self {
            let machine = Self { root: tempfile::tempdir().unwrap() };
            machine.write("proc/meminfo", meminfo);
            machine.write("proc/self/cgroup", groups);
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn probe(&self) -> MemoryProbe {
            MemoryProbe::new(self.root.path().join("proc"), self.root.path().join("cgroup"))
        }

        fn check(&self, total_mb: f64, available_mb: f64, group: Option<&str>) {
            let facts = self.probe().read().unwrap();
            assert!((facts.total_mb - total_mb).abs() < 0.01, "{facts:?}");
            assert!((facts.available_mb - available_mb).abs() < 0.01, "{facts:?}");
            let expect = group.map_or(Limit::Machine, |path| Limit::ControlGroup(self.root.path().join(path)));
            assert_eq!(facts.limit, expect);
        }
    }

    #[test]
    fn a_bare_machine() {
        Machine::new(MEMINFO, "0::/\n").check(8192.0, 4096.0, None);
        Machine::new("MemTotal: 8192 kB\nMemFree: 1024 kB\nCached: 2048 kB\n", "").check(8.0, 3.0, None);
    }

    #[test]
    fn version_2_limits_hold_at_every_level() {
        let machine = Machine::new(MEMINFO, "0::/pod/box\n");
        machine.write("cgroup/pod/memory.max", "2147483648\n");
        machine.write("cgroup/pod/memory.current", "1073741824\n");
        machine.write("cgroup/pod/memory.stat", "anon 1\ninactive_file 268435456\nactive_file 268435456\n");
        machine.write("cgroup/pod/box/memory.max", "max\n");
        machine.write("cgroup/pod/box/memory.current", "536870912\n");
        machine.check(2048.0, 1536.0, Some("cgroup/pod"));
        machine.write("cgroup/pod/box/memory.max", "1073741824\n");
        machine.check(1024.0, 512.0, Some("cgroup/pod/box"));
    }

    #[test]
    fn version_2_inside_a_container_sees_its_own_root() {
        let machine = Machine::new(MEMINFO, "0::/../../elsewhere\n");
        machine.write("cgroup/memory.max", "1073741824\n");
        machine.write("cgroup/memory.current", "2147483648\n");
        machine.check(1024.0, 0.0, Some("cgroup"));
    }

    #[test]
    fn version_1_limits() {
        let machine = Machine::new(MEMINFO, "5:cpu,cpuacct:/x\n4:memory:/box\n");
        machine.write("cgroup/memory/box/memory.limit_in_bytes", "1073741824\n");
        machine.write("cgroup/memory/box/memory.usage_in_bytes", "536870912\n");
        machine.write("cgroup/memory/box/memory.stat", "cache 9\ntotal_inactive_file 134217728\n");
        machine.check(1024.0, 640.0, Some("cgroup/memory/box"));
        machine.write("cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");
        machine.check(8192.0, 4096.0, None);
    }

    #[test]
    fn faults_name_themselves() {
        let missing = MemoryProbe::new("/nowhere/proc", "/nowhere/cgroup").read().unwrap_err();
        assert!(missing.to_string().starts_with("cannot read /nowhere/proc/meminfo: "), "{missing}");
        let machine = Machine::new("Something: 1 kB\n", "");
        let error = machine.probe().read().unwrap_err();
        assert!(matches!(error, MemoryError::Missing { line: "MemTotal", .. }), "{error}");
    }

    #[test]
    fn this_machine_has_memory() {
        let facts = MemoryProbe::default().read().unwrap();
        assert!(facts.total_mb > 0.0 && facts.available_mb <= facts.total_mb, "{facts:?}");
        assert!(Path::new("/proc/meminfo").exists());
    }
}
