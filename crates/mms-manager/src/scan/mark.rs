//! Telling a file that was written to from one whose time alone is another: a copy that kept the length, a backup or a `touch` look
//! the same from outside. Whole files of many gigabytes cannot be read for that, so a mark is made of the beginning, where a GGUF
//! file has its metadata, and of blocks spread over the rest.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const HEAD: u64 = 256 * 1024;
const BLOCK: u64 = 4096;
const BLOCKS: u64 = 16;

/// The mark of a file of `length` bytes.
pub(super) fn mark(path: &Path, length: u64) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; HEAD as usize];
    let mut add = |from: u64, most: u64| -> io::Result<()> {
        let part = &mut buffer[..most.min(length.saturating_sub(from)) as usize];
        file.read_exact_at(part, from)?;
        part.hash(&mut hasher);
        Ok(())
    };
    add(0, HEAD)?;
    let rest = length.saturating_sub(HEAD);
    let last = rest.saturating_sub(BLOCK);
    for n in 0..BLOCKS {
        // The last block is the end of the file.
        add(HEAD + (u128::from(last) * u128::from(n) / u128::from(BLOCKS - 1)) as u64, BLOCK)?;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{BLOCK, HEAD, mark};

    #[test]
    fn marks_differ_where_the_content_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, HEAD - 1, HEAD, HEAD + 1, HEAD + BLOCK, HEAD + 16 * BLOCK, 2 << 20] {
            let mut bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            let first = mark(&path, length).unwrap();
            assert_eq!(mark(&path, length).unwrap(), first);
            for at in [0, length / 3, length.saturating_sub(1)] {
                // Between the blocks of a long file nothing is looked at.
                if at < length && (at < HEAD || at + BLOCK >= length) {
                    bytes[at as usize] ^= 1;
                    fs::write(&path, &bytes).unwrap();
                    assert_ne!(mark(&path, length).unwrap(), first, "{at} of {length}");
                    bytes[at as usize] ^= 1;
                }
            }
        }
        assert!(mark(&path, 3 << 20).is_err(), "it is shorter than that");
    }
}
