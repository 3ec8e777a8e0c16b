//! Log lines on stderr, one event each: plain, or JSON with `MMS_WORKER_LOG_FORMAT=json`; what is shown is set by `MMS_WORKER_LOG`
//! in the syntax of `RUST_LOG`. llama.cpp's lines come in one level lower than it thinks of them, errors excepted, under the target
//! `llama`; they are also noted here, since they alone say why a load failed, how large the KV cache is, and what was copied.

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
    /// Sum of the sizes of the caches it made.
    pub(crate) cache_mib: f64,
    /// Sum of the sizes of the tensors that it did not leave where the mapped file has them.
    pub(crate) copied_mib: f64,
}

static NOTES: Mutex<Notes> = Mutex::new(Notes { errors: Vec::new(), cache_mib: 0.0, copied_mib: 0.0 });

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
    let is_note = level == LogLevel::Error || line.contains(" size = ");
    if is_note && let Ok(mut notes) = NOTES.lock() {
        notes.cache_mib += cache_mib(line).unwrap_or(0.0);
        notes.copied_mib += copied_mib(line).unwrap_or(0.0);
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

/// The size in a line such as `llama_kv_cache: size =   12.00 MiB (  2048 cells, ...`, or the same of a recurrent state.
fn cache_mib(line: &str) -> Option<f64> {
    let (function, rest) = line.split_once(": size = ")?;
    if !function.starts_with("llama_kv_cache") && !function.starts_with("llama_memory_recurrent") {
        return None;
    }
    rest.split_once(" MiB (")?.0.trim().parse().ok()
}

/// The size in a line such as `load_tensors:   CPU_REPACK model buffer size =   114.00 MiB`, unless it is of a mapped file.
fn copied_mib(line: &str) -> Option<f64> {
    let (buffer, size) = line.split_once(" model buffer size = ")?;
    if buffer.ends_with("_Mapped") {
        return None;
    }
    size.trim().strip_suffix("MiB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{cache_mib, copied_mib, last_words};

    #[test]
    fn last_words_are_one_line() {
        let message = "/build/ggml/src/ops.cpp:42: GGML_ASSERT(eps >= 0.0f) failed";
        assert_eq!(last_words(message), "GGML_ASSERT(eps >= 0.0f) failed (ops.cpp:42)");
        assert_eq!(last_words("a\nb"), "a b ()");
    }

    #[test]
    fn sizes_of_caches() {
        let line = "llama_kv_cache: size =   12.50 MiB (  2048 cells,   6 layers,  4/1 seqs), K (f16):    6.25 MiB";
        assert_eq!(cache_mib(line), Some(12.5));
        assert_eq!(cache_mib("load_tensors: size = 3 MiB (x"), None);
        assert_eq!(cache_mib("llama_kv_cache: layer 0"), None);
    }

    #[test]
    fn sizes_of_copied_tensors() {
        assert_eq!(copied_mib("load_tensors:   CPU_REPACK model buffer size =   114.25 MiB"), Some(114.25));
        assert_eq!(copied_mib("load_tensors:        CUDA0 model buffer size =  4000.00 MiB"), Some(4000.0));
        assert_eq!(copied_mib("load_tensors:   CPU_Mapped model buffer size =   138.00 MiB"), None);
        assert_eq!(copied_mib("load_tensors: offloaded 0/7 layers to GPU"), None);
    }
}
