//! Events into one JetStream stream: one message at a time, each acknowledged before the next is sent, so that they arrive in order
//! whatever happens between. A message that was sent without an answer is sent again with its id, by which the stream knows it.
//!
//! ```text
//! connect ─▶ stream as it should be ─▶ first message ─▶ acknowledged? it goes ─┐   any failure: told, pause, connect anew
//!                                           ▲──────────────────────────────────┘   stop: what waits is sent, then the end
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{Context, ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, HeaderMap, jetstream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::address::{Credentials, ServerUrl};
use crate::backoff::Backoff;
use crate::outbox::{Message, Outbox};
use crate::part::Part;
use crate::streams::{self, StreamFault, StreamSpec};

/// Between two looks at an idle connection.
const LOOK: Duration = Duration::from_secs(1);
/// Between two pings; the second without an answer ends the connection.
const PING: Duration = Duration::from_secs(5);

/// Where events are published.
#[derive(Debug, Clone, PartialEq)]
pub struct NatsConfig {
    /// Servers of one cluster.
    pub servers: Vec<ServerUrl>,
    /// Messages that may wait for each stream.
    pub max_waiting: usize,
    /// Bytes that these may have.
    pub max_waiting_bytes: usize,
    /// Time for the connection, and for each acknowledgement.
    pub timeout: Duration,
}

/// The task that publishes.
pub(crate) struct Publisher {
    pub(crate) config: NatsConfig,
    pub(crate) agent: String,
    pub(crate) spec: StreamSpec,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) part: Arc<Part>,
    pub(crate) stop: CancellationToken,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{}", explain_connect(.0))]
    Connect(#[from] ConnectError),
    #[error("no connection within {} s: it hangs, is overloaded, or packets are lost on the way", .0.as_secs_f64())]
    Slow(Duration),
    #[error("the connection was lost")]
    Lost,
    #[error(transparent)]
    Stream(#[from] StreamFault),
    #[error("{}", explain_publish(.0, .1))]
    Publish(&'static str, PublishError),
}

impl Publisher {
    /// Publishes until `stop`, and then what still waits, if that can be done at once.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new();
        loop {
            // Once more at the end, as long as something waits.
            let last = self.stop.is_cancelled();
            match self.session(&mut backoff).await {
                Ok(()) => return,
                Err(fault) => self.part.fails(self.explain(&fault)),
            }
            if last {
                break;
            }
            self.stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await;
            if self.stop.is_cancelled() && self.outbox.first().is_none() {
                return;
            }
        }
        warn!(
            stream = self.spec.name,
            messages = self.outbox.figures().waiting,
            "these events are lost with the end of this server"
        );
    }

    /// Publishes over one connection, until it fails or the server ends and nothing waits.
    async fn session(&self, backoff: &mut Backoff) -> Result<(), Fault> {
        if self.stop.is_cancelled() && self.outbox.first().is_none() {
            return Ok(());
        }
        let client = self.connect().await?;
        let context =
            ContextBuilder::new().timeout(self.config.timeout).ack_timeout(self.config.timeout).build(client.clone());
        let note = streams::ensure(&context, &self.spec).await?;
        if self.outbox.first().is_none() {
            self.report_works(note.as_deref());
        }
        loop {
            let Some(message) = self.outbox.first() else {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                self.idle(&client).await?;
                continue;
            };
            self.publish(&context, &message).await?;
            backoff.reset();
            self.report_works(note.as_deref());
        }
    }

    async fn connect(&self) -> Result<Client, Fault> {
        let timeout = self.config.timeout;
        let options = ConnectOptions::new()
            .name(format!("{} {}", self.agent, self.spec.name))
            .connection_timeout(timeout)
            .request_timeout(Some(timeout))
            .ping_interval(PING)
            .ignore_discovered_servers()
            // A lost connection is made anew here, with its pauses; the library gives up after one round.
            .max_reconnects(self.config.servers.len());
        let (options, servers) = authorized(options, &self.config.servers);
        // The outer bound is for what the inner one does not cover, such as a name server that does not answer.
        let whole = timeout * (self.config.servers.len() as u32 + 1);
        match tokio::time::timeout(whole, options.connect(servers)).await {
            Ok(connected) => Ok(connected?),
            Err(_elapsed) => Err(Fault::Slow(whole)),
        }
    }

    /// Waits for the next message; notices a lost connection.
    async fn idle(&self, client: &Client) -> Result<(), Fault> {
        tokio::select! {
            () = self.outbox.pushed() => {}
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        match client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err(Fault::Lost),
        }
    }

    async fn publish(&self, context: &Context, message: &Arc<Message>) -> Result<(), Fault> {
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            headers.insert(*name, value.as_str());
        }
        let publish = PublishMessage::build().headers(headers).message_id(&message.id).payload(message.body.clone());
        let acknowledged = async { context.send_publish(message.subject.clone(), publish).await?.await };
        match acknowledged.await {
            Ok(ack) => {
                self.outbox.published(message, ack.duplicate);
                Ok(())
            }
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                warn!(subject = message.subject, bytes = message.body.len(), %error, "the NATS server takes no event that large");
                self.outbox.unfit(message);
                Ok(())
            }
            Err(error) => Err(Fault::Publish(self.spec.name, error)),
        }
    }

    fn report_works(&self, note: Option<&str>) {
        let place = self.shown();
        let name = self.spec.name;
        self.part.works(match note {
            Some(note) => format!("{place}: {note}"),
            None => format!("{place}: events go into the stream {name}"),
        });
    }

    fn explain(&self, fault: &Fault) -> String {
        let waiting = self.outbox.figures();
        let said = self.config.servers.iter().fold(fault.to_string(), |said, server| server.cleaned(&said));
        let kept = if waiting.dropped > 0 { format!("; {} were dropped", waiting.dropped) } else { String::new() };
        format!("{}: {said}; events for {} are kept meanwhile{kept}", self.shown(), self.spec.name)
    }

    fn shown(&self) -> String {
        self.config.servers.iter().map(ServerUrl::shown).collect::<Vec<_>>().join(",")
    }
}

/// The library does not read users and passwords out of addresses, and knows one of them for all servers.
fn authorized(options: ConnectOptions, servers: &[ServerUrl]) -> (ConnectOptions, Vec<String>) {
    let options = match servers.iter().find_map(ServerUrl::credentials) {
        Some(Credentials::User { name, password }) => options.user_and_password(name, password),
        Some(Credentials::Token(token)) => options.token(token),
        None => options,
    };
    (options, servers.iter().map(ServerUrl::without_credentials).collect())
}

fn explain_connect(error: &ConnectError) -> String {
    let set = "nats.servers (NATS_SERVERS or NATS_URL)";
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            format!("it does not take the user, password or token: {error}; correct them in {set}")
        }
        ConnectErrorKind::TimedOut => {
            format!("no answer: {error}; it hangs, is overloaded, or packets are lost on the way")
        }
        ConnectErrorKind::Dns => format!("its name is not known: {error}; correct {set}"),
        ConnectErrorKind::Tls => {
            format!("TLS fails: {error}; use tls:// in {set} if it wants TLS, and see its certificate")
        }
        ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects | ConnectErrorKind::ServerParse => {
            format!("it is not there: {error}; start it, or correct {set}")
        }
    }
}

fn explain_publish(stream: &str, error: &PublishError) -> String {
    let refused = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match error.kind() {
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            format!("no acknowledgement from the stream {stream}: {error}; the server hangs or the connection was lost")
        }
        PublishErrorKind::StreamNotFound => {
            format!(
                "nobody keeps the subject of an event: {error}; the stream {stream} was deleted or changed, or JetStream is off"
            )
        }
        _ => match refused {
            Some(refused) => format!(
                "the stream {stream} takes no more: {refused}; make room (nats stream purge {stream}), raise its limits, or let it \
                 discard old messages"
            ),
            None => format!("the stream {stream} did not take an event: {error}"),
        },
    }
}
