//! The devices that models can be loaded on. Only a worker knows them, as only it contains llama.cpp; so the first request that
//! names one starts a worker just to ask.

use std::path::PathBuf;
use std::time::Duration;

use mms_protocol::view::ModelView;
use mms_protocol::worker::DeviceInfo;
use mms_protocol::{ErrorCode, Refusal};
use tokio::sync::OnceCell;

use crate::worker::{Spawner, errand};

/// What a worker that is only asked for its devices gets.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Devices {
    program: PathBuf,
    spawner: Spawner,
    known: OnceCell<Vec<DeviceInfo>>,
}

impl Devices {
    pub(crate) fn new(program: PathBuf, spawner: Spawner) -> Self {
        Self { program, spawner, known: OnceCell::new() }
    }

    /// Checks the `device` of a load request; gives whether the model must stay off every other device than the CPU.
    pub(crate) async fn check(&self, view: &ModelView, device: &str) -> Result<bool, Refusal> {
        if device.eq_ignore_ascii_case("auto") {
            return Ok(false);
        }
        let cpu_only = device.eq_ignore_ascii_case("cpu");
        if !cpu_only {
            let known = self.known.get_or_try_init(|| self.ask()).await?;
            if !known.iter().any(|info| is_called(&info.name, device)) {
                let mut names: Vec<&str> = vec!["auto"];
                names.extend(known.iter().map(|info| info.name.as_str()));
                let text = format!("device {device} is not there; this server has {}", names.join(", "));
                let refusal = Refusal::new(ErrorCode::InvalidArgument, text);
                return Err(refusal.with("argument", "device").with("devices", names));
            }
        }
        if view.is_loaded() && !is_called(&view.device, device) {
            let text = format!(
                "{} is loaded on {} already; unload it first to load it on {device}",
                view.model_id, view.device
            );
            return Err(Refusal::new(ErrorCode::InvalidArgument, text).with("argument", "device"));
        }
        Ok(cpu_only)
    }

    async fn ask(&self) -> Result<Vec<DeviceInfo>, Refusal> {
        let answer = errand::ask(&self.spawner, &self.program, None, ASK_TIMEOUT).await;
        let failed = |why: String| {
            let text =
                format!("the devices are not known: the worker program {} was asked and {why}", self.program.display());
            Refusal::new(ErrorCode::LoadFailed, text)
        };
        answer.map(|answer| answer.hello.devices).map_err(failed)
    }
}

/// `cuda` is called by `CUDA0` as well as by `CUDA`; `gpu` by everything that is not a CPU.
fn is_called(name: &str, device: &str) -> bool {
    let (name, device) = (name.to_lowercase(), device.to_lowercase());
    let numbered = name.strip_prefix(&device).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    numbered || (device == "gpu" && !name.starts_with("cpu"))
}

#[cfg(test)]
mod tests {
    use super::is_called;

    #[test]
    fn device_names() {
        for (name, device) in
            [("CPU", "cpu"), ("CUDA0", "cuda"), ("CUDA0", "CUDA0"), ("cuda", "cuda"), ("Vulkan0", "gpu")]
        {
            assert!(is_called(name, device), "{name} {device}");
        }
        for (name, device) in [("CPU", "cuda"), ("CPU", "gpu"), ("CUDA0", "cuda1"), ("CUDA0", "cpu"), ("cpu", "cuda0")]
        {
            assert!(!is_called(name, device), "{name} {device}");
        }
    }
}
