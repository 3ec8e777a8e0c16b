//! What a load takes: told in advance by llama.cpp's own plan, and what of a loaded model stays where the mapped file has it.
//!
//! A plan opens the model as a load does, but llama.cpp reads no tensors and takes no memory for them, the KV cache and the scratch
//! buffers (`no_alloc`); their sizes are known to the byte all the same. What else there is in this process then (the program, the
//! tables of the vocabulary, what the KV cache keeps about its cells, threads) a load has as well, so it is measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use mms_protocol::worker::{DevicePlan, EngineSettings, LoadSpec, MemoryPlan};

use crate::load::{Opened, model_params, open};
use crate::logging::{Taken, take_notes};
use crate::prompt::Prompter;
use crate::sys::{Share, Stored, file_bytes, stored_tensors, tensors};

/// What a load of the same would take; the error is that of the load.
pub(crate) fn plan(backend: &LlamaBackend, spec: LoadSpec) -> Result<MemoryPlan, String> {
    let params = model_params(&spec.settings, |_| {}).with_no_alloc(true).with_use_mlock(false);
    let Opened { model, mut context, sizes, ability } = open(backend, &spec, &params)?;
    let prompter = Prompter::new(model, spec.chat_template, sizes.context_length);
    if ability.encodes().is_some() {
        prompter.surrounds()?;
    }
    let mut plan = MemoryPlan {
        devices: context.memory().into_iter().map(device_plan).collect(),
        process_bytes: resident_bytes().map_err(|error| format!("cannot read its own memory: {error}"))?,
        context_length: sizes.context_length,
    };
    drop(prompter);
    for taken in take_notes().taken {
        account(&mut plan, &taken);
    }
    let only_cpu = plan.devices.len() == 1;
    if let Some(ram) = plan.devices.first_mut() {
        ram.model_bytes += Mapped::of(model, &spec.settings, &spec.path).between;
        ram.compute_bytes += context.output_growth_bytes();
        if only_cpu {
            ram.compute_bytes += context.work_bytes();
        }
    }
    Ok(plan)
}

fn device_plan(share: Share) -> DevicePlan {
    let Share { device, model, context, compute } = share;
    DevicePlan { device, model_bytes: model, context_bytes: context, compute_bytes: compute }
}

/// Adapters and recurrent states are there although nothing is to be allocated: so they are in the measured memory, which they are no
/// part of. Adapters are on top of what llama.cpp tells of.
fn account(plan: &mut MemoryPlan, taken: &Taken) {
    let bytes = taken.bytes();
    let device = plan.devices.iter().position(|device| device.device == taken.buffer);
    if device.is_none() {
        plan.process_bytes = plan.process_bytes.saturating_sub(bytes);
    }
    if taken.is_adapter
        && let Some(device) = plan.devices.get_mut(device.unwrap_or(0))
    {
        device.model_bytes += bytes;
    }
}

/// The part of a model that its mapped file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mapped {
    /// Tensors that are used there, bytes.
    used: u64,
    /// What lies between them and is locked into memory with them, though it was copied and is not used there, bytes.
    between: u64,
}

impl Mapped {
    /// The model is loaded, or as in [`plan`].
    pub(crate) fn of(model: &LlamaModel, settings: &EngineSettings, path: &str) -> Self {
        if !settings.mmap {
            return Self::default();
        }
        let plain = tensors(model).into_iter().filter(|tensor| tensor.plain);
        let plain: BTreeMap<String, u64> = plain.map(|tensor| (tensor.name, tensor.bytes)).collect();
        let used = plain.values().sum();
        if !settings.mlock {
            return Self { used, between: 0 };
        }
        let span = |path: PathBuf| match stored_tensors(&path) {
            Some(stored) => locked_span(&plain, &stored),
            None => {
                tracing::warn!(path = %path.display(), "cannot read where its tensors are; what is locked besides is not counted");
                0
            }
        };
        let locked: u64 = parts(Path::new(path)).into_iter().map(span).sum();
        Self { used, between: locked.saturating_sub(used) }
    }

    /// All that has to stay in memory.
    pub(crate) fn bytes(self) -> u64 {
        self.used + self.between
    }
}

/// llama.cpp locks one range of each file: from the first of the tensors that it uses there to the last.
fn locked_span(plain: &BTreeMap<String, u64>, stored: &[Stored]) -> u64 {
    let used = || stored.iter().filter(|tensor| plain.contains_key(&tensor.name));
    let begin = used().map(|tensor| tensor.begin).min();
    let end = used().map(|tensor| tensor.end).max();
    begin.zip(end).map_or(0, |(begin, end)| end - begin)
}

/// All files of a model whose first is `path`, by the names that split models have: `NAME-00001-of-00003.gguf`.
fn parts(path: &Path) -> Vec<PathBuf> {
    let whole = || vec![path.to_owned()];
    let Some(stem) = path.to_str().and_then(|path| path.strip_suffix(".gguf")) else { return whole() };
    let Some((name, count)) = stem.rsplit_once("-of-") else { return whole() };
    let Some(name) = name.strip_suffix("-00001") else { return whole() };
    match count.parse::<u32>() {
        Ok(number) => (1..=number).map(|part| PathBuf::from(format!("{name}-{part:05}-of-{count}.gguf"))).collect(),
        Err(_) => whole(),
    }
}

/// Pages of the program and its libraries that are in memory, bytes; 0 where the kernel does not tell.
pub(crate) fn program_bytes(model: &str) -> u64 {
    let files: Vec<PathBuf> = parts(Path::new(model)).iter().filter_map(|file| file.canonicalize().ok()).collect();
    file_bytes(&files).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot see which pages of files are in memory");
        0
    })
}

/// Memory of this process, bytes. The kernel's short counters may lag behind by megabytes on a machine with many processors, so the
/// exact ones are asked for first.
fn resident_bytes() -> std::io::Result<u64> {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| std::io::Error::other(format!("{path} has no line {name}")))
    };
    field("/proc/self/smaps_rollup", "Rss:").or_else(|_| field("/proc/self/status", "VmRSS:"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use mms_protocol::worker::{DevicePlan, MemoryPlan};

    use super::{account, locked_span, parts, resident_bytes};
    use crate::logging::Taken;
    use crate::sys::Stored;

    #[test]
    fn what_is_locked_reaches_from_the_first_to_the_last() {
        let stored = |name: &str, begin, end| Stored { name: name.to_owned(), begin, end };
        let file = [stored("a", 100, 200), stored("copied", 200, 900), stored("b", 900, 1000), stored("c", 1000, 1100)];
        let plain: BTreeMap<String, u64> = [("a".to_owned(), 100), ("b".to_owned(), 100)].into();
        assert_eq!(locked_span(&plain, &file), 900);
        assert_eq!(locked_span(&BTreeMap::new(), &file), 0);
    }

    #[test]
    fn the_files_of_a_split_model() {
        let paths = |path: &str| parts(Path::new(path));
        assert_eq!(paths("/m/x.gguf"), [PathBuf::from("/m/x.gguf")]);
        let split = paths("/m/x-00001-of-00003.gguf");
        assert_eq!((split.len(), split[2].to_str()), (3, Some("/m/x-00003-of-00003.gguf")));
        for no_split in ["/m/x-of-00003.gguf", "/m/x-00002-of-00003.gguf", "/m/x-00001-of-many.gguf"] {
            assert_eq!(paths(no_split), [PathBuf::from(no_split)]);
        }
    }

    #[test]
    fn what_is_there_already_counts_once() {
        let device = |name: &str| DevicePlan {
            device: name.to_owned(),
            model_bytes: 10 << 20,
            context_bytes: 5 << 20,
            compute_bytes: 0,
        };
        let plan =
            MemoryPlan { devices: vec![device("cpu"), device("CUDA0")], process_bytes: 30 << 20, context_length: 512 };
        let after = |buffer: &str, is_adapter| {
            let mut plan = plan.clone();
            account(&mut plan, &Taken { buffer: buffer.to_owned(), mib: 2.0, is_adapter });
            (plan.process_bytes >> 20, plan.devices[0].model_bytes >> 20, plan.devices[1].model_bytes >> 20)
        };
        assert_eq!(after("CPU", true), (28, 12, 10));
        assert_eq!(after("CPU", false), (28, 10, 10));
        assert_eq!(after("CUDA0", true), (30, 10, 12));
        assert_eq!(after("CUDA0", false), (30, 10, 10));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().expect("/proc") > 1 << 20);
    }
}
