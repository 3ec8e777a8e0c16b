//! From what a scan saw to the catalogue: a plain function, so that every combination of files and settings can be tested without
//! a disk.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mms_protocol::worker::EngineSettings;

use super::naming::{PartName, bare, part_file_name, part_name, stem};
use super::{Catalogue, CatalogueConfig, ModelConfig, ModelEntry, Origin};
use crate::gguf::{GgufError, Header};

/// What a file's content is.
#[derive(Debug, Clone, PartialEq)]
pub enum FileState {
    /// A complete GGUF file.
    Whole(Arc<Header>),
    /// Its length or time changed since the last look, or it is incomplete and was written to a moment ago.
    Writing {
        /// Bytes it will need, when its header tells.
        needs: Option<u64>,
    },
    /// Not usable.
    Faulty(GgufError),
}

/// Tells a file from its replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Bytes.
    pub len: u64,
    /// Time of the last change, nanoseconds since 1970.
    pub modified_ns: i128,
    /// Device and inode: the same for every name of one file.
    pub identity: (u64, u64),
}

/// One file.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenFile {
    /// Where.
    pub path: PathBuf,
    /// Its place below a models folder; `None` for a file that only the configuration names.
    pub place: Option<Place>,
    /// What it looks like from outside.
    pub stamp: Stamp,
    /// Differs where the content does; see [`crate::scan`].
    pub mark: u64,
    /// What its content is.
    pub state: FileState,
}

/// Where below the models folders a file lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which models folder, as they are numbered in the configuration.
    pub root: usize,
    /// Subfolder; empty for the models folder itself.
    pub folder: PathBuf,
    /// A symbolic link to another file in the models folders.
    pub link: bool,
}

/// Everything a scan saw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Every GGUF file by its path.
    pub files: BTreeMap<PathBuf, SeenFile>,
    /// For each `[[model]]` table with a path: the file, or why there is none.
    pub located: Vec<Option<Result<PathBuf, String>>>,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// Makes the catalogue. `observed.located` has one item for each of `config.models`.
pub fn compose(config: &CatalogueConfig, engine: &EngineSettings, observed: &Observed) -> Catalogue {
    let mut build = Build { config, engine, observed, entries: Vec::new(), warnings: observed.warnings.clone() };
    let mut claimed = HashSet::new();
    build.configured(&mut claimed);
    build.builtin(&mut claimed);
    build.discovered(&claimed);
    build.unmatched();
    Catalogue::new(build.entries, build.warnings)
}

/// The files of one model: itself, or the parts of a split one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Single(PathBuf),
    Split(PathBuf, PartName),
}

impl Group {
    fn of(path: &Path) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(part_name);
        match (name, path.parent()) {
            (Some(part), Some(folder)) => Self::Split(folder.to_owned(), PartName { no: 1, ..part }),
            (Some(_), None) | (None, _) => Self::Single(path.to_owned()),
        }
    }

    /// All files it should have.
    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Single(path) => vec![path.clone()],
            Self::Split(folder, part) => {
                (1..=part.count).map(|no| folder.join(part_file_name(&part.base, no, part.count))).collect()
            }
        }
    }

    fn natural_id(&self) -> String {
        match self {
            Self::Single(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                stem(&name).unwrap_or(&name).to_owned()
            }
            Self::Split(_, part) => part.base.clone(),
        }
    }
}

struct Build<'a> {
    config: &'a CatalogueConfig,
    engine: &'a EngineSettings,
    observed: &'a Observed,
    entries: Vec<ModelEntry>,
    warnings: Vec<String>,
}

impl<'a> Build<'a> {
    /// Tables with a path.
    fn configured(&mut self, claimed: &mut HashSet<(u64, u64)>) {
        for (model, located) in self.config.models.iter().zip(&self.observed.located) {
            let Some(located) = located else { continue };
            let entry = match located {
                Ok(path) => {
                    let group = Group::of(path);
                    claimed.extend(self.identities(&group));
                    self.entry(&model.id, Origin::Config, &group)
                }
                Err(why) => missing(&model.id, model.path.clone().unwrap_or_default(), why.clone()),
            };
            self.push(entry, Some(model));
        }
    }

    fn builtin(&mut self, claimed: &mut HashSet<(u64, u64)>) {
        for model in &self.config.builtin {
            let group = Group::Single(model.path.clone());
            claimed.extend(self.identities(&group));
            if self.entries.iter().any(|entry| entry.id == model.id) {
                self.warnings.push(format!("model {}: the configured file replaces the built-in one", model.id));
                continue;
            }
            let entry = self.entry(&model.id, Origin::Builtin, &group);
            self.push(entry, self.table(&model.id));
        }
    }

    /// Files in the models folders that nobody has claimed.
    fn discovered(&mut self, claimed: &HashSet<(u64, u64)>) {
        let mut seen = claimed.clone();
        let mut found: Vec<(&SeenFile, &Place)> = Vec::new();
        for file in self.observed.files.values() {
            found.extend(file.place.as_ref().map(|place| (file, place)));
        }
        // A real file comes before the links to it, and an earlier models folder has the first claim to a name.
        found.sort_by_key(|(file, place)| (place.link, place.root, &file.path));
        let mut groups: Vec<(Group, &Place)> = Vec::new();
        let mut known = BTreeSet::new();
        for (file, place) in found {
            let group = Group::of(&file.path);
            if let (Group::Single(_), FileState::Whole(header)) = (&group, &file.state)
                && let Some(what) = header.is_companion()
            {
                self.warnings.push(format!("{} is {what}, not a language model; not listed", file.path.display()));
                continue;
            }
            let fresh = seen.insert(file.stamp.identity);
            if known.contains(&group) || !fresh {
                continue;
            }
            known.insert(group.clone());
            groups.push((group, place));
        }
        let ids = self.name(&groups);
        for ((group, _), id) in groups.iter().zip(ids) {
            let entry = self.entry(&id, Origin::Folder, group);
            self.push(entry, self.table(&id));
        }
    }

    /// Tables without a path that no file answers to.
    fn unmatched(&mut self) {
        for model in self.config.models.iter().filter(|model| model.path.is_none()) {
            if !self.entries.iter().any(|entry| entry.id == model.id) {
                let found = self.entries.iter().filter(|entry| entry.origin == Origin::Folder);
                let alike: Vec<&str> = found.map(|entry| entry.id.as_str()).filter(|id| bare(id) == model.id).collect();
                let why = match alike.as_slice() {
                    [] => format!("no file {}.gguf in the models folders, and no path is configured", model.id),
                    alike => format!("several files have that name ({}), and no path is configured", alike.join(", ")),
                };
                self.push(missing(&model.id, PathBuf::new(), why), Some(model));
            }
        }
    }

    /// A free name for each group; see the module's documentation.
    fn name(&self, groups: &[(Group, &Place)]) -> Vec<String> {
        let mut same_name: BTreeMap<String, usize> = BTreeMap::new();
        for (group, _) in groups {
            *same_name.entry(group.natural_id()).or_default() += 1;
        }
        let mut taken: HashSet<String> = self.entries.iter().map(|entry| entry.id.clone()).collect();
        let mut ids = Vec::with_capacity(groups.len());
        for (group, place) in groups {
            let own = group.natural_id();
            let below = match place.folder.to_string_lossy() {
                folder if folder.is_empty() => own.clone(),
                folder => format!("{folder}/{own}"),
            };
            let root = self.config.folders.get(place.root).and_then(|root| root.file_name()).unwrap_or_default();
            let mut candidates = vec![below.clone(), format!("{}/{below}", root.to_string_lossy())];
            if same_name.get(&own) == Some(&1) && self.table(&own).is_some() {
                candidates.insert(0, own);
            }
            let free = candidates.into_iter().find(|candidate| !taken.contains(candidate));
            let id = free.unwrap_or_else(|| {
                (2_u32..).map(|n| format!("{below}-{n}")).find(|id| !taken.contains(id)).unwrap_or_default()
            });
            taken.insert(id.clone());
            ids.push(id);
        }
        ids
    }

    fn table(&self, id: &str) -> Option<&'a ModelConfig> {
        self.config.models.iter().find(|model| model.id == id && model.path.is_none())
    }

    fn push(&mut self, entry: ModelEntry, table: Option<&ModelConfig>) {
        if self.entries.iter().any(|other| other.id == entry.id) {
            self.warnings.push(format!("model {}: configured twice; the first entry stands", entry.id));
            return;
        }
        self.entries.push(entry.resolve(table, self.engine));
    }

    fn identities(&self, group: &Group) -> Vec<(u64, u64)> {
        group.paths().iter().filter_map(|path| Some(self.observed.files.get(path)?.stamp.identity)).collect()
    }

    fn entry(&self, id: &str, origin: Origin, group: &Group) -> ModelEntry {
        let paths = group.paths();
        let files: Vec<Option<&SeenFile>> = paths.iter().map(|path| self.observed.files.get(path)).collect();
        let mut hasher = DefaultHasher::new();
        for file in files.iter().flatten() {
            (&file.path, file.stamp.len, file.stamp.identity, file.mark).hash(&mut hasher);
        }
        let headers: Vec<&Arc<Header>> = files
            .iter()
            .filter_map(|file| match &file.as_ref()?.state {
                FileState::Whole(header) => Some(header),
                FileState::Writing { .. } | FileState::Faulty(_) => None,
            })
            .collect();
        let first = files.first().copied().flatten().and_then(|file| match &file.state {
            FileState::Whole(header) => Some(header),
            FileState::Writing { .. } | FileState::Faulty(_) => None,
        });
        let header = first.map(|first| match headers.len() {
            1 => Arc::clone(first),
            _ => Arc::new(Header::clone(first).with_parts(headers.iter().skip(1).map(|header| &***header))),
        });
        let broken = match group {
            Group::Single(path) => single_fault(path, files.first().copied().flatten()),
            Group::Split(_, part) => split_fault(part, &files),
        };
        let writing = files.iter().flatten().any(|file| matches!(file.state, FileState::Writing { .. }));
        ModelEntry {
            path: paths[0].clone(),
            writing,
            file_bytes: files.iter().flatten().map(|file| file.stamp.len).sum(),
            files: files.iter().flatten().map(|file| file.path.clone()).collect(),
            fingerprint: hasher.finish(),
            broken: broken.or_else(|| header.as_deref().and_then(unfit)),
            header,
            ..blank(id, origin)
        }
    }
}

fn blank(id: &str, origin: Origin) -> ModelEntry {
    ModelEntry {
        id: id.to_owned(),
        aliases: Vec::new(),
        origin,
        path: PathBuf::new(),
        files: Vec::new(),
        file_bytes: 0,
        fingerprint: 0,
        header: None,
        broken: None,
        writing: false,
        settings: EngineSettings::default(),
        capabilities: Vec::new(),
        chat_template: None,
        idle_unload: None,
        pinned: false,
        preload: false,
        priority: super::Priority::default(),
    }
}

fn missing(id: &str, path: PathBuf, why: String) -> ModelEntry {
    ModelEntry { path, broken: Some(why), ..blank(id, Origin::Config) }
}

/// What is wrong with one file, in words.
fn file_fault(file: &SeenFile) -> Option<String> {
    match &file.state {
        FileState::Whole(_) => None,
        FileState::Writing { needs: Some(needs) } => {
            Some(format!("still being written: {} of {needs} bytes so far", file.stamp.len))
        }
        FileState::Writing { needs: None } => Some(format!("still being written: {} bytes so far", file.stamp.len)),
        FileState::Faulty(error) => Some(error.to_string()),
    }
}

fn single_fault(path: &Path, file: Option<&SeenFile>) -> Option<String> {
    let Some(file) = file else { return Some(format!("no such file: {}", path.display())) };
    let FileState::Whole(header) = &file.state else { return file_fault(file) };
    let split = header.split?;
    let ending = part_file_name("", split.no.saturating_add(1), split.count);
    Some(format!("it is one part of a split model, and its name must then end in {ending}"))
}

fn split_fault(part: &PartName, files: &[Option<&SeenFile>]) -> Option<String> {
    let mut faults = Vec::new();
    let mut absent = Vec::new();
    for (no, file) in (1_u32..).zip(files) {
        let name = part_file_name(&part.base, no, part.count);
        let Some(file) = file else {
            absent.push(name);
            continue;
        };
        match &file.state {
            FileState::Whole(header) => {
                let said = header.split.map_or((1, 1), |split| (split.no.saturating_add(1), split.count));
                if said != (no, part.count) {
                    faults.push(format!("{name} says that it is part {} of {}", said.0, said.1));
                }
            }
            FileState::Writing { .. } | FileState::Faulty(_) => {
                faults.extend(file_fault(file).map(|fault| format!("{name}: {fault}")));
            }
        }
    }
    if !absent.is_empty() {
        let shown = absent.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if absent.len() > 5 { ", ..." } else { "" };
        faults.insert(0, format!("{} of {} parts missing: {shown}{more}", absent.len(), part.count));
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}

/// Why a complete GGUF file is still not a model.
fn unfit(header: &Header) -> Option<String> {
    if let Some(what) = header.is_companion() {
        Some(format!("it is {what}, not a language model"))
    } else if header.architecture.is_none() {
        Some("its header does not name an architecture (general.architecture)".to_owned())
    } else if header.tensor_count == 0 {
        Some("it has no tensors, only a header".to_owned())
    } else {
        None
    }
}
