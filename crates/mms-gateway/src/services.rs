//! Downstream services, and whether each answers now: one behind `tcp://` with a ZMTP greeting, one behind `http://` with a status
//! below 400. All are asked at once, each within a time; requests that come meanwhile, or shortly after, share what was found.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use mms_protocol::select::ServiceCheck;
use mms_zmtp::{ProbeOptions, probe};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// How long what was found holds: clients that ask in a loop do not make the services suffer.
const FRESH: Duration = Duration::from_secs(1);
/// Steps that a ZMTP probe has at most, each of which gets its share of the time.
const STEPS: u32 = 4;

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceAddress {
    /// `tcp://host:port`.
    Zmtp(String),
    /// `http://host:port/path`.
    Http(Uri),
}

impl ServiceAddress {
    /// What an address must be.
    pub const MUST_BE: &str =
        "tcp://HOST:PORT (ZeroMQ) or http://HOST:PORT/PATH, without user and password; https:// is not supported";

    /// As it was written.
    pub fn shown(&self) -> String {
        match self {
            Self::Zmtp(endpoint) => endpoint.clone(),
            Self::Http(uri) => uri.to_string(),
        }
    }
}

impl FromStr for ServiceAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| Self::MUST_BE)?;
        let host = uri.host().filter(|host| !host.is_empty() && !text.contains('@'));
        match (uri.scheme_str(), host, uri.port_u16()) {
            (Some("tcp"), Some(_), Some(1..)) if uri.path().len() <= 1 && uri.query().is_none() => {
                Ok(Self::Zmtp(text.trim_end_matches('/').to_owned()))
            }
            (Some("http"), Some(_), Some(1..)) => Ok(Self::Http(uri)),
            (Some("http"), Some(_), None) if uri.port().is_none() => Ok(Self::Http(uri)),
            _ => Err(Self::MUST_BE),
        }
    }
}

/// The configured services; clones share what was found.
#[derive(Debug, Clone, Default)]
pub struct Services {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    list: Vec<(String, ServiceAddress)>,
    timeout: Duration,
    found: Mutex<Option<(Instant, Vec<ServiceCheck>)>>,
}

impl Services {
    /// These, each of which has `timeout` to answer.
    pub fn new(list: Vec<(String, ServiceAddress)>, timeout: Duration) -> Self {
        Self { inner: Arc::new(Inner { list, timeout, found: Mutex::new(None) }) }
    }

    /// Whether each answers.
    pub(crate) async fn verify(&self) -> Vec<ServiceCheck> {
        let mut found = self.inner.found.lock().await;
        if let Some((when, checks)) = found.as_ref()
            && when.elapsed() < FRESH
        {
            return checks.clone();
        }
        let timeout = self.inner.timeout;
        let checks = join_all(self.inner.list.iter().map(|(name, address)| check(name, address, timeout))).await;
        *found = Some((Instant::now(), checks.clone()));
        checks
    }
}

async fn check(name: &str, address: &ServiceAddress, timeout: Duration) -> ServiceCheck {
    let begun = Instant::now();
    let outcome = match address {
        ServiceAddress::Zmtp(endpoint) => greeted(endpoint, timeout).await,
        ServiceAddress::Http(uri) => match tokio::time::timeout(timeout, status_of(uri)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {timeout:?}")),
        },
    };
    let took_ms = (begun.elapsed().as_secs_f64() * 100_000.0).round() / 100.0;
    let (ok, detail) = match outcome {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    ServiceCheck { name: name.to_owned(), ok, address: address.shown(), detail, took_ms }
}

/// A peer that greets is there, whatever socket it is.
async fn greeted(endpoint: &str, timeout: Duration) -> Result<String, String> {
    let share = timeout / STEPS;
    let options = ProbeOptions { connect_timeout: share, step_timeout: share, ..ProbeOptions::default() };
    let report = probe(endpoint, &options).await;
    if let Err(error) = &report.resolve.outcome {
        return Err(error.to_string());
    }
    if let Some(Err(error)) = report.connect.map(|step| step.outcome) {
        return Err(error.to_string());
    }
    match report.greeting.map(|step| step.outcome) {
        Some(Ok(_)) => Ok("greets as ZeroMQ".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("no connection within {share:?}")),
    }
}

async fn status_of(uri: &Uri) -> Result<String, String> {
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = match host.parse::<IpAddr>() {
        Ok(ip) => TcpStream::connect((ip, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    };
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    let spoke = |error: hyper::Error| format!("it speaks no HTTP: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(spoke)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path).header(HOST, authority).header(CONNECTION, "close").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| format!("cannot be asked: {error}"))?;
    let mut response = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        // What came before its end is there, or the error that it ended with.
        _ = connection => response.await,
    };
    let response = response.map_err(spoke)?;
    let status = response.status();
    if status.as_u16() < 400 { Ok(format!("answers {status}")) } else { Err(format!("answers {status}")) }
}

#[cfg(test)]
mod tests {
    use super::ServiceAddress;

    #[test]
    fn addresses() {
        for text in
            ["tcp://host:5570", "tcp://[::1]:1", "http://host", "http://host:80/health?deep=1", "http://[::1]:80"]
        {
            let address: ServiceAddress = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(address.shown().trim_end_matches('/'), text);
        }
        for text in [
            "",
            "host:1",
            "tcp://host",
            "tcp://host:0",
            "tcp://host:1/x",
            "tcp://:1",
            "https://host",
            "http://",
            "http://u:p@host",
            "ipc:///x",
        ] {
            assert!(text.parse::<ServiceAddress>().is_err(), "{text}");
        }
    }
}
