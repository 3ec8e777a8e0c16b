//! What a process holds in RAM, from the kernel's counters in `/proc/PID/status`.

use std::fs;
use std::io;

use super::Amounts;
use super::probe::field_kib;

/// Resident memory of one process, MiB.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Residency {
    /// Its own memory: KV cache, compute buffers, weights that were read or repacked. Only its end gives it back.
    pub anonymous_mb: f64,
    /// Pages of mapped files, above all the model's weights; the kernel can drop and read them again.
    pub file_mapped_mb: f64,
    /// Both, and shared memory.
    pub total_mb: f64,
}

impl Residency {
    /// The same with no more mapped pages than are in use, MiB.
    ///
    /// llama.cpp repacks the weights of some types into memory of its own, for faster matrices. The mapped pages that they were read
    /// from then stay resident until the kernel wants them, but nobody uses them any more.
    pub fn needed(self, mapped_in_use_mb: f64) -> Self {
        let file_mapped_mb = self.file_mapped_mb.min(mapped_in_use_mb);
        Self { file_mapped_mb, total_mb: self.total_mb - (self.file_mapped_mb - file_mapped_mb), ..self }
    }
}

/// What a worker process was measured to hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Held {
    /// By device.
    pub amounts: Amounts,
    /// Of the RAM, pages of mapped files: needed for each token, and yet the kernel may drop them and read them again, MiB.
    pub reclaimable_mb: f64,
    /// Of the RAM, KV states that were put aside since the load, MiB.
    pub kv_store_mb: f64,
}

impl Held {
    /// Over all devices, without the KV states that were put aside: what compares with the estimate of a load.
    pub fn loaded_mb(&self) -> f64 {
        (self.amounts.total() - self.kv_store_mb).max(0.0)
    }
}

/// Measures a running process. The error is of kind `NotFound` when it has ended.
///
/// The counters are those of `status`, not of `smaps_rollup`: both agree on what is resident, but the latter walks the page tables,
/// which holds up a worker with gigabytes of weights.
pub fn measure(pid: u32) -> io::Result<Residency> {
    parse(&fs::read_to_string(format!("/proc/{pid}/status"))?)
}

fn parse(status: &str) -> io::Result<Residency> {
    let mb = |name: &str| field_kib(status, name).map(|kib| kib as f64 / 1024.0);
    // A process that has ended but was not waited for yet has no memory lines.
    let Some(total_mb) = mb("VmRSS") else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the process holds no memory any more"));
    };
    let file_mapped_mb = mb("RssFile").unwrap_or(0.0);
    let shared = mb("RssShmem").unwrap_or(0.0);
    let anonymous_mb = mb("RssAnon").unwrap_or((total_mb - file_mapped_mb - shared).max(0.0));
    Ok(Residency { anonymous_mb, file_mapped_mb, total_mb })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Residency, measure, parse};

    #[test]
    fn weights_are_not_counted_twice() {
        let resident = Residency { anonymous_mb: 642.0, file_mapped_mb: 368.0, total_mb: 1010.0 };
        assert_eq!(resident.needed(30.0), Residency { anonymous_mb: 642.0, file_mapped_mb: 30.0, total_mb: 672.0 });
        assert_eq!(resident.needed(9000.0), resident);
    }

    #[test]
    fn kernel_counters() {
        let status =
            "Name:\tworker\nVmRSS:\t  4096 kB\nRssAnon:\t  1024 kB\nRssFile:\t  2048 kB\nRssShmem:\t  1024 kB\n";
        assert_eq!(parse(status).unwrap(), Residency { anonymous_mb: 1.0, file_mapped_mb: 2.0, total_mb: 4.0 });
        assert_eq!(parse("VmRSS: 2048 kB\n").unwrap().anonymous_mb, 2.0);
        assert_eq!(parse("Name: zombie\nState: Z\n").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn new_memory_is_seen() {
        let own = std::process::id();
        let before = measure(own).unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = measure(own).unwrap();
        assert!(after.anonymous_mb - before.anonymous_mb > 60.0, "{before:?} {after:?}");
        assert!(after.total_mb >= after.anonymous_mb + after.file_mapped_mb - 0.01);
        drop(block);
        // No process has this id: it is above the largest that Linux gives.
        assert_eq!(measure(1 << 30).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
