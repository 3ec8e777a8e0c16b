//! The memory of GPUs, as their driver tells it.

use std::fmt::Debug;
use std::time::Duration;

use super::{Amounts, MIB};

/// One GPU now, MiB.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuFacts {
    /// As llama.cpp calls it, such as `CUDA0`.
    pub device: String,
    /// In all.
    pub total_mb: f64,
    /// Not in use by anybody.
    pub free_mb: f64,
}

/// Where figures of GPUs come from. The calls block, for milliseconds.
pub trait GpuProbe: Debug + Send + Sync {
    /// Every GPU that there is now.
    fn read(&self) -> Vec<GpuFacts>;

    /// What one process holds of each; `None`: the driver does not tell.
    fn held_by(&self, pid: u32) -> Option<Amounts>;
}

/// A machine without GPUs.
#[derive(Debug, Default)]
pub struct NoGpus;

impl GpuProbe for NoGpus {
    fn read(&self) -> Vec<GpuFacts> {
        Vec::new()
    }

    fn held_by(&self, _pid: u32) -> Option<Amounts> {
        None
    }
}

/// NVIDIA's management library, which comes with the driver and is loaded at run time.
#[derive(Debug)]
pub struct Nvml(nvml_wrapper::Nvml);

impl Nvml {
    /// The library; `None`: this machine has none, or nothing that it could tell about. Waking the GPUs can take a second.
    pub fn load() -> Option<Self> {
        match nvml_wrapper::Nvml::init() {
            Ok(library) => Some(Self(library)),
            Err(error) => {
                tracing::debug!(%error, "no NVML, so no NVIDIA GPU is counted");
                None
            }
        }
    }

    /// Workers are told to number GPUs by their place on the bus, as this library does.
    fn each<T>(
        &self,
        ask: impl Fn(String, &nvml_wrapper::Device<'_>) -> Result<T, nvml_wrapper::error::NvmlError>,
    ) -> Vec<T> {
        let count = self.0.device_count().unwrap_or_else(|error| {
            tracing::warn!(%error, "NVML does not tell how many GPUs there are");
            0
        });
        let ask = |index| ask(format!("CUDA{index}"), &self.0.device_by_index(index)?);
        (0..count)
            .filter_map(|index| {
                ask(index).inspect_err(|error| tracing::warn!(index, %error, "NVML does not tell about a GPU")).ok()
            })
            .collect()
    }
}

impl GpuProbe for Nvml {
    fn read(&self) -> Vec<GpuFacts> {
        self.each(|device, gpu| {
            let memory = gpu.memory_info()?;
            Ok(GpuFacts { device, total_mb: memory.total as f64 / MIB, free_mb: memory.free as f64 / MIB })
        })
    }

    fn held_by(&self, pid: u32) -> Option<Amounts> {
        use nvml_wrapper::enums::device::UsedGpuMemory;
        let held: Vec<(String, Option<u64>)> = self.each(|device, gpu| {
            let own = gpu.running_compute_processes()?.into_iter().find(|process| process.pid == pid);
            let bytes = own.and_then(|process| match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            });
            Ok((device, bytes))
        });
        let known = held.into_iter().filter_map(|(device, bytes)| Some((device, bytes? as f64 / MIB)));
        Some(known.collect::<Amounts>()).filter(|held| held.total() > 0.0)
    }
}

/// How long is waited for the memory of a process that has ended.
pub const RETURN_PATIENCE: Duration = Duration::from_secs(5);
/// Drivers round, and keep a little.
const RETURNED: f64 = 0.9;

/// Whether what a process `held` has come back to every GPU since its last measurement, when so much was `free`.
pub fn is_back(now: &[GpuFacts], free: &Amounts, held: &Amounts) -> bool {
    now.iter().all(|gpu| gpu.free_mb >= free.get(&gpu.device) + held.get(&gpu.device) * RETURNED)
}

#[cfg(test)]
mod tests {
    use super::{GpuFacts, GpuProbe, NoGpus, Nvml, is_back};
    use crate::memory::Amounts;

    #[test]
    fn memory_is_back_when_every_gpu_has_it() {
        let gpu = |device: &str, free_mb: f64| GpuFacts { device: device.to_owned(), total_mb: 1000.0, free_mb };
        let mut held = Amounts::of("CUDA0", 200.0);
        held.add("cpu", 500.0);
        let free = Amounts::of("CUDA0", 300.0);
        assert!(!is_back(&[gpu("CUDA0", 300.0)], &free, &held));
        assert!(!is_back(&[gpu("CUDA0", 470.0)], &free, &held));
        assert!(is_back(&[gpu("CUDA0", 490.0), gpu("CUDA1", 7.0)], &free, &held), "nothing was held of the second");
        assert!(is_back(&[], &free, &held));
    }

    #[test]
    fn what_the_driver_tells_makes_sense() {
        assert!(NoGpus.read().is_empty() && NoGpus.held_by(1).is_none());
        // With a driver or without: nothing panics, and figures are figures.
        let gpus = Nvml::load().map(|nvml| nvml.read()).unwrap_or_default();
        assert!(gpus.iter().all(|gpu| gpu.total_mb > 0.0 && gpu.free_mb <= gpu.total_mb), "{gpus:?}");
    }
}
