//! NATS away, killed and restarted under load, hanging, with another password, without JetStream: nobody who uses the server feels it, and
//! events arrive in order, each once.

use rustix::process::Signal;

use crate::brokers::{Kept, Nats, free_port};
use crate::load::Load;
use crate::nats::{config, load, server_metric, unload, words};
use crate::support::{Server, mms, wait_until};
use crate::{health, wait_for_check};

/// One load and one unload after the other, so many times, each event once.
fn assert_in_turn(messages: &[Kept], times: usize) {
    let expect: Vec<_> = std::iter::repeat_n(["loaded", "unloaded"], times).flatten().collect();
    assert_eq!(words(messages), expect);
    let mut ids: Vec<_> = messages.iter().map(|message| message.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), messages.len());
    assert!(messages.is_sorted_by_key(|message| message.body["timestamp"].as_f64().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn away_at_the_start_and_killed_and_restarted_under_load() {
    let port = free_port();
    let server = Server::start(&config(&format!("nats://127.0.0.1:{port}")));
    let detail = wait_for_check(&server, "nats_models", false, "is not there").await;
    assert!(detail.contains("NATS_SERVERS"), "what to do: {detail}");
    let asking = Load::start(&server);
    load(&server);
    unload(&server);
    let mut nats = Nats::start_on(port, &["-js"]);
    assert_in_turn(&nats.wait_for("MODELS", "what was kept", |models| models.len() >= 2).await, 1);
    wait_for_check(&server, "nats_models", true, "").await;
    // Cycles go on while it is killed and comes back with what it had kept.
    const CYCLES: usize = 12;
    for cycle in 1..CYCLES {
        match cycle {
            3 | 7 => nats.kill(),
            5 | 9 => nats.restart(None),
            _ => {}
        }
        load(&server);
        unload(&server);
    }
    assert_in_turn(&nats.wait_for("MODELS", "every event", |models| models.len() >= 2 * CYCLES).await, CYCLES);
    wait_for_check(&server, "nats_models", true, "").await;
    wait_for_check(&server, "nats_errors", true, "").await;
    let outage = |errors: &[Kept]| errors.iter().any(|error| error.body["details"]["check"] == "nats_models");
    let errors = nats.wait_for("ERRORS", "word of the outage", outage).await;
    let of_it = errors.iter().find(|error| error.body["details"]["check"] == "nats_models").unwrap();
    assert_eq!((of_it.severity.as_deref(), of_it.body["category"].as_str()), (Some("warning"), Some("network")));
    asking.end().await;
    assert_eq!(server_metric(&server, "mms_bus_messages_dropped_total{stream=\"MODELS\"}"), Some(0.0));
    server.stop();
    assert_in_turn(&nats.messages("MODELS").await, CYCLES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_gets_each_event_once() {
    let nats = Nats::start();
    let server = Server::start(&config(&nats.url()));
    wait_for_check(&server, "nats_models", true, "").await;
    let asking = Load::start(&server);
    nats.signal(Signal::STOP);
    load(&server);
    unload(&server);
    wait_for_check(&server, "nats_models", false, "").await;
    nats.signal(Signal::CONT);
    assert_in_turn(&nats.wait_for("MODELS", "what was kept", |models| models.len() >= 2).await, 1);
    wait_for_check(&server, "nats_models", true, "").await;
    // It had taken the first one, without being able to say so, and was sent it again.
    let duplicates = "mms_bus_messages_duplicate_total{stream=\"MODELS\"}";
    wait_until("the duplicate", || server_metric(&server, duplicates) >= Some(1.0));
    asking.end().await;
    // A server that ends while NATS hangs ends all the same, and well.
    nats.signal(Signal::STOP);
    load(&server);
    server.stop();
    nats.signal(Signal::CONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_never_shown() {
    let port = free_port();
    let mut nats = Nats::start_on(port, &["-js", "--user", "mms", "--pass", "right-one"]);
    let server = Server::start(&config(&format!("nats://mms:wr0ng-secret@127.0.0.1:{port}")));
    let detail = wait_for_check(&server, "nats_models", false, "does not take the user, password or token").await;
    assert!(detail.contains("***@127.0.0.1"), "{detail}");
    load(&server);
    nats.kill();
    nats.restart(Some(&["-js", "--user", "mms", "--pass", "wr0ng-secret"]));
    wait_for_check(&server, "nats_models", true, "").await;
    let shown = mms().args(["config", "show"]).current_dir(server.folder()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("***@127.0.0.1"), "{shown}");
    let (_, health) = health(&server).await;
    let log = server.log();
    server.stop();
    nats.kill();
    nats.restart(Some(&["-js"]));
    let errors = nats.messages("ERRORS").await;
    assert_eq!(words(&nats.messages("MODELS").await), ["loaded", "unloaded"]);
    assert!(errors.iter().any(|error| error.body["details"]["check"] == "nats_models"), "{errors:#?}");
    for text in [log, health.to_string(), shown, format!("{errors:?}")] {
        assert!(!text.contains("wr0ng-secret"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken() {
    let port = free_port();
    let _nats = Nats::start_on(port, &["-js", "--auth", "t0ken"]);
    let server = Server::start(&config(&format!("nats://t0ken@127.0.0.1:{port}")));
    wait_for_check(&server, "nats_models", true, "").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_jetstream_it_says_how_to_enable_it() {
    let mut nats = Nats::start_on(free_port(), &[]);
    let server = Server::start(&config(&nats.url()));
    wait_for_check(&server, "nats_models", false, "start nats-server with --jetstream").await;
    load(&server);
    nats.kill();
    nats.restart(Some(&["-js"]));
    nats.wait_for("MODELS", "what was kept", |models| words(models) == ["loaded"]).await;
    wait_for_check(&server, "nats_models", true, "").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_for_the_outage_are_counted_and_the_newest_arrive() {
    let port = free_port();
    let server = Server::start(&format!("{}max_waiting = 3\n", config(&format!("nats://127.0.0.1:{port}"))));
    for _ in 0..3 {
        load(&server);
        unload(&server);
    }
    let metric = |name: &str| server_metric(&server, &format!("mms_bus_messages_{name}{{stream=\"MODELS\"}}"));
    wait_until("three dropped", || metric("dropped_total") == Some(3.0));
    assert_eq!((metric("waiting"), metric("published_total")), (Some(3.0), Some(0.0)));
    let nats = Nats::start_on(port, &["-js"]);
    let messages = nats.wait_for("MODELS", "the rest", |models| models.len() >= 3).await;
    assert_eq!(words(&messages), ["unloaded", "loaded", "unloaded"]);
    wait_until("nothing waits", || metric("waiting") == Some(0.0));
    server.stop();
}
