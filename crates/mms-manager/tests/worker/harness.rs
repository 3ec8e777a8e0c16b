//! One manager over a folder of its own, and the helpers that the tests speak through.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use mms_manager::catalogue::{BuiltinModel, CatalogueConfig, ModelConfig};
use mms_manager::{Budget, GenerateEvent, Limits, Manager, ManagerConfig, MemoryConfig, TokenStream};
use mms_protocol::generate::{ChatMessage, GenerateSpec, Prompt, Role, Sampling};
use mms_protocol::view::{Generation, ModelState};
use mms_protocol::worker::EngineSettings;
use mms_protocol::{Event, GenerateArgs, LoadArgs, ModelChoice, Operation, Refusal, Reply};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// How long a test waits for what must come; far more than it takes, so that only something that never comes fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A text generation that goes on for long: the demo model's context is the bound.
pub(crate) const LONG: u32 = 400;

pub(crate) struct Rig {
    pub(crate) manager: Manager,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) models: TempDir,
}

pub(crate) struct Setup {
    pub(crate) config: ManagerConfig,
    pub(crate) models: TempDir,
}

/// The `mms-worker` program that the workspace builds.
pub(crate) fn worker_program() -> PathBuf {
    if let Some(program) = std::env::var_os("MMS_WORKER") {
        return PathBuf::from(program);
    }
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let program = folder.join("mms-worker");
    assert!(program.exists(), "{} is missing; run `cargo build -p mms-engine` first", program.display());
    program
}

/// The demo model in the repository.
pub(crate) fn demo_model() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/mms-demo.gguf");
    assert!(path.exists(), "{} is missing; run `cargo xtask demo-model`", path.display());
    path
}

impl Setup {
    /// One model, `demo`, in the models folder; looked at often.
    pub(crate) fn new() -> Self {
        let models = tempfile::tempdir().expect("a folder for models");
        std::fs::copy(demo_model(), models.path().join("demo.gguf")).expect("a copy of the demo model");
        let config = ManagerConfig {
            agent: "TestAgent".to_owned(),
            version: "0.0.0-test".to_owned(),
            worker_program: worker_program(),
            catalogue: CatalogueConfig {
                folders: vec![models.path().to_owned()],
                scan_interval: Duration::from_millis(50),
                ..CatalogueConfig::default()
            },
            engine: EngineSettings { context_length: 512, slots: 2, threads: 1, ..EngineSettings::default() },
            memory: MemoryConfig { budget: Budget::Mb(4096), reserve_mb: 0, ..MemoryConfig::default() },
            plans: None,
            idle_unload: None,
            routing: std::collections::BTreeMap::new(),
            kv_store: None,
            prediction: Default::default(),
            limits: Limits::default(),
        };
        Self { config, models }
    }

    pub(crate) fn model(mut self, model: ModelConfig) -> Self {
        self.config.catalogue.models.push(model);
        self
    }

    pub(crate) fn copy(self, name: &str) -> Self {
        std::fs::copy(demo_model(), self.models.path().join(name)).expect("another copy of the demo model");
        self
    }

    pub(crate) fn builtin(mut self) -> Self {
        self.config.catalogue.builtin.push(BuiltinModel { id: "mms-demo".to_owned(), path: demo_model() });
        self
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut ManagerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) async fn start(self) -> Rig {
        let (sender, events) = mpsc::channel(1024);
        let manager = Manager::start(self.config, sender).await.expect("a manager");
        Rig { manager, events, models: self.models }
    }
}

pub(crate) fn ask(model: &str, prompt: &str, max_tokens: u32) -> GenerateArgs {
    let spec = GenerateSpec {
        max_tokens: Some(max_tokens),
        sampling: Sampling { temperature: 0.0, seed: Some(1), ..Sampling::default() },
        ..GenerateSpec::new(Prompt::Chat(vec![ChatMessage::new(Role::User, prompt)]))
    };
    GenerateArgs::new(ModelChoice::Named(model.to_owned()), spec)
}

/// Text without an end of its own: raw, and hot enough that the end-of-answer token is seldom drawn.
pub(crate) fn endless(model: &str) -> GenerateArgs {
    let mut args = ask(model, "", LONG);
    args.spec.prompt = Prompt::Raw("The".to_owned());
    args.spec.sampling = Sampling { temperature: 5.0, top_p: 1.0, top_k: 0, min_p: 0.0, ..args.spec.sampling };
    args
}

/// A prompt that fills the context of 512 tokens nearly.
pub(crate) fn long_prompt(model: &str) -> GenerateArgs {
    ask(model, &"load a model ".repeat(60), 16)
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

impl Rig {
    pub(crate) async fn load(&self, model: &str) -> Result<Reply, Refusal> {
        within("the load", self.manager.call(Operation::LoadModel(LoadArgs::of(model)))).await
    }

    pub(crate) async fn unload(&self, model: &str) -> Result<Reply, Refusal> {
        within("the unload", self.manager.call(Operation::UnloadModel { model: model.to_owned() })).await
    }

    pub(crate) async fn generate(&self, args: GenerateArgs) -> Result<Box<Generation>, Refusal> {
        match within("the answer", self.manager.call(Operation::Generate(args))).await? {
            Reply::Generated(generation) => Ok(generation),
            other => panic!("generate gave {other:?}"),
        }
    }

    pub(crate) async fn stream(&self, args: GenerateArgs) -> TokenStream {
        within("the stream", self.manager.generate(args)).await.expect("a stream")
    }

    pub(crate) fn state(&self, model: &str) -> ModelState {
        self.manager.model(model).expect("the model is known").status
    }

    pub(crate) fn pid(&self, model: &str) -> Option<i32> {
        self.manager.model(model).ok()?.worker_pid.map(|pid| pid as i32)
    }

    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        within(what, async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    pub(crate) async fn until_state(&self, model: &str, state: ModelState) {
        self.until(&format!("state {state:?} of {model}"), |rig| rig.state(model) == state).await;
    }

    pub(crate) async fn event(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        within(what, async {
            loop {
                let event = self.events.recv().await.expect("the manager runs");
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// Ends everything and checks that nothing is left.
    pub(crate) async fn finish(self) {
        let pids: Vec<i32> = self.manager.models().iter().filter_map(|m| m.worker_pid).map(|pid| pid as i32).collect();
        within("the drain", self.manager.drain(Duration::ZERO)).await;
        assert!(self.manager.models().iter().all(|model| model.worker_pid.is_none() && model.held_mb() == 0.0));
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "worker {pid} is still there");
        }
    }
}

pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("a signal to our own worker");
}

/// The next event of a stream.
pub(crate) async fn next(stream: &mut TokenStream) -> GenerateEvent {
    within("the next event", stream.next()).await.expect("a stream ends with Finished or Failed")
}

/// Reads up to the first text.
pub(crate) async fn first_text(stream: &mut TokenStream) {
    while !matches!(next(stream).await, GenerateEvent::Text { .. }) {}
}

/// Reads to the end: the text that came on the way, and the last event.
pub(crate) async fn rest(stream: &mut TokenStream) -> (String, GenerateEvent) {
    let mut text = String::new();
    loop {
        match next(stream).await {
            GenerateEvent::Started { .. } => {}
            GenerateEvent::Text { text: piece, .. } => text.push_str(&piece),
            GenerateEvent::ToolCall(call) => panic!("no tools were offered: {call:?}"),
            last => {
                assert!(within("the end of the stream", stream.next()).await.is_none(), "something came after the end");
                return (text, last);
            }
        }
    }
}
