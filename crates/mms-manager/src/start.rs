//! The start of the manager: the least that has to be there before anybody can be answered, and the tasks that go on.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use mms_protocol::Event;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::catalogue::{Catalogue, CatalogueConfig};
use crate::config::{ManagerConfig, StartError};
use crate::counters::Counters;
use crate::devices::Devices;
use crate::handle::{Manager, Shared};
use crate::health::HealthBoard;
use crate::memory::{GpuProbe, MemoryProbe, NoGpus, Nvml};
use crate::plans::Plans;
use crate::prediction::Predictions;
use crate::routing::evidence::Evidence;
use crate::scan::{self, Scanner};
use crate::snapshot::Clock;
use crate::task::{Parts, Sources, Task};
use crate::worker::Spawner;

/// How long the start waits for the first look at the models folders.
const FIRST_LOOK: Duration = Duration::from_millis(80);
/// What the driver of GPUs gets to tell of them.
const GPUS_AWAKE: Duration = Duration::from_secs(10);

impl Manager {
    /// Reads the catalogue and starts the one task. Where the models folders take long to read, the start does not wait for them:
    /// it goes on with the built-in and the configured models, and the others follow. `events`: where what happens is told; an
    /// event that finds it full is dropped and counted.
    pub async fn start(config: ManagerConfig, events: mpsc::Sender<Event>) -> Result<Self, StartError> {
        Self::start_with(config, events, gpus().await).await
    }

    /// The same with figures of GPUs from elsewhere.
    pub async fn start_with(
        config: ManagerConfig,
        events: mpsc::Sender<Event>,
        gpus: Arc<dyn GpuProbe>,
    ) -> Result<Self, StartError> {
        let clock = Clock::start();
        let probe = MemoryProbe::default();
        let memory = probe.read()?;
        let spawner = Spawner::start()
            .map_err(|source| StartError::System { what: "start the thread that starts workers", source })?;
        let board = Arc::new(HealthBoard::default());
        report_worker_program(&config, &board);
        let stop = CancellationToken::new();
        let rescan = Arc::new(Notify::new());
        let catalogues = catalogues(&config, Arc::clone(&rescan), stop.clone()).await;
        let catalogue = Arc::clone(&catalogues.borrow());
        for warning in catalogue.warnings() {
            tracing::warn!("{warning}");
        }

        let counters = Arc::new(Counters::default());
        let evidence = Arc::new(Evidence::default());
        let predictions = Arc::new(Predictions::new(config.prediction, clock.started_epoch_s()));
        let last_request = Arc::new(AtomicU64::new(0));
        let (messages, inbox) = mpsc::unbounded_channel();
        let (reports, reported) = mpsc::unbounded_channel();
        let (agent, version) = (config.agent.clone(), config.version.clone());
        let devices = Devices::new(config.worker_program.clone(), spawner.clone());
        let plans = Plans::open(config.plans.clone());
        let parts = Parts {
            config,
            catalogue,
            memory,
            probe,
            gpus,
            plans,
            spawner,
            clock,
            counters: Arc::clone(&counters),
            evidence: Arc::clone(&evidence),
            predictions: Arc::clone(&predictions),
            board: Arc::clone(&board),
            events,
            last_request: Arc::clone(&last_request),
        };
        let (task, snapshots) = Task::new(parts, reports);
        tokio::spawn(task.run(Sources { inbox, reports: reported, catalogues }));
        let shared = Shared {
            agent,
            version,
            clock,
            messages,
            snapshots,
            board,
            counters,
            evidence,
            predictions,
            last_request,
            devices,
            rescan,
            _scanning: stop.drop_guard(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// The driver's library, where there is one. Waking GPUs that nobody uses can take long; then they are not counted.
async fn gpus() -> Arc<dyn GpuProbe> {
    match tokio::time::timeout(GPUS_AWAKE, tokio::task::spawn_blocking(Nvml::load)).await {
        Ok(Ok(Some(nvml))) => Arc::new(nvml),
        Ok(Ok(None)) => Arc::new(NoGpus),
        Ok(Err(error)) => {
            tracing::error!(%error, "NVML failed; no GPU is counted");
            Arc::new(NoGpus)
        }
        Err(_) => {
            tracing::warn!("NVML gives no answer within {} s; no GPU is counted", GPUS_AWAKE.as_secs());
            Arc::new(NoGpus)
        }
    }
}

/// The first catalogue, and those that follow as the folders change.
async fn catalogues(
    config: &ManagerConfig,
    rescan: Arc<Notify>,
    stop: CancellationToken,
) -> watch::Receiver<Arc<Catalogue>> {
    let mut whole = Scanner::new(config.catalogue.clone(), config.engine.clone());
    let mut looking = tokio::task::spawn_blocking(move || {
        let found = whole.look(SystemTime::now()).unwrap_or_default();
        (whole, found)
    });
    match tokio::time::timeout(FIRST_LOOK, &mut looking).await {
        Ok(Ok((scanner, first))) => {
            let (sender, receiver) = watch::channel(first);
            tokio::spawn(scan::run(scanner, sender, rescan, stop));
            receiver
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the models folders could not be read; only built-in models are known");
            let (sender, receiver) = watch::channel(quick_look(config));
            let again = Scanner::new(config.catalogue.clone(), config.engine.clone());
            tokio::spawn(scan::run(again, sender, rescan, stop));
            receiver
        }
        Err(_) => {
            let (sender, receiver) = watch::channel(quick_look(config));
            tokio::spawn(async move {
                match looking.await {
                    Ok((scanner, first)) => {
                        sender.send_replace(first);
                        scan::run(scanner, sender, rescan, stop).await;
                    }
                    Err(error) => tracing::error!(%error, "the models folders could not be read"),
                }
            });
            receiver
        }
    }
}

/// The built-in models, and those that are configured with an absolute path.
fn quick_look(config: &ManagerConfig) -> Arc<Catalogue> {
    let named = |model: &&crate::catalogue::ModelConfig| model.path.as_ref().is_some_and(|path| path.is_absolute());
    let few = CatalogueConfig {
        folders: Vec::new(),
        models: config.catalogue.models.iter().filter(named).cloned().collect(),
        ..config.catalogue.clone()
    };
    Scanner::new(few, config.engine.clone()).look(SystemTime::now()).unwrap_or_default()
}

fn report_worker_program(config: &ManagerConfig, board: &HealthBoard) {
    use std::os::unix::fs::PermissionsExt;
    let program = &config.worker_program;
    let fault = match std::fs::metadata(program) {
        Err(error) => Some(error.to_string()),
        Ok(metadata) if !metadata.is_file() => Some("it is not a file".to_owned()),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Some("it is not executable".to_owned()),
        Ok(_) => None,
    };
    let detail = fault.as_ref().map_or_else(
        || format!("{}", program.display()),
        |fault| format!("no model can be loaded, {}: {fault}", program.display()),
    );
    board.report("worker_program", true, fault.is_none(), detail);
}
