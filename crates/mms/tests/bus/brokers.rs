//! Redis as it is installed, on a free port of loopback, in a folder of its own; ended with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::{send, wait_until};

/// A running `redis-server` that keeps nothing on disk.
pub(crate) struct Redis {
    /// Where it listens.
    pub(crate) port: u16,
    password: Option<String>,
    child: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts one on a free port.
    pub(crate) fn start() -> Self {
        Self::start_on(free_port(), None)
    }

    /// Starts one on this port; with a password, it takes nobody without.
    pub(crate) fn start_on(port: u16, password: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(port, password, folder.path());
        let redis = Self { port, password: password.map(str::to_owned), child, folder };
        redis.wait();
        redis
    }

    fn spawn(port: u16, password: Option<&str>, folder: &std::path::Path) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        if let Some(password) = password {
            command.args(["--requirepass", password]);
        }
        let child = command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        child.expect("redis-server must be installed; scripts/setup-test.sh does it")
    }

    fn wait(&self) {
        wait_until("an answer of redis-server", || self.ask(&["ping"]) == "PONG");
    }

    /// `redis://...` of its first database.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// What it answers to a command, as `redis-cli` prints it.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string(), "--no-auth-warning"]);
        if let Some(password) = &self.password {
            cli.args(["-a", password]);
        }
        let output = cli.args(command).output().expect("redis-cli must be installed; scripts/setup-test.sh does it");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The value of a key; it must become one.
    pub(crate) fn wait_for(&self, key: &str) -> serde_json::Value {
        wait_until(key, || !self.ask(&["get", key]).is_empty());
        let value = self.ask(&["get", key]);
        serde_json::from_str(&value).unwrap_or_else(|error| panic!("{key}: {error} in {value:?}"))
    }

    /// Waits until there is no such key.
    pub(crate) fn wait_for_none(&self, key: &str) {
        wait_until(&format!("the end of {key}"), || self.ask(&["exists", key]) == "0");
    }

    /// Seconds that a key still has.
    pub(crate) fn ttl(&self, key: &str) -> i64 {
        self.ask(&["ttl", key]).parse().unwrap()
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its port; it has forgotten everything.
    pub(crate) fn restart(&mut self) {
        self.child = Self::spawn(self.port, self.password.as_deref(), self.folder.path());
        self.wait();
    }

    /// Sends it a signal: `STOP` makes it as slow as can be.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Already ended, or killed here: either way it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
