//! Presence in Redis: keys that say that this server is ready and where it is. They are written anew again and again while it is
//! ready, deleted when it is not, and expire by themselves when it was killed.
//!
//! ```text
//! connect ─▶ write or delete ─▶ wait (refresh, readiness changed) ─┐      any failure: told, pause, connect anew
//!                 ▲────────────────────────────────────────────────┘      stop: delete, leave word of the shutdown
//! ```

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, cmd};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::address::ServerUrl;
use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::now;
use crate::part::Part;

/// How long word of a shutdown stays.
const SHUTDOWN_TTL: Duration = Duration::from_secs(3600);

/// Which keys are kept in a Redis server.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryConfig {
    /// The server.
    pub url: ServerUrl,
    /// Whether `agent:ready:` and `agent:shutdown:` are.
    pub presence: bool,
    /// The prefix of the service's entry, if that is.
    pub service_prefix: Option<String>,
    /// How long a key stays when it is not written anew.
    pub ttl: Duration,
    /// Between two times that it is.
    pub refresh: Duration,
    /// Time for the connection, and for each answer.
    pub timeout: Duration,
}

/// The task that keeps the keys.
pub(crate) struct Registry {
    pub(crate) config: RegistryConfig,
    pub(crate) identity: Identity,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) part: Arc<Part>,
    pub(crate) stop: CancellationToken,
    /// Why the server ends; for the word of its shutdown.
    pub(crate) reason: watch::Receiver<String>,
}

/// Why a session with the server ended.
struct Fault(RedisError);

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Self(error)
    }
}

impl Registry {
    /// Keeps the keys until `stop`, then says goodbye.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut connection = None;
        while !self.stop.is_cancelled() {
            let stop = self.stop.clone();
            match stop.run_until_cancelled(self.session(&mut connection, &mut backoff)).await {
                None | Some(Ok(())) => break,
                Some(Err(fault)) => {
                    connection = None;
                    self.part.fails(self.explain(&fault));
                    stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await;
                }
            }
        }
        if let Err(fault) = self.farewell(connection).await {
            warn!(
                redis = self.config.url.shown(),
                why = self.explain(&fault),
                "the keys of this server stay until they expire"
            );
        }
    }

    /// Keeps the keys over one connection; returns with an error only.
    async fn session(&mut self, kept: &mut Option<MultiplexedConnection>, backoff: &mut Backoff) -> Result<(), Fault> {
        let connection = kept.insert(self.connect().await?);
        loop {
            let ready = *self.ready.borrow_and_update();
            self.write(connection, ready).await?;
            backoff.reset();
            let state =
                if ready { "this server is entered as ready" } else { "this server is not entered: it is not ready" };
            self.part.works(format!("{}: {state}", self.config.url));
            tokio::select! {
                () = tokio::time::sleep(self.config.refresh) => {}
                changed = self.ready.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Fault> {
        let client = Client::open(self.config.url.whole())?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.timeout))
            .set_response_timeout(Some(self.config.timeout));
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    async fn write(&self, connection: &mut MultiplexedConnection, ready: bool) -> Result<(), Fault> {
        let (now, ttl) = (now(), self.config.ttl);
        if self.config.presence {
            if ready {
                set(connection, &self.ready_key(), ttl, &self.identity.ready(now)).await?;
                delete(connection, &self.shutdown_key()).await?;
            } else {
                delete(connection, &self.ready_key()).await?;
            }
        }
        match self.service_key() {
            Some(key) if ready => set(connection, &key, ttl, &self.identity.service(now)).await?,
            // Its last sighting stays true; a server that does not come back is forgotten with it.
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Takes the keys back and leaves word of the shutdown; over a new connection where there is none.
    async fn farewell(&self, connection: Option<MultiplexedConnection>) -> Result<(), Fault> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        if self.config.presence {
            delete(&mut connection, &self.ready_key()).await?;
            let word = Identity::shutdown(&self.reason.borrow(), now());
            set(&mut connection, &self.shutdown_key(), SHUTDOWN_TTL, &word).await?;
        }
        match self.service_key() {
            Some(key) => delete(&mut connection, &key).await,
            None => Ok(()),
        }
    }

    fn ready_key(&self) -> String {
        format!("agent:ready:{}", self.identity.agent)
    }

    fn shutdown_key(&self) -> String {
        format!("agent:shutdown:{}", self.identity.agent)
    }

    fn service_key(&self) -> Option<String> {
        self.config.service_prefix.as_ref().map(|prefix| format!("{prefix}{}", self.identity.agent))
    }

    /// What is wrong and what to do, without secrets.
    fn explain(&self, Fault(error): &Fault) -> String {
        let url = &self.config.url;
        let said = url.cleaned(&error.to_string());
        let name = self.part.status().name;
        let setting = if self.config.presence {
            "redis.url (REDIS_URL)"
        } else {
            "redis.registry_url (SERVICE_REGISTRY_REDIS_URL)"
        };
        let code = error.code().unwrap_or_default();
        match error.kind() {
            ErrorKind::AuthenticationFailed => {
                format!("{url} does not take the password: {said}; correct it in {setting}")
            }
            _ if matches!(code, "NOAUTH" | "WRONGPASS") => {
                format!("{url} wants another user or password: {said}; correct them in {setting}")
            }
            ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                format!(
                    "{url} is a read-only replica, so nothing can be entered: {said}; name its primary in {setting}"
                )
            }
            ErrorKind::Server(ServerErrorKind::NoPerm) => {
                format!(
                    "{url} does not allow its user to write these keys: {said}; allow SETEX and DEL on agent:* and the registry's prefix"
                )
            }
            ErrorKind::Server(ServerErrorKind::BusyLoading) => format!("{url} is still loading its data: {said}"),
            _ if error.is_timeout() => format!(
                "{url} gives no answer within {} s: it hangs, is overloaded, or packets are lost on the way",
                self.config.timeout.as_secs_f64()
            ),
            _ if error.is_connection_refusal() => format!("{url} is not there: {said}; start it, or correct {setting}"),
            _ if error.is_io_error() => format!("{url}: the connection failed: {said}; see whether {name} runs there"),
            _ => format!("{url} refuses: {said}"),
        }
    }
}

async fn set(
    connection: &mut MultiplexedConnection,
    key: &str,
    ttl: Duration,
    value: &serde_json::Value,
) -> Result<(), Fault> {
    Ok(cmd("SETEX").arg(key).arg(ttl.as_secs()).arg(value.to_string()).exec_async(connection).await?)
}

async fn delete(connection: &mut MultiplexedConnection, key: &str) -> Result<(), Fault> {
    Ok(cmd("DEL").arg(key).exec_async(connection).await?)
}
