//! A real server for a test: the built `mms` with the built `mms-worker`, on free ports of loopback, in a folder of its own, ended
//! with the test. `Server::start("")` is all that most tests need.
#![expect(unreachable_pub, reason = "a module of several test programs")]

mod disk;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub use disk::Disk;

/// Longest wait for anything; only a hang takes as long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `mms serve`. Dropping it kills it.
pub struct Server {
    /// `tcp://127.0.0.1:PORT` of the main port.
    pub main: String,
    /// `tcp://127.0.0.1:PORT` of the health port.
    pub health: String,
    /// `http://127.0.0.1:PORT` of the HTTP port.
    pub http: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server whose configuration file is `extra_config`, and waits until it says `ready`. Ports and data folder are set
    /// by flags, so `[server]` may appear in it.
    pub fn start(extra_config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mms.toml"), extra_config).unwrap();
        Self::start_in(folder, &[])
    }

    /// Starts a server in a prepared folder (its `mms.toml`, its `models/`), with further flags.
    pub fn start_in(folder: tempfile::TempDir, flags: &[&str]) -> Self {
        Self::spawn(mms(), folder, flags)
    }

    /// Starts a server in a prepared folder, with these variables in its environment.
    pub fn start_with(folder: tempfile::TempDir, variables: &[(&str, &str)]) -> Self {
        let mut command = mms();
        command.envs(variables.iter().copied());
        Self::spawn(command, folder, &[])
    }

    /// Starts a server in a prepared folder whose folder `disk`, where its evaluation store is, has [`SMALL_DISK`] of space.
    pub fn start_on_small_disk(folder: tempfile::TempDir) -> (Self, Disk) {
        let disk = folder.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let config = folder.path().join("mms.toml");
        let text = std::fs::read_to_string(&config).unwrap() + "[store]\npath = \"disk/evaluation.db\"\n";
        std::fs::write(config, text).unwrap();
        match disk::mounting(&disk) {
            Some(command) => {
                let server = Self::spawn(command, folder, &[]);
                let disk = Disk::Small(
                    PathBuf::from(format!("/proc/{}/root", server.pid())).join(&disk.to_string_lossy()[1..]),
                );
                (server, disk)
            }
            None => {
                let server = Self::start_in(folder, &[]);
                let disk = Disk::Limited(server.pid());
                (server, disk)
            }
        }
    }

    fn spawn(mut command: Command, folder: tempfile::TempDir, flags: &[&str]) -> Self {
        build_worker();
        let usual = [["--port", "0"], ["--health-port", "0"], ["--http-port", "0"], ["--data-dir", "data"]];
        let mut child = command
            .arg("serve")
            .args(usual.iter().filter(|[flag, _]| !flags.contains(flag)).flatten())
            .args(flags)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        let mut server =
            Self { main: String::new(), health: String::new(), http: String::new(), child, stdout, stderr, folder };
        if !server.stdout.wait_for(|line| line.starts_with("ready in ")) {
            panic!("not ready; it printed\n{}\nand logged\n{}", server.stdout.all(), server.stderr.all());
        }
        server.main = server.second_word_of("main");
        server.health = server.second_word_of("health");
        server.http = server.second_word_of("http");
        server
    }

    /// The folder in which it runs; its data are in `data`, its models in `models`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.all()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.stderr.all()
    }

    /// Waits for a line of its log that holds `part`.
    pub fn wait_for_log(&self, part: &str) {
        assert!(self.stderr.wait_for(|line| line.contains(part)), "{part:?} never came; it logged\n{}", self.log());
    }

    /// A client command against this server, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = mms();
        command.args(args).args(["--endpoint", &self.main, "--http", &self.http]).current_dir(self.folder());
        command
    }

    /// Runs a client command against this server.
    pub fn mms(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a client command that must succeed; gives what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.mms(args);
        assert!(output.status.success(), "mms {args:?}: {output:?}\nserver log:\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a client command with `--json` that must succeed; gives the JSON.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let printed = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("mms {args:?} --json: {error} in {printed}"))
    }

    /// Processes of its workers.
    pub fn workers(&self) -> Vec<u32> {
        children_of(self.pid())
            .into_iter()
            .filter(|pid| name_of(*pid).is_some_and(|name| name == "mms-worker"))
            .collect()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end; it logged\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it with SIGTERM; it must say that all went well.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}; it logged\n{}", self.log());
    }

    fn second_word_of(&self, first: &str) -> String {
        let printed = self.stdout.all();
        let line = printed.lines().find(|line| line.split_whitespace().next() == Some(first));
        let word = line.and_then(|line| line.split_whitespace().nth(1));
        word.unwrap_or_else(|| panic!("no line {first:?} in\n{printed}")).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended, or killed here: either way it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The built program, in an environment without settings.
pub fn mms() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mms"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// The worker beside it, brought up to date: a run of this package's tests alone builds only `mms`.
fn build_worker() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "mms-engine"]).status().unwrap();
        assert!(built.success(), "mms-worker cannot be built");
        assert!(worker().exists(), "there is no {}", worker().display());
    });
}

/// The built worker program.
pub fn worker() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_mms")).with_file_name("mms-worker")
}

/// Lets the server in this folder have workers whose load stands still at 43 % as long as there is the file `hold`, which is made here.
pub fn hold_loads(folder: &Path, config: &str) {
    let program = folder.join("slow_worker");
    let text = include_str!("slow_worker.py").replace("@WORKER@", &worker().to_string_lossy());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("hold"), "").unwrap();
    let program = program.display();
    let config = format!("[engine]\nworker = \"{program}\"\nthreads = 1\n[memory]\nplan_timeout_s = 0\n{config}");
    std::fs::write(folder.join("mms.toml"), config).unwrap();
}

/// Sends a signal to a process.
pub fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Whether a process runs (one that has ended and was not yet waited for does not).
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !matches!(stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()), Some('Z' | 'X'))
    })
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn name_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

fn children_of(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// Lines of a pipe, collected by a thread.
#[derive(Clone, Default)]
struct Lines(Arc<Collected>);

#[derive(Default)]
struct Collected {
    lines: Mutex<(Vec<String>, Ended)>,
    changed: Condvar,
}

/// Whether the pipe has ended.
type Ended = bool;

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let collected = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { break };
                collected.0.lines.lock().unwrap().0.push(line);
                collected.0.changed.notify_all();
            }
            collected.0.lines.lock().unwrap().1 = true;
            collected.0.changed.notify_all();
        });
        lines
    }

    fn all(&self) -> String {
        self.0.lines.lock().unwrap().0.join("\n")
    }

    /// Waits for a line; `false`: the pipe has ended, or patience has, without it.
    fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let begun = Instant::now();
        let mut state = self.0.lines.lock().unwrap();
        loop {
            if state.0.iter().any(|line| wanted(line)) {
                return true;
            }
            if state.1 || begun.elapsed() > PATIENCE {
                return false;
            }
            state = self.0.changed.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }
}
