//! Tests of the scan over real folders, and through it of how files and settings become a catalogue.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mms_protocol::worker::EngineSettings;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Scanner, run};
use crate::catalogue::{
    BuiltinModel, Catalogue, CatalogueConfig, IdleUnload, ModelConfig, ModelEntry, Origin, Priority,
};
use crate::gguf::builder::{Builder, Meta};

struct Disk {
    root: TempDir,
    config: CatalogueConfig,
}

impl Disk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("models")).unwrap();
        let config = CatalogueConfig { folders: vec![root.path().join("models")], ..CatalogueConfig::default() };
        Self { root, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file that nobody has touched for an hour.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.age(&path, 3600);
        path
    }

    fn age(&self, path: &Path, seconds: u64) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    fn model(&self, name: &str) -> PathBuf {
        self.write(name, &Builder::llama().file())
    }

    fn part(&self, name: &str, no: u16, count: u16) {
        let builder = Builder::llama().key("split.no", Meta::U16(no)).key("split.count", Meta::U16(count));
        let builder = if no == 0 { builder } else { builder.without("general.architecture") };
        self.write(name, &builder.file());
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(self.config.clone(), EngineSettings::default())
    }

    fn look(&self) -> Arc<Catalogue> {
        self.scanner().look(SystemTime::now()).expect("a first look always finds a catalogue")
    }
}

fn ids(catalogue: &Catalogue) -> Vec<&str> {
    catalogue.entries().iter().map(|entry| entry.id.as_str()).collect()
}

fn get<'a>(catalogue: &'a Catalogue, name: &str) -> &'a ModelEntry {
    catalogue.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", ids(catalogue)))
}

fn fault<'a>(catalogue: &'a Catalogue, name: &str) -> &'a str {
    get(catalogue, name).broken.as_deref().unwrap_or_else(|| panic!("{name} is not broken"))
}

#[test]
fn files_become_models() {
    let disk = Disk::new();
    let path = disk.model("models/Small-Q4.gguf");
    disk.model("models/deep/er/other.GGUF");
    for ignored in [".hidden.gguf", "a.gguf.part", "b.gguf.tmp", "notes.txt", ".folder/c.gguf"] {
        disk.model(&format!("models/{ignored}"));
    }
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["Small-Q4", "deep/er/other"]);
    assert_eq!(catalogue.warnings(), [] as [&str; 0]);
    let small = get(&catalogue, "Small-Q4");
    assert_eq!((&small.path, &small.broken, small.origin), (&path, &None, Origin::Folder));
    assert_eq!(small.capabilities, ["text_generation", "chat"]);
    assert_eq!((small.file_bytes, &small.files), (fs::metadata(&path).unwrap().len(), &vec![path.clone()]));
}

#[test]
fn an_id_does_not_depend_on_the_other_files() {
    let mut disk = Disk::new();
    disk.config.folders.push(disk.path("more"));
    disk.model("models/b/m.gguf");
    disk.model("more/only.gguf");
    assert_eq!(ids(&disk.look()), ["b/m", "only"]);
    disk.model("models/a/m.gguf");
    assert_eq!(ids(&disk.look()), ["a/m", "b/m", "only"]);
    disk.model("models/m.gguf");
    disk.model("more/m.gguf");
    disk.model("more/x/m.gguf");
    assert_eq!(ids(&disk.look()), ["a/m", "b/m", "m", "more/m", "only", "x/m"]);
}

#[test]
fn a_table_names_the_only_file_of_its_name() {
    let mut disk = Disk::new();
    disk.model("models/a/m.gguf");
    disk.model("models/a/other.gguf");
    let table = |id: &str| ModelConfig { id: id.to_owned(), pinned: true, ..ModelConfig::default() };
    disk.config.models = vec![table("m"), table("a/other")];
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["a/other", "m"]);
    assert!(get(&catalogue, "m").pinned && get(&catalogue, "a/other").pinned);
    disk.model("models/b/m.gguf");
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["a/m", "a/other", "b/m", "m"]);
    assert_eq!(fault(&catalogue, "m"), "several files have that name (a/m, b/m), and no path is configured");
}

#[test]
fn broken_files_are_listed_with_the_reason_and_disturb_nothing() {
    let disk = Disk::new();
    disk.model("models/good.gguf");
    let file = Builder::llama().file();
    disk.write("models/half.gguf", &file[..file.len() - 100]);
    disk.write("models/page.gguf", b"<html>404</html>");
    disk.write("models/nothing.gguf", b"");
    disk.write("models/vocabulary.gguf", &Builder { tensors: Vec::new(), ..Builder::llama() }.file());
    disk.write("models/nameless.gguf", &Builder::llama().without("general.architecture").file());
    disk.write("models/projector.gguf", &Builder::llama().key("general.architecture", "clip").file());
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["good", "half", "nameless", "nothing", "page", "vocabulary"]);
    assert!(get(&catalogue, "good").broken.is_none());
    let expect = format!("half-copied: its tensors need {} bytes, the file has {}", file.len(), file.len() - 100);
    assert_eq!(fault(&catalogue, "half"), expect);
    assert_eq!(fault(&catalogue, "page"), "not a GGUF file: it begins with \"<htm\" (3c 68 74 6d)");
    assert_eq!(fault(&catalogue, "nothing"), "the file is empty");
    assert_eq!(fault(&catalogue, "vocabulary"), "it has no tensors, only a header");
    assert!(fault(&catalogue, "nameless").contains("general.architecture"));
    assert_eq!(catalogue.warnings().len(), 1);
    assert!(
        catalogue.warnings()[0]
            .ends_with("projector.gguf is a vision or audio projector, not a language model; not listed")
    );
}

#[test]
fn a_split_model_is_one_model() {
    let disk = Disk::new();
    for no in 0..3 {
        disk.part(&format!("models/big-0000{}-of-00003.gguf", no + 1), no, 3);
    }
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["big"]);
    let big = get(&catalogue, "big");
    assert_eq!((&big.broken, big.files.len()), (&None, 3));
    assert_eq!(big.path, disk.path("models/big-00001-of-00003.gguf"));
    let header = big.header.as_ref().unwrap();
    assert_eq!((header.tensor_count, header.parameters), (9, 3 * 1280));
    assert_eq!(header.file_bytes, big.file_bytes);
}

#[test]
fn parts_that_are_missing_broken_or_mixed_up_are_named() {
    let disk = Disk::new();
    disk.part("models/gap-00001-of-00003.gguf", 0, 3);
    disk.part("models/mix-00001-of-00002.gguf", 0, 2);
    disk.part("models/mix-00002-of-00002.gguf", 0, 2);
    disk.part("models/cut-00001-of-00002.gguf", 0, 2);
    disk.write("models/cut-00002-of-00002.gguf", b"GGUF");
    disk.part("models/renamed.gguf", 1, 2);
    disk.model("models/one-00001-of-00001.gguf");
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["cut", "gap", "mix", "one", "renamed"]);
    let missing = "2 of 3 parts missing: gap-00002-of-00003.gguf, gap-00003-of-00003.gguf";
    assert_eq!(fault(&catalogue, "gap"), missing);
    assert_eq!(fault(&catalogue, "mix"), "mix-00002-of-00002.gguf says that it is part 1 of 2");
    assert!(fault(&catalogue, "cut").starts_with("cut-00002-of-00002.gguf: the header is cut off"));
    assert!(fault(&catalogue, "renamed").ends_with("-00002-of-00002.gguf"));
    assert_eq!(get(&catalogue, "one").broken, None);
}

#[test]
fn settings_of_the_configuration_are_merged() {
    let mut disk = Disk::new();
    disk.model("models/found.gguf");
    let elsewhere = disk.model("elsewhere/far.gguf");
    disk.model("models/sub/relative.gguf");
    disk.model("builtin/demo-1234.gguf");
    let model = |id: &str, path: Option<&str>| ModelConfig {
        id: id.to_owned(),
        path: path.map(PathBuf::from),
        ..ModelConfig::default()
    };
    disk.config.builtin = vec![BuiltinModel { id: "mms-demo".to_owned(), path: disk.path("builtin/demo-1234.gguf") }];
    disk.config.models = vec![
        ModelConfig {
            slots: Some(2),
            aliases: vec!["fast".to_owned()],
            idle_unload_s: Some(0),
            pinned: true,
            priority: Priority::High,
            ..model("found", None)
        },
        ModelConfig { aliases: vec!["fast".to_owned(), "far-alias".to_owned()], ..model("far", elsewhere.to_str()) },
        model("renamed", Some("sub/relative.gguf")),
        ModelConfig { idle_unload_s: Some(60), ..model("mms-demo", None) },
        model("nowhere", None),
        model("lost", Some("/no/such/file.gguf")),
        model("far", Some("sub/relative.gguf")),
    ];
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["far", "found", "lost", "mms-demo", "nowhere", "renamed"]);
    let found = get(&catalogue, "found");
    assert_eq!((found.settings.slots, found.idle_unload, found.pinned), (2, Some(IdleUnload::Never), true));
    assert_eq!((found.priority, found.origin), (Priority::High, Origin::Folder));
    assert_eq!(get(&catalogue, "far-alias").id, "far");
    assert_eq!(get(&catalogue, "renamed").path, disk.path("models/sub/relative.gguf"));
    let demo = get(&catalogue, "mms-demo");
    assert_eq!(demo.idle_unload, Some(IdleUnload::After(Duration::from_secs(60))));
    assert!(demo.is_builtin() && demo.broken.is_none());
    assert_eq!(fault(&catalogue, "nowhere"), "no file nowhere.gguf in the models folders, and no path is configured");
    assert_eq!(fault(&catalogue, "lost"), "no such file: /no/such/file.gguf");
    assert_eq!(
        catalogue.warnings(),
        ["model far: configured twice; the first entry stands", "model found: the alias fast already belongs to far"]
    );
}

#[test]
fn links_never_lead_out_of_the_models_folders() {
    let disk = Disk::new();
    disk.model("models/real.gguf");
    disk.model("outside/secret.gguf");
    symlink(disk.path("models/real.gguf"), disk.path("models/again.gguf")).unwrap();
    symlink(disk.path("outside/secret.gguf"), disk.path("models/stolen.gguf")).unwrap();
    symlink(disk.path("outside"), disk.path("models/folder")).unwrap();
    symlink(disk.path("models"), disk.path("models/loop")).unwrap();
    symlink(disk.path("gone.gguf"), disk.path("models/dangling.gguf")).unwrap();
    disk.model("models/.blobs/0123.gguf");
    symlink(disk.path("models/.blobs/0123.gguf"), disk.path("models/blob.gguf")).unwrap();
    let catalogue = disk.look();
    assert_eq!(ids(&catalogue), ["blob", "real"], "a second name of a file is not a second model");
    assert_eq!(catalogue.warnings().len(), 2, "{:?}", catalogue.warnings());
    assert!(catalogue.warnings()[0].contains("is a link out of the models folders"));
    assert!(catalogue.warnings()[1].contains("dangling.gguf leads nowhere"));
}

#[test]
fn limits_and_unreadable_folders_are_told() {
    let mut disk = Disk::new();
    for n in 0..5 {
        disk.model(&format!("models/m{n}.gguf"));
    }
    disk.model("models/1/2/3/deep.gguf");
    disk.config.folders.push(disk.path("absent"));
    disk.config.max_files = 3;
    disk.config.max_depth = 2;
    let catalogue = disk.look();
    assert_eq!(catalogue.entries().len(), 3);
    let said = catalogue.warnings().join("\n");
    assert!(said.contains("cannot read the models folder") && said.contains("/absent: "), "{said}");
    assert!(said.contains("more than 3 GGUF files"), "{said}");
    assert!(said.contains("models/1/2/3 is deeper than 2 folders"), "{said}");
}

#[test]
fn a_missing_folder_is_a_mistake_only_where_somebody_configured_it() {
    let mut disk = Disk::new();
    disk.config.folders = vec![disk.path("absent")];
    assert_eq!(disk.look().warnings().len(), 1);
    disk.config.folders_are_default = true;
    assert_eq!(disk.look().warnings(), [] as [&str; 0]);
    disk.model("absent/late.gguf");
    assert_eq!(ids(&disk.look()), ["late"]);
}

#[test]
fn a_file_appears_changes_and_goes() {
    let disk = Disk::new();
    let mut scanner = disk.scanner();
    let now = SystemTime::now();
    let first = scanner.look(now).unwrap();
    assert!(first.entries().is_empty());
    assert!(scanner.look(now).is_none());

    let path = disk.model("models/a.gguf");
    let second = scanner.look(now).unwrap();
    assert_eq!(first.changes_to(&second).added, ["a"]);
    assert!(scanner.look(now).is_none());

    // Replaced by another file, as careful programs do it: whole at once.
    disk.write("models/a.tmp", &Builder::llama().key("general.name", "New").file());
    fs::rename(disk.path("models/a.tmp"), &path).unwrap();
    let third = scanner.look(now).unwrap();
    assert_eq!(second.changes_to(&third).changed, ["a"]);
    let entry = get(&third, "a");
    assert_eq!((entry.header.as_ref().unwrap().name.as_deref(), &entry.broken), (Some("New"), &None));
    assert_ne!(entry.fingerprint, get(&second, "a").fingerprint);

    fs::remove_file(&path).unwrap();
    let fourth = scanner.look(now).unwrap();
    assert_eq!(third.changes_to(&fourth).removed, ["a"]);
    assert!(scanner.look(now).is_none());
}

#[test]
fn a_file_that_is_being_copied_is_broken_until_it_is_whole() {
    let disk = Disk::new();
    let mut scanner = disk.scanner();
    let file = Builder::llama().file();
    let path = disk.path("models/a.gguf");
    let now = SystemTime::now();
    let mut look = |length: usize| {
        fs::write(&path, &file[..length]).unwrap();
        scanner.look(now).map(|catalogue| get(&catalogue, "a").broken.clone())
    };
    assert_eq!(look(10), Some(Some("still being written: 10 bytes so far".to_owned())));
    let so_far = format!("still being written: {} of {} bytes so far", file.len() - 1, file.len());
    assert_eq!(look(file.len() - 1), Some(Some(so_far)));
    let whole = format!("still being written: {0} of {0} bytes so far", file.len());
    assert_eq!(look(file.len()), Some(Some(whole)), "it has just grown");
    // The next look finds it at rest.
    let rested = scanner.look(now).unwrap();
    assert_eq!(get(&rested, "a").broken, None);

    // One that nobody goes on with is half-copied in the end.
    fs::write(&path, &file[..file.len() - 1]).unwrap();
    assert!(scanner.look(now).unwrap().get("a").unwrap().broken.as_ref().unwrap().starts_with("still being"));
    let later = scanner.look(now + Duration::from_secs(60)).unwrap();
    assert!(fault(&later, "a").starts_with("half-copied"));
}

#[test]
fn another_time_alone_is_no_change() {
    let disk = Disk::new();
    let path = disk.model("models/a.gguf");
    let half = disk.write("models/half.gguf", &Builder::llama().file()[..200]);
    let mut scanner = disk.scanner();
    let now = SystemTime::now();
    let first = scanner.look(now).unwrap();
    disk.age(&path, 0);
    disk.age(&half, 1800);
    assert!(scanner.look(now).is_none());
    disk.age(&path, 1800);
    assert!(scanner.look(now).is_none());
    // Other content of the same length is one.
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let second = scanner.look(now).unwrap();
    assert!(get(&second, "a").writing && fault(&second, "a").starts_with("still being written"));
    let third = scanner.look(now).unwrap();
    assert!(!get(&third, "a").writing);
    assert_ne!(get(&third, "a").fingerprint, get(&first, "a").fingerprint);
}

#[test]
fn a_file_that_was_made_at_full_length_first_is_not_taken_for_touched() {
    let disk = Disk::new();
    let path = disk.model("models/a.gguf");
    disk.age(&path, 2);
    let mut scanner = disk.scanner();
    let now = SystemTime::now();
    scanner.look(now).unwrap();
    disk.age(&path, 1);
    assert!(get(&scanner.look(now).unwrap(), "a").writing, "it is written to again and again");
    assert!(!get(&scanner.look(now).unwrap(), "a").writing);
}

#[test]
fn headers_of_unchanged_files_are_not_read_again() {
    let disk = Disk::new();
    for n in 0..50 {
        disk.model(&format!("models/{n}.gguf"));
    }
    let mut scanner = disk.scanner();
    let now = SystemTime::now();
    let first = scanner.look(now).unwrap();
    // A change that leaves length, time and inode as they were is not looked for.
    let path = disk.path("models/7.gguf");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"XXXX", 0).unwrap();
    file.set_modified(modified).unwrap();
    assert!(scanner.look(now).is_none());
    disk.age(&path, 1800);
    assert!(scanner.look(now).is_some(), "its time has changed, so it was read");
    let second = scanner.look(now).unwrap();
    assert!(fault(&second, "7").starts_with("not a GGUF file"));
    let unchanged = (get(&first, "8").header.as_ref().unwrap(), get(&second, "8").header.as_ref().unwrap());
    assert!(Arc::ptr_eq(unchanged.0, unchanged.1));
}

#[tokio::test]
async fn the_background_scan_sends_what_is_new() {
    let mut disk = Disk::new();
    disk.config.scan_interval = Duration::from_secs(3600);
    let mut scanner = disk.scanner();
    let first = scanner.look(SystemTime::now()).unwrap();
    let (sender, mut catalogues) = watch::channel(first);
    let (nudge, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let task = tokio::spawn(run(scanner, sender, Arc::clone(&nudge), stop.clone()));
    disk.model("models/new.gguf");
    nudge.notify_one();
    catalogues.changed().await.unwrap();
    assert_eq!(ids(&catalogues.borrow_and_update()), ["new"]);
    stop.cancel();
    task.await.unwrap();
}
