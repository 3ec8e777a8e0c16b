//! A client that goes on asking while others fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::asking::ask;
use crate::support::Server;

/// Asks again and again, beside whatever happens to others; every request must be answered.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(server: &Server) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (main, stopped, count) = (server.main.clone(), stop.clone(), answered.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let reply = ask(&main, &json!({"action": "ping"})).await;
                assert_eq!(reply["status"], "success", "{reply}");
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        Self { stop, answered, task }
    }

    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        assert!(self.answered.load(Ordering::Relaxed) > 0);
    }
}
