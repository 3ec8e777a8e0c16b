//! The folder with its bounds, what strangers put there, and what killed writers leave.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mms_protocol::worker::KvStoreSpec;

use super::{Folder, Name};
use crate::kv::file::Unusable;

fn spec(path: &Path) -> KvStoreSpec {
    KvStoreSpec {
        folder: path.to_str().expect("UTF-8").to_owned(),
        max_mb: 1,
        max_states: 3,
        max_age_s: 3600,
        fingerprint: String::new(),
        save_within_ms: 0,
    }
}

fn open(path: &Path, model: &str) -> Folder {
    Folder::open(&spec(path), model.to_owned()).expect("a folder")
}

/// A state of one token.
fn write(folder: &Folder, token: i32, bytes: usize) -> Name {
    folder.write(&[token], 0, &vec![7; bytes], None).expect("written")
}

fn tokens(folder: &Folder) -> Vec<i32> {
    folder.index().expect("a folder").iter().map(|stored| stored.head.tokens[0]).collect()
}

fn files(path: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("a file").file_name().into_string().expect("UTF-8");
    let mut names: Vec<String> = fs::read_dir(path).expect("a folder").map(name).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

fn set_age(path: &Path, name: &str, seconds: u64) {
    let at = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(path.join(name)).expect("a file").set_modified(at).expect("its time");
}

#[test]
fn states_come_back_and_are_nobody_else_s() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("below/kv");
    let folder = open(&path, "a model");
    let name = write(&folder, 5, 1000);
    assert_eq!(folder.read(&name).expect("there"), vec![7; 1000]);
    assert_eq!(tokens(&open(&path, "a model")), [5]);
    assert!(tokens(&open(&path, "another")).is_empty());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join(&name)), mode(&path.join("lock"))), (0o700, 0o600, 0o600));
    assert_eq!(files(&path), [name.as_str()], "nothing else stays");
    // Somebody else has removed it.
    folder.remove(&name);
    assert!(matches!(folder.read(&name), Err(Unusable::Io(_))));
}

#[test]
fn bounds_hold_over_all_models_and_the_oldest_use_goes_first() {
    let root = tempfile::tempdir().expect("a folder");
    let (one, other) = (open(root.path(), "one"), open(root.path(), "other"));
    let names = [write(&one, 1, 300 << 10), write(&other, 2, 300 << 10), write(&one, 3, 300 << 10)];
    for (name, age) in names.iter().zip([30, 20, 10]) {
        set_age(root.path(), name, age);
    }
    // Used now, so the other model's goes.
    one.read(&names[0]).expect("there");
    write(&other, 4, 300 << 10);
    assert_eq!((tokens(&one), tokens(&other)), (vec![3, 1], vec![4]));
    // Too many, and too old.
    write(&one, 5, 10);
    assert_eq!((tokens(&one), tokens(&other)), (vec![1, 5], vec![4]));
    set_age(root.path(), &names[0], 3601);
    assert_eq!(tokens(&one), [5]);
    // Larger than all together may be.
    assert!(one.write(&[6], 0, &vec![0; 1 << 20], None).is_err());
    assert_eq!((tokens(&one), tokens(&other)), (vec![5], vec![4]));
}

#[test]
fn what_is_broken_or_foreign_is_removed_and_what_is_not_ours_stays() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = open(root.path(), "a model");
    let whole = write(&folder, 1, 1000);
    let bytes = fs::read(root.path().join(&whole)).expect("there");
    let named = |n: u64| format!("{}{n:016x}.kv", &whole[..17]);
    let put = |n: u64, bytes: &[u8]| fs::write(root.path().join(named(n)), bytes).expect("a file");
    put(1, &bytes[..bytes.len() - 1]);
    fs::remove_file(root.path().join(&whole)).expect("there");
    assert!(tokens(&folder).is_empty() && files(root.path()).is_empty());
    let mut damaged = bytes.clone();
    damaged[12] ^= 1;
    put(2, &damaged);
    put(3, b"something else");
    // Of another model under a name of this one.
    let stranger = write(&open(root.path(), "another"), 1, 10);
    fs::rename(root.path().join(stranger), root.path().join(named(4))).expect("renamed");
    for ours_not in ["notes.txt", "0123-4567.kv", "lock.kv"] {
        fs::write(root.path().join(ours_not), "mine").expect("a file");
    }
    assert!(tokens(&folder).is_empty());
    assert_eq!(files(root.path()), ["0123-4567.kv", "lock.kv", "notes.txt"]);
    // A damaged payload is found when it is read.
    let mut damaged = bytes;
    *damaged.last_mut().expect("bytes") ^= 1;
    put(5, &damaged);
    assert_eq!(tokens(&folder), [1]);
    assert!(matches!(folder.read(&named(5)), Err(Unusable::Broken(_))));
    assert!(tokens(&folder).is_empty());
    // Larger than anything may be.
    File::create(root.path().join(named(6))).expect("a file").set_len(1 << 40).expect("sparse");
    assert!(tokens(&folder).is_empty());
    assert_eq!(files(root.path()).len(), 3);
}

#[test]
fn what_is_being_written_counts_and_what_a_killed_writer_left_goes() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = open(root.path(), "a model");
    let whole = write(&folder, 1, 1000);
    let beside = root.path().join(format!("{whole}.1234.new"));
    let running = folder.reserve(&beside, 900 << 10).expect("room");
    assert!(folder.write(&[2], 0, &vec![0; 300 << 10], None).is_err(), "the other one has taken the room");
    assert!(beside.exists());
    drop(running);
    let name = write(&folder, 3, 300 << 10);
    assert_eq!(files(root.path()), [name]);
}

#[test]
fn a_folder_that_cannot_be_is_an_error() {
    let root = tempfile::tempdir().expect("a folder");
    let taken = root.path().join("a file");
    fs::write(&taken, "").expect("a file");
    assert!(Folder::open(&spec(&taken), String::new()).and_then(|folder| folder.index()).is_err());
    assert!(Folder::open(&spec(&taken.join("below")), String::new()).is_err());
    let folder = open(&root.path().join("kv"), "a model");
    fs::remove_dir_all(root.path().join("kv")).expect("there");
    assert!(folder.write(&[1], 0, b"", None).is_err());
}
