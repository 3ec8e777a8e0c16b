//! The life of a worker: handshake, load, work, end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use llama_cpp_2::llama_backend::LlamaBackend;
use mms_protocol::worker::{
    EXIT_LOAD_FAILED, EXIT_PROTOCOL, Heartbeat, PROTOCOL_VERSION, ToHost, ToWorker, WorkerHello,
};

use crate::beat::beat_while;
use crate::engine::{Engine, open_store};
use crate::load::{devices, load};
use crate::memory::plan;
use crate::prompts::Prompts;
use crate::wire::{Inbox, Incoming, Outbox, start};
use crate::{logging, sys};

/// How often the host hears something while the model loads.
const LOADING_HEARTBEAT: Duration = Duration::from_secs(1);

/// How a worker can end other than with its host.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Protocol(String),
    #[error("the model could not be loaded: {0}")]
    LoadFailed(String),
}

/// Standard input as the socket of the host.
pub(crate) fn socket_on_stdin() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let kind = rustix::fs::fstat(&stdin)?.st_mode;
    if !rustix::fs::FileType::from_raw_mode(kind).is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard input is not a socket"));
    }
    Ok(stdin.as_fd().try_clone_to_owned()?.into())
}

/// Does what the host says until one of both ends.
pub(crate) fn serve(socket: UnixStream) -> ExitCode {
    logging::init();
    log_panics_and_end();
    sys::ignore_terminal_signals();
    sys::survive_file_limits();
    sys::end_with_parent();
    let (outbox, inbox) = match start(socket) {
        Ok(both) => both,
        Err(error) => {
            tracing::error!(%error, "the socket cannot be used");
            return ExitCode::from(1);
        }
    };
    let code = match work(inbox, &outbox) {
        Ok(()) => 0,
        Err(end) => {
            tracing::error!("{end}");
            match end {
                End::Protocol(_) => EXIT_PROTOCOL,
                End::LoadFailed(reason) => {
                    outbox.send(ToHost::LoadFailed { reason });
                    EXIT_LOAD_FAILED
                }
            }
        }
    };
    outbox.flush();
    sys::exit_now(code)
}

fn work(inbox: Inbox, outbox: &Outbox) -> Result<(), End> {
    let backend = LlamaBackend::init().map_err(|error| End::LoadFailed(error.to_string()))?;
    let system_info = sys::system_info();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), features = system_info, "started");
    shake_hands(&inbox, outbox, system_info)?;
    let Ok(Incoming::Host { message, at }) = inbox.incoming.recv() else { return Ok(()) };
    let beat = || outbox.send(ToHost::Heartbeat(Heartbeat::default()));
    let spec = match message {
        ToWorker::Load(spec) => spec,
        ToWorker::Plan(spec) => {
            let plan = beat_while(LOADING_HEARTBEAT, beat, || plan(&backend, *spec)).map_err(End::LoadFailed)?;
            outbox.send(ToHost::Planned(plan));
            return Ok(());
        }
        ToWorker::Shutdown => return Ok(()),
        ToWorker::Hello { .. }
        | ToWorker::Generate { .. }
        | ToWorker::Embed { .. }
        | ToWorker::Cancel { .. }
        | ToWorker::Forget { .. } => {
            return Err(End::Protocol("the host must send what to load first".to_owned()));
        }
    };
    let told = outbox.clone();
    let progress = move |fraction| told.send(ToHost::Loading { fraction });
    let loading = beat_while(LOADING_HEARTBEAT, beat, || load(&backend, *spec, at, progress));
    let (loaded, prompter) = loading.map_err(End::LoadFailed)?;
    let store = open_store(&loaded, &inbox);
    let prompts = Prompts::start(prompter, inbox.sender)
        .map_err(|error| End::LoadFailed(format!("the thread that prepares prompts cannot be started: {error}")))?;
    outbox.send(ToHost::Loaded(loaded.info.clone()));
    Engine::new(loaded, prompts, store, inbox.incoming, outbox.clone())
        .run()
        .map_err(|error| End::Protocol(error.to_string()))
}

/// Both sides say their version; a host of another one still learns ours.
fn shake_hands(inbox: &Inbox, outbox: &Outbox, system_info: String) -> Result<(), End> {
    let Ok(Incoming::Host { message, .. }) = inbox.incoming.recv() else { return Ok(()) };
    outbox.send(ToHost::Hello(WorkerHello {
        protocol_version: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        system_info,
        devices: devices(),
    }));
    match message {
        ToWorker::Hello { protocol_version: PROTOCOL_VERSION } => Ok(()),
        ToWorker::Hello { protocol_version } => Err(End::Protocol(format!(
            "the host speaks version {protocol_version} of the worker protocol, this worker {PROTOCOL_VERSION}; \
             install `mms` and `mms-worker` of the same release"
        ))),
        ToWorker::Load(_)
        | ToWorker::Plan(_)
        | ToWorker::Generate { .. }
        | ToWorker::Embed { .. }
        | ToWorker::Cancel { .. }
        | ToWorker::Forget { .. }
        | ToWorker::Shutdown => Err(End::Protocol("the host did not begin with the handshake".to_owned())),
    }
}

/// A panic in any thread ends the whole worker: half a worker would look alive.
fn log_panics_and_end() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("the worker is at fault: {}", panic.to_string().replace('\n', " "));
        sys::exit_now(101);
    }));
}
