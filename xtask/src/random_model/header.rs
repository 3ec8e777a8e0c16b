//! The head of a GGUF file: writing one, and taking the tokenizer of another. The vocabulary is the other's with made-up words up to the
//! wanted size; no merge leads to those, so a text has the same tokens as with the other, and what the model says is made-up words.

use std::io::Write;

use anyhow::{Context, Result, bail};

use super::ALIGNMENT;
use super::blocks::Kind;

const UINT32: u32 = 4;
const INT32: u32 = 5;
const FLOAT32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// Type of a token that is a piece of text.
const NORMAL: u32 = 1;

/// A head in the making.
#[derive(Default)]
pub(super) struct Header {
    pairs: u64,
    values: Vec<u8>,
    tensors: u64,
    infos: Vec<u8>,
}

impl Header {
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        string(&mut self.values, value);
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.key(key, UINT32);
        self.values.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.key(key, FLOAT32);
        self.values.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key, BOOL);
        self.values.push(u8::from(value));
    }

    pub(super) fn texts(&mut self, key: &str, values: &[String]) {
        self.list(key, STRING, values.len());
        values.iter().for_each(|value| string(&mut self.values, value));
    }

    pub(super) fn i32s(&mut self, key: &str, values: &[i32]) {
        self.list(key, INT32, values.len());
        values.iter().for_each(|value| self.values.extend_from_slice(&value.to_le_bytes()));
    }

    fn list(&mut self, key: &str, element: u32, count: usize) {
        self.key(key, ARRAY);
        self.values.extend_from_slice(&element.to_le_bytes());
        self.values.extend_from_slice(&(count as u64).to_le_bytes());
    }

    /// Pairs that are encoded already.
    pub(super) fn raw(&mut self, pairs: u64, bytes: &[u8]) {
        self.pairs += pairs;
        self.values.extend_from_slice(bytes);
    }

    /// A tensor whose values begin `offset` bytes after the head.
    pub(super) fn tensor(&mut self, name: &str, columns: u64, rows: Option<u64>, kind: Kind, offset: u64) {
        self.tensors += 1;
        string(&mut self.infos, name);
        let sizes: Vec<u64> = std::iter::once(columns).chain(rows).collect();
        self.infos.extend_from_slice(&(sizes.len() as u32).to_le_bytes());
        sizes.iter().for_each(|size| self.infos.extend_from_slice(&size.to_le_bytes()));
        self.infos.extend_from_slice(&kind.number().to_le_bytes());
        self.infos.extend_from_slice(&offset.to_le_bytes());
    }

    /// Writes all of it, up to where values begin; its length.
    pub(super) fn write(&self, out: &mut impl Write) -> Result<u64> {
        let mut head = b"GGUF".to_vec();
        head.extend_from_slice(&3u32.to_le_bytes());
        head.extend_from_slice(&self.tensors.to_le_bytes());
        head.extend_from_slice(&self.pairs.to_le_bytes());
        head.extend_from_slice(&self.values);
        head.extend_from_slice(&self.infos);
        head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
        out.write_all(&head)?;
        Ok(head.len() as u64)
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.pairs += 1;
        string(&mut self.values, key);
        self.values.extend_from_slice(&kind.to_le_bytes());
    }
}

/// Everything about tokens, encoded as pairs of a head.
pub(super) struct Vocabulary {
    pub(super) pairs: u64,
    pub(super) bytes: Vec<u8>,
    /// Tokens of the other model; the made-up ones come after them.
    pub(super) real: u64,
}

/// The tokenizer and chat template of the GGUF file `from`, its vocabulary extended to `size` tokens.
pub(super) fn vocabulary(from: &[u8], size: u64) -> Result<Vocabulary> {
    let mut reader = Reader { rest: from };
    if reader.bytes(4)? != b"GGUF" {
        bail!("the model to take the tokenizer from is no GGUF file");
    }
    reader.u32()?;
    reader.u64()?;
    let mut found = Vocabulary { pairs: 0, bytes: Vec::new(), real: 0 };
    for _ in 0..reader.u64()? {
        let start = reader.rest;
        let key = reader.string()?;
        let kind = reader.u32()?;
        if !key.starts_with(b"tokenizer.") {
            reader.skip(kind)?;
            continue;
        }
        found.pairs += 1;
        let extended = matches!(key, b"tokenizer.ggml.tokens" | b"tokenizer.ggml.token_type");
        if !extended {
            reader.skip(kind)?;
            found.bytes.extend_from_slice(&start[..start.len() - reader.rest.len()]);
            continue;
        }
        found.bytes.extend_from_slice(&start[..start.len() - reader.rest.len()]);
        let element = reader.u32()?;
        let count = reader.u64()?;
        found.real = count;
        found.bytes.extend_from_slice(&element.to_le_bytes());
        found.bytes.extend_from_slice(&size.max(count).to_le_bytes());
        let elements = reader.rest;
        for _ in 0..count {
            reader.skip(element)?;
        }
        found.bytes.extend_from_slice(&elements[..elements.len() - reader.rest.len()]);
        for index in count..size {
            match element {
                // `Ġ` is the space before a word.
                STRING => string(&mut found.bytes, &format!("Ġw{index}")),
                INT32 | UINT32 => found.bytes.extend_from_slice(&NORMAL.to_le_bytes()),
                other => bail!("the tokenizer has an array of type {other}"),
            }
        }
    }
    if found.real == 0 {
        bail!("the model to take the tokenizer from has none");
    }
    Ok(found)
}

fn string(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(&(text.len() as u64).to_le_bytes());
    into.extend_from_slice(text.as_bytes());
}

/// Reads a head from its beginning on.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).context("the head ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(4)?.try_into()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(8)?.try_into()?))
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.u64()?)?;
        self.bytes(length)
    }

    fn skip(&mut self, kind: u32) -> Result<()> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            STRING => return self.string().map(|_| ()),
            ARRAY => {
                let element = self.u32()?;
                for _ in 0..self.u64()? {
                    self.skip(element)?;
                }
                return Ok(());
            }
            other => bail!("the head has a value of type {other}"),
        };
        self.bytes(width).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_tokenizer_and_extends_the_vocabulary() {
        let demo = std::fs::read(crate::run::root().join("demo-model/mms-demo.gguf")).expect("the built-in model");
        let taken = vocabulary(&demo, 4000).expect("a tokenizer");
        assert_eq!(taken.real, 2048);
        let mut reader = Reader { rest: &taken.bytes };
        let mut keys = Vec::new();
        for _ in 0..taken.pairs {
            keys.push(String::from_utf8_lossy(reader.string().expect("a key")).into_owned());
            let kind = reader.u32().expect("a type");
            let mut array = Reader { rest: reader.rest };
            reader.skip(kind).expect("a value");
            if keys.last().is_some_and(|key| key.ends_with("tokens") || key.ends_with("token_type")) {
                array.u32().expect("a type");
                assert_eq!(array.u64().expect("a length"), 4000);
            }
        }
        assert!(reader.rest.is_empty());
        assert!(keys.iter().any(|key| key == "tokenizer.chat_template"), "{keys:?}");
        assert!(vocabulary(b"GGUF\x03", 10).is_err());
    }
}
