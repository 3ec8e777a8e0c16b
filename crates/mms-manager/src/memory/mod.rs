//! Memory: what the machine has ([`MemoryProbe`]), what models may take of it ([`MemoryConfig`]), what a model is expected to take
//! ([`Need`]; from its header, [`estimate`], or from llama.cpp's plan) and what a worker process really holds ([`measure`]).
//!
//! Everything is in MiB. A worker's file-mapped pages are the model file itself: they count as held, because inference is slow
//! without them, but the kernel may take them back, so they are shown apart.

mod amounts;
mod cgroup;
mod estimate;
mod gpu;
mod need;
mod oom;
mod probe;
mod residency;

pub use amounts::{Amounts, RAM};
pub use estimate::{Estimate, context_of, estimate};
pub use gpu::{GpuFacts, GpuProbe, NoGpus, Nvml, RETURN_PATIENCE, is_back};
pub use need::{Need, Source, device_name};
pub use probe::{Limit, MemoryError, MemoryFacts, MemoryProbe};
pub use residency::{Held, Residency, measure};

use crate::config::{Budget, MemoryConfig};

/// Bytes in a MiB, for figures that are shown.
pub const MIB: f64 = 1024.0 * 1024.0;

impl MemoryConfig {
    /// What models may take together on this machine, MiB: the configured budget, but never into the reserve.
    pub fn budget_mb(&self, facts: &MemoryFacts) -> f64 {
        part(self.budget, facts.total_mb).min(facts.total_mb - self.reserve_mb as f64).max(0.0)
    }

    /// What can be taken right now without touching the reserve, MiB. Whoever else uses the machine may have less in mind than the
    /// budget allows, so a load must fit here as well as into the budget.
    pub fn headroom_mb(&self, facts: &MemoryFacts) -> f64 {
        (facts.available_mb - self.reserve_mb as f64).max(0.0)
    }

    /// The same for a GPU.
    pub fn gpu_budget_mb(&self, gpu: &GpuFacts) -> f64 {
        part(self.gpu_budget, gpu.total_mb).min(gpu.total_mb - self.gpu_reserve_mb as f64).max(0.0)
    }

    /// The same for a GPU.
    pub fn gpu_headroom_mb(&self, gpu: &GpuFacts) -> f64 {
        (gpu.free_mb - self.gpu_reserve_mb as f64).max(0.0)
    }
}

fn part(budget: Budget, total_mb: f64) -> f64 {
    match budget {
        Budget::Percent(percent) if percent.is_finite() => total_mb * percent.clamp(0.0, 100.0) / 100.0,
        Budget::Percent(_) => 0.0,
        Budget::Mb(mb) => mb as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, GpuFacts, Limit, MemoryConfig, MemoryFacts};

    fn facts(total_mb: f64, available_mb: f64) -> MemoryFacts {
        MemoryFacts { total_mb, available_mb, limit: Limit::Machine }
    }

    #[test]
    fn the_budget_never_takes_the_reserve() {
        let machine = facts(10_000.0, 6_000.0);
        let check = |budget, reserve_mb, expect: f64| {
            let config = MemoryConfig { budget, reserve_mb, ..MemoryConfig::default() };
            assert!((config.budget_mb(&machine) - expect).abs() < 1e-6, "{config:?}: {}", config.budget_mb(&machine));
        };
        check(Budget::Percent(80.0), 512, 8_000.0);
        check(Budget::Percent(100.0), 512, 9_488.0);
        check(Budget::Percent(f64::NAN), 512, 0.0);
        check(Budget::Percent(900.0), 0, 10_000.0);
        check(Budget::Mb(3_000), 512, 3_000.0);
        check(Budget::Mb(90_000), 512, 9_488.0);
        check(Budget::Mb(90_000), 20_000, 0.0);
    }

    #[test]
    fn headroom_is_what_is_free_now() {
        let config = MemoryConfig::default();
        assert!((config.headroom_mb(&facts(10_000.0, 6_000.0)) - 5_488.0).abs() < 1e-6);
        assert_eq!(config.headroom_mb(&facts(10_000.0, 100.0)), 0.0);
    }

    #[test]
    fn a_gpu_has_its_own_budget_and_reserve() {
        let gpu = GpuFacts { device: "CUDA0".to_owned(), total_mb: 10_000.0, free_mb: 300.0 };
        let config = MemoryConfig { gpu_budget: Budget::Percent(50.0), gpu_reserve_mb: 200, ..MemoryConfig::default() };
        assert_eq!((config.gpu_budget_mb(&gpu), config.gpu_headroom_mb(&gpu)), (5_000.0, 100.0));
        let greedy = MemoryConfig { gpu_budget: Budget::Mb(90_000), ..config };
        assert_eq!(greedy.gpu_budget_mb(&gpu), 9_800.0);
        assert_eq!(greedy.gpu_headroom_mb(&GpuFacts { free_mb: 10.0, ..gpu }), 0.0);
    }
}
