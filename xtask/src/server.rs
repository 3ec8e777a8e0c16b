//! One `mms serve` of this build for a chore: free ports, data of its own, ended with SIGTERM when the chore is done.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{check, command};

/// Longest wait for the server to be ready, and for its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    child: Child,
    started: Instant,
    /// ZMTP, operations.
    pub(crate) main_port: u16,
    /// ZMTP or HTTP, health.
    pub(crate) health_port: u16,
    /// HTTP.
    pub(crate) http_port: u16,
}

impl Server {
    /// Starts `program` with its files under `data`.
    pub(crate) fn start(program: &Path, data: &Path) -> Result<Self> {
        Self::start_with(program, data, &[])
    }

    /// The same with further arguments of `mms serve`. What the environment says about models does not count.
    pub(crate) fn start_with(program: &Path, data: &Path, args: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(data).with_context(|| format!("could not make {}", data.display()))?;
        let [main_port, health_port, http_port] = free_ports()?;
        let log = std::fs::File::create(data.join("server.log")).context("could not make the server's log")?;
        let started = Instant::now();
        let child = command(program, &[&["serve"], args].concat())
            .env_remove("MODELS_DIR")
            .env("AGENT_PORT", main_port.to_string())
            .env("HEALTH_PORT", health_port.to_string())
            .env("HTTP_PORT", http_port.to_string())
            .env("DATA_DIR", data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("could not share the server's log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        Ok(Self { child, started, main_port, health_port, http_port })
    }

    /// Waits until it says that it is ready; how long that took from its start.
    pub(crate) fn ready(&mut self) -> Result<Duration> {
        while self.started.elapsed() < PATIENCE {
            if self.get("/readyz").is_ok_and(|reply| reply.starts_with("HTTP/1.1 200")) {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status} before it was ready");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("the server was not ready within {PATIENCE:?}")
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Its address for ZMQ clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.main_port)
    }

    /// A whole HTTP reply of the health port, head and body.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    }

    /// Memory it holds in RAM, MiB.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS in /proc")?;
        let kilobytes: f64 =
            line.split_whitespace().nth(1).unwrap_or_default().parse().context("VmRSS is no number")?;
        Ok(kilobytes / 1024.0)
    }

    /// Ends it as an operator does; anything but exit code 0 is an error.
    pub(crate) fn stop(mut self) -> Result<()> {
        check(command("kill", &["-TERM", &self.child.id().to_string()]))?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server ended with {status}"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        bail!("the server did not end within {PATIENCE:?} of SIGTERM")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!("could not end server {}: {error}", self.child.id());
        }
    }
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
