//! Log lines on stderr, one event each: plain, or JSON with `MMS_WORKER_LOG_FORMAT=json`; what is shown is set by `MMS_WORKER_LOG`
//! in the syntax of `RUST_LOG`. llama.cpp's lines come in one level lower than it thinks of them, errors excepted, under the target
//! `llama`; they are also noted here, since they alone say why a load failed and how large some buffers are.

use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use crate::sys::{LogLevel, route_last_words, route_log};

/// The filter without `MMS_WORKER_LOG`: two lines for a start that works.
const DEFAULT_FILTER: &str = "info,llama=error";

/// What llama.cpp said since [`start_notes`].
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Error lines, in order.
    pub(crate) errors: Vec<String>,
    /// Memory that it took and otherwise does not tell of, or takes even when it is only to plan.
    pub(crate) taken: Vec<Taken>,
}

/// A buffer that llama.cpp made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Taken {
    /// Its kind, such as `CPU` or `CUDA0`.
    pub(crate) buffer: String,
    pub(crate) mib: f64,
    /// An adapter; otherwise recurrent states.
    pub(crate) is_adapter: bool,
}

impl Taken {
    pub(crate) fn bytes(&self) -> u64 {
        (self.mib * 1024.0 * 1024.0) as u64
    }
}

static NOTES: Mutex<Notes> = Mutex::new(Notes { errors: Vec::new(), taken: Vec::new() });

/// More error lines than this say nothing new.
const MOST_ERRORS: usize = 20;

/// Sets up logging for the process, llama.cpp's included.
pub(crate) fn init() {
    let filter = std::env::var("MMS_WORKER_LOG").unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let set = if std::env::var("MMS_WORKER_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
    if let Err(error) = set {
        eprintln!("mms-worker: no logging: {error}");
    }
    route_log(llama_line);
    route_last_words(|message| tracing::error!("llama.cpp gave up: {}", last_words(message)));
}

/// Forgets what was noted.
pub(crate) fn start_notes() {
    take_notes();
}

/// What was noted so far.
pub(crate) fn take_notes() -> Notes {
    NOTES.lock().map(|mut notes| std::mem::take(&mut *notes)).unwrap_or_default()
}

/// The error lines noted so far; what else was noted stays.
pub(crate) fn take_errors() -> Vec<String> {
    NOTES.lock().map(|mut notes| std::mem::take(&mut notes.errors)).unwrap_or_default()
}

/// One line, and of the source file only its name.
fn last_words(message: &str) -> String {
    let (place, said) = message.split_once(": ").unwrap_or(("", message));
    let file = place.rsplit_once('/').map_or(place, |(_folders, file)| file);
    format!("{} ({file})", said.replace('\n', " "))
}

fn llama_line(level: LogLevel, line: &str) {
    let is_note = level == LogLevel::Error || line.contains(" buffer size = ");
    if is_note && let Ok(mut notes) = NOTES.lock() {
        notes.taken.extend(taken(line));
        if level == LogLevel::Error && notes.errors.len() < MOST_ERRORS {
            notes.errors.push(line.to_owned());
        }
    }
    match level {
        LogLevel::Error => tracing::error!(target: "llama", "{line}"),
        LogLevel::Warn => tracing::info!(target: "llama", "{line}"),
        LogLevel::Info => tracing::debug!(target: "llama", "{line}"),
        LogLevel::Debug => tracing::trace!(target: "llama", "{line}"),
    }
}

/// What a line such as `llama_adapter_lora_init_impl:   CPU LoRA buffer size =   0.02 MiB` tells of, or the same of recurrent states
/// (`RS`).
fn taken(line: &str) -> Option<Taken> {
    let (_function, rest) = line.split_once(": ")?;
    let (buffer, size) = rest.split_once(" buffer size = ")?;
    let (buffer, what) = buffer.trim().rsplit_once(' ')?;
    let is_adapter = match what {
        "LoRA" => true,
        "RS" => false,
        _ => return None,
    };
    let mib = size.trim().strip_suffix("MiB")?.trim().parse().ok()?;
    Some(Taken { buffer: buffer.trim().to_owned(), mib, is_adapter })
}

#[cfg(test)]
mod tests {
    use super::{Taken, last_words, taken};

    #[test]
    fn last_words_are_one_line() {
        let message = "/build/ggml/src/ops.cpp:42: GGML_ASSERT(eps >= 0.0f) failed";
        assert_eq!(last_words(message), "GGML_ASSERT(eps >= 0.0f) failed (ops.cpp:42)");
        assert_eq!(last_words("a\nb"), "a b ()");
    }

    #[test]
    fn buffers_that_were_made() {
        let made = |buffer: &str, mib, is_adapter| Some(Taken { buffer: buffer.to_owned(), mib, is_adapter });
        let line = "llama_adapter_lora_init_impl:        CPU LoRA buffer size =     0.25 MiB";
        assert_eq!(taken(line), made("CPU", 0.25, true));
        let line = "llama_memory_recurrent:      CUDA0 RS buffer size =    19.50 MiB";
        assert_eq!(taken(line), made("CUDA0", 19.5, false));
        assert_eq!(taken("load_tensors:   CPU_Mapped model buffer size =   138.00 MiB"), None);
        assert_eq!(taken("llama_kv_cache:        CPU KV buffer size =    12.00 MiB"), None);
        assert_eq!(taken("load_tensors: offloaded 0/7 layers to GPU"), None);
    }
}
