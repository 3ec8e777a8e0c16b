//! Events in a real JetStream: subjects, headers and JSON, and streams that are there already, in whatever shape.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use rustix::process::Signal;
use serde_json::json;

use crate::brokers::{Kept, Nats};
use crate::support::{PATIENCE, Server, send, wait_until};
use crate::wait_for_check;

pub(crate) fn config(url: &str) -> String {
    format!("[nats]\nservers = [\"{url}\"]\ntimeout_s = 1.0\n")
}

pub(crate) fn load(server: &Server) {
    server.ok(&["models", "load", "mms-demo"]);
}

pub(crate) fn unload(server: &Server) {
    server.ok(&["models", "unload", "mms-demo"]);
}

/// Last words of the subjects, in order.
pub(crate) fn words(messages: &[Kept]) -> Vec<&str> {
    messages.iter().map(|message| message.subject.rsplit('.').next().unwrap()).collect()
}

fn with_subject<'m>(messages: &'m [Kept], subject: &str) -> Vec<&'m Kept> {
    messages.iter().filter(|message| message.subject == subject).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_come_and_go_in_their_stream_to_the_end() {
    let nats = Nats::start();
    let server = Server::start(&config(&nats.url()));
    load(&server);
    unload(&server);
    load(&server);
    wait_for_check(&server, "nats_models", true, "events go into the stream MODELS").await;
    // What happens last is published, too.
    server.stop();
    let messages = nats.messages("MODELS").await;
    let subjects: Vec<_> = messages.iter().map(|message| message.subject.as_str()).collect();
    let (loaded, unloaded) = ("models.model.loaded", "models.model.unloaded");
    assert_eq!(subjects, [loaded, unloaded, loaded, unloaded]);
    for message in &messages {
        let body = &message.body;
        assert_eq!(
            (&body["model_id"], &body["type"], &body["device"]),
            (&json!("mms-demo"), &json!("gguf"), &json!("cpu"))
        );
        assert!(body["vram_mb"].as_f64().unwrap() > 1.0 && body["timestamp"].as_f64().unwrap() > 1e9, "{body}");
        assert_eq!(message.agent.as_deref(), Some("ModelManagerSuite"));
    }
    assert!(messages[0].body.get("reason").is_none());
    assert_eq!((&messages[1].body["reason"], &messages[3].body["reason"]), (&json!("requested"), &json!("shutdown")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_is_an_error() {
    let nats = Nats::start();
    let server = Server::start(&format!("[server]\nagent_name = \"My Agent.1\"\n{}", config(&nats.url())));
    load(&server);
    send(server.workers()[0], Signal::KILL);
    let errors = nats.wait_for("ERRORS", "an error for the agent", |errors| errors.len() >= 2).await;
    let subjects: Vec<_> = errors[..2].iter().map(|error| error.subject.as_str()).collect();
    assert_eq!(subjects, ["errors.events", "errors.agents.My_Agent_1"]);
    let (error, same) = (&errors[0], &errors[1]);
    assert_eq!(error.body, same.body);
    assert_ne!(error.id, same.id);
    assert_eq!((error.agent.as_deref(), error.severity.as_deref()), (Some("My Agent.1"), Some("error")));
    let body = &error.body;
    assert_eq!(
        (&body["agent_name"], &body["severity"], &body["category"]),
        (&json!("My Agent.1"), &json!("error"), &json!("system"))
    );
    assert!(body["message"].as_str().unwrap().contains("mms-demo"), "{body}");
    assert_eq!((&body["details"]["model_id"], &body["resolved"]), (&json!("mms-demo"), &json!(false)));
    for key in ["id", "timestamp", "stack_trace", "correlation_id", "resolution_notes"] {
        assert!(body.get(key).is_some(), "{key}: {body}");
    }
    let models = nats.wait_for("MODELS", "its failure", |models| models.len() >= 2).await;
    assert_eq!(words(&models), ["loaded", "failed"]);
    assert!(models[1].body["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_serve_is_a_critical_error_until_it_can() {
    let nats = Nats::start();
    let text = "[server]\nprobe_interval_s = 0.1\n[limits]\nmax_connections = 4\n";
    let server = Server::start(&format!("{text}{}", config(&nats.url())));
    let mut holders = Vec::new();
    let critical = |errors: &[Kept]| !with_subject(errors, "errors.system.critical").is_empty();
    let begun = std::time::Instant::now();
    while !critical(&nats.messages("ERRORS").await) {
        holders.extend(mms_client::Client::connect(&server.main, PATIENCE).await);
        assert!(begun.elapsed() < PATIENCE, "no critical error");
    }
    drop(holders);
    let over = |errors: &[Kept]| errors.iter().any(|error| error.body["resolved"] == true);
    let errors = nats.wait_for("ERRORS", "the end of the error", over).await;
    let error = with_subject(&errors, "errors.system.critical")[0];
    assert_eq!(with_subject(&errors, "errors.system")[0].body["id"], error.body["id"]);
    assert_eq!((&error.body["severity"], &error.body["details"]["check"]), (&json!("critical"), &json!("main_port")));
    let over = errors.iter().find(|error| error.body["resolved"] == true).unwrap();
    assert_eq!((&over.body["correlation_id"], &over.body["severity"]), (&error.body["id"], &json!("info")));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_the_old_systems_are_set_right_or_shared() {
    let nats = Nats::start();
    let jetstream = nats.jetstream().await;
    let old = |name: &str, subject: &str| Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        max_messages: 77,
        ..Config::default()
    };
    jetstream.create_stream(old("MODELS", "models.*")).await.unwrap();
    jetstream.create_stream(old("AGENT_ERRORS", "errors.agents.>")).await.unwrap();
    let server = Server::start(&config(&nats.url()));
    wait_for_check(&server, "nats_models", true, "was given the subject models.>").await;
    let detail = wait_for_check(&server, "nats_errors", true, "AGENT_ERRORS has errors.agents.>").await;
    assert!(detail.contains("nats stream rm"), "what to do: {detail}");
    load(&server);
    send(server.workers()[0], Signal::KILL);
    nats.wait_for("MODELS", "two events", |models| words(models) == ["loaded", "failed"]).await;
    nats.wait_for("ERRORS", "the error", |errors| !with_subject(errors, "errors.events").is_empty()).await;
    let agents = nats.wait_for("AGENT_ERRORS", "the agent's error", |errors| !errors.is_empty()).await;
    assert_eq!(agents[0].subject, "errors.agents.ModelManagerSuite");
    let stream = jetstream.get_stream("MODELS").await.unwrap();
    assert_eq!(stream.cached_info().config.subjects, ["models.>"]);
    assert_eq!(stream.cached_info().config.max_messages, 77, "what somebody has set up stays");
    let stream = jetstream.get_stream("ERRORS").await.unwrap();
    assert_eq!(stream.cached_info().config.max_messages, 100_000);
    assert_eq!(stream.cached_info().config.max_age.as_secs(), 7 * 24 * 60 * 60);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_made_is_told_with_what_is_in_its_way() {
    let nats = Nats::start();
    let jetstream = nats.jetstream().await;
    // It overlaps a piece of ours without holding all of it, so nobody can have the rest.
    let odd = Config { name: "ODD".to_owned(), subjects: vec!["models.model.loaded".to_owned()], ..Config::default() };
    jetstream.create_stream(odd).await.unwrap();
    let server = Server::start(&config(&nats.url()));
    let detail = wait_for_check(&server, "nats_models", false, "ODD has models.model.loaded").await;
    assert!(detail.contains("nats stream rm"), "what to do: {detail}");
    wait_for_check(&server, "nats_errors", true, "").await;
    load(&server);
    jetstream.delete_stream("ODD").await.unwrap();
    nats.wait_for("MODELS", "what was kept", |models| words(models) == ["loaded"]).await;
    wait_for_check(&server, "nats_models", true, "").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_told_and_waited_for() {
    let nats = Nats::start();
    let jetstream = nats.jetstream().await;
    let full = Config {
        name: "MODELS".to_owned(),
        subjects: vec!["models.>".to_owned()],
        max_messages: 1,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    let stream = jetstream.create_stream(full).await.unwrap();
    let server = Server::start(&config(&nats.url()));
    load(&server);
    unload(&server);
    let detail = wait_for_check(&server, "nats_models", false, "takes no more").await;
    assert!(detail.contains("nats stream purge MODELS"), "what to do: {detail}");
    assert_eq!(words(&nats.messages("MODELS").await), ["loaded"]);
    stream.purge().await.unwrap();
    let messages = nats.wait_for("MODELS", "the next event", |models| models.len() == 1).await;
    assert_eq!(words(&messages), ["unloaded"]);
    wait_for_check(&server, "nats_models", true, "").await;
    wait_until("the count", || {
        server_metric(&server, "mms_bus_messages_published_total{stream=\"MODELS\"}") == Some(2.0)
    });
    server.stop();
}

/// A figure of `/metrics`.
pub(crate) fn server_metric(server: &Server, series: &str) -> Option<f64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server.http.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}
