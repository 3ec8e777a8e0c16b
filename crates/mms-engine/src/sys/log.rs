//! llama.cpp's log callback, turned into whole lines for one Rust function, and what it says when it ends the process.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

use llama_cpp_sys_2 as ll;

/// Severity of a line, as llama.cpp gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

type Sink = fn(LogLevel, &str);

/// The line that is being put together from a first part and its continuations.
struct Partial {
    sink: Sink,
    level: LogLevel,
    text: String,
}

static PARTIAL: Mutex<Option<Partial>> = Mutex::new(None);

/// Sends every line of llama.cpp and ggml to `sink` from now on.
pub(crate) fn route_log(sink: Sink) {
    if let Ok(mut partial) = PARTIAL.lock() {
        *partial = Some(Partial { sink, level: LogLevel::Info, text: String::new() });
    }
    // SAFETY: the callback is a plain function that lives as long as the program and uses no user data.
    unsafe { ll::llama_log_set(Some(on_log), std::ptr::null_mut()) };
}

static LAST_WORDS: Mutex<Option<fn(&str)>> = Mutex::new(None);

/// Gives `sink` what llama.cpp says before it ends the process, which it does where it finds that something cannot be. Without this it
/// would print a backtrace after it, and the reason would not be among the last lines.
pub(crate) fn route_last_words(sink: fn(&str)) {
    if let Ok(mut last_words) = LAST_WORDS.lock() {
        *last_words = Some(sink);
    }
    // SAFETY: the callback is a plain function that lives as long as the program.
    unsafe { ll::ggml_set_abort_callback(Some(on_abort)) };
}

unsafe extern "C" fn on_abort(message: *const c_char) {
    let sink = LAST_WORDS.lock().ok().and_then(|last_words| *last_words);
    if let Some(sink) = sink.filter(|_| !message.is_null()) {
        // SAFETY: ggml passes a NUL-terminated string that is valid during the call.
        sink(&unsafe { CStr::from_ptr(message) }.to_string_lossy());
    }
}

/// llama.cpp's line about the CPU features that it uses.
pub(crate) fn system_info() -> String {
    // SAFETY: returns a NUL-terminated string in static memory, rewritten only by further calls; we copy it at once.
    let text = unsafe { CStr::from_ptr(ll::llama_print_system_info()) };
    text.to_string_lossy().trim().to_owned()
}

unsafe extern "C" fn on_log(level: ll::ggml_log_level, text: *const c_char, _user_data: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that is valid during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let Ok(mut partial) = PARTIAL.lock() else { return };
    let Some(partial) = partial.as_mut() else { return };
    match level {
        ll::GGML_LOG_LEVEL_CONT => {}
        ll::GGML_LOG_LEVEL_ERROR => partial.level = LogLevel::Error,
        ll::GGML_LOG_LEVEL_WARN => partial.level = LogLevel::Warn,
        ll::GGML_LOG_LEVEL_DEBUG => partial.level = LogLevel::Debug,
        _ => partial.level = LogLevel::Info,
    }
    partial.text.push_str(&text);
    while let Some(end) = partial.text.find('\n') {
        let line: String = partial.text.drain(..=end).collect();
        if !line.trim().is_empty() {
            (partial.sink)(partial.level, line.trim_end());
        }
    }
}
