//! The list of tensors: how many weights there are, how many bytes they take, and how long the file must be.

use std::io::Read;

use super::GgufError;
use super::reader::Reader;
use super::types::{TensorType, tensor_type};

/// Most tensors of a file; the largest models have some thousands.
const MAX_TENSORS: u64 = 1 << 20;
/// Longest name of a tensor; llama.cpp accepts 63 bytes, other writers a little more.
const MAX_NAME_BYTES: u64 = 1024;
/// Most dimensions that ggml has.
const MAX_DIMENSIONS: u32 = 4;

/// All tensors of one file together.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    pub(super) count: u64,
    pub(super) elements: u64,
    pub(super) bytes: u64,
    /// Length that the file must at least have.
    pub(super) file_end: u64,
    /// The type that takes the most bytes.
    pub(super) dominant_type: Option<&'static str>,
}

impl Tensors {
    pub(super) fn read<R: Read>(reader: &mut Reader<R>, count: u64, alignment: u64) -> Result<Self, GgufError> {
        if count > MAX_TENSORS {
            return Err(GgufError::Count { what: "tensors".to_owned(), count, at: reader.at() });
        }
        // Name length, one byte of name, number of dimensions, one dimension, type, offset.
        reader.check_count("the list of tensors", count, 33)?;
        let mut all = Self { count, ..Self::default() };
        let mut by_type: Vec<(&'static str, u64)> = Vec::new();
        let mut furthest: Option<(u64, String)> = None;
        for _ in 0..count {
            let tensor = Tensor::read(reader, alignment)?;
            let overflow = || GgufError::Dimensions {
                tensor: tensor.name.clone(),
                why: "the tensors together are larger than any file".to_owned(),
            };
            all.elements = all.elements.checked_add(tensor.elements).ok_or_else(overflow)?;
            all.bytes = all.bytes.checked_add(tensor.bytes).ok_or_else(overflow)?;
            match by_type.iter_mut().find(|(name, _)| *name == tensor.kind.name) {
                Some((_, bytes)) => *bytes += tensor.bytes,
                None => by_type.push((tensor.kind.name, tensor.bytes)),
            }
            if furthest.as_ref().is_none_or(|(end, _)| tensor.end > *end) {
                furthest = Some((tensor.end, tensor.name));
            }
        }
        if let Some((end, tensor)) = furthest {
            let start = reader.at().next_multiple_of(alignment);
            let too_far = || GgufError::Offset { tensor, why: "beyond the end of any file".to_owned() };
            all.file_end = start.checked_add(end).ok_or_else(too_far)?;
        }
        all.dominant_type = by_type.iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| *name);
        Ok(all)
    }
}

struct Tensor {
    name: String,
    kind: TensorType,
    elements: u64,
    bytes: u64,
    /// Where it ends, counted from the start of the tensor data.
    end: u64,
}

impl Tensor {
    fn read<R: Read>(reader: &mut Reader<R>, alignment: u64) -> Result<Self, GgufError> {
        let name = reader.string("the name of a tensor", MAX_NAME_BYTES)?;
        let dimensions = |why: String| GgufError::Dimensions { tensor: name.clone(), why };
        let rank = reader.u32(&name)?;
        if rank > MAX_DIMENSIONS {
            return Err(dimensions(format!("{rank} of them, at most {MAX_DIMENSIONS} are possible")));
        }
        let mut elements: u64 = 1;
        let mut row: u64 = 1;
        for index in 0..rank {
            let length = reader.u64(&name)?;
            if length == 0 {
                return Err(dimensions("one of them is 0".to_owned()));
            }
            if index == 0 {
                row = length;
            }
            elements = elements
                .checked_mul(length)
                .filter(|&elements| i64::try_from(elements).is_ok())
                .ok_or_else(|| dimensions("their product is larger than any file".to_owned()))?;
        }
        let number = reader.u32(&name)?;
        let kind =
            tensor_type(number).ok_or_else(|| GgufError::TensorType { tensor: name.clone(), tensor_type: number })?;
        if !row.is_multiple_of(kind.block) {
            return Err(dimensions(format!("rows of {row} are not whole blocks of {} ({})", kind.block, kind.name)));
        }
        let bytes = (elements / kind.block)
            .checked_mul(kind.bytes)
            .ok_or_else(|| dimensions("it is larger than any file".to_owned()))?;
        let offset = reader.u64(&name)?;
        let misplaced = |why: String| GgufError::Offset { tensor: name.clone(), why };
        if !offset.is_multiple_of(alignment) {
            return Err(misplaced(format!("{offset} is not a multiple of {alignment}")));
        }
        let end =
            offset.checked_add(bytes).ok_or_else(|| misplaced(format!("{offset} is beyond the end of any file")))?;
        Ok(Self { name, kind, elements, bytes, end })
    }
}
