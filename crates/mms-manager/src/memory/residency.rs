//! What a process holds in RAM, from the kernel's counters in `/proc/PID/status`.

use std::fs;
use std::io;

use super::Estimate;
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
    /// What the process needs to keep, MiB, where `estimate` is that of its model.
    ///
    /// llama.cpp repacks the weights of some types into memory of its own, for faster matrices. The mapped pages they were read from
    /// then stay resident until the kernel wants them, but nobody uses them any more: a model of 383 MiB shows 1,010 MiB resident and
    /// holds 642. Own memory beyond the KV cache is taken for such weights, up to their size, and that much of the mapped pages is
    /// left out.
    pub fn needed_mb(&self, estimate: &Estimate) -> f64 {
        let repacked = (self.anonymous_mb - estimate.kv_mb).clamp(0.0, estimate.weights_mb.max(0.0));
        self.total_mb - repacked.min(self.file_mapped_mb)
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
    use crate::memory::Estimate;

    #[test]
    fn weights_are_not_counted_twice() {
        let estimate = Estimate { weights_mb: 383.0, kv_mb: 256.0, compute_mb: 100.0, process_mb: 24.0, n_ctx: 4096 };
        let check = |anonymous_mb: f64, file_mapped_mb: f64, expect: f64| {
            let residency = Residency { anonymous_mb, file_mapped_mb, total_mb: anonymous_mb + file_mapped_mb };
            assert!((residency.needed_mb(&estimate) - expect).abs() < 1e-9, "{residency:?}");
        };
        // Repacked; the pages that were read are still there, or gone.
        check(642.0, 368.0, 642.0);
        check(642.0, 10.0, 642.0);
        // Not repacked: the mapped pages are the weights.
        check(256.0, 393.0, 649.0);
        check(10.0, 393.0, 403.0);
        let nothing = Estimate::default();
        assert_eq!(Residency { anonymous_mb: 5.0, file_mapped_mb: 2.0, total_mb: 7.0 }.needed_mb(&nothing), 7.0);
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
