//! Names of files and what they say: the parts of split models, and files that are none of the catalogue's business.

use std::path::Path;

/// A file name of the form `NAME-00001-of-00003.gguf`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    /// The name of the whole model.
    pub base: String,
    /// From 1.
    pub no: u32,
    /// Parts in all, at least 1.
    pub count: u32,
}

/// Most parts that a split model may have.
const MAX_PARTS: u32 = 1024;

/// Reads the name of a part; `None` for any other name.
pub fn part_name(file_name: &str) -> Option<PartName> {
    let stem = stem(file_name)?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (base, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let five = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        five.then(|| digits.parse::<u32>().ok()).flatten()
    };
    let (no, count) = (number(no)?, number(count)?);
    let sensible = !base.is_empty() && (1..=count).contains(&no) && count <= MAX_PARTS;
    sensible.then(|| PartName { base: base.to_owned(), no, count })
}

/// The file name of one part of a split model.
pub fn part_file_name(base: &str, no: u32, count: u32) -> String {
    format!("{base}-{no:05}-of-{count:05}.gguf")
}

/// An id without the folders in front of it.
pub(crate) fn bare(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_folders, name)| name)
}

/// The name without `.gguf` (in any case); `None` when it has another ending or nothing before it.
pub(crate) fn stem(file_name: &str) -> Option<&str> {
    let split = file_name.len().checked_sub(".gguf".len())?;
    let (stem, ending) = (file_name.get(..split)?, file_name.get(split..)?);
    (ending.eq_ignore_ascii_case(".gguf") && !stem.is_empty()).then_some(stem)
}

/// Whether a file of this name is looked at: it ends in `.gguf` and is not hidden. Unfinished downloads end in `.part`, `.tmp`,
/// `.incomplete` or the like, so they are passed over until they get their name.
pub(crate) fn is_model_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| !name.starts_with('.') && stem(name).is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{PartName, is_model_file, part_file_name, part_name};

    #[test]
    fn parts_are_told_by_their_names() {
        let part = |base: &str, no, count| Some(PartName { base: base.to_owned(), no, count });
        assert_eq!(part_name("big-00001-of-00003.gguf"), part("big", 1, 3));
        assert_eq!(part_name("a-of-b-00003-of-00003.GGUF"), part("a-of-b", 3, 3));
        for other in [
            "big.gguf",
            "big-1-of-3.gguf",
            "big-00004-of-00003.gguf",
            "big-00000-of-00003.gguf",
            "-00001-of-00003.gguf",
            "big-00001-of-00003.bin",
            "big-+0001-of-00003.gguf",
            "big-00001-of-99999.gguf",
            "gguf",
            "",
        ] {
            assert_eq!(part_name(other), None, "{other}");
        }
        assert_eq!(part_file_name("big", 2, 3), "big-00002-of-00003.gguf");
    }

    #[test]
    fn only_finished_visible_files_are_models() {
        for name in ["a.gguf", "sub/a.GGUF", "ü-00001-of-00002.gguf"] {
            assert!(is_model_file(Path::new(name)), "{name}");
        }
        for name in [".a.gguf", ".gguf", "a.gguf.part", "a.gguf.tmp", "a.part", "a.bin", "gguf", "a/.gguf"] {
            assert!(!is_model_file(Path::new(name)), "{name}");
        }
    }
}
