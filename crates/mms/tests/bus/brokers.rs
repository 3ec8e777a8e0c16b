//! Redis and NATS as they are installed, on free ports of loopback, in folders of their own; ended with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::{PATIENCE, send, wait_until};

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

/// A running `nats-server`.
pub(crate) struct Nats {
    /// Where it listens.
    pub(crate) port: u16,
    arguments: Vec<String>,
    child: Child,
    folder: tempfile::TempDir,
}

impl Nats {
    /// Starts one with JetStream on a free port.
    pub(crate) fn start() -> Self {
        Self::start_on(free_port(), &["-js"])
    }

    /// Starts one on this port.
    pub(crate) fn start_on(port: u16, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = Self::spawn(port, &arguments, folder.path());
        let nats = Self { port, arguments, child, folder };
        nats.wait();
        nats
    }

    fn spawn(port: u16, arguments: &[String], folder: &std::path::Path) -> Child {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("/usr/bin/env");
        // Debian puts it where only root looks.
        command.env("PATH", format!("{path}:/usr/sbin")).args([
            "nats-server",
            "-a",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ]);
        command.arg("-sd").arg(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn wait(&self) {
        wait_until("nats-server; it must be installed, scripts/setup-test.sh does it", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// `nats://...` of it.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A client of its streams.
    pub(crate) async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.url()).await.unwrap())
    }

    /// Every message of a stream, in order; none when there is no such stream.
    pub(crate) async fn messages(&self, stream: &str) -> Vec<Kept> {
        let jetstream = self.jetstream().await;
        let Ok(stream) = jetstream.get_stream(stream).await else { return Vec::new() };
        let state = &stream.cached_info().state;
        let mut messages = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            if let Ok(message) = stream.get_raw_message(sequence).await {
                let headers = &message.headers;
                let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
                messages.push(Kept {
                    subject: message.subject.to_string(),
                    id: header("Nats-Msg-Id").unwrap(),
                    agent: header("agent"),
                    severity: header("severity"),
                    body: serde_json::from_slice(&message.payload).unwrap(),
                });
            }
        }
        messages
    }

    /// Waits for messages of a stream that are `enough`.
    pub(crate) async fn wait_for(&self, stream: &str, what: &str, enough: impl Fn(&[Kept]) -> bool) -> Vec<Kept> {
        let begun = std::time::Instant::now();
        loop {
            let messages = self.messages(stream).await;
            if enough(&messages) {
                return messages;
            }
            assert!(begun.elapsed() < PATIENCE, "{stream}: {what} never came; it has {messages:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it has kept, perhaps with other arguments.
    pub(crate) fn restart(&mut self, arguments: Option<&[&str]>) {
        if let Some(arguments) = arguments {
            self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        }
        self.child = Self::spawn(self.port, &self.arguments, self.folder.path());
        self.wait();
    }

    /// Sends it a signal: `STOP` makes it as slow as can be.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A message as a stream keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) subject: String,
    pub(crate) id: String,
    pub(crate) agent: Option<String>,
    pub(crate) severity: Option<String>,
    pub(crate) body: serde_json::Value,
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
