//! What the server says on standard output when it starts.

use std::time::Duration;

use mms_protocol::view::{HealthView, ModelState, ModelView};

use crate::config::Config;
use crate::output::{count, mebibytes};
use crate::ready::Addresses;

/// Endpoints, models, device and memory budget.
pub(crate) fn summary(config: &Config, addresses: &Addresses, health: &HealthView) -> String {
    let Addresses { main, health: health_port, http } = addresses;
    let memory = &health.memory;
    let file = config.file.as_ref().map_or("none, defaults hold".to_owned(), |file| file.display().to_string());
    let mut text = format!(
        "{agent} {version}, process {pid}\n\
         main    tcp://{main} (ZeroMQ)\n\
         health  tcp://{health_port} and http://{health_port}/health\n\
         http    http://{http}\n\
         config  {file}\n\
         data    {data}\n\
         device  {device}, {cores} cores, memory budget {budget} of {total}\n",
        agent = health.agent,
        version = health.version,
        pid = std::process::id(),
        data = config.server.data_dir.display(),
        device = memory.device,
        cores = std::thread::available_parallelism().map_or(1, usize::from),
        budget = mebibytes(memory.budget_mb),
        total = mebibytes(memory.total_mb),
    );
    if health.models.is_empty() {
        text.push_str("models  none; put GGUF files into a models folder\n");
    }
    for (index, model) in health.models.iter().enumerate() {
        let name = if index == 0 { "models" } else { "" };
        text.push_str(&format!("{name:6}  {}\n", model_line(model)));
    }
    text
}

/// The line that ends start-up; scripts wait for it.
pub(crate) fn ready(since_start: Duration) -> String {
    format!("ready in {:.0} ms", since_start.as_secs_f64() * 1e3)
}

fn model_line(model: &ModelView) -> String {
    match model.status {
        ModelState::Broken | ModelState::Quarantined => {
            format!("{} ({}): {}", model.model_id, model.status.as_str(), model.message)
        }
        ModelState::AvailableNotLoaded
        | ModelState::Queued
        | ModelState::Loading
        | ModelState::Loaded
        | ModelState::Draining => {
            let builtin = if model.builtin { ", built-in" } else { "" };
            format!(
                "{} ({}, {}, {} parameters, needs about {}{builtin})",
                model.model_id,
                model.architecture,
                model.quantization,
                count(model.parameters),
                mebibytes(model.estimated_mb),
            )
        }
    }
}
