//! What a model is expected to take of each device, and who says so.

use mms_protocol::worker::{DevicePlan, EngineSettings, MemoryPlan};

use super::{Amounts, Estimate, MIB, RAM};

/// Who says what a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The file's header: an upper bound.
    Header,
    /// llama.cpp's own plan.
    Plan,
}

impl Source {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Plan => "plan",
        }
    }
}

/// What a model is expected to take.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// After its load, by device.
    pub loaded: Amounts,
    /// What its KV states that are put aside may take later, RAM, MiB.
    pub kv_store_mb: f64,
    /// Who says so.
    pub source: Source,
    /// Tokens of context that each sequence gets.
    pub n_ctx: u32,
}

impl Need {
    /// From the header. `gpus`: the devices that layers are put on, and the memory of each; the more it has, the more it gets.
    pub fn of_header(estimate: &Estimate, settings: &EngineSettings, layers: u32, gpus: &Amounts) -> Self {
        let on_gpu = match u32::try_from(settings.gpu_layers) {
            _ if gpus.total() <= 0.0 => 0.0,
            // The output layer counts as one more.
            Ok(offloaded) => (f64::from(offloaded) / f64::from(layers.saturating_add(1))).min(1.0),
            Err(_all) => 1.0,
        };
        let tensors = estimate.weights_mb + estimate.kv_mb;
        let mut loaded = Amounts::ram(tensors * (1.0 - on_gpu) + estimate.process_mb);
        if on_gpu > 0.0 {
            for (device, memory) in gpus.iter() {
                // Each device has scratch memory of its own.
                loaded.add(device, tensors * on_gpu * memory / gpus.total() + estimate.compute_mb);
            }
        }
        // Some scratch memory stays in RAM, whatever is offloaded.
        loaded.add(RAM, estimate.compute_mb);
        Self { loaded, kv_store_mb: kv_store_mb(settings), source: Source::Header, n_ctx: estimate.n_ctx }
    }

    /// From llama.cpp's plan.
    pub fn of_plan(plan: &MemoryPlan, settings: &EngineSettings) -> Self {
        let total = |device: &DevicePlan| {
            let bytes = [device.model_bytes, device.context_bytes, device.compute_bytes];
            bytes.into_iter().map(|bytes| bytes as f64 / MIB).sum::<f64>()
        };
        let mut loaded = Amounts::ram(plan.process_bytes as f64 / MIB);
        for device in &plan.devices {
            loaded.add(&device_name(&device.device), total(device));
        }
        Self { loaded, kv_store_mb: kv_store_mb(settings), source: Source::Plan, n_ctx: plan.context_length }
    }

    /// What has to be reserved before the load.
    pub fn reserve(&self) -> Amounts {
        let mut reserve = self.loaded.clone();
        reserve.add(RAM, self.kv_store_mb);
        reserve
    }
}

fn kv_store_mb(settings: &EngineSettings) -> f64 {
    f64::from(settings.kv_store_mb)
}

/// RAM has one name, however a worker writes it.
pub fn device_name(name: &str) -> String {
    if name.eq_ignore_ascii_case(RAM) { RAM.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use mms_protocol::worker::{DevicePlan, EngineSettings, MemoryPlan};

    use super::{Need, Source};
    use crate::memory::{Amounts, Estimate};

    const ESTIMATE: Estimate =
        Estimate { weights_mb: 300.0, kv_mb: 100.0, compute_mb: 50.0, process_mb: 20.0, n_ctx: 512 };

    fn check(gpu_layers: i32, gpus: &[(&str, f64)], expect: &[(&str, f64)]) {
        let amounts =
            |list: &[(&str, f64)]| list.iter().map(|(name, mb)| ((*name).to_owned(), *mb)).collect::<Amounts>();
        let settings = EngineSettings { gpu_layers, kv_store_mb: 64, ..EngineSettings::default() };
        let need = Need::of_header(&ESTIMATE, &settings, 9, &amounts(gpus));
        assert_eq!(need.loaded, amounts(expect));
        assert_eq!(need.reserve().get("cpu"), need.loaded.get("cpu") + 64.0);
    }

    #[test]
    fn the_header_s_estimate_is_spread_over_devices() {
        check(-1, &[], &[("cpu", 470.0)]);
        check(0, &[("CUDA0", 8000.0)], &[("cpu", 470.0)]);
        check(-1, &[("CUDA0", 8000.0)], &[("cpu", 70.0), ("CUDA0", 450.0)]);
        check(5, &[("CUDA0", 8000.0)], &[("cpu", 270.0), ("CUDA0", 250.0)]);
        check(99, &[("CUDA0", 6000.0), ("CUDA1", 2000.0)], &[("cpu", 70.0), ("CUDA0", 350.0), ("CUDA1", 150.0)]);
    }

    #[test]
    fn a_plan_is_taken_as_it_is() {
        let device = |device: &str, mib: u64| DevicePlan {
            device: device.to_owned(),
            model_bytes: mib << 20,
            context_bytes: 2 << 20,
            compute_bytes: 1 << 20,
        };
        let plan = MemoryPlan {
            devices: vec![device("CPU", 7), device("CUDA0", 70)],
            process_bytes: 5 << 20,
            context_length: 99,
        };
        let need = Need::of_plan(&plan, &EngineSettings::default());
        assert_eq!((need.loaded.get("cpu"), need.loaded.get("CUDA0")), (15.0, 73.0));
        assert_eq!((need.source, need.n_ctx), (Source::Plan, 99));
        assert_eq!(need.reserve().get("cpu"), 15.0 + 128.0);
    }
}
