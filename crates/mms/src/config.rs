//! Configuration: the only reader of settings. Flags beat environment variables, these beat the file, the file beats the defaults;
//! where each value came from is kept, and all mistakes are told together, each with its place.

mod bus;
mod endpoint;
mod engine;
mod example;
mod prediction;
mod reader;
mod sections;
mod source;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use mms_bus::BusConfig;
use mms_gateway::{ServiceAddress, WireLimits};
use mms_manager::catalogue::ModelConfig;
use mms_manager::prediction::PredictionConfig;
use mms_manager::routing::Policy;
use mms_manager::{Limits, MemoryConfig};

pub(crate) use endpoint::Endpoints;
pub(crate) use engine::EngineConfig;
pub(crate) use example::example;
pub(crate) use reader::Setting;
pub(crate) use sections::{
    ConversationsConfig, DEFAULT_MODELS_FOLDER, KvStoreConfig, LogConfig, LogFormat, LogLevel, ModelsConfig,
    ServerConfig, StoreConfig,
};
pub(crate) use source::{ConfigFile, Environment, Imported, Mistake, Mistakes, Origin};

use crate::cli::ServeFlags;
use crate::import::{self, Outcome};
use reader::Reader;
use source::{Document, LLM_CONFIG_PATH};

/// The file that is read when it exists and no other is named.
pub(crate) const DEFAULT_FILE: &str = "mms.toml";

/// Everything that `mms serve` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Addresses, names and times.
    pub server: ServerConfig,
    /// Where models are found.
    pub models: ModelsConfig,
    /// Every `[[model]]`.
    pub entries: Vec<ModelConfig>,
    /// The worker.
    pub engine: EngineConfig,
    /// The memory budget.
    pub memory: MemoryConfig,
    /// Bounds of the manager.
    pub limits: Limits,
    /// Bounds of the ports.
    pub wire: WireLimits,
    /// What preferences mean.
    pub routing: Policy,
    /// Downstream services.
    pub services: Vec<(String, ServiceAddress)>,
    /// Time that each of them has to answer.
    pub service_timeout: Duration,
    /// Which conversations are kept.
    pub conversations: ConversationsConfig,
    /// KV states on disk.
    pub kv_store: KvStoreConfig,
    /// How uses are foreseen, and what is loaded ahead of them.
    pub prediction: PredictionConfig,
    /// The evaluation store.
    pub store: StoreConfig,
    /// Whom this server tells of itself.
    pub bus: BusConfig,
    /// The log.
    pub log: LogConfig,
    /// Every setting with its origin.
    pub settings: Vec<Setting>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// It was an old `llm_config.yaml`, and this became of it.
    pub imported: Option<Imported>,
    /// Variables that are set and were not used.
    pub not_used: Vec<&'static str>,
}

impl Config {
    /// The configuration of this process: its file, its environment and these flags.
    pub(crate) fn load(flags: &ServeFlags) -> Result<Self, Mistakes> {
        let environment = Environment::of_process();
        let file = find_file(flags, &environment)?;
        Self::read(flags, &environment, file.as_ref())
    }

    /// Puts flags, variables and file together.
    pub(crate) fn read(
        flags: &ServeFlags,
        environment: &Environment,
        file: Option<&ConfigFile>,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let document = file.map(|file| Document::parse(file, &mut mistakes));
        let mut reader = Reader::new(document, environment, mistakes);
        let server = ServerConfig::read(&mut reader, flags);
        let models = ModelsConfig::read(&mut reader, flags);
        let engine = EngineConfig::read(&mut reader);
        let entries = engine::read_entries(&mut reader);
        engine::check_batches(&mut reader, &entries, &engine);
        let memory = sections::read_memory(&mut reader);
        let (limits, wire, service_timeout) = sections::read_limits(&mut reader, &server);
        let routing = sections::read_routing(&mut reader);
        let services = sections::read_services(&mut reader);
        let conversations = ConversationsConfig::read(&mut reader);
        let kv_store = KvStoreConfig::read(&mut reader);
        let prediction = prediction::read(&mut reader);
        let store = StoreConfig::read(&mut reader);
        let bus = bus::read(&mut reader);
        let log = LogConfig::read(&mut reader);
        let (settings, mistakes) = reader.finish(&["routing", "services"], &["model"]);
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        let imported = file.and_then(|file| file.imported);
        let old_file = environment.get(LLM_CONFIG_PATH).filter(|_| imported.is_none());
        let not_used = old_file.map(|_| LLM_CONFIG_PATH).into_iter().collect();
        let file = file.map(|file| file.path.clone());
        Ok(Self {
            server,
            models,
            entries,
            engine,
            memory,
            limits,
            wire,
            routing,
            services,
            service_timeout,
            conversations,
            kv_store,
            prediction,
            store,
            bus,
            log,
            settings,
            file,
            imported,
            not_used,
        })
    }

    /// The folder for KV states, unless they are switched off.
    pub(crate) fn kv_store_folder(&self) -> Option<PathBuf> {
        let folder = || self.kv_store.folder.clone().unwrap_or_else(|| self.server.data_dir.join("kv"));
        self.kv_store.enabled.then(folder)
    }

    /// The evaluation store's file.
    pub(crate) fn store_path(&self) -> PathBuf {
        self.store.path.clone().unwrap_or_else(|| self.server.data_dir.join("model_evaluation.db"))
    }
}

/// Reads a configuration file.
pub(crate) fn read_file(path: &Path, named_by: Origin) -> Result<ConfigFile, Mistakes> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("the configuration file {} cannot be read: {error}", path.display());
        Mistakes(vec![Mistake { at: named_by, message }])
    })?;
    Ok(ConfigFile::new(path, text))
}

/// The file that `--config` or `MMS_CONFIG` names, else `mms.toml` in the working directory when there is one, else what
/// `LLM_CONFIG_PATH` names: a file of the old suite, which is imported.
fn find_file(flags: &ServeFlags, environment: &Environment) -> Result<Option<ConfigFile>, Mistakes> {
    if let Some(path) = &flags.config {
        return read_file(path, Origin::Flag { flag: "--config".to_owned() }).map(Some);
    }
    if let Some(mistake) = environment.mistake_in("MMS_CONFIG") {
        return Err(Mistakes(vec![mistake]));
    }
    if let Some(path) = environment.get("MMS_CONFIG") {
        return read_file(Path::new(path), Origin::Environment { variable: "MMS_CONFIG".to_owned() }).map(Some);
    }
    let default = Path::new(DEFAULT_FILE);
    if default.exists() {
        return read_file(default, Origin::Default).map(Some);
    }
    if let Some(mistake) = environment.mistake_in(LLM_CONFIG_PATH) {
        return Err(Mistakes(vec![mistake]));
    }
    let named_by = Origin::Environment { variable: LLM_CONFIG_PATH.to_owned() };
    let old = environment.get(LLM_CONFIG_PATH).map(|path| (path, import::read(Path::new(path), &named_by)));
    let Some((path, report)) = old else { return Ok(None) };
    let report = report?;
    let imported = Imported { changed: report.count(Outcome::Changed), left_out: report.count(Outcome::LeftOut) };
    Ok(Some(ConfigFile { path: path.into(), text: report.toml, imported: Some(imported) }))
}

#[cfg(test)]
mod tests;
