//! Prompts become tokens on a thread of their own: one of megabytes takes seconds, and neither running answers nor the heartbeat
//! wait for it. They are prepared one after the other, in the order in which they came.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;

use llama_cpp_2::token::LlamaToken;
use mms_protocol::generate::{EmbedSpec, GenerateSpec, Prompt, Sampling, ToolChoice};
use mms_protocol::worker::GenerateFailure;

use crate::constraint::{self, Guard};
use crate::history::{self, Past};
use crate::prompt::{CallTexts, Prompter};
use crate::sys::exit_now;
use crate::tools::{self, Recognizer};
use crate::wire::Incoming;

/// Some vocabularies are split into words by a regular expression of C++'s library, which recurses with each character. Only what is
/// used of it takes memory.
const STACK_BYTES: usize = 256 << 20;

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Prompts(Sender<Order>);

/// Stands for one prompt; when it is dropped, nobody wants that any more.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<()>);

/// What is to be prepared.
#[derive(Debug)]
pub(crate) enum Spec {
    Generate(Box<GenerateSpec>),
    Embed(Box<EmbedSpec>),
}

#[derive(Debug)]
struct Order {
    spec: Spec,
    wanted: Weak<()>,
}

/// What has become of an order.
#[derive(Debug)]
pub(crate) struct Prepared {
    wanted: Weak<()>,
    pub(crate) request: Result<Ready, GenerateFailure>,
}

/// What was prepared.
#[derive(Debug)]
pub(crate) enum Ready {
    /// An answer is wanted.
    Answer(Box<Request>),
    /// Embeddings are wanted.
    Vectors(Box<Texts>),
}

/// Texts whose embeddings are wanted.
#[derive(Debug)]
pub(crate) struct Texts {
    /// Those that had no slot yet, with their places in the request. Each has at least one token, and no more than the context holds.
    pub(crate) inputs: VecDeque<(usize, Vec<LlamaToken>)>,
    /// See [`EmbedSpec::dimensions`].
    pub(crate) dimensions: Option<u32>,
}

/// A request as the engine needs it.
#[derive(Debug)]
pub(crate) struct Request {
    /// The prompt: at least one token, and less than the context holds.
    pub(crate) tokens: Vec<LlamaToken>,
    /// Messages of the history that were left out.
    pub(crate) left_out: usize,
    /// See [`GenerateSpec::label`].
    pub(crate) label: Option<u64>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) sampling: Sampling,
    /// Those of the caller, and one that belongs to the form of the prompt.
    pub(crate) stop: Vec<String>,
    /// See [`GenerateSpec::logprobs`].
    pub(crate) logprobs: Option<u32>,
    /// What keeps the answer in shape.
    pub(crate) guard: Option<Guard>,
    /// What tells calls of tools from text, when there are tools.
    pub(crate) calls: Option<Calls>,
}

/// See [`Request::calls`].
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) recognizer: Recognizer,
    /// Control tokens whose texts it must see.
    pub(crate) shown: Arc<[LlamaToken]>,
}

impl Prepared {
    /// It is the prompt that the ticket stands for.
    pub(crate) fn belongs_to(&self, ticket: &Ticket) -> bool {
        std::ptr::eq(self.wanted.as_ptr(), Arc::as_ptr(&ticket.0))
    }
}

impl Prompts {
    /// Starts the thread; what it has prepared goes to `engine`.
    pub(crate) fn start(prompter: Prompter, engine: Sender<Incoming>) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let thread = thread::Builder::new().name("prompts".into()).stack_size(STACK_BYTES);
        thread.spawn(move || prepare_all(&prompter, &inbox, &engine))?;
        Ok(Self(orders))
    }

    /// The request will come as [`Incoming::Prepared`].
    pub(crate) fn prepare(&self, spec: Spec) -> Ticket {
        let ticket = Ticket(Arc::new(()));
        if self.0.send(Order { spec, wanted: Arc::downgrade(&ticket.0) }).is_err() {
            tracing::error!("the thread that prepares prompts has ended; ending");
            exit_now(101);
        }
        ticket
    }
}

fn prepare_all(prompter: &Prompter, inbox: &Receiver<Order>, engine: &Sender<Incoming>) {
    for Order { spec, wanted } in inbox {
        if wanted.strong_count() == 0 {
            continue;
        }
        let request = match spec {
            Spec::Generate(spec) => request(prompter, *spec).map(Ready::Answer),
            Spec::Embed(spec) => texts(prompter, &spec).map(|texts| Ready::Vectors(Box::new(texts))),
        };
        if engine.send(Incoming::Prepared(Prepared { wanted, request })).is_err() {
            return;
        }
    }
}

fn texts(prompter: &Prompter, spec: &EmbedSpec) -> Result<Texts, GenerateFailure> {
    let inputs = spec.inputs.iter().enumerate().map(|(place, input)| Ok((place, prompter.text_tokens(input)?)));
    let inputs = inputs.collect::<Result<VecDeque<_>, GenerateFailure>>()?;
    if inputs.is_empty() {
        return Err(GenerateFailure::EmptyPrompt);
    }
    Ok(Texts { inputs, dimensions: spec.dimensions })
}

fn request(prompter: &Prompter, spec: GenerateSpec) -> Result<Box<Request>, GenerateFailure> {
    prompter.check_tokens(spec.sampling.logit_bias.iter().map(|&(id, _)| id))?;
    let tools = spec.tools.filter(|tools| tools.choice != ToolChoice::None && !tools.list.is_empty());
    let past = Past { messages: spec.history as usize, spoken: &spec.spoken, max_tokens: spec.max_tokens };
    let offered = tools.as_ref().map_or(&[][..], |tools| &tools.list);
    let (tokens, left_out) = history::tokens(prompter, &spec.prompt, offered, past)?;
    let constraint = |message: String| GenerateFailure::Constraint { message };
    let (guard, calls) = match (&spec.constraint, tools) {
        (None, None) => (None, None),
        (None, Some(_)) if !matches!(spec.prompt, Prompt::Chat(_)) => {
            let message = "tools are shown to the model by its chat template; ask with messages".to_owned();
            return Err(GenerateFailure::Unsupported { message });
        }
        (None, Some(tools)) => {
            let chat = prompter.chat()?;
            let (syntax, several) = (chat.syntax(), chat.has_several_calls());
            let CallTexts { shown, texts } = prompter.call_texts(syntax);
            let grammar = tools::grammar(&tools, syntax, several).map_err(constraint)?;
            let guard = Guard::new(grammar, texts).map_err(|error| constraint(error.to_string()))?;
            let recognizer = Recognizer::new(syntax, tools.list.into());
            (Some(guard), Some(Calls { recognizer, shown }))
        }
        (Some(asked), None) => {
            let grammar = constraint::grammar(asked, &|text| prompter.token_named(text)).map_err(constraint)?;
            let guard = Guard::new(grammar, prompter.token_texts()).map_err(|error| constraint(error.to_string()))?;
            (Some(guard), None)
        }
        (Some(_), Some(_)) => return Err(constraint("tools and a constraint exclude each other".to_owned())),
    };
    let mut stop = spec.stop;
    stop.extend(prompter.implied_stop(&spec.prompt));
    let GenerateSpec { max_tokens, sampling, logprobs, label, .. } = spec;
    Ok(Box::new(Request { tokens, left_out, label, max_tokens, sampling, stop, logprobs, guard, calls }))
}
