//! Bytes of the header, one after the other, with the position for error texts and the file's length as a bound on every count.

use std::io::{ErrorKind, Read};

use super::GgufError;

pub(super) struct Reader<R> {
    source: R,
    at: u64,
    end: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(source: R, file_bytes: u64) -> Self {
        Self { source, at: 0, end: file_bytes }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that the file still has.
    pub(super) fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Magic and version.
    pub(super) fn preamble(&mut self) -> Result<u32, GgufError> {
        if self.end == 0 {
            return Err(GgufError::Empty);
        }
        let mut magic = [0_u8; 4];
        let mut have = 0;
        while have < magic.len() {
            match self.source.read(&mut magic[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(GgufError::io(error)),
            }
        }
        self.at = have as u64;
        let begun = &magic[..have];
        if begun != &b"GGUF"[..have] {
            return Err(GgufError::NotGguf { begins: shown(begun) });
        }
        if have < magic.len() {
            return Err(self.truncated("the magic number"));
        }
        let version = self.u32("the version")?;
        match version {
            2 | 3 => Ok(version),
            // Small numbers with their bytes in the other order.
            _ if version.swap_bytes() <= 0xffff && version > 0xffff => Err(GgufError::BigEndian),
            _ => Err(GgufError::Version { version }),
        }
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// A string of at most `limit` bytes.
    pub(super) fn string(&mut self, what: &str, limit: u64) -> Result<String, GgufError> {
        let start = self.at;
        let length = self.u64(what)?;
        if length > limit {
            return Err(GgufError::StringTooLong { what: what.to_owned(), length, limit, at: start });
        }
        if length > self.left() {
            return Err(self.truncated(what));
        }
        // At most `limit` bytes, and no more than the file has.
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes).map_err(|_| GgufError::NotUtf8 { what: what.to_owned(), at: start })
    }

    /// Passes over a string, whatever its bytes are.
    pub(super) fn skip_string(&mut self, what: &str) -> Result<(), GgufError> {
        let length = self.u64(what)?;
        self.skip(length, what)
    }

    /// Passes over bytes without keeping them.
    pub(super) fn skip(&mut self, count: u64, what: &str) -> Result<(), GgufError> {
        if count > self.left() {
            return Err(self.truncated(what));
        }
        let mut left = count;
        let mut scratch = [0_u8; 4096];
        while left > 0 {
            let step = left.min(scratch.len() as u64) as usize;
            self.fill(&mut scratch[..step], what)?;
            left -= step as u64;
        }
        Ok(())
    }

    /// A count whose items take at least `least` bytes each: never more than the rest of the file can hold.
    pub(super) fn check_count(&self, what: &str, count: u64, least: u64) -> Result<(), GgufError> {
        match count.checked_mul(least) {
            Some(bytes) if bytes <= self.left() => Ok(()),
            // Plausible for a file that was cut off, impossible otherwise.
            Some(_) if count <= 1 << 20 => Err(self.truncated(what)),
            Some(_) | None => Err(GgufError::Count { what: what.to_owned(), count, at: self.at }),
        }
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), GgufError> {
        match self.source.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.truncated(what)),
            Err(error) => Err(GgufError::io(error)),
        }
    }

    fn truncated(&self, what: &str) -> GgufError {
        GgufError::HeaderTruncated { at: self.end, what: what.to_owned() }
    }
}

/// First bytes of something that is not a GGUF file, readable.
fn shown(bytes: &[u8]) -> String {
    let text: String =
        bytes.iter().map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '.' }).collect();
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{text}\" ({})", hex.join(" "))
}
