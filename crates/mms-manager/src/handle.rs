//! The handle that front doors hold: the one path of every operation.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use mms_protocol::generate::{EmbedInput, EmbedSpec, GenerateSpec, Logprob, Prompt, ToolCall};
use mms_protocol::select::{SelectArgs, Selection};
use mms_protocol::view::{Embedding, Generation, HealthView, ModelView, StatsView, StatusView, Traffic};
use mms_protocol::worker::RequestId;
use mms_protocol::{EmbedArgs, ErrorCode, GenerateArgs, LoadArgs, ModelChoice, Operation, Refusal, Reply};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::DropGuard;

use crate::counters::Counters;
use crate::devices::Devices;
use crate::health::HealthBoard;
use crate::prediction::Predictions;
use crate::routing::Room;
use crate::routing::evidence::Evidence;
use crate::snapshot::{Clock, Snapshot};
use crate::task::{EmbedOrder, GenerateOrder, Message};

/// Inputs for embeddings that a worker gets in one message; its answer has as many vectors.
const EMBED_AT_ONCE: usize = 256;

/// A cheap handle to the running manager. When the last one is gone, the task and every worker end.
#[derive(Debug, Clone)]
pub struct Manager {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) agent: String,
    pub(crate) version: String,
    pub(crate) clock: Clock,
    pub(crate) messages: mpsc::UnboundedSender<Message>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) board: Arc<HealthBoard>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) predictions: Arc<Predictions>,
    pub(crate) last_request: Arc<AtomicU64>,
    pub(crate) devices: Devices,
    /// Lets the scanner look at once.
    pub(crate) rescan: Arc<Notify>,
    /// Stops the scanner.
    pub(crate) _scanning: DropGuard,
}

/// What happens to one generation; `Finished` or `Failed` is the last, and there is exactly one of them.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerateEvent {
    /// The model works on it.
    Started {
        /// The model that answers.
        model_id: String,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Of them, found in the KV cache.
        cached_tokens: u32,
        /// Messages of the history that the model was not shown, beside those that it was not given.
        left_out: u32,
    },
    /// What to append to the answer: whole UTF-8 characters, not empty.
    Text {
        /// The characters.
        text: String,
        /// Of its tokens, when asked for.
        logprobs: Vec<Logprob>,
    },
    /// A tool that the model calls, its arguments whole.
    ToolCall(ToolCall),
    /// It ended well.
    Finished(Box<Generation>),
    /// It ended otherwise.
    Failed(Refusal),
}

/// The events of one generation. Dropping it cancels the work at once, wherever it is.
#[derive(Debug)]
pub struct TokenStream {
    model_id: String,
    /// Why this one, when the caller left that open.
    reason: Option<String>,
    events: mpsc::UnboundedReceiver<GenerateEvent>,
    ended: bool,
    guard: CancelGuard,
}

impl TokenStream {
    /// The model that answers.
    pub fn model_id(&self) -> &str {
        &self.model_id
    }
}

impl Stream for TokenStream {
    type Item = GenerateEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<GenerateEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut event = ready!(self.events.poll_recv(context)).unwrap_or_else(|| GenerateEvent::Failed(task_gone()));
        if let GenerateEvent::Finished(generation) = &mut event {
            generation.reason = self.reason.take();
        }
        if matches!(event, GenerateEvent::Finished(_) | GenerateEvent::Failed(_)) {
            self.ended = true;
            self.guard.disarm();
        }
        Poll::Ready(Some(event))
    }
}

/// Takes a request back when it is dropped before its end.
#[derive(Debug)]
pub(crate) struct CancelGuard {
    pub(crate) request: RequestId,
    messages: Option<mpsc::UnboundedSender<Message>>,
}

impl CancelGuard {
    pub(crate) fn disarm(&mut self) {
        self.messages = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(messages) = self.messages.take() {
            // Without the task there is nothing to cancel.
            _ = messages.send(Message::Cancel(self.request));
        }
    }
}

/// What [`Manager::drain`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainReport {
    /// Generations that ended well during the drain.
    pub finished: u64,
    /// Requests that were refused because of it, or because the deadline had come.
    pub refused: u64,
    /// Workers that were ended.
    pub workers_ended: u64,
    /// Of them, those that had to be killed.
    pub workers_killed: u64,
    /// How long it took.
    pub took: Duration,
}

impl Manager {
    /// Does `operation`, unless it is for the evaluation store. Dropping the future cancels the work; a load that others may use too
    /// goes on.
    pub async fn call(&self, operation: Operation) -> Result<Reply, Refusal> {
        match operation {
            Operation::Ping => {
                Ok(Reply::Ping { agent: self.shared.agent.clone(), version: self.shared.version.clone() })
            }
            Operation::HealthCheck => Ok(Reply::HealthCheck(Box::new(self.health()))),
            Operation::Status => Ok(Reply::Status(Box::new(self.status()))),
            Operation::ListModels => Ok(Reply::ListModels(self.models())),
            Operation::GetModelStatus { model } => self.model(&model).map(Reply::ModelStatus),
            Operation::LoadModel(args) => self.load(args).await.map(Reply::Loaded),
            Operation::UnloadModel { model } => self.unload(model).await,
            Operation::Generate(args) | Operation::GenerateText(args) => {
                collect(self.generate(args).await?).await.map(Reply::Generated)
            }
            Operation::Embed(args) => self.embed(args).await.map(|embedding| Reply::Embedded(Box::new(embedding))),
            Operation::GetAllModels => {
                let snapshot = self.snapshot();
                Ok(Reply::AllModels { models: Arc::clone(&snapshot.models), memory: snapshot.memory.clone() })
            }
            Operation::SelectModel(args) => self.select(&args).map(|selection| Reply::Selected(Box::new(selection))),
            Operation::GetLoadedModelsStatus => {
                let snapshot = self.snapshot();
                Ok(Reply::LoadedModels { models: Arc::clone(&snapshot.models), memory: snapshot.memory.clone() })
            }
            Operation::GetMemoryStatus => {
                let snapshot = self.snapshot();
                Ok(Reply::Memory { models: Arc::clone(&snapshot.models), memory: snapshot.memory.clone() })
            }
            Operation::GetStats => Ok(Reply::Stats(Box::new(self.stats()))),
            Operation::ClearConversation { .. } => {
                let text = "the manager keeps no conversations: the front doors do";
                Err(Refusal::new(ErrorCode::Internal, text))
            }
            Operation::VerifyServices => {
                Err(Refusal::new(ErrorCode::Internal, "the manager knows no services: the front doors look after them"))
            }
            Operation::Evaluation(_) => {
                let text = "the manager keeps neither metrics nor evaluations: the front doors hand them to the store";
                Err(Refusal::new(ErrorCode::StoreUnavailable, text))
            }
            Operation::Prediction(operation) => self.foresee(operation).await,
        }
    }

    /// Starts a generation. Refusals that are known at once (no such model, queue full...) come as `Err`, later ones as
    /// [`GenerateEvent::Failed`].
    pub async fn generate(&self, mut args: GenerateArgs) -> Result<TokenStream, Refusal> {
        let arrived = Instant::now();
        let (chat, room) = needs_of(&args.spec);
        let (model, why) = self.named(|snapshot| {
            snapshot.route(|routing| {
                routing.choose(&args.choice, chat, room).map(|chosen| (chosen.id.to_owned(), chosen.why))
            })
        })?;
        let reason = matches!(args.choice, ModelChoice::Preference(_)).then_some(why);
        args.history.show(&model, &mut args.spec);
        let guard = self.guard();
        let (events, receiver) = mpsc::unbounded_channel();
        let (accepted, answer) = oneshot::channel();
        self.send(Message::Generate(Box::new(GenerateOrder {
            request: guard.request,
            model: model.clone(),
            spec: args.spec,
            conversation_id: args.conversation_id,
            timeout: args.timeout_ms.map(Duration::from_millis),
            keep_alive: args.keep_alive,
            arrived,
            events,
            accepted,
        })))?;
        answer.await.map_err(|_| task_gone())??;
        Ok(TokenStream { model_id: model, reason, events: receiver, ended: false, guard })
    }

    /// Computes embeddings, of many inputs one part after the other: other requests get their turns between them, and no part
    /// outgrows what a worker may say at once.
    async fn embed(&self, args: EmbedArgs) -> Result<Embedding, Refusal> {
        let arrived = Instant::now();
        let choice = &args.choice;
        let model =
            self.named(|snapshot| snapshot.route(|routing| routing.choose_embedder(choice).map(|c| c.id.to_owned())))?;
        let EmbedSpec { inputs, dimensions } = args.spec;
        let mut whole =
            Embedding { model_id: model, vectors: Vec::with_capacity(inputs.len()), prompt_tokens: 0, total_ms: 0.0 };
        let parts = parts(inputs);
        let last = parts.len().saturating_sub(1);
        for (part, inputs) in parts.into_iter().enumerate() {
            let mut guard = self.guard();
            let (reply, answer) = oneshot::channel();
            self.send(Message::Embed(Box::new(EmbedOrder {
                request: guard.request,
                model: whole.model_id.clone(),
                spec: EmbedSpec { inputs, dimensions },
                timeout: args.timeout_ms.map(Duration::from_millis),
                // It counts from the end of the work, which the earlier parts are not.
                keep_alive: args.keep_alive.filter(|_| part == last),
                arrived,
                reply,
            })))?;
            let part = answer.await.map_err(|_| task_gone())?;
            guard.disarm();
            let part = part?;
            whole.vectors.extend(part.vectors);
            whole.prompt_tokens += part.prompt_tokens;
            whole.total_ms = part.total_ms;
        }
        Ok(whole)
    }

    /// Everything about the server's health, from the snapshot.
    pub fn health(&self) -> HealthView {
        let snapshot = self.snapshot();
        let (checks, ready, initialized) = self.shared.board.read();
        HealthView {
            agent: self.shared.agent.clone(),
            version: self.shared.version.clone(),
            ready: ready && !snapshot.draining,
            initialized,
            draining: snapshot.draining,
            uptime_s: self.shared.clock.uptime_s(),
            checks,
            memory: snapshot.memory.clone(),
            models: Arc::clone(&snapshot.models),
            stats: self.shared.counters.stats(),
        }
    }

    /// The catalogue, from the snapshot.
    pub fn models(&self) -> Arc<[Arc<ModelView>]> {
        Arc::clone(&self.snapshot().models)
    }

    /// The model of that name, from the snapshot.
    pub fn model(&self, name: &str) -> Result<Arc<ModelView>, Refusal> {
        self.named(|snapshot| {
            let id = snapshot.route(|routing| routing.resolve(name).map(str::to_owned))?;
            snapshot.model(&id).cloned().ok_or_else(task_gone)
        })
    }

    /// Goes through the one task and back. Cheap operations are answered from the snapshot, which says nothing about a task that
    /// hangs: readiness asks here.
    pub async fn pulse(&self) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Pulse(reply))?;
        answer.await.map_err(|_| task_gone())
    }

    /// Gives up the KV states that conversations have left, by their [`label`](mms_protocol::generate::GenerateSpec::label)s, wherever they are; what is in work goes
    /// on. Nobody waits for it.
    pub fn forget_conversations(&self, labels: Vec<u64>) {
        // Without the task there are no workers either.
        _ = self.send(Message::Forget(labels));
    }

    /// Where the parts of the server report how they are.
    pub fn board(&self) -> &HealthBoard {
        &self.shared.board
    }

    /// The counters behind [`mms_protocol::view::Stats`].
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The experience with models that routing goes by.
    pub fn evidence(&self) -> &Evidence {
        &self.shared.evidence
    }

    /// The uses of models, and what is foreseen by them.
    pub fn predictions(&self) -> &Predictions {
        &self.shared.predictions
    }

    /// What models of the catalogue were asked for and gave so far, by id.
    pub fn traffic(&self) -> BTreeMap<String, Traffic> {
        let models = self.models();
        let of =
            |model: &Arc<ModelView>| Some((model.model_id.clone(), self.shared.counters.traffic(&model.model_id)?));
        models.iter().filter_map(of).collect()
    }

    /// Refuses new work, waits up to `deadline` for what runs, refuses the rest, ends every worker and waits for its end. Called
    /// again with a shorter deadline it hurries up.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let (reply, answer) = oneshot::channel();
        if self.shared.messages.send(Message::Drain { deadline, reply }).is_err() {
            return DrainReport::default();
        }
        answer.await.unwrap_or_default()
    }

    fn status(&self) -> StatusView {
        let snapshot = self.snapshot();
        StatusView {
            health: self.health(),
            routing_policy: snapshot.route(|routing| routing.effective()),
            routing_models: snapshot.policy.as_ref().clone(),
            preloading: self.predictions().preloading(),
        }
    }

    fn stats(&self) -> StatsView {
        let recent_errors = self.shared.counters.recent_errors();
        StatsView {
            health: self.health(),
            traffic: self.traffic(),
            recent_errors,
            preloading: self.predictions().preloading(),
        }
    }

    fn select(&self, args: &SelectArgs) -> Result<Selection, Refusal> {
        let room = Room::at_least(args.context_size.unwrap_or(0));
        self.named(|snapshot| {
            snapshot.route(|routing| {
                let (task, chosen) = routing.select(&args.task_type, room)?;
                let model = snapshot.model(chosen.id).cloned().ok_or_else(task_gone)?;
                Ok(Selection { model, reason: chosen.why, task, figures: chosen.figures })
            })
        })
    }

    async fn load(&self, args: LoadArgs) -> Result<Arc<ModelView>, Refusal> {
        let view = self.model(&args.model)?;
        if let Some(level) = &args.quantization_level {
            check_quantization(&view, level)?;
        }
        let cpu_only = match &args.device {
            Some(device) => self.shared.devices.check(&view, device).await?,
            None => false,
        };
        let mut guard = self.guard();
        let (reply, answer) = oneshot::channel();
        self.send(Message::Load {
            request: guard.request,
            model: view.model_id.clone(),
            cpu_only,
            timeout: args.timeout_ms.map(Duration::from_millis),
            keep_alive: args.keep_alive,
            reply,
        })?;
        let loaded = answer.await.map_err(|_| task_gone())?;
        guard.disarm();
        loaded
    }

    async fn unload(&self, name: String) -> Result<Reply, Refusal> {
        let view = match self.model(&name) {
            Ok(view) => view,
            Err(refusal) if refusal.code == ErrorCode::ModelNotFound => {
                return Ok(Reply::Unloaded { model: name, known: false, was_loaded: false });
            }
            Err(refusal) => return Err(refusal),
        };
        let mut guard = self.guard();
        let (reply, answer) = oneshot::channel();
        self.send(Message::Unload { request: guard.request, model: view.model_id.clone(), reply })?;
        let unloaded = answer.await.map_err(|_| task_gone())?;
        guard.disarm();
        unloaded
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.snapshots.borrow())
    }

    /// Asks the snapshot for a model; one that is not there may have come since the last look at the folders, so the next look
    /// comes at once.
    fn named<T>(&self, find: impl FnOnce(&Snapshot) -> Result<T, Refusal>) -> Result<T, Refusal> {
        find(&self.snapshot()).inspect_err(|refusal| {
            if refusal.code == ErrorCode::ModelNotFound {
                self.shared.rescan.notify_one();
            }
        })
    }

    pub(crate) fn guard(&self) -> CancelGuard {
        let request = self.shared.last_request.fetch_add(1, Ordering::Relaxed) + 1;
        CancelGuard { request, messages: Some(self.shared.messages.clone()) }
    }

    pub(crate) fn send(&self, message: Message) -> Result<(), Refusal> {
        self.shared.messages.send(message).map_err(|_| task_gone())
    }
}

/// Whether a prompt is a chat, and the context that it will take: about four bytes are a token.
fn needs_of(spec: &GenerateSpec) -> (bool, Room) {
    const BYTES_PER_TOKEN: usize = 4;
    let tokens = match &spec.prompt {
        Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum::<usize>() / BYTES_PER_TOKEN,
        Prompt::Raw(text) => text.len() / BYTES_PER_TOKEN,
        Prompt::Tokens(tokens) => tokens.len(),
    };
    let prompt = u32::try_from(tokens).unwrap_or(u32::MAX);
    (matches!(spec.prompt, Prompt::Chat(_)), Room { least: 0, prompt, answer: spec.max_tokens.unwrap_or(0) })
}

/// Inputs for embeddings as they are given to a worker at once.
fn parts(mut inputs: Vec<EmbedInput>) -> Vec<Vec<EmbedInput>> {
    let mut parts = Vec::with_capacity(inputs.len().div_ceil(EMBED_AT_ONCE));
    while inputs.len() > EMBED_AT_ONCE {
        let rest = inputs.split_off(EMBED_AT_ONCE);
        parts.push(std::mem::replace(&mut inputs, rest));
    }
    parts.push(inputs);
    parts
}

async fn collect(mut stream: TokenStream) -> Result<Box<Generation>, Refusal> {
    while let Some(event) = stream.next().await {
        match event {
            GenerateEvent::Started { .. } | GenerateEvent::Text { .. } | GenerateEvent::ToolCall(_) => {}
            GenerateEvent::Finished(generation) => return Ok(generation),
            GenerateEvent::Failed(refusal) => return Err(refusal),
        }
    }
    Err(task_gone())
}

fn check_quantization(view: &ModelView, level: &str) -> Result<(), Refusal> {
    if level.eq_ignore_ascii_case(&view.quantization) || level.eq_ignore_ascii_case("auto") {
        return Ok(());
    }
    let text = format!(
        "quantization_level {level} is not what {} has ({}); a GGUF file cannot be requantized on loading, use a file in {level}",
        view.model_id, view.quantization
    );
    let refusal = Refusal::new(ErrorCode::InvalidArgument, text);
    Err(refusal.with("argument", "quantization_level").with("quantization", view.quantization.clone()))
}

pub(crate) fn task_gone() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the manager's task has ended; the server has to be started again")
}
