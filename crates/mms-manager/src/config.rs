//! What the manager is told at its start. Read and checked at the edge (the `mms` program); nothing here is changed later.

use std::path::PathBuf;
use std::time::Duration;

use mms_protocol::worker::EngineSettings;

use crate::catalogue::CatalogueConfig;
use crate::prediction::PredictionConfig;
use crate::routing::Policy;

/// Everything that [`crate::Manager::start`] needs.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// Name of the agent, such as `ModelManagerSuite`.
    pub agent: String,
    /// Version of the program.
    pub version: String,
    /// The `mms-worker` program.
    pub worker_program: PathBuf,
    /// Where models come from.
    pub catalogue: CatalogueConfig,
    /// Settings of models that have none of their own.
    pub engine: EngineSettings,
    /// How much memory models may take.
    pub memory: MemoryConfig,
    /// The file that keeps what models were found to need; `None`: that is found out again in each run.
    pub plans: Option<PathBuf>,
    /// Idleness after which a model is unloaded, unless it has a setting of its own; `None`: never.
    pub idle_unload: Option<Duration>,
    /// What preferences mean.
    pub routing: Policy,
    /// Where KV states of conversations are kept on disk; `None`: nowhere.
    pub kv_store: Option<KvStoreConfig>,
    /// How uses are foreseen, and what is loaded ahead of them.
    pub prediction: PredictionConfig,
    /// Bounds.
    pub limits: Limits,
}

/// Where KV states of conversations are kept while their model is not loaded. The bounds are of all models together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvStoreConfig {
    /// The folder; made when missing.
    pub folder: PathBuf,
    /// Disk space, MiB.
    pub max_mb: u64,
    /// How many.
    pub max_states: u32,
    /// Unused for longer, they go.
    pub max_age: Duration,
}

/// How much memory models may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryConfig {
    /// What models may take together of RAM.
    pub budget: Budget,
    /// MiB of RAM that are never planned away.
    pub reserve_mb: u64,
    /// What models may take together of each GPU.
    pub gpu_budget: Budget,
    /// MiB of each GPU that are never planned away.
    pub gpu_reserve_mb: u64,
    /// What a worker that measures a model before its first load gets; 0: the estimate from the header stands.
    pub plan_timeout: Duration,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            budget: Budget::Percent(80.0),
            reserve_mb: 512,
            gpu_budget: Budget::Percent(90.0),
            gpu_reserve_mb: 256,
            plan_timeout: Duration::from_secs(20),
        }
    }
}

/// What models may take together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Percent of the device's memory (of RAM: what the machine or the control group has), above 0 to 100.
    Percent(f64),
    /// MiB.
    Mb(u64),
}

/// Bounds that keep a bad day small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that may wait for one model; one more is refused with `queue_full`.
    pub queue_per_model: usize,
    /// A request without `timeout_ms` ends after this time, loading included.
    pub request_timeout: Duration,
    /// A load that takes longer is ended.
    pub load_timeout: Duration,
    /// A worker that says nothing for this long is killed and replaced.
    pub heartbeat_timeout: Duration,
    /// What a worker that was asked to end gets before it is killed; it saves KV states then.
    pub shutdown_grace: Duration,
    /// Models in memory at once; 0: as many as the budget holds.
    pub max_loaded_models: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_per_model: 256,
            request_timeout: Duration::from_secs(600),
            load_timeout: Duration::from_secs(600),
            heartbeat_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(10),
            max_loaded_models: 0,
        }
    }
}

/// Why the manager could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine does not tell how much memory it has.
    #[error(transparent)]
    Memory(#[from] crate::memory::MemoryError),
    /// The operating system refused something that is always needed.
    #[error("cannot {what}: {source}")]
    System {
        /// Such as `start the thread that starts workers`.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}
