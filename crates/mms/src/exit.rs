//! Exit codes: one for each kind of ending that a script may want to tell apart. Documented in `mms --help` and docs/cli.md.

use std::io;
use std::process::ExitCode;

use mms_client::ClientError;

use crate::config::Mistakes;
use crate::serve_error::ServeError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Checks failed; they have been printed.
    #[error("{failed} of {all} checks failed")]
    Checks {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
    /// Requests of a benchmark failed; they have been printed.
    #[error("{failed} of {all} requests failed")]
    Requests {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
    /// An evaluation's accuracy is below what was asked for; the evaluation has been printed.
    #[error("the accuracy is {accuracy:.4}, below {least} (--fail-under)")]
    Accuracy {
        /// The share of right answers.
        accuracy: f64,
        /// What was asked for.
        least: f64,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// An argument is wrong.
    #[error("{0}")]
    Usage(String),
    /// A call of the server failed.
    #[error("{}", with_hint(.0))]
    Client(#[from] ClientError),
    /// The server could not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A signal ended the command at once (of a server, a second one); the number of that signal.
    #[error("ended at once by signal {0}; running requests were cut off")]
    Interrupted(i32),
    /// A signal ended the command, with nothing left undone; the number of that signal.
    #[error("ended by signal {0}")]
    Ended(i32),
    /// Standard output or input failed.
    #[error("{0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Ended by Ctrl-C.
    pub(crate) const CTRL_C: Self = Self::Interrupted(2);

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Checks { .. } | Self::Requests { .. } | Self::Accuracy { .. } => 1,
            Self::Output(_) => 1,
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Client(error) => match error {
                ClientError::BadEndpoint { .. } => 2,
                ClientError::Unreachable { .. } => 3,
                ClientError::Refused(_) => 4,
                ClientError::Timeout { .. } | ClientError::Silent { .. } => 5,
                ClientError::Foreign { .. } | ClientError::Protocol { .. } => 7,
            },
            Self::Serve(error) => match error {
                ServeError::PortInUse { .. } => 6,
                ServeError::Bind { .. }
                | ServeError::WorkerMissing { .. }
                | ServeError::DataDir { .. }
                | ServeError::Store { .. }
                | ServeError::Manager(_)
                | ServeError::System { .. } => 8,
            },
            Self::Interrupted(signal) | Self::Ended(signal) => 128u8.saturating_add(u8::try_from(*signal).unwrap_or(0)),
        }
    }

    /// A reader that has left, as in `mms models list | head -1`, is no failure.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Tells what went wrong, and gives the exit code.
pub(crate) fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mms: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn with_hint(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { endpoint, .. } if is_local(endpoint) => {
            format!("{error}; start one with `mms serve`")
        }
        ClientError::Unreachable { .. } => {
            format!("{error}; is `mms serve` running there, and bound to an address that can be reached (--bind)?")
        }
        ClientError::Foreign { endpoint, expected, .. } => format!(
            "{error}; give the {} port of a model manager (--{})",
            if *expected == "HTTP" { "HTTP" } else { "main" },
            if endpoint.starts_with("http") { "http" } else { "endpoint" },
        ),
        ClientError::Timeout { .. } => format!("{error}; --timeout SECONDS gives it more time"),
        ClientError::Silent { .. } => format!("{error}; it hangs, or is no model manager"),
        ClientError::BadEndpoint { .. } | ClientError::Protocol { .. } | ClientError::Refused(_) => error.to_string(),
    }
}

fn is_local(endpoint: &str) -> bool {
    ["127.", "localhost", "[::1]"].iter().any(|host| endpoint.contains(host))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mms_client::ClientError;
    use mms_protocol::{ErrorCode, Refusal};

    use super::Failure;
    use crate::config::Mistakes;
    use crate::serve_error::ServeError;

    #[test]
    fn codes_are_those_of_the_documentation() {
        let endpoint = || "tcp://127.0.0.1:1".to_owned();
        let client = |error: ClientError| Failure::from(error);
        let refusal = Refusal::new(ErrorCode::QueueFull, "full");
        for (failure, code, word) in [
            (Failure::Checks { failed: 1, all: 2 }, 1, "a check failed"),
            (Failure::Requests { failed: 1, all: 2 }, 1, "request"),
            (Failure::Accuracy { accuracy: 0.5, least: 0.8 }, 1, "--fail-under"),
            (Failure::Config(Mistakes(Vec::new())), 2, "configuration"),
            (Failure::Usage("x".to_owned()), 2, "command line"),
            (client(ClientError::BadEndpoint { endpoint: endpoint(), why: String::new() }), 2, "command line"),
            (client(ClientError::Unreachable { endpoint: endpoint(), why: String::new() }), 3, "no server"),
            (client(ClientError::Refused(refusal)), 4, "refused"),
            (
                client(ClientError::Timeout { endpoint: endpoint(), after: Duration::ZERO, what: String::new() }),
                5,
                "no answer in time",
            ),
            (
                Failure::Serve(ServeError::PortInUse {
                    what: "main port",
                    address: ([127, 0, 0, 1], 1).into(),
                    holder: String::new(),
                }),
                6,
                "in use",
            ),
            (client(ClientError::Protocol { endpoint: endpoint(), why: String::new() }), 7, "no model manager"),
            (Failure::Serve(ServeError::WorkerMissing { looked: "x".into() }), 8, "could not start"),
            (Failure::Interrupted(2), 130, "SIGINT"),
            (Failure::Interrupted(15), 143, "SIGTERM"),
            (Failure::Ended(1), 129, "SIGHUP"),
            (Failure::Ended(15), 143, "mms top"),
        ] {
            assert_eq!(failure.code(), code, "{failure:?}");
            let documentation = include_str!("../../../docs/cli.md");
            let row = documentation.lines().find(|line| line.starts_with(&format!("| {code} |")));
            assert!(
                row.is_some_and(|row| row.contains(word)),
                "docs/cli.md has no row for {code} with {word:?}: {row:?}"
            );
        }
    }
}
