//! What can be wrong with a GGUF file, in words for the person who has to replace it.

use std::io;

/// Why a file is not a usable GGUF model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// The system refused to read it.
    #[error("cannot read the file: {why}")]
    Io {
        /// Kind of the failure.
        kind: io::ErrorKind,
        /// What the system said.
        why: String,
    },
    /// A folder, a socket or a device.
    #[error("not a regular file")]
    NotAFile,
    /// No byte at all.
    #[error("the file is empty")]
    Empty,
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it begins with {begins}")]
    NotGguf {
        /// The first bytes, as text and in hexadecimal.
        begins: String,
    },
    /// Another version of the format.
    #[error("GGUF version {version} is not supported, only versions 2 and 3")]
    Version {
        /// As the file says.
        version: u32,
    },
    /// Made for a big-endian machine.
    #[error("a big-endian GGUF file; only little-endian ones are supported")]
    BigEndian,
    /// The file ends inside the header.
    #[error("the header is cut off: the file ends at byte {at}, inside {what}")]
    HeaderTruncated {
        /// Length of the file.
        at: u64,
        /// What was being read.
        what: String,
    },
    /// The file ends inside the tensors.
    #[error("half-copied: its tensors need {needs} bytes, the file has {has}")]
    TensorsTruncated {
        /// Bytes that the file must have.
        needs: u64,
        /// Bytes that it has.
        has: u64,
    },
    /// More of something than the file could hold, or than any model has.
    #[error("impossible count: {count} of {what} (at byte {at})")]
    Count {
        /// What is counted.
        what: String,
        /// As the file says.
        count: u64,
        /// Where.
        at: u64,
    },
    /// A string that is longer than is sensible for what it is.
    #[error("{what} is {length} bytes long, at most {limit} are accepted (at byte {at})")]
    StringTooLong {
        /// Which string.
        what: String,
        /// Its length.
        length: u64,
        /// The limit.
        limit: u64,
        /// Where.
        at: u64,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8 (at byte {at})")]
    NotUtf8 {
        /// Which text.
        what: String,
        /// Where.
        at: u64,
    },
    /// A metadata value of a type that the format does not know.
    #[error("key {key} has the unknown value type {value_type} (at byte {at})")]
    ValueType {
        /// Which key.
        key: String,
        /// As the file says.
        value_type: u32,
        /// Where.
        at: u64,
    },
    /// Arrays inside arrays, deeper than any writer makes them.
    #[error("key {key} has arrays nested deeper than {limit} levels")]
    NestedTooDeep {
        /// Which key.
        key: String,
        /// The limit.
        limit: usize,
    },
    /// The same key twice.
    #[error("key {key} stands in the header twice")]
    DuplicateKey {
        /// Which key.
        key: String,
    },
    /// A known key with a value that cannot be.
    #[error("key {key} has an impossible value: {why}")]
    BadValue {
        /// Which key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A tensor of a type that llama.cpp does not know.
    #[error("tensor {tensor} has the unknown type {tensor_type}; the file may be newer than this program")]
    TensorType {
        /// Which tensor.
        tensor: String,
        /// As the file says.
        tensor_type: u32,
    },
    /// A tensor whose dimensions cannot be.
    #[error("tensor {tensor} has impossible dimensions: {why}")]
    Dimensions {
        /// Which tensor.
        tensor: String,
        /// What is wrong.
        why: String,
    },
    /// A tensor that does not lie where the format puts it.
    #[error("tensor {tensor} lies at an impossible offset: {why}")]
    Offset {
        /// Which tensor.
        tensor: String,
        /// What is wrong.
        why: String,
    },
}

impl GgufError {
    pub(super) fn io(error: io::Error) -> Self {
        Self::Io { kind: error.kind(), why: error.to_string() }
    }

    /// The file is shorter than it says; true for one that is still being copied.
    pub fn is_incomplete(&self) -> bool {
        matches!(self, Self::Empty | Self::HeaderTruncated { .. } | Self::TensorsTruncated { .. })
    }
}
