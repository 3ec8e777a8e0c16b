//! `GET /events`: the live feed as server-sent events. `?since_s=SECONDS` begins so long ago, as far as events are kept; a browser or
//! another client that was cut off goes on with `Last-Event-ID`.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::{Stream, StreamExt, future, stream};
use mms_protocol::{ErrorCode, Refusal};
use serde_json::json;
use tokio::time::sleep;

use super::{Http, error};
use crate::feed::{Start, Told};
use crate::gateway::now;
use crate::peer::Peer;

const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];
/// After this a comment is sent, so that proxies do not cut the connection.
const SILENCE: Duration = Duration::from_secs(10);
/// The same once the client has ended its sending side: only writing tells whether it is gone.
const SILENCE_WHEN_LEAVING: Duration = Duration::from_millis(500);
const COMMENT: &[u8] = b": waiting\n\n";
/// The header with which a client goes on after a break.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) fn routes() -> Router<Http> {
    Router::new().route("/events", get(events))
}

async fn events(
    State(http): State<Http>,
    Query(query): Query<Vec<(String, String)>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    let start = match start(&query, &headers) {
        Ok(start) => start,
        Err(refusal) => return error::response(&refusal),
    };
    let Some(told) = http.gateway.feed.follow(start) else {
        let text = "too many follow the events already; try again later, or follow them in NATS";
        return error::response(&Refusal::new(ErrorCode::QueueFull, text));
    };
    // The first bytes go out at once, so that a client sees that it is connected.
    let lines = stream::once(future::ready(Bytes::from_static(COMMENT)))
        .chain(with_silences(told, peer.map(|Extension(peer)| peer)))
        .map(Ok::<_, Infallible>);
    (HEADERS, Body::from_stream(lines)).into_response()
}

fn start(query: &[(String, String)], headers: &HeaderMap) -> Result<Start, Refusal> {
    if let Some((key, _)) = query.iter().find(|(key, _)| key != "since_s") {
        let text = format!("unknown parameter {key:?}; /events takes since_s");
        return Err(Refusal::new(ErrorCode::InvalidArgument, text));
    }
    if let Some(id) = headers.get(LAST_EVENT_ID) {
        let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
        let text = "Last-Event-ID must be the id of an event of this server, a whole number";
        return id.map(Start::After).ok_or_else(|| Refusal::new(ErrorCode::InvalidArgument, text));
    }
    let Some((_, since)) = query.last() else { return Ok(Start::Now) };
    match since.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Start::At(now() - seconds)),
        Ok(_) | Err(_) => {
            let shown: String = since.chars().take(40).collect();
            let text = format!("since_s must be a number of seconds, 0 or more, not {shown:?}");
            Err(Refusal::new(ErrorCode::InvalidArgument, text))
        }
    }
}

/// The lines of each event, and a comment for each silence.
fn with_silences(told: impl Stream<Item = Told> + Send, peer: Option<Peer>) -> impl Stream<Item = Bytes> + Send {
    stream::unfold((Box::pin(told), peer, SILENCE), |(mut told, mut peer, mut silence)| async move {
        loop {
            let leaving = async {
                match &peer {
                    Some(peer) => peer.half_closed().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = told.next() => return event.map(|event| (lines(&event), (told, peer, silence))),
                () = sleep(silence) => return Some((Bytes::from_static(COMMENT), (told, peer, silence))),
                () = leaving => (peer, silence) = (None, SILENCE_WHEN_LEAVING),
            }
        }
    })
}

fn lines(told: &Told) -> Bytes {
    Bytes::from(match told {
        Told::Event(entry) => format!("id: {}\nevent: {}\ndata: {}\n\n", entry.seq, entry.subject, entry.json),
        Told::Missed(count) => format!("event: lagged\ndata: {}\n\n", json!({"subject": "lagged", "missed": count})),
    })
}
