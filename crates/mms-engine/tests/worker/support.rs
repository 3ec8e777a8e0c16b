//! A host for one worker: spawns it, sends messages, waits for answers.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mms_protocol::generate::{
    ChatMessage, FinishReason, GenerateSpec, Logprob, Prompt, Role, Sampling, Timings, ToolCall, Usage,
};
use mms_protocol::worker::{
    EngineSettings, GenerateFailure, LoadSpec, LoadedInfo, PROTOCOL_VERSION, ToHost, ToWorker, WorkerHello,
};

/// Nothing here is about time; a wait this long means that it hangs.
const HANGS: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) worker: Child,
    pub(crate) socket: UnixStream,
}

/// Everything about one generation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) pieces: Vec<String>,
    pub(crate) logprobs: Vec<Logprob>,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) left_out: u32,
    pub(crate) tokens: Vec<u32>,
    pub(crate) end: End,
}

/// What has come so far of one generation.
#[derive(Debug, Clone, Default, PartialEq)]
struct Partial {
    pieces: Vec<String>,
    logprobs: Vec<Logprob>,
    calls: Vec<ToolCall>,
    prompt_tokens: u32,
    cached_tokens: u32,
    left_out: u32,
    tokens: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    Finished { reason: FinishReason, usage: Usage, timings: Timings },
    Failed(GenerateFailure),
}

pub(crate) fn demo_model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/mms-demo.gguf")
}

impl Host {
    /// A worker that has been told nothing yet.
    pub(crate) fn spawn() -> Self {
        let (socket, stdin) = UnixStream::pair().expect("a socket pair");
        socket.set_read_timeout(Some(HANGS)).expect("a timeout");
        let worker = Command::new(env!("CARGO_BIN_EXE_mms-worker"))
            .stdin(Stdio::from(OwnedFd::from(stdin)))
            .stdout(Stdio::null())
            .env("MMS_WORKER_LOG", "off")
            .spawn()
            .expect("the worker starts");
        Self { worker, socket }
    }

    pub(crate) fn shake_hands(&mut self) -> WorkerHello {
        self.send(&ToWorker::Hello { protocol_version: PROTOCOL_VERSION });
        match self.receive() {
            ToHost::Hello(hello) => hello,
            other => panic!("no handshake but {other:?}"),
        }
    }

    /// A worker with the built-in model.
    pub(crate) fn with(settings: EngineSettings) -> Self {
        let mut host = Self::spawn();
        host.shake_hands();
        host.load(LoadSpec { settings, ..demo() }).expect("the built-in model loads");
        host
    }

    pub(crate) fn load(&mut self, spec: LoadSpec) -> Result<LoadedInfo, String> {
        self.send(&ToWorker::Load(Box::new(spec)));
        let mut before = 0.0;
        loop {
            match self.receive() {
                ToHost::Heartbeat(_) => {}
                ToHost::Loading { fraction } => {
                    assert!(fraction >= before && fraction <= 1.0, "{fraction} after {before}");
                    before = fraction;
                }
                ToHost::Loaded(info) => return Ok(info),
                ToHost::LoadFailed { reason } => return Err(reason),
                other => panic!("{other:?} while loading"),
            }
        }
    }

    pub(crate) fn send(&mut self, message: &ToWorker) {
        let body = serde_json::to_vec(message).expect("a message");
        self.send_raw(&body);
    }

    /// Sends several messages in one write, so that the worker finds them all at once.
    pub(crate) fn send_all(&mut self, messages: &[ToWorker]) {
        let mut bytes = Vec::new();
        for message in messages {
            let body = serde_json::to_vec(message).expect("a message");
            bytes.extend(u32::try_from(body.len()).expect("a short message").to_be_bytes());
            bytes.extend(body);
        }
        self.socket.write_all(&bytes).expect("the worker reads");
    }

    pub(crate) fn send_raw(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).expect("a short message");
        self.socket.write_all(&[&length.to_be_bytes(), body].concat()).expect("the worker reads");
    }

    pub(crate) fn receive(&mut self) -> ToHost {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).expect("a frame");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut body).expect("a whole frame");
        serde_json::from_slice(&body).expect("a message")
    }

    /// The next message that is no heartbeat.
    pub(crate) fn next(&mut self) -> ToHost {
        loop {
            match self.receive() {
                ToHost::Heartbeat(_) => {}
                message => return message,
            }
        }
    }

    pub(crate) fn start(&mut self, id: u64, spec: &GenerateSpec) {
        self.send(&ToWorker::Generate { id, spec: Box::new(spec.clone()) });
    }

    /// Generates all at once; answers come back in the order of `specs`.
    pub(crate) fn generate_all(&mut self, specs: &[GenerateSpec]) -> Vec<Answer> {
        for (id, spec) in (0..).zip(specs) {
            self.start(id, spec);
        }
        self.collect(specs.len())
    }

    pub(crate) fn generate(&mut self, spec: &GenerateSpec) -> Answer {
        self.generate_all(std::slice::from_ref(spec)).remove(0)
    }

    /// Waits for the ends of the ids below `count`.
    pub(crate) fn collect(&mut self, count: usize) -> Vec<Answer> {
        let mut partial: Vec<Partial> = vec![Partial::default(); count];
        let mut ends: Vec<Option<End>> = vec![None; count];
        let index = |id: u64| usize::try_from(id).expect("our id");
        while ends.iter().any(Option::is_none) {
            match self.next() {
                ToHost::Started { id, prompt_tokens, cached_tokens, left_out } => {
                    assert_eq!(partial[index(id)], Partial::default(), "started twice");
                    partial[index(id)] = Partial { prompt_tokens, cached_tokens, left_out, ..Partial::default() };
                }
                ToHost::Text { id, text, tokens, logprobs } => {
                    assert!((!text.is_empty() || !logprobs.is_empty()) && tokens > 0);
                    assert!(ends[index(id)].is_none(), "text after the end");
                    partial[index(id)].pieces.push(text);
                    partial[index(id)].logprobs.extend(logprobs);
                }
                ToHost::ToolCall { id, call, tokens } => {
                    assert!(tokens > 0 && ends[index(id)].is_none());
                    partial[index(id)].calls.push(call);
                }
                ToHost::Finished { id, reason, usage, timings, tokens } => {
                    assert!(ends[index(id)].is_none(), "ended twice");
                    partial[index(id)].tokens = tokens;
                    ends[index(id)] = Some(End::Finished { reason, usage, timings });
                }
                ToHost::Failed { id, failure } => {
                    assert!(ends[index(id)].is_none(), "ended twice");
                    ends[index(id)] = Some(End::Failed(failure));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        let with_end = partial.into_iter().zip(ends);
        with_end
            .map(|(Partial { pieces, logprobs, calls, prompt_tokens, cached_tokens, left_out, tokens }, end)| Answer {
                text: pieces.concat(),
                pieces,
                logprobs,
                calls,
                prompt_tokens,
                cached_tokens,
                left_out,
                tokens,
                end: end.expect("all have ended"),
            })
            .collect()
    }

    /// Waits until the worker has ended.
    pub(crate) fn exit(mut self) -> ExitStatus {
        wait(&mut self.worker)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _already_gone = self.worker.kill();
        let _reaped = self.worker.wait();
    }
}

pub(crate) fn wait(worker: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = worker.try_wait().expect("a child") {
            return status;
        }
        assert!(began.elapsed() < HANGS, "the worker does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Answer {
    pub(crate) fn reason(&self) -> FinishReason {
        match &self.end {
            End::Finished { reason, .. } => *reason,
            End::Failed(failure) => panic!("failed: {failure:?}"),
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        match &self.end {
            End::Finished { usage, .. } => *usage,
            End::Failed(failure) => panic!("failed: {failure:?}"),
        }
    }
}

/// The built-in model with default settings.
pub(crate) fn demo() -> LoadSpec {
    LoadSpec {
        path: demo_model().to_str().expect("UTF-8").to_owned(),
        model_id: "mms-demo".to_owned(),
        settings: EngineSettings::default(),
        chat_template: None,
        kv_store: None,
    }
}

/// A question to the model, greedy.
pub(crate) fn ask(question: &str, max_tokens: u32) -> GenerateSpec {
    GenerateSpec {
        prompt: Prompt::Chat(vec![user(question)]),
        max_tokens: Some(max_tokens),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        ..GenerateSpec::new(Prompt::Raw(String::new()))
    }
}

/// Raw text to continue, at a temperature at which the model hardly ever ends by itself.
pub(crate) fn ramble(text: &str, max_tokens: u32) -> GenerateSpec {
    GenerateSpec {
        prompt: Prompt::Raw(text.to_owned()),
        sampling: Sampling { temperature: 5.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(1), ..Sampling::default() },
        ..ask("", max_tokens)
    }
}

pub(crate) fn user(content: &str) -> ChatMessage {
    ChatMessage::new(Role::User, content)
}

pub(crate) fn assistant(content: &str) -> ChatMessage {
    ChatMessage::new(Role::Assistant, content)
}
