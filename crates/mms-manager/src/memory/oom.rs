//! Whether the kernel has ended processes for want of memory.

use std::fs;
use std::path::Path;

use super::MemoryProbe;
use super::cgroup;

impl MemoryProbe {
    /// How many processes the kernel has ended for want of memory: in the control group of this process and those below it, else on the
    /// whole machine. `None`: the kernel does not count.
    pub fn oom_kills(&self) -> Option<u64> {
        let groups = fs::read_to_string(self.proc().join("self/cgroup")).unwrap_or_default();
        cgroup::own_oom_kills(self.cgroup(), &groups).or_else(|| counter(&self.proc().join("vmstat"), "oom_kill"))
    }
}

/// The number in a line such as `oom_kill 3`.
pub(super) fn counter(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::memory::MemoryProbe;

    #[test]
    fn the_nearest_count_is_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let probe = MemoryProbe::new(root.path().join("proc"), root.path().join("cgroup"));
        assert_eq!(probe.oom_kills(), None);
        write("proc/vmstat", "nr_free_pages 7\noom_kill 41\n");
        assert_eq!(probe.oom_kills(), Some(41));
        write("proc/self/cgroup", "4:memory:/box\n");
        write("cgroup/memory/box/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        assert_eq!(probe.oom_kills(), Some(2));
        write("proc/self/cgroup", "0::/pod/box\n");
        write("cgroup/pod/memory.events", "low 0\nhigh 5\noom 9\noom_kill 8\n");
        assert_eq!(probe.oom_kills(), Some(41), "of a group above this one nothing is said");
        write("cgroup/pod/box/memory.events", "oom 9\noom_kill 3\n");
        assert_eq!(probe.oom_kills(), Some(3));
        write("proc/self/cgroup", "0::/../../elsewhere\n");
        write("cgroup/memory.events", "oom_kill 4\n");
        write("cgroup/elsewhere", "");
        assert_eq!(probe.oom_kills(), Some(4), "inside a container the mounted root is the own group");
        assert!(!Path::new("/proc/vmstat").exists() || MemoryProbe::default().oom_kills().is_some());
    }
}
