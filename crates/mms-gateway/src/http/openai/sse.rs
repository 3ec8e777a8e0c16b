//! A generation as server-sent events: `data: {chunk}` lines, then `data: [DONE]`. A generation that fails before its first event is
//! an HTTP error like any other; one that breaks off later ends with `data: {"error": ...}` and without `[DONE]`. While nothing
//! happens, such as during a long load, comments keep proxies from cutting the connection. A client that leaves drops the body, and
//! with it the generation.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, future, stream};
use mms_manager::GenerateEvent;
use mms_protocol::Refusal;
use mms_protocol::view::Generation;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::answer::{Answer, Piece};
use super::error;
use crate::peer::Peer;

const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "no-cache"),
    // Tells a reverse proxy to pass the pieces on as they come.
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// [`Waiting::silence`] of a server.
const SILENCE: Duration = Duration::from_secs(10);
/// The same once the client has ended its sending side: only writing tells whether it is gone.
const SILENCE_WHEN_LEAVING: Duration = Duration::from_millis(100);
/// A line that clients of server-sent events skip.
const COMMENT: &[u8] = b": waiting\n\n";

/// What to do while nothing happens.
pub(super) struct Waiting {
    /// Who may leave meanwhile.
    peer: Option<Peer>,
    /// After this a comment is sent. Before the first event it is also how long a failure may still become an HTTP error.
    silence: Duration,
}

impl Waiting {
    pub(super) fn with(peer: Option<Peer>) -> Self {
        Self { peer, silence: SILENCE }
    }
}

/// An event of the choice with this index.
type Event = (usize, GenerateEvent);

/// Answers with the stream once it is known that there is one, or that it will take a while.
pub(super) async fn response(
    mut events: impl Stream<Item = Event> + Send + Unpin + 'static,
    answer: Answer,
    include_usage: bool,
    waiting: Waiting,
) -> Result<Response, Refusal> {
    let first = match timeout(waiting.silence, events.next()).await {
        Ok(Some((_, GenerateEvent::Failed(refusal)))) => return Err(refusal),
        Ok(first) => first.map(Some),
        Err(_) => Some(None),
    };
    let mut writer = Writer { answer, include_usage, model: String::new(), ended: Vec::new() };
    let body = stream::iter(first)
        .chain(with_silences(events, waiting))
        .map(move |event| event.map_or(Bytes::from_static(COMMENT), |event| writer.write(event)))
        .filter(|bytes| future::ready(!bytes.is_empty()))
        .map(Ok::<_, Infallible>);
    Ok((HEADERS, Body::from_stream(body)).into_response())
}

/// The events, and `None` for each silence.
fn with_silences(
    events: impl Stream<Item = Event> + Send + Unpin + 'static,
    waiting: Waiting,
) -> impl Stream<Item = Option<Event>> + Send {
    stream::unfold((events, waiting), |(mut events, mut waiting)| async move {
        loop {
            let leaving = async {
                match &waiting.peer {
                    Some(peer) => peer.half_closed().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = events.next() => return event.map(|event| (Some(event), (events, waiting))),
                () = sleep(waiting.silence) => return Some((None, (events, waiting))),
                () = leaving => waiting = Waiting { peer: None, silence: SILENCE_WHEN_LEAVING },
            }
        }
    })
}

struct Writer {
    answer: Answer,
    include_usage: bool,
    model: String,
    /// By the index of their choice.
    ended: Vec<(usize, Box<Generation>)>,
}

impl Writer {
    /// The lines of one event.
    fn write(&mut self, (index, event): Event) -> Bytes {
        let mut lines = String::new();
        match event {
            GenerateEvent::Started { model_id, .. } => {
                self.model = model_id;
                self.piece(&mut lines, index, Piece::Begin);
            }
            GenerateEvent::Text { text, logprobs } => {
                self.piece(&mut lines, index, Piece::Text(&text, &logprobs));
            }
            GenerateEvent::ToolCall(call) => self.piece(&mut lines, index, Piece::Call(&call)),
            GenerateEvent::Finished(generation) => self.finish(&mut lines, index, generation),
            GenerateEvent::Failed(refusal) => line(&mut lines, &error::object(&refusal).to_string()),
        }
        Bytes::from(lines)
    }

    fn piece(&mut self, lines: &mut String, index: usize, piece: Piece<'_>) {
        self.chunks(index, piece).iter().for_each(|chunk| line(lines, &chunk.to_string()));
    }

    fn chunks(&mut self, index: usize, piece: Piece<'_>) -> Vec<Value> {
        let mut chunks = self.answer.chunks(index, &self.model, piece);
        if self.include_usage {
            chunks.iter_mut().for_each(|chunk| chunk["usage"] = Value::Null);
        }
        chunks
    }

    fn finish(&mut self, lines: &mut String, index: usize, generation: Box<Generation>) {
        self.model.clone_from(&generation.model_id);
        let mut chunks = self.chunks(index, Piece::End(generation.finish_reason));
        if let Some(last) = chunks.last_mut() {
            self.answer.add_conversation(last, &generation);
        }
        chunks.iter().for_each(|chunk| line(lines, &chunk.to_string()));
        self.ended.push((index, generation));
        if self.ended.len() == self.answer.choices() {
            self.ended.sort_by_key(|(index, _)| *index);
            let generations: Vec<Box<Generation>> = self.ended.drain(..).map(|(_, generation)| generation).collect();
            if self.include_usage {
                line(lines, &self.answer.usage_chunk(&generations).to_string());
            }
            line(lines, "[DONE]");
        }
    }
}

fn line(lines: &mut String, data: &str) {
    lines.push_str("data: ");
    lines.push_str(data);
    lines.push_str("\n\n");
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use mms_protocol::ErrorCode;
    use mms_protocol::generate::{FinishReason, Timings, Usage};
    use serde_json::json;

    use mms_protocol::generate::{GenerateSpec, Prompt, ToolCall};
    use mms_protocol::{GenerateArgs, ModelChoice};

    use super::super::answer::Kind;
    use super::super::params::Asked;
    use super::*;

    fn answer(kind: Kind, n: usize) -> Answer {
        let spec = GenerateSpec::new(Prompt::Raw("Say".to_owned()));
        let args = GenerateArgs::new(ModelChoice::Named("m".to_owned()), spec);
        let choices = vec![args; n];
        let asked = Asked {
            choices,
            n,
            stream: true,
            include_usage: false,
            echo: kind == Kind::Completion,
            constraint_name: None,
        };
        Answer::new(kind, &asked)
    }

    fn started() -> GenerateEvent {
        GenerateEvent::Started { model_id: "m".to_owned(), prompt_tokens: 3, cached_tokens: 1, left_out: 0 }
    }

    fn text(text: &str) -> GenerateEvent {
        GenerateEvent::Text { text: text.to_owned(), logprobs: Vec::new() }
    }

    fn finished() -> GenerateEvent {
        GenerateEvent::Finished(Box::new(Generation {
            model_id: "m".to_owned(),
            text: "Hi you".to_owned(),
            finish_reason: FinishReason::Stop,
            usage: Usage { prompt_tokens: 3, completion_tokens: 2, cached_tokens: 1 },
            timings: Timings::default(),
            first_token_ms: Some(1.0),
            total_ms: 2.0,
            conversation_id: None,
            conversation: None,
            tokens: Vec::new(),
            tool_calls: Vec::new(),
            logprobs: Vec::new(),
            reason: None,
        }))
    }

    /// The `data:` of every line; what is JSON, as JSON.
    async fn lines(kind: Kind, include_usage: bool, events: Vec<GenerateEvent>) -> Vec<Value> {
        lines_of(answer(kind, 1), include_usage, events.into_iter().map(|event| (0, event)).collect()).await
    }

    async fn lines_of(answer: Answer, include_usage: bool, events: Vec<Event>) -> Vec<Value> {
        let response = response(stream::iter(events), answer, include_usage, Waiting::with(None)).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = std::str::from_utf8(&body).unwrap();
        assert!(body.ends_with("\n\n"));
        body.split_terminator("\n\n")
            .map(|line| line.strip_prefix("data: ").unwrap())
            .map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
            .collect()
    }

    #[tokio::test]
    async fn a_chat_from_role_to_done() {
        let lines = lines(Kind::Chat, true, vec![started(), text("Hi"), text(" you"), finished()]).await;
        let deltas: Vec<_> = lines[..4].iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
        assert_eq!(
            deltas,
            [
                json!({"role": "assistant", "content": ""}),
                json!({"content": "Hi"}),
                json!({"content": " you"}),
                json!({})
            ]
        );
        for chunk in &lines[..5] {
            assert_eq!((&chunk["object"], &chunk["model"]), (&json!("chat.completion.chunk"), &json!("m")));
            assert_eq!(chunk["id"], lines[0]["id"]);
        }
        assert_eq!(lines[3]["choices"][0]["finish_reason"], "stop");
        assert_eq!((&lines[3]["usage"], &lines[4]["choices"]), (&Value::Null, &json!([])));
        let usage = &lines[4]["usage"];
        assert_eq!(usage["prompt_tokens"], 3);
        assert_eq!(usage["completion_tokens"], 2);
        assert_eq!(usage["total_tokens"], 5);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 1);
        assert_eq!(lines[5..], [json!("[DONE]")]);
    }

    #[tokio::test]
    async fn a_completion_without_usage() {
        let lines = lines(Kind::Completion, false, vec![started(), text("Hi"), finished()]).await;
        let texts: Vec<_> = lines[..3].iter().map(|chunk| chunk["choices"][0]["text"].clone()).collect();
        assert_eq!(texts, [json!("Say"), json!("Hi"), json!("")], "the prompt first, as asked");
        assert!(lines[0].get("usage").is_none());
        assert_eq!(lines[0]["object"], "text_completion");
        assert_eq!(lines[2]["choices"][0]["finish_reason"], "stop");
        assert_eq!(lines[3..], [json!("[DONE]")]);
    }

    #[tokio::test]
    async fn choices_come_interleaved_and_end_together() {
        let call = ToolCall { id: "call_1".to_owned(), name: "look".to_owned(), arguments: "{\"at\":1}".to_owned() };
        let events = vec![
            (1, started()),
            (1, text("B")),
            (0, text("A")),
            (1, GenerateEvent::ToolCall(call)),
            (1, finished()),
            (0, finished()),
        ];
        let lines = lines_of(answer(Kind::Chat, 2), true, events).await;
        let choice = |at: usize| &lines[at]["choices"][0];
        let indices: Vec<_> = (0..7).map(|at| choice(at)["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, [1, 1, 0, 0, 1, 1, 0]);
        assert_eq!((&choice(2)["delta"]["role"], &choice(3)["delta"]["content"]), (&json!("assistant"), &json!("A")));
        let called = json!({
            "index": 0, "id": "call_1", "type": "function",
            "function": {"name": "look", "arguments": "{\"at\":1}"},
        });
        assert_eq!(choice(4)["delta"]["tool_calls"][0], called);
        assert_eq!((&choice(5)["finish_reason"], &choice(6)["finish_reason"]), (&json!("stop"), &json!("stop")));
        assert_eq!(
            (&lines[7]["usage"]["prompt_tokens"], &lines[7]["usage"]["completion_tokens"]),
            (&json!(3), &json!(4))
        );
        assert_eq!(lines[8..], [json!("[DONE]")]);
    }

    #[tokio::test]
    async fn a_generation_that_breaks_off_ends_with_its_error() {
        let died = GenerateEvent::Failed(Refusal::new(ErrorCode::WorkerDied, "the worker died"));
        let lines = lines(Kind::Chat, false, vec![started(), text("Hi"), died]).await;
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["error"]["code"], "worker_died");
        assert_eq!(lines[2]["error"]["message"], "the worker died");
    }

    #[tokio::test]
    async fn silence_is_filled_with_comments() {
        let (tell, events) = tokio::sync::mpsc::unbounded_channel();
        let events = stream::unfold(events, |mut events| async move { Some(((0, events.recv().await?), events)) });
        let waiting = Waiting { peer: None, silence: Duration::from_millis(1) };
        let response = response(Box::pin(events), answer(Kind::Completion, 1), false, waiting).await.unwrap();
        assert_eq!(response.status(), 200, "nothing has happened yet");
        let mut body = response.into_body().into_data_stream();
        for _ in 0..3 {
            assert_eq!(body.next().await.unwrap().unwrap(), COMMENT);
        }
        tell.send(GenerateEvent::Failed(Refusal::new(ErrorCode::LoadFailed, "no"))).unwrap();
        drop(tell);
        let rest: Vec<Bytes> = body.map(Result::unwrap).filter(|line| future::ready(line != COMMENT)).collect().await;
        assert_eq!(rest.len(), 1);
        assert!(rest[0].starts_with(b"data: {\"error\""), "{rest:?}");
    }

    #[tokio::test]
    async fn a_generation_that_never_began_is_an_error_of_its_own() {
        let full = Refusal::new(ErrorCode::QueueFull, "full");
        let events = stream::iter([(0, GenerateEvent::Failed(full.clone()))]);
        let refusal = response(events, answer(Kind::Chat, 1), false, Waiting::with(None)).await.unwrap_err();
        assert_eq!(refusal, full);
    }
}
