//! A blocking HTTP client that notes when each piece of an answer came: a connection for each request, as most clients have it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longest silence of a server; a bench that hangs ends with an error.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer that came in pieces.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The request began to leave.
    pub(super) asked: Instant,
    /// A piece of text came.
    pub(super) texts: Vec<Instant>,
    /// The reply was complete.
    pub(super) ended: Instant,
    /// As the server counts them.
    pub(super) prompt_tokens: u32,
    /// As the server counts them.
    pub(super) tokens: u32,
}

impl Answer {
    /// From the request to the first text, seconds.
    pub(super) fn first(&self) -> Result<f64> {
        let first = self.texts.first().context("the answer holds no text")?;
        Ok(first.duration_since(self.asked).as_secs_f64())
    }

    /// Tokens per second from the first text to the end.
    pub(super) fn speed(&self) -> f64 {
        let seconds = self.texts.first().map_or(0.0, |&first| self.ended.duration_since(first).as_secs_f64());
        (f64::from(self.tokens) - 1.0).max(0.0) / seconds
    }
}

/// Asks at `path` of an OpenAI-compatible server, and waits for the end of the answer.
pub(super) fn ask(port: u16, path: &str, body: Value) -> Result<Answer> {
    listen(port, path, body, |_| true)
}

/// The same; `go_on` is asked after each piece of text, and a no closes the connection.
pub(super) fn listen(port: u16, path: &str, mut body: Value, mut go_on: impl FnMut(Instant) -> bool) -> Result<Answer> {
    body["stream"] = true.into();
    body["stream_options"] = serde_json::json!({"include_usage": true});
    let asked = Instant::now();
    let (status, mut reply) = send(port, "POST", path, &body.to_string())?;
    if status != 200 {
        let mut text = String::new();
        reply.read_to_string(&mut text)?;
        bail!("{path} was answered with {status}: {text:.500}");
    }
    let mut answer = Answer { asked, texts: Vec::new(), ended: asked, prompt_tokens: 0, tokens: 0 };
    let mut line = String::new();
    loop {
        line.clear();
        if reply.read_line(&mut line)? == 0 {
            bail!("the answer of {path} ended without [DONE]");
        }
        let now = Instant::now();
        let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            answer.ended = now;
            return Ok(answer);
        }
        let event: Value = serde_json::from_str(data).with_context(|| format!("no JSON in the stream: {data:.200}"))?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            bail!("the answer broke off: {error}");
        }
        let choice = &event["choices"][0];
        let text = choice["text"].as_str().or_else(|| choice["delta"]["content"].as_str()).unwrap_or_default();
        if !text.is_empty() {
            answer.texts.push(now);
            if !go_on(now) {
                answer.ended = now;
                return Ok(answer);
            }
        }
        let count = |key: &str| event["usage"][key].as_u64().and_then(|count| u32::try_from(count).ok());
        answer.prompt_tokens = count("prompt_tokens").unwrap_or(answer.prompt_tokens);
        answer.tokens = count("completion_tokens").unwrap_or(answer.tokens);
    }
}

/// Does an operation of the main port over HTTP; anything but success is an error.
pub(super) fn operation(port: u16, name: &str, args: &Value) -> Result<Value> {
    let (status, mut reply) = send(port, "POST", &format!("/api/v1/{name}"), &args.to_string())?;
    let mut text = String::new();
    reply.read_to_string(&mut text)?;
    if status != 200 {
        bail!("{name} {args} was answered with {status}: {text:.500}");
    }
    serde_json::from_str(&text).with_context(|| format!("{name} was answered with no JSON: {text:.200}"))
}

/// The status of `GET path`.
pub(super) fn status(port: u16, path: &str) -> Result<u16> {
    Ok(send(port, "GET", path, "")?.0)
}

type Body = BufReader<Box<dyn Read>>;

/// The status of the reply, and its body.
fn send(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, Body)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("nobody listens at {port}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut reply = BufReader::new(stream);
    let mut line = String::new();
    reply.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("what answers at {port} is no HTTP server: {line:?}"))?;
    let (mut chunked, mut length) = (false, None);
    loop {
        line.clear();
        if reply.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            "content-length" => length = value.trim().parse::<u64>().ok(),
            _ => {}
        }
    }
    let body: Box<dyn Read> = match length {
        _ if chunked => Box::new(Chunks { from: reply, left: 0, ended: false }),
        Some(length) => Box::new(reply.take(length)),
        None => Box::new(reply),
    };
    Ok((status, BufReader::new(body)))
}

/// The body of a reply that comes in chunks.
struct Chunks<R> {
    from: R,
    /// Of the chunk that is being read.
    left: usize,
    ended: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut line = String::new();
            // An empty line ends the chunk before.
            while line.trim().is_empty() {
                line.clear();
                if self.from.read_line(&mut line)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let size = line.trim().split(';').next().unwrap_or_default();
            self.left =
                usize::from_str_radix(size, 16).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.ended = self.left == 0;
        }
        if self.ended {
            return Ok(0);
        }
        let wanted = buffer.len().min(self.left);
        let count = self.from.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unchunk(text: &str) -> io::Result<String> {
        let mut whole = String::new();
        Chunks { from: text.as_bytes(), left: 0, ended: false }.read_to_string(&mut whole).map(|_| whole)
    }

    #[test]
    fn chunks_make_a_whole() {
        assert_eq!(unchunk("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").expect("complete"), "abcde");
        assert_eq!(unchunk("0\r\n\r\n").expect("complete"), "");
        assert!(unchunk("3\r\nab").is_err());
        assert!(unchunk("3\r\nabc\r\n").is_err());
        assert!(unchunk("x\r\n").is_err());
    }
}
