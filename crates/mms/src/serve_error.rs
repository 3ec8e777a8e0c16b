//! Why the server could not start, in words that say what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use mms_manager::StartError;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// Another process listens there.
    #[error("the {what} {address} is in use{holder}; end that process or choose another port")]
    PortInUse {
        /// Such as `main port`.
        what: &'static str,
        /// The address that was wanted.
        address: SocketAddr,
        /// ` by NAME (process PID)`, empty when the system does not tell.
        holder: String,
    },
    /// The address cannot be had for another reason.
    #[error("cannot listen on {address} ({what}): {source}")]
    Bind {
        /// Such as `main port`.
        what: &'static str,
        /// The address that was wanted.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no worker program.
    #[error(
        "the worker program is missing: {} is not there; build it with `cargo build -p mms-engine`, install it beside mms, \
         or name it in engine.worker or MMS_WORKER",
        looked.display()
    )]
    WorkerMissing {
        /// Where it should be.
        looked: PathBuf,
    },
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used: {source}; choose another with --data-dir or DATA_DIR", path.display())]
    DataDir {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A database cannot be opened, for a reason that is none of the file.
    #[error("the database {} cannot be opened: {why}", path.display())]
    Store {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The manager could not be started.
    #[error(transparent)]
    Manager(#[from] StartError),
    /// The system refused something that is always needed.
    #[error("cannot {what}: {source}")]
    System {
        /// Such as `start the runtime`.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}
