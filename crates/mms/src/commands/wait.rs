//! What a person sees who waits for a model: how far its load is, that it waits for memory, or that it works. Machines and files see
//! nothing, and the server is not asked for them.

use std::time::Duration;

use mms_client::Client;
use serde_json::{Map, Value};

use super::ask::{QUICK, Server, args, number, text};
use crate::exit::Failure;
use crate::output::Progress;

/// Between two looks at the model.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shown until it is dropped.
pub(super) struct Waiting<'s> {
    server: &'s Server,
    /// The model, or a preference of the routing policy.
    wanted: String,
    /// What is done once the model is there.
    doing: String,
    progress: Progress,
    client: Option<Client>,
}

impl<'s> Waiting<'s> {
    pub(super) fn new(server: &'s Server, wanted: &str, doing: &str) -> Self {
        let progress = server.output.progress(doing);
        Self { server, wanted: wanted.to_owned(), doing: doing.to_owned(), progress, client: None }
    }

    /// Does `work`, and shows meanwhile what it waits for.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if !self.progress.is_shown() {
            return work.await;
        }
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.look_again() => {}
            }
        }
    }

    async fn look_again(&mut self) {
        tokio::time::sleep(LOOK_EVERY).await;
        // Only for the bar; what matters is the work, whose own failure will tell.
        match self.look().await {
            Ok(model) => self.show(&model),
            Err(_) => self.client = None,
        }
    }

    async fn look(&mut self) -> Result<Map<String, Value>, Failure> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.server.connect(QUICK).await?,
        };
        let status = client.call("status", Map::new()).await?;
        let routed = status.get("routing_policy").and_then(|policy| policy.get(&self.wanted)).and_then(Value::as_str);
        let id = routed.unwrap_or(&self.wanted);
        let reply = client.call("get_model_status", args([("model", id.into())])).await?;
        self.client = Some(client);
        Ok(reply.get("model_info").and_then(Value::as_object).cloned().unwrap_or_default())
    }

    fn show(&self, model: &Map<String, Value>) {
        let id = text(model, "model_id");
        match text(model, "status") {
            "loading" => {
                // What comes after the last of the file, such as the warm-up, nobody can foretell.
                let left = model.get("load_remaining_s").and_then(Value::as_f64).filter(|left| *left >= 0.5);
                let left = left.map(|left| format!(", about {left:.0} s left")).unwrap_or_default();
                self.progress.part(number(model, "load_fraction"), &format!("loading {id}{left}"));
            }
            "queued" => self.progress.say(&format!("{id}: {}", text(model, "message"))),
            "draining" => self.progress.say(&format!("{id} is unloaded first")),
            _ => self.progress.say(&self.doing),
        }
    }
}
