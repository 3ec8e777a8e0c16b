//! What one client does until it is told to stop: a mix of everything that users do, well and badly, and a look at each answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use mms_client::{Client, HttpClient};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::raw::Pipe;
use crate::support::PATIENCE;

/// The model whose worker and file are left alone: requests to it must not fail for what happens to the others.
pub(crate) const SPARED: &str = "mms-demo";

/// Refusals that some fault or some load explains.
const EXPLAINED: [&str; 11] = [
    "model_not_found",
    "model_broken",
    "load_failed",
    "quarantined",
    "insufficient_memory",
    "queue_full",
    "timeout",
    "cancelled",
    "worker_died",
    "context_exceeded",
    "invalid_argument",
];
/// Of them, those that a model may meet with whose worker and file are left alone.
const OF_LOAD: [&str; 5] = ["insufficient_memory", "queue_full", "timeout", "cancelled", "context_exceeded"];

/// What the clients have seen, by name.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<String, (u64, String)>>>);

impl Tally {
    pub(crate) fn count(&self, what: impl Into<String>) {
        self.count_with(what, "");
    }

    /// `example`: a text of this kind; the first is kept.
    pub(crate) fn count_with(&self, what: impl Into<String>, example: &str) {
        self.0.lock().unwrap().entry(what.into()).or_insert_with(|| (0, example.to_owned())).0 += 1;
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn all(&self) -> BTreeMap<String, (u64, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// Where the server is and what it has.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) main: String,
    pub(crate) health: String,
    pub(crate) http: String,
    pub(crate) models: Vec<String>,
}

pub(crate) struct Visitor {
    pub(crate) number: u64,
    pub(crate) target: Target,
    pub(crate) dice: Dice,
    pub(crate) tally: Tally,
    pub(crate) next_request: u64,
}

impl Visitor {
    /// Comes, asks and goes, again and again.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.dice.roll(23) {
                0..=5 => self.generate().await,
                6..=9 => self.stream().await,
                10 => self.chat().await,
                11..=12 => self.pipeline().await,
                13 => self.load_or_unload().await,
                14..=16 => self.look_around().await,
                17 => self.bad_input().await,
                18..=19 => self.leave_in_the_middle().await,
                20 => self.half_open().await,
                21 => self.embed().await,
                _ => tokio::time::sleep(Duration::from_millis(self.dice.roll(100))).await,
            }
        }
    }

    fn model(&mut self) -> String {
        match self.dice.roll(4) {
            0 => SPARED.to_owned(),
            _ => self.dice.pick(&self.target.models).clone(),
        }
    }

    fn a_generation(&mut self) -> Value {
        self.next_request += 1;
        let mut request = json!({
            "action": "generate", "model": self.model(), "prompt": "How do I load a model? ".repeat(1 + self.dice.roll(20) as usize),
            "max_tokens": 1 + self.dice.roll(60), "seed": self.dice.roll(1000), "temperature": 2,
            "request_id": self.number * 1_000_000 + self.next_request,
        });
        if self.dice.roll(5) == 0 {
            request["timeout_ms"] = (1 + self.dice.roll(300)).into();
        }
        request
    }

    /// Every reply is an answer, or a refusal that says why and that something explains.
    fn check(&self, what: &str, model: Option<&str>, reply: &Value) {
        if reply["status"] == "success" {
            return self.tally.count(format!("{what}: answered"));
        }
        let code =
            reply["error"]["code"].as_str().unwrap_or_else(|| panic!("{what}: neither answer nor reason: {reply}"));
        let message = reply["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{what}: a refusal without a reason: {reply}");
        assert!(EXPLAINED.contains(&code), "{what}: nothing explains this refusal: {reply}");
        if model == Some(SPARED) {
            assert!(OF_LOAD.contains(&code), "{what}: what happens to others must not fail this model: {reply}");
        }
        self.tally.count_with(format!("{what}: {code}"), message);
    }

    /// One request of a client that comes, asks and goes.
    async fn ask(&self, what: &str, request: &Value) -> Value {
        let mut client = Client::connect(&self.target.main, PATIENCE)
            .await
            .unwrap_or_else(|error| panic!("{what}: no connection: {error}"));
        let reply = client.send_json(what, request).await;
        reply.unwrap_or_else(|error| panic!("{what}: no answer to {request}: {error}"))
    }

    async fn generate(&mut self) {
        let request = self.a_generation();
        let reply = self.ask("generate", &request).await;
        assert_eq!(reply["request_id"], request["request_id"], "a reply of somebody else: {reply}");
        self.check("generate", request["model"].as_str(), &reply);
    }

    async fn load_or_unload(&mut self) {
        let action = *self.dice.pick(&["load_model", "unload_model"]);
        let model = self.dice.pick(&self.target.models).clone();
        let reply = self.ask(action, &json!({"action": action, "model": model})).await;
        self.check(action, Some(&model), &reply);
    }

    async fn look_around(&mut self) {
        let actions = ["ping", "list_models", "get_stats", "health_check", "status", "get_memory_status"];
        let action = *self.dice.pick(&actions);
        let reply = self.ask(action, &json!({"action": action})).await;
        let status = reply["status"].as_str().unwrap_or_default();
        assert!(["success", "healthy", "degraded"].contains(&status), "{action}: {reply}");
        let path = *self.dice.pick(&["/health", "/livez", "/metrics", "/v1/models"]);
        let reply = HttpClient::new(&self.target.http).unwrap().with_timeout(PATIENCE).get(path).await;
        let reply = reply.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        // Not ready for a moment is an honest answer on this path.
        assert!(reply.status == 200 || path == "/health", "GET {path}: {}", reply.status);
        self.tally.count("looked around");
    }

    async fn bad_input(&mut self) {
        let bodies: [&[u8]; 8] = [
            b"",
            b"{",
            b"\xff\xfe",
            b"[]",
            b"5",
            br#"{"action":"no such thing"}"#,
            br#"{"action":"generate","model":"mms-demo","prompt":5}"#,
            br#"{"action":"generate","model":"nobody","prompt":"x"}"#,
        ];
        let body = *self.dice.pick(&bodies);
        let mut client = Client::connect(&self.target.main, PATIENCE).await.expect("a connection");
        let reply = client.request_raw(vec![body.into()]).await.expect("an answer to bad input");
        let reply: Value = serde_json::from_slice(&reply[0]).expect("JSON");
        let wrong = reply["status"] == "error" || reply["error"].is_object();
        assert!(wrong, "{}: {reply}", String::from_utf8_lossy(body));
        self.tally.count("bad input: refused");
    }

    /// Several requests at once on one connection; each has its one reply.
    async fn pipeline(&mut self) {
        let Some(mut pipe) = Pipe::connect(&self.target.main).await else { panic!("no connection") };
        let mut models = BTreeMap::new();
        for _ in 0..1 + self.dice.roll(6) {
            let request = if self.dice.roll(3) == 0 { json!({"action": "ping"}) } else { self.a_generation() };
            self.next_request += 1;
            models.insert(self.next_request, request["model"].as_str().map(str::to_owned));
            pipe.send(self.next_request, request).await.expect("the connection holds");
        }
        while pipe.open() > 0 {
            let reply = tokio::time::timeout(PATIENCE, pipe.reply()).await;
            let reply = reply.expect("every request has its reply").expect("the connection holds");
            let model = reply["request_id"].as_u64().and_then(|number| models.get(&number)).and_then(|m| m.as_deref());
            self.check("pipeline", model, &reply);
        }
        // Whatever comes now is one too many.
        if let Ok(Some(reply)) = tokio::time::timeout(Duration::from_millis(50), pipe.reply()).await {
            panic!("one reply too many: {reply}");
        }
    }

    async fn chat(&mut self) {
        let model = self.model();
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8});
        let reply = HttpClient::new(&self.target.http)
            .unwrap()
            .with_timeout(PATIENCE)
            .post_json("/v1/chat/completions", &body)
            .await;
        let reply = reply.unwrap_or_else(|error| panic!("chat: {error}"));
        let json = reply.json().unwrap_or_else(|| panic!("chat: {reply:?}"));
        self.check_http("chat", &model, reply.status, &json);
    }

    /// Vectors; a model that gives none says so.
    async fn embed(&mut self) {
        let model = self.model();
        let body = json!({"model": model, "input": ["one text", "another"]});
        let reply =
            HttpClient::new(&self.target.http).unwrap().with_timeout(PATIENCE).post_json("/v1/embeddings", &body).await;
        let reply = reply.unwrap_or_else(|error| panic!("embed: {error}"));
        let json = reply.json().unwrap_or(Value::Null);
        if reply.status != 404 {
            self.check_http("embed", &model, reply.status, &json);
        }
    }

    fn check_http(&self, what: &str, model: &str, status: u16, reply: &Value) {
        if status == 200 {
            return self.tally.count(format!("{what}: answered"));
        }
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{what}: {status} without a reason: {reply}");
        self.check_code(what, model, reply);
    }

    fn check_code(&self, what: &str, model: &str, reply: &Value) {
        let code = reply["error"]["code"].as_str().unwrap_or_default();
        assert!(EXPLAINED.contains(&code), "{what}: nothing explains this refusal: {reply}");
        assert!(model != SPARED || OF_LOAD.contains(&code) || code == "invalid_argument", "{what}: {reply}");
        self.tally.count_with(format!("{what}: {code}"), reply["error"]["message"].as_str().unwrap_or_default());
    }

    /// A stream that is read to its end, fast or slowly, or left in the middle.
    async fn stream(&mut self) {
        let model = self.model();
        let body = json!({
            "model": model, "messages": [{"role": "user", "content": "Tell me about models."}], "stream": true,
            "max_tokens": 1 + self.dice.roll(200), "temperature": 3, "seed": self.dice.roll(1000),
        });
        let slow = self.dice.roll(4) == 0;
        let leaves_after = if self.dice.roll(3) == 0 { self.dice.roll(20) } else { u64::MAX };
        let http = HttpClient::new(&self.target.http).unwrap().with_timeout(PATIENCE);
        let opened = http.post_sse("/v1/chat/completions", &body).await.expect("stream: a connection and a head");
        let mut lines = match opened {
            Ok(lines) => lines,
            Err(reply) => return self.check_code("stream", &model, &reply.json().unwrap_or(Value::Null)),
        };
        let mut last = None;
        for number in 0.. {
            if number >= leaves_after {
                return self.tally.count("stream: left");
            }
            let Some(line) = lines.next().await else { break };
            let line = line.unwrap_or_else(|error| panic!("stream: {error}"));
            if slow {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if let Ok(event) = serde_json::from_str::<Value>(&line)
                && event.get("error").is_some()
            {
                return self.check_code("stream", &model, &event);
            }
            last = Some(line);
        }
        assert_eq!(last.as_deref(), Some("[DONE]"), "stream: it just stops");
        self.tally.count("stream: answered");
    }

    async fn leave_in_the_middle(&mut self) {
        let pause = Duration::from_millis(self.dice.roll(200));
        let Some(mut pipe) = Pipe::connect(&self.target.main).await else { panic!("no connection") };
        for _ in 0..1 + self.dice.roll(4) {
            let request = self.a_generation();
            self.next_request += 1;
            pipe.send(self.next_request, request).await.expect("the connection holds");
        }
        tokio::time::sleep(pause).await;
        self.tally.count("left in the middle");
    }

    /// A peer that stops in the middle of a sentence and stays for a while.
    async fn half_open(&mut self) {
        let port =
            self.dice.pick(&[self.target.main.clone(), self.target.health.clone(), self.target.http.clone()]).clone();
        let address = port.split("://").nth(1).expect("an address");
        let sentences: [&[u8]; 4] =
            [b"", b"\xff\x00\x00", b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", b"GET /hea"];
        let sentence = *self.dice.pick(&sentences);
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(sentence).await.expect("a fresh connection takes a few bytes");
        let stay = Duration::from_millis(self.dice.roll(1500));
        tokio::spawn(async move {
            tokio::time::sleep(stay).await;
            drop(stream);
        });
        self.tally.count("half open");
    }
}
