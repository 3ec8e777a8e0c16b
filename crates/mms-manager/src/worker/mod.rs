//! One worker process and its socket. A [`Worker`] is a task of its own that starts the program, talks to it, watches it, and reports
//! to the manager's task; the last report is always [`WorkerInput::Gone`], after the process has been waited for.

pub(crate) mod errand;
mod process;
mod spawner;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use mms_protocol::view::KvView;
use mms_protocol::worker::{LoadSpec, LoadedInfo, MAX_FRAME_BYTES, PROTOCOL_VERSION, ToHost, ToWorker, WorkerHello};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::lifecycle::{Finish, Said, Vectors, WorkerId, WorkerInput};
use crate::memory::{Amounts, GpuProbe, Held, MIB, MemoryProbe, RAM, RETURN_PATIENCE, is_back, measure};
use crate::traffic::{ModelCounters, Tally};

pub use process::ending;
pub use spawner::Spawner;

/// Lines of a worker's stderr that are kept for the reason of its end.
const LINES_KEPT: usize = 20;
/// What the socket and stderr of a process that has ended get to be read to their end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often a resident worker's memory is measured. It grows while prompts longer than any before are computed.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Less than this is no news, MiB.
const WORTH_TELLING_MB: f64 = 1.0;
/// Between two looks whether the memory of a process that has ended is back.
const LOOK_FOR_MEMORY: Duration = Duration::from_millis(50);

/// What a worker reports.
#[derive(Debug)]
pub enum Report {
    /// It agreed on the protocol.
    Hello(Box<WorkerHello>),
    /// It loaded the model; an input for the lifecycle follows.
    Info(Box<LoadedInfo>),
    /// What it keeps of conversations without a slot has changed; an input for the lifecycle follows.
    Kv(KvView),
    /// For the lifecycle.
    Input(WorkerInput),
}

/// Which worker, and what it reports.
pub type Reports = mpsc::UnboundedSender<(WorkerId, Report)>;

/// How to start a worker and what to load.
#[derive(Debug)]
pub struct Job {
    /// Its name.
    pub worker: WorkerId,
    /// The `mms-worker` program.
    pub program: PathBuf,
    /// What to load.
    pub load: LoadSpec,
    /// What is reserved for it, by device.
    pub reserved: Amounts,
    /// Tells what it holds of GPUs.
    pub gpus: Arc<dyn GpuProbe>,
    /// Where its tokens are counted.
    pub counters: Arc<ModelCounters>,
}

impl Job {
    /// It gets memory of a GPU.
    fn uses_gpus(&self) -> bool {
        self.reserved.iter().any(|(device, mb)| device != RAM && mb > 0.0)
    }
}

/// The way to a running worker. Dropping it ends the process.
#[derive(Debug)]
pub struct Worker {
    commands: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
enum Command {
    Say(ToWorker),
    Kill,
}

impl Worker {
    /// Starts the task of a worker. The queues on the way are unbounded and yet bounded: towards the worker by the requests
    /// that the lifecycle hands over, towards the manager by the tokens of those requests.
    pub fn start(job: Job, spawner: Spawner, reports: Reports) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(job, spawner, reports, inbox));
        Self { commands }
    }

    /// Sends a message. A worker that is gone does not miss it: its end is reported in its own time.
    pub fn say(&self, message: ToWorker) {
        _ = self.commands.send(Command::Say(message));
    }

    /// Ends the process by force.
    pub fn kill(&self) {
        _ = self.commands.send(Command::Kill);
    }
}

/// A worker's fault that ends it, as the reason to be shown.
struct Fault(String);

async fn run(job: Job, spawner: Spawner, reports: Reports, inbox: mpsc::UnboundedReceiver<Command>) {
    let worker = job.worker;
    let report = |input| _ = reports.send((worker, Report::Input(input)));
    let (child, socket) = match spawner.spawn(&job.program).await {
        Ok(started) => started,
        Err(error) => {
            let reason = format!("cannot start the worker program {}: {error}", job.program.display());
            report(WorkerInput::LoadFailed(reason.clone()));
            return report(WorkerInput::Gone(reason));
        }
    };
    let reason = Attendant::new(job, child, socket, reports.clone()).attend(inbox).await;
    report(WorkerInput::Gone(reason));
}

/// Looks after one running process.
struct Attendant {
    job: Job,
    child: Child,
    pid: u32,
    read: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    /// Writing has a task of its own: a worker that reads nothing must not stop us from listening and killing.
    write: Option<mpsc::UnboundedSender<ToWorker>>,
    stderr: Option<tokio::task::JoinHandle<VecDeque<String>>>,
    reports: Reports,
    resident: bool,
    /// By us.
    killed: bool,
    /// How many processes the kernel had ended for want of memory when this one started.
    oom_kills: Option<u64>,
    /// The last figures that were told.
    told: Held,
    /// KV states put aside, as they were told last.
    kv: KvView,
    /// Pages of files other than the model's that are in use, MiB.
    program_mb: f64,
    /// Tensors that are used where the mapped file has them, MiB.
    mapped_mb: f64,
    /// What was free of each GPU when it was measured last.
    gpus_free: Amounts,
    tally: Tally,
}

impl Attendant {
    fn new(job: Job, mut child: Child, socket: UnixStream, reports: Reports) -> Self {
        let pid = child.id().unwrap_or_default();
        let (read, write) = socket.into_split();
        let (outbox, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_all(FramedWrite::new(write, codec()), queue));
        let model = job.load.model_id.clone();
        let stderr = child.stderr.take().map(|stderr| tokio::spawn(read_stderr(stderr, model, pid)));
        Self {
            tally: Tally::new(Arc::clone(&job.counters)),
            job,
            child,
            pid,
            read: FramedRead::new(read, codec()),
            write: Some(outbox),
            stderr,
            reports,
            resident: false,
            killed: false,
            oom_kills: MemoryProbe::default().oom_kills(),
            told: Held::default(),
            kv: KvView::default(),
            program_mb: 0.0,
            mapped_mb: 0.0,
            gpus_free: Amounts::default(),
        }
    }

    /// Serves until the process is gone; returns how it ended.
    async fn attend(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) -> String {
        self.say(ToWorker::Hello { protocol_version: PROTOCOL_VERSION });
        let mut measure_timer = tokio::time::interval_at(tokio::time::Instant::now() + MEASURE_EVERY, MEASURE_EVERY);
        let mut fault: Option<Fault> = None;
        let status = loop {
            tokio::select! {
                frame = self.read.next(), if fault.is_none() => {
                    let result = match frame {
                        Some(Ok(frame)) => self.on_frame(&frame),
                        Some(Err(error)) => Err(Fault(format!("its socket failed: {error}"))),
                        None => Err(Fault(String::new())),
                    };
                    if let Err(found) = result {
                        // Without a socket it is of no use, whatever it still does. An end by itself is under way mostly.
                        if !found.0.is_empty() {
                            self.kill();
                        }
                        fault = Some(found);
                    }
                }
                command = inbox.recv() => match command {
                    Some(Command::Say(message)) => self.say(message),
                    Some(Command::Kill) => self.kill(),
                    None => {
                        self.kill();
                        break self.child.wait().await;
                    }
                },
                status = self.child.wait() => break status,
                () = tokio::time::sleep(LAST_WORDS), if matches!(&fault, Some(Fault(why)) if why.is_empty()) => {
                    fault = Some(Fault("it closed its socket but did not end".to_owned()));
                    self.kill();
                }
                _ = measure_timer.tick(), if self.resident => self.measure(),
            }
        };
        self.write = None;
        let silent = fault.is_none();
        while silent && let Ok(Some(Ok(frame))) = tokio::time::timeout(LAST_WORDS, self.read.next()).await {
            if let Err(found) = self.on_frame(&frame) {
                fault = Some(found);
                break;
            }
        }
        let lines = match self.stderr.take() {
            Some(task) => tokio::time::timeout(LAST_WORDS, task).await.ok().and_then(Result::ok).unwrap_or_default(),
            None => VecDeque::new(),
        };
        let fault = fault.map(|Fault(why)| why).filter(|why| !why.is_empty());
        self.memory_is_back().await;
        // The counter may rise for another process in this very time; then the guess is wrong, but the memory was short.
        let starved =
            !self.killed && self.oom_kills.is_some_and(|before| MemoryProbe::default().oom_kills() > Some(before));
        ending(status, fault, &lines, starved)
    }

    fn say(&self, message: ToWorker) {
        if let Some(write) = &self.write {
            // The writer ends when the socket breaks; that is found by reading.
            _ = write.send(message);
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        if let Err(error) = self.child.start_kill() {
            tracing::warn!(pid = self.pid, model = self.job.load.model_id, %error, "cannot kill the worker");
        }
    }

    fn measure(&mut self) {
        let Some(held) = self.held() else { return };
        let change = |device: &str| (held.amounts.get(device) - self.told.amounts.get(device)).abs();
        if held.amounts.iter().any(|(device, _)| change(device) >= WORTH_TELLING_MB) {
            self.told = held.clone();
            self.input(WorkerInput::Measured(held));
        }
    }

    /// `None`: a process that has just ended cannot be measured; its end is seen at once.
    fn held(&mut self) -> Option<Held> {
        let resident = measure(self.pid).ok()?;
        // Pages of tensors that were copied are still resident, until the kernel wants them; nobody needs them any more.
        let needed = resident.needed(self.program_mb + self.mapped_mb);
        let mut amounts = Amounts::ram(needed.total_mb);
        if self.job.uses_gpus() {
            let gpus = &self.job.gpus;
            // A driver that does not tell what one process holds leaves only what was reserved.
            let held = gpus.held_by(self.pid).unwrap_or_else(|| self.job.reserved.clone());
            for (device, mb) in held.iter().filter(|(device, _)| *device != RAM) {
                amounts.add(device, mb);
            }
            self.gpus_free = gpus.read().into_iter().map(|gpu| (gpu.device, gpu.free_mb)).collect();
        }
        let kv_store_mb = self.kv.ram_bytes as f64 / MIB;
        Some(Held { amounts, reclaimable_mb: needed.file_mapped_mb, kv_store_mb })
    }

    /// The kernel has RAM back when the process is gone; the driver of a GPU may take a moment more.
    async fn memory_is_back(&self) {
        if !self.job.uses_gpus() || !self.resident {
            return;
        }
        let until = tokio::time::Instant::now() + RETURN_PATIENCE;
        while !is_back(&self.job.gpus.read(), &self.gpus_free, &self.told.amounts) {
            if tokio::time::Instant::now() >= until {
                tracing::warn!(model = self.job.load.model_id, "its memory on the GPU has not come back");
                return;
            }
            tokio::time::sleep(LOOK_FOR_MEMORY).await;
        }
    }

    fn input(&self, input: WorkerInput) {
        _ = self.reports.send((self.job.worker, Report::Input(input)));
    }

    fn on_frame(&mut self, frame: &[u8]) -> Result<(), Fault> {
        let message: ToHost = serde_json::from_slice(frame)
            .map_err(|error| Fault(format!("it sent a message that cannot be read: {error}")))?;
        self.tally.hear(&message);
        let input = match message {
            ToHost::Hello(hello) => return self.on_hello(hello),
            ToHost::Loading { fraction } => WorkerInput::Progress(fraction),
            ToHost::Loaded(info) => {
                self.resident = true;
                self.mapped_mb = info.mapped_bytes as f64 / MIB;
                // More of the program is in use now than when it said hello.
                self.program_mb = self.program_mb.max(info.program_bytes as f64 / MIB);
                let measured = self.held();
                self.told = measured.clone().unwrap_or_default();
                let slots = info.slots;
                _ = self.reports.send((self.job.worker, Report::Info(Box::new(info))));
                WorkerInput::Loaded { slots, measured }
            }
            ToHost::LoadFailed { reason } => WorkerInput::LoadFailed(reason),
            ToHost::Started { id, prompt_tokens, cached_tokens, left_out } => {
                WorkerInput::Says(id, Said::Started { prompt_tokens, cached_tokens, left_out })
            }
            ToHost::Text { id, text, logprobs, .. } => WorkerInput::Says(id, Said::Text { text, logprobs }),
            ToHost::ToolCall { id, call, .. } => WorkerInput::Says(id, Said::ToolCall(call)),
            ToHost::Embedded { id, vectors, prompt_tokens, .. } => {
                WorkerInput::Says(id, Said::Embedded(Vectors { vectors, prompt_tokens }))
            }
            ToHost::Planned(_) => WorkerInput::Alive,
            ToHost::Finished { id, reason, usage, timings, tokens } => {
                WorkerInput::Says(id, Said::Finished(Finish { reason, usage, timings, tokens }))
            }
            ToHost::Failed { id, failure } => WorkerInput::Says(id, Said::Failed(failure)),
            ToHost::Heartbeat(beat) => {
                let kv = KvView {
                    ram_bytes: beat.kv_store_bytes,
                    disk_bytes: beat.kv_store_disk_bytes,
                    restored: beat.kv_restored,
                };
                if self.kv != kv {
                    self.kv = kv;
                    _ = self.reports.send((self.job.worker, Report::Kv(kv)));
                }
                WorkerInput::Alive
            }
        };
        self.input(input);
        Ok(())
    }

    fn on_hello(&mut self, hello: WorkerHello) -> Result<(), Fault> {
        if hello.protocol_version != PROTOCOL_VERSION {
            let reason = format!(
                "the worker program {} (version {}) speaks protocol {}, this server speaks {PROTOCOL_VERSION}; install both from \
                 the same release",
                self.job.program.display(),
                hello.version,
                hello.protocol_version
            );
            self.input(WorkerInput::LoadFailed(reason.clone()));
            return Err(Fault(reason));
        }
        tracing::info!(
            pid = hello.pid,
            model = self.job.load.model_id,
            version = hello.version,
            system = hello.system_info,
            "worker started"
        );
        _ = self.reports.send((self.job.worker, Report::Hello(Box::new(hello))));
        // A process that has just ended cannot be measured; its end is seen at once.
        self.program_mb = measure(self.pid).map_or(0.0, |resident| resident.file_mapped_mb);
        self.say(ToWorker::Load(Box::new(self.job.load.clone())));
        Ok(())
    }
}

/// Frames as both sides agreed on.
pub(crate) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().big_endian().length_field_length(4).max_frame_length(MAX_FRAME_BYTES).new_codec()
}

async fn write_all(
    mut sink: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
    mut queue: mpsc::UnboundedReceiver<ToWorker>,
) {
    while let Some(message) = queue.recv().await {
        let frame = match serde_json::to_vec(&message) {
            Ok(frame) => Bytes::from(frame),
            Err(error) => {
                tracing::error!(%error, "a message to a worker cannot be written as JSON");
                return;
            }
        };
        if let Err(error) = sink.send(frame).await {
            tracing::debug!(%error, "a worker's socket is closed");
            return;
        }
    }
}

async fn read_stderr(stderr: ChildStderr, model: String, pid: u32) -> VecDeque<String> {
    let mut kept = VecDeque::with_capacity(LINES_KEPT);
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return kept,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if text.is_empty() {
                    continue;
                }
                tracing::debug!(target: "mms_worker", pid, model, "{text}");
                if kept.len() == LINES_KEPT {
                    kept.pop_front();
                }
                kept.push_back(text);
            }
        }
    }
}
