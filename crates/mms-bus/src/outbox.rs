//! Messages that wait to be taken by a stream: in order, bounded in number and bytes. The oldest go first when there are too many, since
//! what is newest tells how things are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mms_protocol::Notice;
use mms_protocol::view::StreamFigures;
use tokio::sync::Notify;

/// One message as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Known to the stream, which takes it once only.
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// Most of what may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    bounds: Bounds,
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Message>>,
    bytes: usize,
    published: u64,
    duplicates: u64,
    dropped: u64,
}

impl Message {
    /// The messages of a notice: one for each of its subjects, each with an id of its own, as a stream may have several of them.
    pub(crate) fn all_of(notice: &Notice) -> Vec<Self> {
        let body = Bytes::from(notice.json().to_string());
        let message = |subject: String| Self {
            id: format!("{}:{subject}", notice.id),
            subject,
            headers: notice.headers(),
            body: body.clone(),
        };
        notice.subjects().into_iter().map(message).collect()
    }

    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.id.len() + self.subject.len() + headers + self.body.len()
    }
}

impl Outbox {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), pushed: Notify::new() }
    }

    /// Puts a message at the end; never waits.
    pub(crate) fn push(&self, message: Message) {
        let mut state = self.lock();
        state.bytes += message.size();
        state.waiting.push_back(Arc::new(message));
        while state.waiting.len() > self.bounds.messages || state.bytes > self.bounds.bytes {
            state.drop_first();
        }
        drop(state);
        self.pushed.notify_one();
    }

    /// The first message; it stays.
    pub(crate) fn first(&self) -> Option<Arc<Message>> {
        self.lock().waiting.front().map(Arc::clone)
    }

    /// Waits until something was put in.
    pub(crate) async fn pushed(&self) {
        self.pushed.notified().await;
    }

    /// The stream has the message.
    pub(crate) fn published(&self, message: &Arc<Message>, duplicate: bool) {
        let mut state = self.lock();
        state.published += 1;
        state.duplicates += u64::from(duplicate);
        // It may have been dropped to make room while it was on its way.
        if state.is_first(message) {
            state.take_first();
        }
    }

    /// No server will ever take the message.
    pub(crate) fn unfit(&self, message: &Arc<Message>) {
        let mut state = self.lock();
        if state.is_first(message) {
            state.drop_first();
        }
    }

    pub(crate) fn figures(&self) -> StreamFigures {
        let state = self.lock();
        StreamFigures {
            published: state.published,
            duplicates: state.duplicates,
            dropped: state.dropped,
            waiting: state.waiting.len() as u64,
            waiting_bytes: state.bytes as u64,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_first(&self, message: &Arc<Message>) -> bool {
        self.waiting.front().is_some_and(|first| Arc::ptr_eq(first, message))
    }

    fn take_first(&mut self) -> bool {
        let Some(first) = self.waiting.pop_front() else { return false };
        self.bytes -= first.size();
        true
    }

    fn drop_first(&mut self) {
        self.dropped += u64::from(self.take_first());
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Bytes, Message, Outbox};

    fn message(number: usize) -> Message {
        Message {
            id: format!("{number:02}"),
            subject: "s".to_owned(),
            headers: Vec::new(),
            body: Bytes::from(vec![0; 7]),
        }
    }

    fn rest(outbox: &Outbox) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(first) = outbox.first() {
            ids.push(first.id.clone());
            outbox.published(&first, false);
        }
        ids
    }

    #[test]
    fn in_order_and_the_oldest_go_when_there_are_too_many() {
        let outbox = Outbox::new(Bounds { messages: 3, bytes: 1000 });
        (0..5).for_each(|number| outbox.push(message(number)));
        let figures = outbox.figures();
        assert_eq!((figures.waiting, figures.waiting_bytes, figures.dropped), (3, 30, 2));
        assert_eq!(rest(&outbox), ["02", "03", "04"]);
        assert_eq!((outbox.figures().published, outbox.figures().waiting_bytes), (3, 0));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let outbox = Outbox::new(Bounds { messages: 100, bytes: 25 });
        (0..5).for_each(|number| outbox.push(message(number)));
        assert_eq!((outbox.figures().dropped, rest(&outbox)), (3, vec!["03".to_owned(), "04".to_owned()]));
        outbox.push(Message { body: Bytes::from(vec![0; 100]), ..message(9) });
        assert_eq!((outbox.figures().dropped, outbox.figures().waiting), (4, 0), "one that fits in no case");
    }

    #[test]
    fn what_was_dropped_on_its_way_takes_no_other_along() {
        let outbox = Outbox::new(Bounds { messages: 1, bytes: 1000 });
        outbox.push(message(0));
        let on_its_way = outbox.first().unwrap();
        outbox.push(message(1));
        outbox.published(&on_its_way, true);
        assert_eq!((outbox.figures().published, outbox.figures().duplicates, outbox.figures().dropped), (1, 1, 1));
        let unfit = outbox.first().unwrap();
        outbox.unfit(&unfit);
        assert_eq!((outbox.figures().dropped, outbox.figures().waiting), (2, 0));
    }
}
