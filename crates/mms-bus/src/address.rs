//! Addresses of servers. They may hold a password, so what is shown of them never does.

use std::fmt;
use std::str::FromStr;

use async_nats::ServerAddr;
use redis::IntoConnectionInfo;

/// Where a server is reached. Shown, in logs and in errors, without its user, password and parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    url: String,
    shown: String,
}

/// Who connects to a NATS server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    User {
        name: String,
        password: String,
    },
    /// A user without a password.
    Token(String),
}

/// Why a text is no address of a server. Holds nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of a form that is understood.
    #[error("not an address such as {example}")]
    Form {
        /// One that is.
        example: &'static str,
    },
    /// Redis over TLS.
    #[error(
        "Redis over TLS is not supported; use redis:// to a server on a network that you trust, or a local TLS proxy"
    )]
    RedisTls,
}

impl ServerUrl {
    /// A Redis server: `redis://[user:password@]host[:port][/database]`, or `unix:///path`.
    pub fn redis(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.starts_with("rediss:") || text.starts_with("valkeys:") {
            return Err(AddressError::RedisTls);
        }
        match text.into_connection_info() {
            Ok(_) => Ok(Self::of(text)),
            Err(_) => Err(AddressError::Form { example: "redis://127.0.0.1:6379/0" }),
        }
    }

    /// A NATS server: `nats://[user:password@ or token@]host[:port]`, `tls://...`, or `host[:port]`.
    pub fn nats(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let known =
            ["nats", "tls"].iter().any(|scheme| text.split_once("://").is_none_or(|(given, _)| given == *scheme));
        match ServerAddr::from_str(text) {
            Ok(_) if known && !text.is_empty() => Ok(Self::of(text)),
            Ok(_) | Err(_) => Err(AddressError::Form { example: "nats://127.0.0.1:4222" }),
        }
    }

    fn of(text: &str) -> Self {
        Self { url: text.to_owned(), shown: shown(text) }
    }

    /// Without secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// With its secrets, for the one who connects.
    pub(crate) fn whole(&self) -> &str {
        &self.url
    }

    /// Who connects, with `%41` and the like decoded.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        let credentials = credentials(&self.url).filter(|credentials| !credentials.is_empty())?;
        Some(match credentials.split_once(':') {
            Some((user, password)) => Credentials::User { name: decoded(user), password: decoded(password) },
            None => Credentials::Token(decoded(credentials)),
        })
    }

    /// Whether the other one is reached with the same user and password, or token.
    pub fn has_credentials_of(&self, other: &Self) -> bool {
        self.credentials() == other.credentials()
    }

    /// For who gives the credentials by other means.
    pub(crate) fn without_credentials(&self) -> String {
        match credentials(&self.url) {
            Some(credentials) => self.url.replacen(&format!("{credentials}@"), "", 1),
            None => self.url.clone(),
        }
    }

    /// `text`, from a library or a server, without the secrets of this address.
    pub(crate) fn cleaned(&self, text: &str) -> String {
        let Some(credentials) = credentials(&self.url) else { return text.to_owned() };
        let secret = credentials.split_once(':').map_or(credentials, |(_, password)| password);
        if secret.is_empty() { text.to_owned() } else { text.replace(secret, "***").replace(&decoded(secret), "***") }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What stands before the last `@`: a password may hold one, and a slash, too.
fn credentials(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.rsplit_once('@').map(|(credentials, _)| credentials)
}

/// `%41` as `A`. What is no such escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let place = place.split(['?', '#']).next().unwrap_or_default();
    let hidden = if place.len() < rest.len() && rest.contains('@') { "***@" } else { "" };
    if scheme.is_empty() { format!("{hidden}{place}") } else { format!("{scheme}://{hidden}{place}") }
}

#[cfg(test)]
mod tests {
    use super::{AddressError, Credentials, ServerUrl};

    #[test]
    fn secrets_are_never_shown() {
        for (url, expect) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:s3cret@redis:6379/1", "redis://***@redis:6379/1"),
            ("redis://user:s3cret@redis", "redis://***@redis"),
            ("unix:///run/redis.sock?db=1&pass=s3cret", "unix:///run/redis.sock"),
        ] {
            let address = ServerUrl::redis(url).unwrap();
            assert_eq!(address.shown(), expect);
            assert_eq!(format!("{address} {address:?}"), format!("{expect} {expect}"));
        }
        for (url, expect) in [
            ("nats://a:s3cret@b:4222", "nats://***@b:4222"),
            ("nats://t0ken@b:4222", "nats://***@b:4222"),
            ("b:4222", "b:4222"),
            ("tls://b", "tls://b"),
        ] {
            assert_eq!(ServerUrl::nats(url).unwrap().shown(), expect);
        }
    }

    #[test]
    fn who_connects_is_taken_out() {
        let of = |url: &str| {
            let url = ServerUrl::nats(url).unwrap();
            let who = match url.credentials() {
                Some(Credentials::User { name, password }) => format!("{name} with {password}"),
                Some(Credentials::Token(token)) => token,
                None => "nobody".to_owned(),
            };
            (who, url.without_credentials())
        };
        assert_eq!(of("nats://t0ken@b:1"), ("t0ken".to_owned(), "nats://b:1".to_owned()));
        assert_eq!(of("nats://a:p%40%2fq%zz@b:1"), ("a with p@/q%zz".to_owned(), "nats://b:1".to_owned()));
        assert_eq!(of("b:1"), ("nobody".to_owned(), "b:1".to_owned()));
    }

    #[test]
    fn what_others_say_is_cleaned() {
        let address = ServerUrl::redis("redis://:s3cret@redis:6379/1").unwrap();
        assert_eq!(address.cleaned("wrong password s3cret!"), "wrong password ***!");
        assert_eq!(ServerUrl::nats("nats://t0ken@b").unwrap().cleaned("no t0ken"), "no ***");
        assert_eq!(ServerUrl::nats("b").unwrap().cleaned("as it is"), "as it is");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "redis", "http://x", "nats://x:4222", "redis://[::1", "redis://host:99999"] {
            let error = ServerUrl::redis(bad).unwrap_err();
            assert!(matches!(error, AddressError::Form { .. }), "{bad}: {error}");
        }
        assert_eq!(ServerUrl::redis("rediss://x"), Err(AddressError::RedisTls));
        for bad in ["", "http://x", "ws://x:1", "nats://[::1", "redis://x"] {
            assert!(ServerUrl::nats(bad).is_err(), "{bad}");
        }
    }
}
