//! The sections of `mms.toml`: every key with its meaning, kind, default, and the variable and flag that set it, too.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use mms_gateway::{ServiceAddress, WireLimits};
use mms_manager::routing::Policy;
use mms_manager::{Budget, Limits, MemoryConfig};
use mms_protocol::Profile;
use mms_protocol::select::RESERVED_SERVICE_NAMES;

use super::reader::Reader;
use super::value::{Address, Choice, Integer, List, Maybe, Memory, ModelNames, Number, Path, Service, Switch, Text};
use crate::cli::ServeFlags;

/// Addresses, names and times of the server itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerConfig {
    /// Address of every port.
    pub bind: IpAddr,
    /// Main port.
    pub port: u16,
    /// Health port.
    pub health_port: u16,
    /// HTTP port.
    pub http_port: u16,
    /// Name in replies.
    pub agent_name: String,
    /// Words of the main port.
    pub profile: Profile,
    /// Where files of our own are kept.
    pub data_dir: PathBuf,
    /// Name or address under which others reach this server; `None`: found out.
    pub public_host: Option<String>,
    /// Host names under which browsers may reach the HTTP port.
    pub trusted_hosts: Vec<String>,
    /// Time that running requests have to finish when the server ends.
    pub drain_timeout: Duration,
    /// Between two rounds of the readiness probe.
    pub probe_interval: Duration,
    /// Time for each answer of the readiness probe.
    pub probe_timeout: Duration,
}

/// Where models are found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelsConfig {
    /// Folders with GGUF files.
    pub folders: Vec<PathBuf>,
    /// Between two looks at the folders.
    pub rescan: Duration,
    /// Whether the built-in model is in the catalogue.
    pub builtin: bool,
    /// Idleness after which a model is unloaded.
    pub idle_unload: Option<Duration>,
}

/// Where KV states of conversations are kept on disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KvStoreConfig {
    /// Whether they are.
    pub enabled: bool,
    /// The folder; `None`: in the data folder.
    pub folder: Option<PathBuf>,
    /// Disk space, MiB.
    pub max_mb: u32,
    /// How many.
    pub max_states: u32,
    /// Unused for longer, they go.
    pub max_age: Duration,
}

/// Which conversations are kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConversationsConfig {
    /// How many; 0: none.
    pub max_conversations: u32,
    /// Unused for longer, they go.
    pub max_age: Duration,
    /// Memory of all together, MiB.
    pub max_mb: u32,
    /// Whether they outlive the server.
    pub keep_on_disk: bool,
}

/// The evaluation store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoreConfig {
    /// The SQLite file; `None`: in the data folder.
    pub path: Option<PathBuf>,
}

/// What is logged and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// Least important level that is shown.
    pub level: LogLevel,
    /// Form of the lines.
    pub format: LogFormat,
}

/// Importance of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Everything.
    Trace,
    /// What a developer wants to know.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What an operator should look at.
    Warning,
    /// What did not work.
    Error,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Coloured text on a terminal, plain text elsewhere.
    Auto,
    /// Plain text.
    Text,
    /// One JSON object for each line.
    Json,
}

const PROFILES: Choice<Profile> = Choice(&[("suite", Profile::Suite), ("legacy", Profile::Legacy)]);
const LEVELS: Choice<LogLevel> = Choice(&[
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warning", LogLevel::Warning),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warning),
    ("critical", LogLevel::Error),
]);
const FORMATS: Choice<LogFormat> =
    Choice(&[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)]);
/// One day.
pub(super) const DAY_S: u32 = 24 * 60 * 60;

pub(super) fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn never_when_zero(idle_s: u32) -> Option<Duration> {
    (idle_s > 0).then(|| seconds(idle_s))
}

impl ServerConfig {
    pub(super) fn read(reader: &mut Reader<'_>, flags: &ServeFlags) -> Self {
        let mut section = reader.section("server");
        let bind = section
            .key("bind", "Address that every port listens on; 0.0.0.0 makes the server reachable from other machines.")
            .variable("BIND_ADDRESS")
            .flag("--bind", flags.bind.as_deref())
            .read(Address, Ipv4Addr::LOCALHOST.into());
        let port = section
            .key("port", "Main port: every operation, over ZeroMQ. 0: any free port; start-up prints which.")
            .variable("AGENT_PORT")
            .flag("--port", flags.port.as_deref())
            .read(Integer(0..=u16::MAX), 9901);
        let health_port = section
            .key("health_port", "Health port: the health object, over ZeroMQ or HTTP.")
            .variable("HEALTH_PORT")
            .flag("--health-port", flags.health_port.as_deref())
            .read(Integer(0..=u16::MAX), 9902);
        // 0 stays 0 (any free port); nothing comes after 65535, and the check below says so.
        let after_health = if health_port == 0 { 0 } else { health_port.saturating_add(1) };
        let http_port = section
            .key("http_port", "HTTP port: health, metrics and OpenAI's interface. When not set: health_port + 1.")
            .variable("HTTP_PORT")
            .flag("--http-port", flags.http_port.as_deref())
            .read(Integer(0..=u16::MAX), after_health);
        let server = Self {
            bind,
            port,
            health_port,
            http_port,
            agent_name: section
                .key("agent_name", "Name of this server in its replies.")
                .variable("AGENT_NAME")
                .read(Text, "ModelManagerSuite".to_owned()),
            profile: section
                .key("profile", "Status words on the main port: suite, or legacy as the ModelManagerAgent used them.")
                .flag("--profile", flags.profile.as_deref())
                .read(PROFILES, Profile::Suite),
            data_dir: section
                .key("data_dir", "Folder for the evaluation store and the built-in model; made when missing.")
                .variable("DATA_DIR")
                .flag("--data-dir", flags.data_dir.as_deref())
                .read(Path, "data".into()),
            public_host: section
                .key(
                    "public_host",
                    "Name or address under which others reach this server, for registries. When not set: server.bind, or this \
                     machine's name where that is every address.",
                )
                .read(Maybe(Text), None),
            trusted_hosts: section
                .key(
                    "trusted_hosts",
                    "Host names besides localhost and IP addresses under which browsers may reach the HTTP port.",
                )
                .read(List(Text), Vec::new()),
            drain_timeout: seconds(
                section
                    .key("drain_timeout_s", "Time that running requests have to finish when the server ends, seconds.")
                    .read(Integer(0..=DAY_S), 30),
            ),
            probe_interval: Duration::from_secs_f64(
                section
                    .key("probe_interval_s", "Time between two rounds of the readiness probe, seconds.")
                    .read(Number(0.1..=3600.0), 5.0),
            ),
            probe_timeout: Duration::from_secs_f64(
                section
                    .key("probe_timeout_s", "Time that each address has to answer the readiness probe, seconds.")
                    .read(Number(0.1..=60.0), 2.0),
            ),
        };
        server.check_ports(reader);
        server
    }

    fn check_ports(&self, reader: &mut Reader<'_>) {
        let ports = [("port", self.port), ("health_port", self.health_port), ("http_port", self.http_port)];
        for (index, (key, port)) in ports.iter().enumerate() {
            if let Some((first, _)) = ports[..index].iter().find(|(_, other)| other == port && *port != 0) {
                let message = format!("server.{key} is {port}, and so is server.{first}; each needs a port of its own");
                reader.mistake(reader.origin_of("server", key), message);
            }
        }
    }
}

/// Searched when nobody says where models are; it need not exist.
pub(crate) const DEFAULT_MODELS_FOLDER: &str = "models";

impl ModelsConfig {
    pub(super) fn read(reader: &mut Reader<'_>, flags: &ServeFlags) -> Self {
        let mut section = reader.section("models");
        Self {
            folders: section
                .key(
                    "folders",
                    "Folders that are searched for GGUF files, subfolders included. In MODELS_DIR they are separated by colons.",
                )
                .variable("MODELS_DIR")
                .flag("--models-dir", flags.models_dir.as_deref())
                .read(List(Path), vec![DEFAULT_MODELS_FOLDER.into()]),
            rescan: Duration::from_secs_f64(
                section
                    .key("rescan_s", "Time between two looks at the folders for new and changed files, seconds.")
                    .read(Number(0.2..=3600.0), 5.0),
            ),
            builtin: section
                .key("builtin", "Whether the built-in model mms-demo is in the catalogue.")
                .read(Switch, true),
            idle_unload: never_when_zero(
                section
                    .key("idle_unload_s", "Idleness after which a model is unloaded, seconds; 0: never.")
                    .read(Integer(0..=365 * DAY_S), 300),
            ),
        }
    }
}

pub(super) fn read_memory(reader: &mut Reader<'_>) -> MemoryConfig {
    let mut section = reader.section("memory");
    MemoryConfig {
        budget: section
            .key("budget", "What models may take together of RAM: a share of it, or an amount in MB or GB.")
            .read(Memory, Budget::Percent(80.0)),
        reserve_mb: section
            .key("reserve_mb", "What stays free on the machine in any case, MiB.")
            .read(Integer(0..=u32::MAX), 512)
            .into(),
        gpu_budget: section
            .key("gpu_budget", "What models may take together of each GPU: a share of its memory, or an amount.")
            .read(Memory, Budget::Percent(90.0)),
        gpu_reserve_mb: section
            .key("gpu_reserve_mb", "What stays free on each GPU in any case, MiB.")
            .read(Integer(0..=u32::MAX), 256)
            .into(),
        plan_timeout: seconds(
            section
                .key(
                    "plan_timeout_s",
                    "Time that llama.cpp has to say what a model needs, before its first load, seconds; 0: not asked, \
                     the file's header is made do with.",
                )
                .read(Integer(0..=3600), 20),
        ),
    }
}

/// Bounds of the manager, of the ports, and the time that a downstream service has to answer.
pub(super) fn read_limits(reader: &mut Reader<'_>, server: &ServerConfig) -> (Limits, WireLimits, Duration) {
    let mut section = reader.section("limits");
    let limits = Limits {
        queue_per_model: section
            .key("queue_per_model", "Requests that may wait for one model; one more is refused at once.")
            .read(Integer(1..=1_000_000u32), 256) as usize,
        request_timeout: seconds(
            section
                .key("request_timeout_s", "A request without timeout_ms ends after this time, seconds; loading counts.")
                .read(Integer(1..=DAY_S), 600),
        ),
        load_timeout: seconds(
            section.key("load_timeout_s", "A load that takes longer is ended, seconds.").read(Integer(1..=DAY_S), 600),
        ),
        heartbeat_timeout: seconds(
            section
                .key("heartbeat_timeout_s", "A worker that is silent for this long is killed and replaced, seconds.")
                .read(Integer(2..=3600), 30),
        ),
        max_loaded_models: section
            .key("max_loaded_models", "Most models in memory at once; 0: as many as the budget holds.")
            .read(Integer(0..=1_000_000u32), 0) as usize,
        ..Limits::default()
    };
    let wire = WireLimits {
        max_request_bytes: u64::from(
            section
                .key("max_request_mb", "Largest request, MiB: a ZeroMQ message or an HTTP body.")
                .read(Integer(1..=1024u32), 32),
        ) << 20,
        max_connections: section
            .key("max_connections", "Most connections at once, for each port.")
            .read(Integer(1..=1_000_000u32), 1024) as usize,
        max_in_flight: section
            .key("max_in_flight", "Most requests of one connection in work at once; then it is not read from.")
            .read(Integer(1..=1_000_000u32), 1024) as usize,
        handshake_timeout: seconds(
            section
                .key("handshake_timeout_s", "Time that a peer has to say what it is, seconds.")
                .read(Integer(1..=3600), 10),
        ),
        header_timeout: seconds(
            section
                .key("header_timeout_s", "Time for the head of an HTTP request, seconds.")
                .read(Integer(1..=3600), 30),
        ),
        body_timeout: seconds(
            section.key("body_timeout_s", "Time for the body of an HTTP request, seconds.").read(Integer(1..=3600), 60),
        ),
        heartbeat: never_when_zero(
            section
                .key(
                    "peer_heartbeat_s",
                    "Silence after which a ZeroMQ peer is asked whether it is there, seconds; 0: never asked.",
                )
                .read(Integer(0..=DAY_S), 0),
        ),
        drain_timeout: server.drain_timeout,
        trusted_hosts: server.trusted_hosts.clone(),
    };
    let service_timeout = Duration::from_secs_f64(
        section
            .key(
                "service_timeout_s",
                "Time that each of the services has to answer when verify_services asks, seconds.",
            )
            .read(Number(0.1..=60.0), 2.0),
    );
    (limits, wire, service_timeout)
}

impl KvStoreConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut section = reader.section("kv_store");
        Self {
            enabled: section
                .key("enabled", "Whether KV states are kept on disk, so that conversations go on where they were after a model was unloaded.")
                .read(Switch, true),
            folder: section
                .key("folder", "The folder for them. When not set: kv in server.data_dir.")
                .read(Maybe(Path), None),
            max_mb: section.key("max_mb", "Disk space for them, of all models together, MiB.").read(Integer(1..=u32::MAX), 512),
            max_states: section.key("max_states", "States of all models together.").read(Integer(1..=1_000_000u32), 50),
            max_age: seconds(
                section
                    .key("max_age_s", "A state that was not used for so long is removed, seconds.")
                    .read(Integer(1..=365 * DAY_S), 3600),
            ),
        }
    }
}

/// Whether the named models are known is found out later, and again and again: the catalogue follows the folders.
pub(super) fn read_routing(reader: &mut Reader<'_>) -> Policy {
    reader.section("routing").free(&ModelNames).into_iter().collect()
}

/// Most services that can be configured.
const MAX_SERVICES: usize = 64;

pub(super) fn read_services(reader: &mut Reader<'_>) -> Vec<(String, ServiceAddress)> {
    let mut section = reader.section("services");
    let services = section.free(&Service);
    for (name, _) in &services {
        if RESERVED_SERVICE_NAMES.contains(&name.as_str()) {
            section.mistake(format!(
                "services.{name}: a service cannot have this name, as replies have a key of it; choose another"
            ));
        }
    }
    if services.len() > MAX_SERVICES {
        section.mistake(format!("services must be at most {MAX_SERVICES}, these are {}", services.len()));
    }
    services
}

impl ConversationsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut section = reader.section("conversations");
        Self {
            max_conversations: section
                .key(
                    "max_conversations",
                    "Conversations that are kept, the one used longest ago goes first; 0: none, conversation_id only comes back.",
                )
                .read(Integer(0..=1_000_000u32), 50),
            max_age: seconds(
                section
                    .key("max_age_s", "A conversation that was not used for so long is forgotten, seconds.")
                    .read(Integer(1..=365 * DAY_S), 3600),
            ),
            max_mb: section
                .key("max_mb", "Memory that all conversations together may take, MiB.")
                .read(Integer(1..=1_048_576u32), 512),
            keep_on_disk: section
                .key(
                    "keep_on_disk",
                    "Whether conversations go on after a restart of the server: conversations.db in server.data_dir.",
                )
                .read(Switch, true),
        }
    }
}

impl StoreConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut section = reader.section("store");
        Self {
            path: section
                .key(
                    "path",
                    "The evaluation store, an SQLite file. When not set: model_evaluation.db in server.data_dir.",
                )
                .read(Maybe(Path), None),
        }
    }
}

impl LogConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut section = reader.section("log");
        Self {
            level: section
                .key("level", "Least important log lines that are shown.")
                .variable("LOG_LEVEL")
                .read(LEVELS, LogLevel::Info),
            format: section
                .key("format", "Form of the log on standard error; auto: coloured on a terminal, else plain text.")
                .read(FORMATS, LogFormat::Auto),
        }
    }
}
