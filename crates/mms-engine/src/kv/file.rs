//! The form of a saved state in a file, and what is not believed about one.
//!
//! ```text
//! 0    magic            8 bytes
//! 8    version          u32, little-endian like all numbers
//! 12   fingerprint      u32: its length, at most 4096
//! 16   tokens           u32: how many
//! 20   cut from         u32: tokens to which it can be cut at least
//! 24   payload          u64: its length
//! 32   payload's hash   u64, XXH3
//! 40   fingerprint, tokens (i32 each), u64: hash of everything before it, payload
//! ```
//!
//! The lengths must add up to the length of the file before anything of such a size is allocated.

use std::io::{self, Read};

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"MMSKV\r\n\x1a";
/// Raised with every change of the form.
const VERSION: u32 = 1;
const FIXED: usize = 40;
const MOST_FINGERPRINT: usize = 4096;

/// What stands before a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) tokens: Vec<i32>,
    pub(super) cut_from: usize,
    pub(super) payload_bytes: usize,
    payload_hash: u64,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// It may be whole all the same.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Broken(&'static str),
    #[error("it belongs to another model, to other settings or to another version")]
    Foreign,
}

/// The bytes before the payload.
pub(super) fn head(fingerprint: &str, tokens: &[i32], cut_from: usize, payload: &[u8]) -> io::Result<Vec<u8>> {
    let fits = |n: usize| u32::try_from(n).map_err(|_| io::Error::other("it is too long for a file"));
    let mut head = Vec::with_capacity(FIXED + fingerprint.len() + 4 * tokens.len() + 8);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(fits(fingerprint.len().min(MOST_FINGERPRINT))?.to_le_bytes());
    head.extend(fits(tokens.len())?.to_le_bytes());
    head.extend(fits(cut_from)?.to_le_bytes());
    head.extend((payload.len() as u64).to_le_bytes());
    head.extend(xxh3_64(payload).to_le_bytes());
    head.extend(&fingerprint.as_bytes()[..fingerprint.len().min(MOST_FINGERPRINT)]);
    tokens.iter().for_each(|token| head.extend(token.to_le_bytes()));
    let hash = xxh3_64(&head);
    head.extend(hash.to_le_bytes());
    Ok(head)
}

/// Reads what stands before the payload, of a file of `length` bytes that should have this fingerprint.
pub(super) fn read_head(file: &mut impl Read, length: u64, fingerprint: &str) -> Result<Head, Unusable> {
    if length < FIXED as u64 + 8 {
        return Err(Unusable::Broken("it ends within its header"));
    }
    let mut head = vec![0; FIXED];
    file.read_exact(&mut head)?;
    if &head[..8] != MAGIC {
        return Err(Unusable::Broken("it is no saved state"));
    }
    if u32_at(&head, 8) != VERSION {
        return Err(Unusable::Foreign);
    }
    let [named, tokens, cut_from] = [12, 16, 20].map(|at| u32_at(&head, at) as usize);
    let (payload_bytes, payload_hash) = (u64_at(&head, 24), u64_at(&head, 32));
    let rest = named as u64 + 4 * tokens as u64 + 8;
    if named > MOST_FINGERPRINT || Some(length) != (FIXED as u64 + rest).checked_add(payload_bytes) {
        return Err(Unusable::Broken("its length is not what its header says"));
    }
    let too_large = |_| Unusable::Broken("it is larger than memory can be");
    head.resize(FIXED + usize::try_from(rest).map_err(too_large)?, 0);
    file.read_exact(&mut head[FIXED..])?;
    let (said, hash) = head.split_at(head.len() - 8);
    if u64_at(hash, 0) != xxh3_64(said) {
        return Err(Unusable::Broken("its header is damaged"));
    }
    let (name, ids) = said[FIXED..].split_at(named);
    if name != fingerprint.as_bytes() {
        return Err(Unusable::Foreign);
    }
    if tokens == 0 || cut_from > tokens {
        return Err(Unusable::Broken("its header contradicts itself"));
    }
    let tokens = ids.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect();
    let payload_bytes = usize::try_from(payload_bytes).map_err(too_large)?;
    Ok(Head { tokens, cut_from, payload_bytes, payload_hash })
}

/// Reads the payload behind the head.
pub(super) fn read_payload(file: &mut impl Read, head: &Head) -> Result<Vec<u8>, Unusable> {
    let mut payload = Vec::with_capacity(head.payload_bytes);
    file.take(head.payload_bytes as u64).read_to_end(&mut payload)?;
    if payload.len() != head.payload_bytes || xxh3_64(&payload) != head.payload_hash {
        return Err(Unusable::Broken("its payload is damaged"));
    }
    Ok(payload)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Head, Unusable, head, read_head, read_payload};

    fn bytes(tokens: &[i32], cut_from: usize, payload: &[u8]) -> Vec<u8> {
        [head("a model", tokens, cut_from, payload).expect("short"), payload.to_vec()].concat()
    }

    fn read(file: &[u8], fingerprint: &str) -> Result<(Head, Vec<u8>), Unusable> {
        let mut rest = file;
        let head = read_head(&mut rest, file.len() as u64, fingerprint)?;
        let payload = read_payload(&mut rest, &head)?;
        Ok((head, payload))
    }

    #[test]
    fn what_belongs_to_another_model_is_told() {
        let file = bytes(&[1, 2, 3], 2, b"payload");
        let (head, payload) = read(&file, "a model").expect("whole");
        assert_eq!((head.tokens, head.cut_from, payload), (vec![1, 2, 3], 2, b"payload".to_vec()));
        assert!(matches!(read(&file, "another one"), Err(Unusable::Foreign)));
        let mut newer = file;
        newer[8] += 1;
        assert!(matches!(read(&newer, "a model"), Err(Unusable::Foreign)));
        assert!(matches!(read(&bytes(&[], 0, b""), "a model"), Err(Unusable::Broken(_))));
        assert!(matches!(read(&bytes(&[1], 2, b""), "a model"), Err(Unusable::Broken(_))));
    }

    #[test]
    fn announced_lengths_are_not_allocated() {
        let mut file = bytes(&[1, 2, 3], 0, b"payload");
        for at in [12, 16, 24] {
            let before = file.clone();
            file[at..at + 4].copy_from_slice(&[0xff; 4]);
            assert!(matches!(read(&file, "a model"), Err(Unusable::Broken(_))), "{at}");
            file = before;
        }
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_never_taken(
            tokens in proptest::collection::vec(any::<i32>(), 1..40),
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
            cut in any::<proptest::sample::Index>(),
            more in proptest::collection::vec(any::<u8>(), 1..9),
        ) {
            let whole = bytes(&tokens, 0, &payload);
            prop_assert!(read(&whole, "a model").is_ok());
            let mut damaged = whole.clone();
            damaged[at.index(whole.len())] ^= 1 << bit;
            prop_assert!(read(&damaged, "a model").is_err());
            prop_assert!(read(&whole[..cut.index(whole.len())], "a model").is_err());
            prop_assert!(read(&[whole.as_slice(), &more].concat(), "a model").is_err());
        }

        #[test]
        fn anything_else_is_refused(file in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&file, "a model").is_err());
        }
    }
}
