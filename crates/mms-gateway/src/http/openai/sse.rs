//! A generation as server-sent events: `data: {chunk}` lines, then `data: [DONE]`. A generation that fails before its first event is
//! an HTTP error like any other; one that breaks off later ends with `data: {"error": ...}` and without `[DONE]`. A client that leaves
//! drops the body, and with it the generation.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, future, stream};
use mms_manager::GenerateEvent;
use mms_protocol::Refusal;
use mms_protocol::view::Generation;
use serde_json::Value;

use super::answer::{Answer, Piece};
use super::error;

const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "no-cache"),
    // Tells a reverse proxy to pass the pieces on as they come.
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// Answers with the stream once it is known that there is one.
pub(super) async fn response(
    mut events: impl Stream<Item = GenerateEvent> + Send + Unpin + 'static,
    answer: Answer,
    include_usage: bool,
) -> Result<Response, Refusal> {
    let first = match events.next().await {
        Some(GenerateEvent::Failed(refusal)) => return Err(refusal),
        first => first,
    };
    let mut writer = Writer { answer, include_usage, model: String::new(), begun: false };
    let body = stream::iter(first)
        .chain(events)
        .map(move |event| writer.write(event))
        .filter(|bytes| future::ready(!bytes.is_empty()))
        .map(Ok::<_, Infallible>);
    Ok((HEADERS, Body::from_stream(body)).into_response())
}

struct Writer {
    answer: Answer,
    include_usage: bool,
    model: String,
    begun: bool,
}

impl Writer {
    /// The lines of one event.
    fn write(&mut self, event: GenerateEvent) -> Bytes {
        let mut lines = String::new();
        match event {
            GenerateEvent::Started { model_id, .. } => {
                self.model = model_id;
                self.begin(&mut lines);
            }
            GenerateEvent::Text(text) => {
                self.begin(&mut lines);
                self.piece(&mut lines, Piece::Text(&text));
            }
            GenerateEvent::Finished(generation) => self.finish(&mut lines, &generation),
            GenerateEvent::Failed(refusal) => line(&mut lines, &error::object(&refusal).to_string()),
        }
        Bytes::from(lines)
    }

    fn begin(&mut self, lines: &mut String) {
        if !std::mem::replace(&mut self.begun, true) {
            self.piece(lines, Piece::Begin);
        }
    }

    fn piece(&self, lines: &mut String, piece: Piece<'_>) {
        if let Some(mut chunk) = self.answer.chunk(&self.model, piece) {
            if self.include_usage {
                chunk["usage"] = Value::Null;
            }
            line(lines, &chunk.to_string());
        }
    }

    fn finish(&mut self, lines: &mut String, generation: &Generation) {
        self.model.clone_from(&generation.model_id);
        self.begin(lines);
        self.piece(lines, Piece::End(generation.finish_reason));
        if self.include_usage {
            line(lines, &self.answer.usage_chunk(generation).to_string());
        }
        line(lines, "[DONE]");
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

    use super::super::answer::Kind;
    use super::*;

    fn started() -> GenerateEvent {
        GenerateEvent::Started { model_id: "m".to_owned(), prompt_tokens: 3, cached_tokens: 1 }
    }

    fn text(text: &str) -> GenerateEvent {
        GenerateEvent::Text(text.to_owned())
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
        }))
    }

    /// The `data:` of every line; what is JSON, as JSON.
    async fn lines(kind: Kind, include_usage: bool, events: Vec<GenerateEvent>) -> Vec<Value> {
        let response = response(stream::iter(events), Answer::new(kind), include_usage).await.unwrap();
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
        let texts: Vec<_> = lines[..2].iter().map(|chunk| chunk["choices"][0]["text"].clone()).collect();
        assert_eq!(texts, [json!("Hi"), json!("")]);
        assert!(lines[0].get("usage").is_none());
        assert_eq!(lines[0]["object"], "text_completion");
        assert_eq!(lines[1]["choices"][0]["finish_reason"], "stop");
        assert_eq!(lines[2..], [json!("[DONE]")]);
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
    async fn a_generation_that_never_began_is_an_error_of_its_own() {
        let full = Refusal::new(ErrorCode::QueueFull, "full");
        let events = stream::iter([GenerateEvent::Failed(full.clone())]);
        let refusal = response(events, Answer::new(Kind::Chat), false).await.unwrap_err();
        assert_eq!(refusal, full);
    }
}
