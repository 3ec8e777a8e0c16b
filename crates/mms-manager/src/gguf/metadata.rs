//! Keys and values of the header. Only the keys in [`wanted`] are kept; everything else is passed over without an allocation.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use super::header::PerLayer;
use super::reader::Reader;
use super::{GgufError, MAX_CHAT_TEMPLATE_BYTES};

/// Longest key that is accepted. The format allows 65,535 bytes, real ones have less than a hundred.
const MAX_KEY_BYTES: u64 = 1024;
/// Longest of the other texts that are kept.
const MAX_TEXT_BYTES: u64 = 64 * 1024;
/// Most entries of a list that is kept (one for each layer).
const MAX_LIST: u64 = 4096;
/// Most keys of a header, and most of them that are kept. Real files have less than a hundred.
const MAX_KEYS: u64 = 1 << 14;
const MAX_KEPT: usize = 256;
const MAX_NESTING: usize = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// A value that is kept.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Unsigned(u64),
    Negative,
    Real,
    Bool(bool),
    Text(String),
    /// A list of whole numbers; `None` where one is negative or too large.
    Numbers(Vec<Option<u32>>),
    /// Any other list: only its length.
    Length(u64),
}

/// The kept part of a header's metadata.
#[derive(Debug)]
pub(super) struct Metadata {
    values: HashMap<String, Value>,
}

/// How a key is treated.
fn wanted(key: &str) -> bool {
    const KEYS: [&str; 9] = [
        "general.architecture",
        "general.type",
        "general.name",
        "general.file_type",
        "general.alignment",
        "split.no",
        "split.count",
        "tokenizer.chat_template",
        "tokenizer.ggml.tokens",
    ];
    const OF_ARCHITECTURE: [&str; 12] = [
        ".context_length",
        ".block_count",
        ".embedding_length",
        ".feed_forward_length",
        ".vocab_size",
        ".pooling_type",
        ".attention.head_count",
        ".attention.head_count_kv",
        ".attention.key_length",
        ".attention.value_length",
        ".attention.sliding_window",
        ".attention.causal",
    ];
    KEYS.contains(&key) || OF_ARCHITECTURE.iter().any(|ending| key.ends_with(ending))
}

impl Metadata {
    pub(super) fn read<R: Read>(reader: &mut Reader<R>, count: u64) -> Result<Self, GgufError> {
        if count > MAX_KEYS {
            return Err(GgufError::Count { what: "metadata keys".to_owned(), count, at: reader.at() });
        }
        // A key takes at least its length, one byte, its type and one byte of value.
        reader.check_count("the metadata", count, 14)?;
        let mut values = HashMap::new();
        let mut seen = HashSet::new();
        for _ in 0..count {
            let key = reader.string("a metadata key", MAX_KEY_BYTES)?;
            let value_type = reader.u32(&key)?;
            if wanted(&key) && values.len() < MAX_KEPT {
                if let Some(value) = keep(reader, &key, value_type)? {
                    values.insert(key.clone(), value);
                }
            } else {
                pass_over(reader, &key, value_type, 0)?;
            }
            if !seen.insert(key.clone()) {
                return Err(GgufError::DuplicateKey { key });
            }
        }
        Ok(Self { values })
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.values.get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn architecture(&self) -> Option<String> {
        self.text("general.architecture")
    }

    /// A whole number that fits; anything else under that key is a fault.
    pub(super) fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        let bad = |why: &str| Err(GgufError::BadValue { key: key.to_owned(), why: why.to_owned() });
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => match u32::try_from(*value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => bad("too large"),
            },
            Some(Value::Negative) => bad("negative"),
            Some(Value::Real | Value::Bool(_) | Value::Text(_) | Value::Numbers(_) | Value::Length(_)) => {
                bad("not a whole number")
            }
        }
    }

    /// A key of the architecture; where a writer gives a list of one figure for each layer, the largest.
    pub(super) fn arch_u32(&self, name: &str) -> Result<Option<u32>, GgufError> {
        Ok(self.per_layer(name)?.map(|figure| figure.max()))
    }

    pub(super) fn arch_bool(&self, name: &str) -> Result<Option<bool>, GgufError> {
        let Some(key) = self.arch_key(name) else { return Ok(None) };
        match self.values.get(&key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(GgufError::BadValue { key, why: "neither true nor false".to_owned() }),
        }
    }

    pub(super) fn per_layer(&self, name: &str) -> Result<Option<PerLayer>, GgufError> {
        let Some(key) = self.arch_key(name) else { return Ok(None) };
        match self.values.get(&key) {
            Some(Value::Numbers(numbers)) => match numbers.iter().copied().collect::<Option<Vec<u32>>>() {
                Some(each) => Ok(Some(PerLayer::Each(each))),
                None => Err(GgufError::BadValue { key, why: "a negative or too large number in the list".to_owned() }),
            },
            Some(_) | None => Ok(self.u32(&key)?.map(PerLayer::All)),
        }
    }

    pub(super) fn vocab_size(&self) -> Result<Option<u64>, GgufError> {
        match self.values.get("tokenizer.ggml.tokens") {
            Some(Value::Length(length)) => Ok(Some(*length)),
            Some(_) => Err(GgufError::BadValue {
                key: "tokenizer.ggml.tokens".to_owned(),
                why: "not a list of texts".to_owned(),
            }),
            None => Ok(self.arch_u32("vocab_size")?.map(u64::from)),
        }
    }

    /// Distance that tensors keep: a power of two.
    pub(super) fn alignment(&self) -> Result<u64, GgufError> {
        match self.u32("general.alignment")? {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(value) if value.is_power_of_two() => Ok(u64::from(value)),
            Some(value) => Err(GgufError::BadValue {
                key: "general.alignment".to_owned(),
                why: format!("{value} is not a power of two"),
            }),
        }
    }

    fn arch_key(&self, name: &str) -> Option<String> {
        Some(format!("{}.{name}", self.architecture()?))
    }
}

/// Bytes of a value of a fixed width.
fn width(value_type: u32) -> Option<u64> {
    match value_type {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Reads a value that is wanted. `None`: an empty list, which says as much as no key.
fn keep<R: Read>(reader: &mut Reader<R>, key: &str, value_type: u32) -> Result<Option<Value>, GgufError> {
    if value_type == STRING {
        let limit = if key == "tokenizer.chat_template" { MAX_CHAT_TEMPLATE_BYTES } else { MAX_TEXT_BYTES };
        return Ok(Some(Value::Text(reader.string(key, limit)?)));
    }
    if value_type != ARRAY {
        return Ok(Some(scalar(reader, key, value_type)?));
    }
    let item_type = reader.u32(key)?;
    let length = reader.u64(key)?;
    let whole = matches!(item_type, 0..=5 | 10 | 11);
    if !whole || length > MAX_LIST {
        items(reader, key, item_type, length, 0)?;
        return Ok(Some(Value::Length(length)));
    }
    reader.check_count(key, length, width(item_type).unwrap_or(1))?;
    let mut numbers = Vec::with_capacity(length as usize);
    for _ in 0..length {
        numbers.push(match scalar(reader, key, item_type)? {
            Value::Unsigned(value) => u32::try_from(value).ok(),
            _ => None,
        });
    }
    Ok((length > 0).then_some(Value::Numbers(numbers)))
}

fn scalar<R: Read>(reader: &mut Reader<R>, key: &str, value_type: u32) -> Result<Value, GgufError> {
    let signed = |value: i64| u64::try_from(value).map_or(Value::Negative, Value::Unsigned);
    let at = reader.at();
    Ok(match value_type {
        0 => Value::Unsigned(u64::from(u8::from_le_bytes(reader.array(key)?))),
        1 => signed(i64::from(i8::from_le_bytes(reader.array(key)?))),
        2 => Value::Unsigned(u64::from(u16::from_le_bytes(reader.array(key)?))),
        3 => signed(i64::from(i16::from_le_bytes(reader.array(key)?))),
        4 => Value::Unsigned(u64::from(reader.u32(key)?)),
        5 => signed(i64::from(i32::from_le_bytes(reader.array(key)?))),
        6 => {
            reader.skip(4, key)?;
            Value::Real
        }
        7 => match reader.array::<1>(key)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [other] => {
                let why = format!("{other} is neither true nor false");
                return Err(GgufError::BadValue { key: key.to_owned(), why });
            }
        },
        10 => Value::Unsigned(reader.u64(key)?),
        11 => signed(i64::from_le_bytes(reader.array(key)?)),
        12 => {
            reader.skip(8, key)?;
            Value::Real
        }
        _ => return Err(GgufError::ValueType { key: key.to_owned(), value_type, at }),
    })
}

fn pass_over<R: Read>(reader: &mut Reader<R>, key: &str, value_type: u32, depth: usize) -> Result<(), GgufError> {
    match (value_type, width(value_type)) {
        (STRING, _) => reader.skip_string(key),
        (ARRAY, _) => {
            let item_type = reader.u32(key)?;
            let length = reader.u64(key)?;
            items(reader, key, item_type, length, depth)
        }
        (_, Some(width)) => reader.skip(width, key),
        (_, None) => Err(GgufError::ValueType { key: key.to_owned(), value_type, at: reader.at() }),
    }
}

fn items<R: Read>(
    reader: &mut Reader<R>,
    key: &str,
    item_type: u32,
    length: u64,
    depth: usize,
) -> Result<(), GgufError> {
    if depth >= MAX_NESTING {
        return Err(GgufError::NestedTooDeep { key: key.to_owned(), limit: MAX_NESTING });
    }
    let what = format!("items of {key}");
    if let Some(width) = width(item_type) {
        reader.check_count(&what, length, width)?;
        return reader.skip(length * width, key);
    }
    // A string takes at least its length, an array its item type and its length.
    let least = if item_type == ARRAY { 12 } else { 8 };
    reader.check_count(&what, length, least)?;
    for _ in 0..length {
        pass_over(reader, key, item_type, depth + 1)?;
    }
    Ok(())
}
