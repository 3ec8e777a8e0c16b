//! The server as a whole: takes the ports, starts store, manager and front doors, says `ready` when its own client has had answers,
//! and ends as it should.
//!
//! ```text
//! listen ─▶ store, manager ─▶ front doors ─▶ probe ─▶ "ready" ─▶ signal ─▶ drain ─▶ doors close ─▶ store flushed ─▶ exit 0
//!                                                                   └────── a second signal ends at once ──────┘
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mms_gateway::{ConversationOptions, Conversations, Gateway, Services, serve_health, serve_http, serve_main};
use mms_manager::catalogue::{BuiltinModel, CatalogueConfig};
use mms_manager::{KvStoreConfig, Manager, ManagerConfig};
use mms_store::{Store, StoreOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::bus::BusWatch;
use crate::config::{Config, DEFAULT_MODELS_FOLDER, ServerConfig};
use crate::exit::Failure;
use crate::output;
use crate::ready::{Addresses, Probe};
use crate::recorder::{Recorder, StoreWatch};
use crate::serve_error::ServeError;
use crate::{builtin, evidence, ports, recorder, startup, worker};

/// Events that may wait to be recorded.
const EVENT_QUEUE: usize = 4096;
/// What the front doors get to send their last replies after everything has been answered.
const LAST_REPLIES: Duration = Duration::from_secs(2);
/// Between two looks at the store.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause before the store is read again after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs the server until a signal ends it.
pub(crate) async fn run(config: Config, started: Instant) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    raise_file_limit();
    let serving = async {
        let server = Server::start(&config).await?;
        tell(&startup::summary(&config, &server.probe.addresses, &server.manager.health()));
        for variable in &config.not_used {
            let file = config.file.as_deref().map_or("mms.toml".into(), |file| file.display().to_string());
            warn!(
                variable,
                "set, but not used, as {file} is read; `mms config import` makes a part of that of the old file"
            );
        }
        if let (Some(imported), Some(file)) = (config.imported, &config.file) {
            let (file, changed, left_out) = (file.display(), imported.changed, imported.left_out);
            warn!(%file, changed, left_out, "the old configuration is used; `mms config import` shows what became of it, and makes a file to go on with");
        }
        server.probe.first().await;
        tell(&startup::ready(started.elapsed()));
        Ok::<_, Failure>(server)
    };
    let server = tokio::select! {
        server = serving => server?,
        // What has been started so far ends with this process.
        _ = signals.next() => return Ok(()),
    };
    let first = tokio::select! {
        first = signals.next() => first,
        () = server.probe.watch(config.server.probe_interval) => return Ok(()),
    };
    info!(signal = first, deadline = ?config.server.drain_timeout, "draining: no new work is taken");
    tokio::select! {
        () = server.end(config.server.drain_timeout, first) => Ok(()),
        second = signals.next() => Err(Failure::Interrupted(second)),
    }
}

/// Prints for whoever started the server. It serves on when nobody reads that (`mms serve | head -1`).
fn tell(text: &str) {
    if let Err(error) = output::line(text) {
        warn!(%error, "standard output cannot be written");
    }
}

/// Every connection is an open file, and the usual soft limit (1024) is less than the ports together may have.
fn raise_file_limit() {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, limit = now.current, "the limit on open files stays as it is");
    }
}

/// What runs.
struct Server {
    manager: Manager,
    store: Store,
    conversations: Conversations,
    probe: Probe,
    doors: TaskTracker,
    shutdown: CancellationToken,
    recorder: JoinHandle<()>,
    bus: BusWatch,
}

impl Server {
    async fn start(config: &Config) -> Result<Self, Failure> {
        let ports = Ports::listen(&config.server)?;
        let addresses = ports.addresses()?;
        let worker_program = worker::find(&config.engine)?;
        let builtin = if config.models.builtin { Some(builtin::install(&config.server.data_dir)?) } else { None };
        let store = open_store(config.store_path()).await?;
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let manager =
            Manager::start(manager_config(config, worker_program, builtin), sender).await.map_err(ServeError::from)?;
        let mut store_watch = StoreWatch::new(store.clone(), manager.clone());
        store_watch.tell();
        let (shutdown, doors) = (CancellationToken::new(), TaskTracker::new());
        let bus = BusWatch::start(config, &addresses, manager.clone());
        let conversations = open_conversations(config, manager.clone())?;
        let mut gateway = Gateway::with_events(
            manager.clone(),
            Some(store.clone()),
            conversations.clone(),
            bus.feed.clone(),
            bus.figures(),
        );
        gateway.services = Services::new(config.services.clone(), config.service_timeout);
        tokio::spawn(recall_uses(gateway.clone()));
        let limits = &config.wire;
        doors.spawn(serve_main(ports.main, gateway.clone(), config.server.profile, limits.clone(), shutdown.clone()));
        doors.spawn(serve_health(ports.health, gateway.clone(), limits.clone(), shutdown.clone()));
        doors.spawn(serve_http(ports.http, gateway, limits.clone(), shutdown.clone()));
        doors.close();
        let agent = config.server.agent_name.clone();
        let to = Recorder { agent: agent.clone(), store: store.clone(), notices: Arc::clone(&bus.notices) };
        let recorder = tokio::spawn(recorder::record(events, to, shutdown.clone()));
        tokio::spawn(store_watch.run(STORE_INTERVAL));
        tokio::spawn(evidence::watch(store.clone(), manager.clone(), agent.clone()));
        let probe = Probe { addresses, agent, timeout: config.server.probe_timeout, manager: manager.clone() };
        Ok(Self { manager, store, conversations, probe, doors, shutdown, recorder, bus })
    }

    /// Lets running requests finish, up to the deadline, then ends everything in order.
    async fn end(self, deadline: Duration, signal: i32) {
        self.manager.board().set_ready(false);
        let report = self.manager.drain(deadline).await;
        info!(
            finished = report.finished,
            cut_off = report.refused,
            workers = report.workers_ended,
            killed = report.workers_killed,
            took = ?report.took,
            "drained"
        );
        self.shutdown.cancel();
        if tokio::time::timeout(LAST_REPLIES, self.doors.wait()).await.is_err() {
            warn!("some clients did not take their last replies in time");
        }
        if let Err(error) = self.recorder.await {
            warn!(%error, "the last events could not be recorded");
        }
        self.bus.end(signal_name(signal)).await;
        self.store.close().await;
        let conversations = self.conversations;
        if let Err(error) = tokio::task::spawn_blocking(move || conversations.close()).await {
            warn!(%error, "the last turns of conversations could not be kept");
        }
        info!("ended");
    }
}

fn signal_name(signal: i32) -> &'static str {
    if signal == SignalKind::interrupt().as_raw_value() { "SIGINT" } else { "SIGTERM" }
}

/// The three listeners.
struct Ports {
    main: TcpListener,
    health: TcpListener,
    http: TcpListener,
}

impl Ports {
    fn listen(config: &ServerConfig) -> Result<Self, ServeError> {
        let at = |port| SocketAddr::new(config.bind, port);
        Ok(Self {
            main: ports::listen("main port", at(config.port))?,
            health: ports::listen("health port", at(config.health_port))?,
            http: ports::listen("HTTP port", at(config.http_port))?,
        })
    }

    fn addresses(&self) -> Result<Addresses, ServeError> {
        let of = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| ServeError::System { what: "tell the address of a port", source })
        };
        Ok(Addresses { main: of(&self.main)?, health: of(&self.health)?, http: of(&self.http)? })
    }
}

/// Opens the evaluation store; one that cannot be used is told on the health board, and is tried again while everything else works.
async fn open_store(path: PathBuf) -> Result<Store, ServeError> {
    let file = path.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open_or_retry(&file, StoreOptions::default())).await;
    let why = match opened {
        Ok(Ok(store)) => return Ok(store),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(ServeError::Store { path, why })
}

/// Lets predictions know the uses of earlier runs, as soon as the store can be read.
async fn recall_uses(gateway: Gateway) {
    let mut pause = STORE_INTERVAL;
    while let Err(error) = gateway.recall_uses().await {
        // The health board tells what is wrong with the store.
        debug!(%error, "the uses of models in earlier runs are not known yet");
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// What is kept of conversations; a file that cannot be used is told on the health board, and is tried again.
fn open_conversations(config: &Config, manager: Manager) -> Result<Conversations, ServeError> {
    let kept = &config.conversations;
    let path = config.server.data_dir.join("conversations.db");
    let options = ConversationOptions {
        max_conversations: kept.max_conversations as usize,
        max_age: kept.max_age,
        max_bytes: (kept.max_mb as usize) << 20,
        file: kept.keep_on_disk.then(|| path.clone()),
        request_timeout: config.limits.request_timeout,
    };
    Conversations::start(manager, options).map_err(|error| ServeError::Store { path, why: error.to_string() })
}

fn manager_config(config: &Config, worker_program: PathBuf, builtin: Option<PathBuf>) -> ManagerConfig {
    let builtin = builtin.into_iter().map(|path| BuiltinModel { id: builtin::ID.to_owned(), path }).collect();
    ManagerConfig {
        agent: config.server.agent_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        worker_program,
        catalogue: CatalogueConfig {
            folders: config.models.folders.clone(),
            folders_are_default: config.models.folders == [PathBuf::from(DEFAULT_MODELS_FOLDER)],
            models: config.entries.clone(),
            builtin,
            scan_interval: config.models.rescan,
            ..CatalogueConfig::default()
        },
        engine: config.engine.settings.clone(),
        memory: config.memory,
        plans: Some(config.server.data_dir.join("memory-plans.json")),
        idle_unload: config.models.idle_unload,
        routing: config.routing.clone(),
        kv_store: config.kv_store_folder().map(|folder| KvStoreConfig {
            folder,
            max_mb: config.kv_store.max_mb.into(),
            max_states: config.kv_store.max_states,
            max_age: config.kv_store.max_age,
        }),
        prediction: config.prediction,
        limits: config.limits,
    }
}

/// SIGTERM and SIGINT, and that SIGXFSZ is none of those that end the server: a limit on the length of files (`ulimit -f`) is an
/// error of what writes one, as a full disk is.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).map_err(|source| ServeError::System { what: "listen to signals", source });
        // Once listened to, it is never deadly again.
        drop(listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}
