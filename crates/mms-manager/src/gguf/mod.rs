//! Headers of GGUF files, versions 2 and 3, little endian: what a model is, read without reading the model. (Version 1 and
//! big-endian files are refused by name; llama.cpp does not read them either.)
//!
//! Files come from anywhere, so the parser streams, trusts no number, and allocates only for the few keys that are wanted and only
//! after their length was checked against the file. A vocabulary of 128,000 tokens is counted and passed over.
//!
//! ```text
//! file → reader (bytes, bounds) → metadata (keys and values) ┐
//!                               → tensors (names, shapes)    ┴→ Header
//! ```

mod error;
mod header;
mod metadata;
mod reader;
mod tensors;
mod types;

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

pub use error::GgufError;
pub use header::{Header, PerLayer, Split};

/// Longest chat template that is kept, bytes; a longer one is refused.
pub const MAX_CHAT_TEMPLATE_BYTES: u64 = 1024 * 1024;

impl Header {
    /// Reads the header of the file at `path` and checks that all its tensors are there.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        // Looked at before it is opened: opening a named pipe would wait for ever.
        if !fs::metadata(path).map_err(GgufError::io)?.is_file() {
            return Err(GgufError::NotAFile);
        }
        let file = File::open(path).map_err(GgufError::io)?;
        let file_bytes = file.metadata().map_err(GgufError::io)?.len();
        Self::parse(BufReader::with_capacity(64 * 1024, file), file_bytes)
    }

    /// Reads the header from the start of a file of `file_bytes` bytes.
    pub fn parse(source: impl Read, file_bytes: u64) -> Result<Self, GgufError> {
        let mut reader = reader::Reader::new(source, file_bytes);
        let version = reader.preamble()?;
        let tensor_count = reader.u64("the number of tensors")?;
        let key_count = reader.u64("the number of metadata keys")?;
        let metadata = metadata::Metadata::read(&mut reader, key_count)?;
        let tensors = tensors::Tensors::read(&mut reader, tensor_count, metadata.alignment()?)?;
        Header::assemble(version, file_bytes, metadata, tensors)
    }
}
