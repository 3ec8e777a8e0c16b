//! All `unsafe` of the worker: the part of llama.cpp that `llama-cpp-2` does not offer (a context with its own thread pool, logits
//! without a copy, the log callback) and a few calls of libc. Everything that leaves this module is safe to use.

mod adapter;
mod context;
mod log;
mod memory;
mod pages;
mod process;
mod vocabulary;

pub(crate) use adapter::Adapter;
pub(crate) use context::{Batch, Context, ContextOptions, DecodeError, continues_text};
pub(crate) use log::{LogLevel, route_last_words, route_log, system_info};
pub(crate) use memory::{Share, Stored, stored_tensors, tensors};
pub(crate) use pages::file_bytes;
pub(crate) use process::{end_with_parent, exit_now, ignore_terminal_signals, processor_time, survive_file_limits};
pub(crate) use vocabulary::{VocabularyKind, vocabulary_kind};
