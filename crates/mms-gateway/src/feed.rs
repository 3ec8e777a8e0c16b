//! The live feed: what the server tells of models and errors, for whoever follows it. The last events are kept, so that a follower may
//! begin in the past; one that reads too slowly is told how many it has missed, and holds up nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, stream};
use mms_protocol::Notice;
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Events that are kept.
const KEPT: usize = 1000;
/// Bytes that these may have.
const KEPT_BYTES: usize = 1 << 20;
/// Events that a follower may be behind.
const BEHIND: usize = 256;
/// Most followers at once.
const MAX_FOLLOWERS: usize = 64;

/// Where events are told; clones share everything.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    followers: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    kept: VecDeque<Arc<Entry>>,
    bytes: usize,
    next: u64,
    told: u64,
    /// `None`: closed.
    sender: Option<broadcast::Sender<Arc<Entry>>>,
}

/// One event as it is sent.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Grows with each event, over restarts of the server too.
    pub(crate) seq: u64,
    at: f64,
    /// Such as `models.model.loaded`.
    pub(crate) subject: &'static str,
    /// `{seq, at, subject, data}`.
    pub(crate) json: String,
}

/// Where a follower begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// With what happens from now on.
    Now,
    /// With what is kept from this point in time on, epoch seconds.
    At(f64),
    /// With what came after the event of this number, and is kept.
    After(u64),
}

/// What a follower gets.
#[derive(Debug)]
pub(crate) enum Told {
    /// An event.
    Event(Arc<Entry>),
    /// It was too slow for so many.
    Missed(u64),
}

/// How many events there were, and how many follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedFigures {
    pub(crate) told: u64,
    pub(crate) followers: usize,
}

impl Feed {
    /// A feed of a server that starts at `now`, epoch seconds. Numbers begin with it, so that they grow over restarts.
    pub fn new(now: f64) -> Self {
        let state = State {
            kept: VecDeque::new(),
            bytes: 0,
            next: (now * 1e6) as u64,
            told: 0,
            sender: Some(broadcast::Sender::new(BEHIND)),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }))
    }

    /// Tells all who follow; waits for nobody.
    pub fn publish(&self, notice: &Notice) {
        let mut state = self.lock();
        let seq = state.next;
        let (subject, at) = (notice.subject(), notice.at);
        let json = json!({"seq": seq, "at": at, "subject": subject, "data": notice.json()}).to_string();
        let entry = Arc::new(Entry { seq, at, subject, json });
        state.next += 1;
        state.told += 1;
        state.bytes += entry.json.len();
        state.kept.push_back(Arc::clone(&entry));
        while state.kept.len() > KEPT || state.bytes > KEPT_BYTES {
            let Some(oldest) = state.kept.pop_front() else { break };
            state.bytes -= oldest.json.len();
        }
        if let Some(sender) = &state.sender {
            // Nobody follows: it is kept, that is all.
            drop(sender.send(entry));
        }
    }

    /// Ends every follower's stream once it has got everything.
    pub fn close(&self) {
        self.lock().sender = None;
    }

    /// Everything from `start` on. `None`: too many follow already.
    pub(crate) fn follow(&self, start: Start) -> Option<impl Stream<Item = Told> + Send + use<>> {
        let place = Arc::clone(&self.0.followers).try_acquire_owned().ok()?;
        let state = self.lock();
        let begun = |entry: &Entry| match start {
            Start::Now => false,
            Start::At(time) => entry.at >= time,
            Start::After(seq) => entry.seq > seq,
        };
        let past = state.kept.iter().filter(|entry| begun(entry)).cloned().collect();
        let live = state.sender.as_ref().map(broadcast::Sender::subscribe);
        Some(stream::unfold(Follower { past, live, _place: place }, Follower::next))
    }

    pub(crate) fn figures(&self) -> FeedFigures {
        FeedFigures { told: self.lock().told, followers: MAX_FOLLOWERS - self.0.followers.available_permits() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Follower {
    past: VecDeque<Arc<Entry>>,
    live: Option<broadcast::Receiver<Arc<Entry>>>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(mut self) -> Option<(Told, Self)> {
        if let Some(entry) = self.past.pop_front() {
            return Some((Told::Event(entry), self));
        }
        match self.live.as_mut()?.recv().await {
            Ok(entry) => Some((Told::Event(entry), self)),
            Err(RecvError::Lagged(missed)) => Some((Told::Missed(missed), self)),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use mms_protocol::notice::{ModelChange, ModelNotice, What};

    use super::*;

    fn notice(number: usize) -> Notice {
        let model = ModelNotice {
            change: ModelChange::Loaded,
            model_id: format!("m{number}"),
            vram_mb: 1.0,
            device: "cpu".to_owned(),
            reason: None,
        };
        Notice { id: "id".to_owned(), at: number as f64, agent: "a".to_owned(), what: What::Model(model) }
    }

    async fn all(feed: &Feed, start: Start) -> Vec<String> {
        let told = feed.follow(start).unwrap();
        feed.close();
        told.map(|told| match told {
            Told::Event(entry) => {
                let json: serde_json::Value = serde_json::from_str(&entry.json).unwrap();
                assert_eq!(
                    (json["seq"].as_u64(), json["subject"].as_str()),
                    (Some(entry.seq), Some("models.model.loaded"))
                );
                json["data"]["model_id"].as_str().unwrap().to_owned()
            }
            Told::Missed(count) => format!("{count} missed"),
        })
        .collect()
        .await
    }

    #[tokio::test]
    async fn a_follower_begins_where_it_wants() {
        for (start, expect) in [
            (Start::Now, &[][..]),
            (Start::At(1.0), &["m1", "m2"]),
            (Start::At(0.0), &["m0", "m1", "m2"]),
            (Start::After(10_000_001), &["m2"]),
            (Start::After(u64::MAX), &[]),
        ] {
            let feed = Feed::new(10.0);
            (0..3).for_each(|number| feed.publish(&notice(number)));
            assert_eq!(all(&feed, start).await, expect, "{start:?}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let feed = Feed::new(0.0);
        (0..KEPT + 5).for_each(|number| feed.publish(&notice(number)));
        let kept = all(&feed, Start::At(0.0)).await;
        assert_eq!((kept.len(), kept[0].as_str()), (KEPT, "m5"));
    }

    #[tokio::test]
    async fn one_that_is_too_slow_is_told_what_it_missed() {
        let feed = Feed::new(0.0);
        let mut slow = Box::pin(feed.follow(Start::Now).unwrap());
        (0..BEHIND + 7).for_each(|number| feed.publish(&notice(number)));
        assert!(matches!(slow.next().await, Some(Told::Missed(7))));
        assert!(matches!(slow.next().await, Some(Told::Event(entry)) if entry.json.contains("\"m7\"")));
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let feed = Feed::new(0.0);
        let following: Vec<_> = (0..MAX_FOLLOWERS).map(|_| feed.follow(Start::Now).unwrap()).collect();
        assert!(feed.follow(Start::Now).is_none());
        assert_eq!(feed.figures().followers, MAX_FOLLOWERS);
        drop(following);
        assert!(feed.follow(Start::Now).is_some());
        assert_eq!(feed.figures().followers, 0);
    }
}
