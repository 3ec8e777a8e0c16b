//! The memory of this process as the kernel keeps it: pages of files that are there, and having pages there before somebody needs them.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Has all pages at these addresses in memory, and changes nothing of what is in them. Fails on kernels before 5.14, where nothing is
/// mapped, and where there is too little memory.
pub(super) fn populate(addresses: Range<usize>) -> io::Result<()> {
    // SAFETY: it only asks for a constant of the system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
    // The pages at both ends may be shared with others, who have them there already or will.
    let inner = addresses.start.next_multiple_of(page)..addresses.end / page * page;
    if inner.is_empty() {
        return Ok(());
    }
    // SAFETY: the advice changes no content, wherever it points.
    let result = unsafe { libc::madvise(inner.start as *mut libc::c_void, inner.len(), libc::MADV_POPULATE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of files' pages that are in memory and mapped here, without those of the files `except`, whose paths are absolute and have no
/// links.
pub(crate) fn file_bytes(except: &[PathBuf]) -> io::Result<u64> {
    Ok(of_files(&fs::read_to_string("/proc/self/smaps")?, except))
}

fn of_files(smaps: &str, except: &[PathBuf]) -> u64 {
    let mut kib = 0;
    let mut counts = false;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            let path = line.find('/').map(|start| line[start..].trim_end_matches(" (deleted)"));
            counts = path.is_some_and(|path| !except.iter().any(|other| other.to_str() == Some(path)));
        } else if counts {
            let figure = || line.split_whitespace().nth(1)?.parse::<u64>().ok();
            match first {
                "Rss:" => kib += figure().unwrap_or(0),
                // Pages of a file that were written here are the process's own.
                "Anonymous:" => kib -= figure().unwrap_or(0).min(kib),
                _ => {}
            }
        }
    }
    kib * 1024
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{file_bytes, of_files, populate};

    #[test]
    fn pages_of_files_without_those_of_the_model() {
        let smaps = "\
55aa0000-55ab0000 r-xp 00000000 fe:00 77                         /usr/bin/mms worker
Size:                 64 kB
Rss:                  40 kB
Anonymous:             8 kB
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
Rss:                 100 kB
Anonymous:           100 kB
7f1000000000-7f1000100000 r--s 00000000 fe:00 99                 /models/a.gguf (deleted)
Rss:                1000 kB
Anonymous:             0 kB
";
        let model = PathBuf::from("/models/a.gguf");
        assert_eq!(of_files(smaps, &[model]), 32 * 1024);
        assert_eq!(of_files(smaps, &[]), 1032 * 1024);
        assert!(file_bytes(&[]).expect("/proc") > 0);
    }

    #[test]
    fn memory_is_there_before_it_is_used() {
        const LENGTH: usize = 64 << 20;
        let mut block: Vec<u8> = Vec::with_capacity(LENGTH);
        let start = block.as_mut_ptr() as usize;
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a figure");
            line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).expect("a number") * 1024
        };
        let unused = resident();
        populate(start..start + LENGTH).expect("a kernel that can");
        assert!(resident() > unused + LENGTH * 9 / 10, "{} {unused}", resident());
        block.push(7);
        populate(start..start + LENGTH).expect("again");
        assert_eq!(block[0], 7);
        populate(start..start).expect("nothing to do");
        populate(0..1 << 20).expect_err("nothing is mapped there");
    }
}
