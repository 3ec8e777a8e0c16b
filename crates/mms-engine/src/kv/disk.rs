//! Saving to disk and reading from it, on a thread each, so that neither running answers nor the heartbeat wait for a disk. What has
//! become of an order comes to the engine as a [`Notice`].

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::file::Unusable;
use super::folder::{Folder, Name, Stored};
use super::shelf::Id;
use crate::wire::Incoming;

/// How often the folder is looked at: others remove states there, and some get too old.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What has become of an order, or of the folder.
#[derive(Debug)]
pub(crate) struct Notice(pub(super) News);

#[derive(Debug)]
pub(super) enum News {
    Written {
        id: Id,
        result: io::Result<Name>,
    },
    Fetched {
        id: Id,
        result: Result<Vec<u8>, Unusable>,
        took: Duration,
    },
    /// These are there.
    Present(Vec<Name>),
}

/// A state on its way to disk.
#[derive(Debug)]
pub(super) struct Save {
    pub(super) id: Id,
    pub(super) tokens: Vec<i32>,
    pub(super) cut_from: usize,
    pub(super) label: Option<u64>,
    pub(super) payload: Arc<Vec<u8>>,
}

/// The folder and the ways to both threads.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(super) folder: Folder,
    writer: Sender<Save>,
    reader: Sender<(Id, Name)>,
}

impl Disk {
    /// Starts both threads; what they have to tell goes to `engine`.
    pub(super) fn start(folder: Folder, engine: &Sender<Incoming>) -> io::Result<Self> {
        let (writer, saves) = channel();
        let (reader, wanted) = channel();
        let (tell, own) = (engine.clone(), folder.clone());
        thread::Builder::new().name("kv-write".into()).spawn(move || write_all(&own, &saves, &tell))?;
        let (tell, own) = (engine.clone(), folder.clone());
        thread::Builder::new().name("kv-read".into()).spawn(move || read_all(&own, &wanted, &tell))?;
        Ok(Self { folder, writer, reader })
    }

    /// This model's states that are there; none when the folder cannot be read.
    pub(super) fn index(&self) -> Vec<Stored> {
        self.folder.index().unwrap_or_else(|error| {
            tracing::warn!(%error, "the saved KV states cannot be listed; conversations begin anew");
            Vec::new()
        })
    }

    /// [`News::Written`] will follow. False: the thread is gone.
    pub(super) fn save(&self, save: Save) -> bool {
        self.writer.send(save).is_ok()
    }

    /// [`News::Fetched`] will follow. False: the thread is gone.
    pub(super) fn fetch(&self, id: Id, name: Name) -> bool {
        self.reader.send((id, name)).is_ok()
    }
}

fn write_all(folder: &Folder, saves: &Receiver<Save>, engine: &Sender<Incoming>) {
    let tell = |news| engine.send(Incoming::Store(Notice(news))).is_ok();
    loop {
        let goes_on = match saves.recv_timeout(SWEEP_EVERY) {
            Ok(Save { id, tokens, cut_from, label, payload }) => {
                let result = folder.write(&tokens, cut_from, &payload, label);
                drop(payload);
                tell(News::Written { id, result })
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        };
        if !goes_on {
            return;
        }
        match folder.names() {
            Ok(names) => _ = tell(News::Present(names)),
            Err(error) => tracing::debug!(%error, "the saved KV states cannot be listed now"),
        }
    }
}

fn read_all(folder: &Folder, wanted: &Receiver<(Id, Name)>, engine: &Sender<Incoming>) {
    for (id, name) in wanted {
        let began = Instant::now();
        let result = folder.read(&name);
        let news = News::Fetched { id, result, took: began.elapsed() };
        if engine.send(Incoming::Store(Notice(news))).is_err() {
            return;
        }
    }
}
