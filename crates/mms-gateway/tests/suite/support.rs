//! A manager and its front doors in this process, on ports that the system chose.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use mms_client::{Client, HttpClient, HttpReply};
use mms_gateway::{Gateway, WireLimits, serve_health, serve_http, serve_main};
use mms_manager::catalogue::CatalogueConfig;
use mms_manager::{Limits, Manager, ManagerConfig, MemoryConfig};
use mms_protocol::Profile;
use mms_store::Store;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; only a hang takes that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this hangs")
}

/// Looks again and again until `seen` gives something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut seen: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = seen().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

pub(crate) struct Suite {
    pub(crate) manager: Manager,
    pub(crate) main: SocketAddr,
    pub(crate) legacy: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: Vec<JoinHandle<()>>,
    store: Store,
    _files: tempfile::TempDir,
}

/// Without any model.
pub(crate) async fn serve() -> Suite {
    serve_with(WireLimits::default(), None).await
}

/// With the built-in model.
pub(crate) async fn serve_model() -> Suite {
    serve_with(WireLimits::default(), Some(&demo_model())).await
}

fn demo_model() -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo-model/mms-demo.gguf");
    assert!(file.exists(), "{} is missing", file.display());
    file
}

pub(crate) async fn serve_with(limits: WireLimits, model: Option<&Path>) -> Suite {
    serve_as(limits, model, Limits::default()).await
}

/// With the built-in model, for which only so many requests may wait.
pub(crate) async fn serve_model_with_queue(queue_per_model: usize) -> Suite {
    let limits = Limits { queue_per_model, ..Limits::default() };
    serve_as(WireLimits::default(), Some(&demo_model()), limits).await
}

async fn serve_as(limits: WireLimits, model: Option<&Path>, queues: Limits) -> Suite {
    let models = tempfile::tempdir().expect("folder");
    if let Some(model) = model {
        let name = model.file_name().expect("name");
        std::fs::copy(model, models.path().join(name)).expect("copy of the model");
    }
    let (events, mut told) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move { while told.recv().await.is_some() {} });
    let config = ManagerConfig {
        agent: "Gate".to_owned(),
        version: "1.2.3".to_owned(),
        worker_program: worker(),
        catalogue: CatalogueConfig { folders: vec![models.path().to_owned()], ..CatalogueConfig::default() },
        engine: Default::default(),
        memory: MemoryConfig::default(),
        plans: None,
        idle_unload: None,
        kv_store: None,
        routing: [("fast".to_owned(), vec!["mms-demo".to_owned()])].into(),
        prediction: Default::default(),
        limits: queues,
    };
    let manager = Manager::start(config, events).await.expect("manager");
    let store = Store::open(&models.path().join("evaluation.db")).expect("store");
    let gateway = Gateway::new(manager.clone(), Some(store.clone()));
    let shutdown = CancellationToken::new();
    let (main, legacy, health, http) = (listen().await, listen().await, listen().await, listen().await);
    let addr = |listener: &TcpListener| listener.local_addr().expect("address");
    let (g, l, s) = (|| gateway.clone(), || limits.clone(), || shutdown.clone());
    Suite {
        manager,
        main: addr(&main),
        legacy: addr(&legacy),
        health: addr(&health),
        http: addr(&http),
        serving: vec![
            tokio::spawn(serve_main(main, g(), Profile::Suite, l(), s())),
            tokio::spawn(serve_main(legacy, g(), Profile::Legacy, l(), s())),
            tokio::spawn(serve_health(health, g(), l(), s())),
            tokio::spawn(serve_http(http, g(), l(), s())),
        ],
        shutdown,
        store,
        _files: models,
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("bind")
}

/// The worker that was built with this test.
fn worker() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let folder = test.parent().and_then(Path::parent).expect("target folder");
    folder.join(format!("mms-worker{}", std::env::consts::EXE_SUFFIX))
}

impl Suite {
    pub(crate) fn http_client(&self) -> HttpClient {
        HttpClient::new(&format!("http://{}", self.http)).expect("base").with_timeout(PATIENCE)
    }

    pub(crate) async fn get(&self, path: &str) -> HttpReply {
        self.http_client().get(path).await.expect("reply")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> HttpReply {
        self.http_client().post_json(path, body).await.expect("reply")
    }

    /// The value of one series of `/metrics`; 0 when it is not there.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let reply = self.get("/metrics").await;
        let text = String::from_utf8(reply.body.to_vec()).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("number"))
    }

    /// Stops as the program does.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        for serving in self.serving {
            within(serving).await.expect("no panic");
        }
        self.manager.drain(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

pub(crate) async fn zmtp(addr: SocketAddr) -> Client {
    Client::connect(&format!("tcp://{addr}"), PATIENCE).await.expect("connection")
}

/// One frame there, one JSON object back.
pub(crate) async fn ask(client: &mut Client, frame: impl Into<Bytes>) -> Map<String, Value> {
    match ask_any(client, frame).await {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

pub(crate) async fn ask_any(client: &mut Client, frame: impl Into<Bytes>) -> Value {
    let frames = client.request_raw(vec![frame.into()]).await.expect("reply");
    assert_eq!(frames.len(), 1, "one frame in a reply");
    serde_json::from_slice(&frames[0]).expect("JSON")
}

/// Sends `bytes` as they are and reads until the server closes.
pub(crate) async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connection");
    stream.write_all(bytes).await.expect("written");
    read_to_end(&mut stream).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    within(stream.read_to_end(&mut text)).await.expect("read");
    String::from_utf8_lossy(&text).into_owned()
}
