//! What goes wrong meanwhile: workers that die and hang, files that are cut, replaced, deleted and restored, a disk that fills up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use crate::asking::worker_pid;
use crate::clients::Tally;
use crate::dice::Dice;
use crate::support::{Disk, Server};

pub(crate) struct Chaos<'a> {
    pub(crate) server: &'a Server,
    pub(crate) folder: PathBuf,
    pub(crate) models: Vec<String>,
    pub(crate) good: Vec<u8>,
    pub(crate) disk: Disk,
    pub(crate) dice: Dice,
    pub(crate) tally: Tally,
}

impl Chaos<'_> {
    /// One fault after the other, then everything is put in order again.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let model = self.dice.pick(&self.models).clone();
            match self.dice.roll(12) {
                0..=1 => self.signal(&model, Signal::KILL).await,
                2 => self.signal(&model, Signal::ABORT).await,
                3 => self.signal(&model, Signal::SEGV).await,
                4 => self.signal(&model, Signal::STOP).await,
                5 => {
                    self.signal(&model, Signal::STOP).await;
                    tokio::time::sleep(Duration::from_millis(self.dice.roll(500))).await;
                    self.signal(&model, Signal::CONT).await;
                }
                6 => {
                    let length = self.dice.roll(self.good.len() as u64);
                    self.file(&model, "cut", |path| {
                        std::fs::OpenOptions::new().write(true).open(path)?.set_len(length)
                    });
                }
                7 => self.replace(&model),
                8 => self.file(&model, "deleted", |path| std::fs::remove_file(path)),
                9 => self.restore(),
                10 => self.churn(),
                _ => {
                    self.disk.fill();
                    self.tally.count("fault: disk full");
                    tokio::time::sleep(Duration::from_millis(self.dice.roll(1000))).await;
                    self.disk.free();
                }
            }
            tokio::time::sleep(Duration::from_millis(50 + self.dice.roll(250))).await;
        }
        self.disk.free();
        self.restore();
    }

    async fn signal(&self, model: &str, signal: Signal) {
        let Some(pid) = worker_pid(self.server, model).await else { return };
        // It may have ended since.
        if self.server.workers().contains(&pid)
            && let Some(pid) = Pid::from_raw(pid as i32)
            && kill_process(pid, signal).is_ok()
        {
            self.tally.count(format!("fault: signal {}", signal.as_raw()));
        }
    }

    fn path(&self, model: &str) -> PathBuf {
        self.folder.join(format!("{model}.gguf"))
    }

    fn file(&self, model: &str, what: &str, fault: impl FnOnce(&Path) -> std::io::Result<()>) {
        // A file that is not there now cannot be harmed.
        if fault(&self.path(model)).is_ok() {
            self.tally.count(format!("fault: file {what}"));
        }
    }

    /// Another file takes its name: the same model, or half of it.
    fn replace(&mut self, model: &str) {
        let part = self.folder.join("replacement.part");
        let length = if self.dice.roll(2) == 0 { self.good.len() } else { self.good.len() / 2 };
        std::fs::write(&part, &self.good[..length]).unwrap();
        std::fs::rename(&part, self.path(model)).unwrap();
        self.tally.count("fault: file replaced");
    }

    fn restore(&self) {
        let part = self.folder.join("restored.part");
        for model in &self.models {
            let path = self.path(model);
            if std::fs::metadata(&path).is_ok_and(|found| found.len() == self.good.len() as u64) {
                continue;
            }
            std::fs::write(&part, &self.good).unwrap();
            std::fs::rename(&part, path).unwrap();
        }
        self.tally.count("fault: files restored");
    }

    /// Files and folders that come and go beside the models.
    fn churn(&mut self) {
        let folder = self.folder.join(format!("churn{}", self.dice.roll(4)));
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        } else {
            std::fs::create_dir(&folder).unwrap();
            for number in 0..self.dice.roll(20) {
                std::fs::write(folder.join(format!("{number}.gguf")), b"GGUF, but no more").unwrap();
            }
        }
        self.tally.count("fault: folder churn");
    }
}
