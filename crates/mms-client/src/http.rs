//! HTTP/1.1 to the suite's own port: a connection for each request, so that a dropped reply cancels the work at once.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::address::Base;
use crate::error::ClientError;

/// Longest line of a stream of server-sent events.
const MAX_LINE: usize = 16 << 20;

/// An HTTP server by its base address.
#[derive(Debug, Clone)]
pub struct HttpClient {
    given: String,
    base: Base,
    timeout: Duration,
    authorization: Option<HeaderValue>,
}

/// A whole reply.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// Such as 200.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl HttpReply {
    /// The body as JSON; `None` when it is not.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl HttpClient {
    /// A client of `http://host:port`; connections are made with each request. 5 seconds for each until told otherwise.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        Ok(Self {
            given: base.to_owned(),
            base: Base::parse(base)?,
            timeout: Duration::from_secs(5),
            authorization: None,
        })
    }

    /// The time that a request has, its reply included; of a stream: the time until each next line.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends `key` as bearer token with every request.
    pub fn with_bearer(self, key: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(&format!("Bearer {key}"));
        let mut value = value.map_err(|_| ClientError::BadEndpoint {
            endpoint: self.given.clone(),
            why: "the API key has characters that no HTTP header may have".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Result<HttpReply, ClientError> {
        self.whole(Method::GET, path, None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<HttpReply, ClientError> {
        self.whole(Method::POST, path, Some(body)).await
    }

    /// `POST path` with a JSON body; the `data:` lines of the reply one by one. A reply that is no event stream (an error, as
    /// a rule) is given whole.
    pub async fn post_sse(&self, path: &str, body: &Value) -> Result<Result<SseLines, HttpReply>, ClientError> {
        self.sse(Method::POST, path, Some(body)).await
    }

    /// `GET path`; the `data:` lines of the reply as with [`HttpClient::post_sse`].
    pub async fn get_sse(&self, path: &str) -> Result<Result<SseLines, HttpReply>, ClientError> {
        self.sse(Method::GET, path, None).await
    }

    async fn sse(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<SseLines, HttpReply>, ClientError> {
        let what = format!("{method} {path}");
        let response = self.in_time(&what, self.send(method, path, body)).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if response.status().is_success() && kind.starts_with("text/event-stream") {
            let deadline = Box::pin(tokio::time::sleep(self.timeout));
            let client = self.clone();
            Ok(Ok(SseLines { client, what, body: response.into_body(), deadline, buffer: BytesMut::new() }))
        } else {
            Ok(Err(self.in_time(&what, self.collect(&what, response)).await?))
        }
    }

    async fn whole(&self, method: Method, path: &str, body: Option<&Value>) -> Result<HttpReply, ClientError> {
        let what = format!("{method} {path}");
        let exchange = async {
            let response = self.send(method, path, body).await?;
            self.collect(&what, response).await
        };
        self.in_time(&what, exchange).await
    }

    async fn in_time<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_elapsed| Err(self.late(what)))
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, ClientError> {
        let target = format!("{}{path}", self.base.prefix);
        let mut request = Request::builder().method(method).uri(target).header(HOST, self.base.host_header());
        request = request.header(ACCEPT, "application/json, text/event-stream;q=0.9, */*;q=0.5");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let bad_path = |error: hyper::http::Error| ClientError::BadEndpoint {
            endpoint: format!("{}{path}", self.given),
            why: error.to_string(),
        };
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(bad_path)?;
        let stream = TcpStream::connect((self.base.host.as_str(), self.base.port))
            .await
            .map_err(|error| ClientError::Unreachable { endpoint: self.given.clone(), why: error.to_string() })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // Ends with the reply, or as soon as its body is dropped; a later failure is seen by the reader of the body.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.broken(error))
    }

    async fn collect(&self, what: &str, response: Response<Incoming>) -> Result<HttpReply, ClientError> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| self.lost(what, &error))?.to_bytes();
        Ok(HttpReply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn broken(&self, error: hyper::Error) -> ClientError {
        let endpoint = self.given.clone();
        // A request that was given up before it was sent carries the connection's own failure.
        let failure = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>()).unwrap_or(&error);
        // Bytes that are no HTTP, or that came before anything was asked; the latter has no predicate of its own.
        let unasked = failure.source().is_none()
            && !(failure.is_canceled()
                || failure.is_closed()
                || failure.is_incomplete_message()
                || failure.is_timeout()
                || failure.is_user()
                || failure.is_body_write_aborted());
        if failure.is_parse() || unasked {
            ClientError::Foreign { endpoint, expected: "HTTP", speaks: "something else".to_owned() }
        } else {
            ClientError::Protocol { endpoint, why: format!("HTTP: {failure}") }
        }
    }

    fn lost(&self, what: &str, error: &hyper::Error) -> ClientError {
        ClientError::Protocol { endpoint: self.given.clone(), why: format!("{what}: the reply broke off: {error}") }
    }

    fn late(&self, what: &str) -> ClientError {
        ClientError::Timeout { endpoint: self.given.clone(), after: self.timeout, what: what.to_owned() }
    }
}

/// The `data:` lines of a stream of server-sent events. Dropping it closes the connection, which cancels the work behind it.
#[derive(Debug)]
pub struct SseLines {
    client: HttpClient,
    what: String,
    body: Incoming,
    deadline: Pin<Box<tokio::time::Sleep>>,
    buffer: BytesMut,
}

impl SseLines {
    /// The data of the next complete line that has any.
    fn next_data(&mut self) -> Option<String> {
        loop {
            let end = self.buffer.iter().position(|&byte| byte == b'\n')?;
            let line = self.buffer.split_to(end + 1);
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.trim_end_matches(['\r', '\n']).strip_prefix("data:") {
                return Some(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
    }
}

impl Stream for SseLines {
    type Item = Result<String, ClientError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.next_data() {
                return Poll::Ready(Some(Ok(data)));
            }
            if this.buffer.len() > MAX_LINE {
                let why = format!("{}: a line is longer than {MAX_LINE} bytes", this.what);
                return Poll::Ready(Some(Err(ClientError::Protocol { endpoint: this.client.given.clone(), why })));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => {
                    ready!(this.deadline.as_mut().poll(cx));
                    return Poll::Ready(Some(Err(this.client.late(&this.what))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(this.client.lost(&this.what, &error))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    this.deadline.as_mut().reset(tokio::time::Instant::now() + this.client.timeout);
                    if let Some(data) = frame.data_ref() {
                        this.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }
}
