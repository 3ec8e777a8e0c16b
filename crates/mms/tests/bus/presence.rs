//! Presence in a real Redis: shapes, expiry, the farewell, and every way in which Redis can fail.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::brokers::{Redis, free_port};
use crate::load::Load;
use crate::support::{PATIENCE, Server, mms, wait_until};
use crate::{health, wait_for_check};

const READY: &str = "agent:ready:ModelManagerSuite";
const SHUTDOWN: &str = "agent:shutdown:ModelManagerSuite";
const SERVICE: &str = "service_registry:ModelManagerSuite";

fn config(url: &str) -> String {
    format!("[redis]\nurl = \"{url}\"\nrefresh_s = 0.2\ntimeout_s = 1.0\n")
}

fn port_of(address: &str) -> Value {
    json!(address.rsplit(':').next().unwrap().parse::<u16>().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_server_is_entered_and_takes_leave() {
    let redis = Redis::start();
    redis.ask(&["set", SHUTDOWN, "of the one before"]);
    let mut server = Server::start(&config(&redis.url()));
    let ready = redis.wait_for(READY);
    assert_eq!((&ready["status"], &ready["port"]), (&json!("ready"), &port_of(&server.main)), "{ready}");
    assert_eq!(ready["details"]["port"], port_of(&server.main));
    assert_eq!(ready["details"]["health_check_port"], port_of(&server.health));
    assert!(ready["details"]["uptime"].as_f64().unwrap() >= 0.0, "{ready}");
    for time in [&ready["timestamp"], &ready["details"]["initialized_at"]] {
        assert!(time.as_str().unwrap().ends_with("+00:00"), "{ready}");
    }
    let service = redis.wait_for(SERVICE);
    assert_eq!(service["agent_id"], "ModelManagerSuite");
    assert_eq!((&service["host"], &service["port"]), (&json!("127.0.0.1"), &port_of(&server.main)), "{service}");
    assert_eq!(service["health_check_port"], port_of(&server.health));
    for key in ["agent_type", "capabilities", "dependencies", "metadata", "last_seen"] {
        assert!(service.get(key).is_some(), "{key}: {service}");
    }
    redis.wait_for_none(SHUTDOWN);
    assert!((1..=300).contains(&redis.ttl(READY)), "it must expire when the server is killed");
    assert!((1..=300).contains(&redis.ttl(SERVICE)));
    // Refreshed: what is taken away comes back, and a later time is in it.
    redis.ask(&["del", READY]);
    assert!(redis.wait_for(READY)["timestamp"].as_str() > ready["timestamp"].as_str());
    wait_for_check(&server, "redis", true, "entered as ready").await;

    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    assert_eq!(redis.ask(&["exists", READY, SERVICE]), "0");
    let word = redis.wait_for(SHUTDOWN);
    assert_eq!(word["reason"], "SIGTERM");
    assert!(word["timestamp"].as_str().unwrap().ends_with("+00:00"), "{word}");
    assert!((1..=3600).contains(&redis.ttl(SHUTDOWN)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_may_be_another_server_with_a_prefix_of_its_own() {
    let (redis, other) = (Redis::start(), Redis::start());
    let text = format!("{}registry_url = \"{}\"\nregistry_prefix = \"agents/\"\n", config(&redis.url()), other.url());
    let server = Server::start(&text);
    redis.wait_for(READY);
    assert_eq!(other.wait_for("agents/ModelManagerSuite")["agent_id"], "ModelManagerSuite");
    assert_eq!(redis.ask(&["keys", "*"]), READY);
    assert_eq!(other.ask(&["keys", "*"]), "agents/ModelManagerSuite");
    wait_for_check(&server, "service_registry", true, "entered as ready").await;
    server.stop();
    assert_eq!(other.ask(&["keys", "*"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_ready_is_not_entered() {
    let redis = Redis::start();
    let text = "[server]\nprobe_interval_s = 0.1\n[limits]\nmax_connections = 4\n";
    let server = Server::start(&format!("{text}{}", config(&redis.url())));
    redis.wait_for(READY);
    // Once every place on the main port is taken, the server's own probe gets no answer, and it is not ready.
    let mut holders = Vec::new();
    let begun = std::time::Instant::now();
    while redis.ask(&["exists", READY]) == "1" {
        holders.extend(mms_client::Client::connect(&server.main, PATIENCE).await);
        assert!(begun.elapsed() < PATIENCE, "the entry stays");
    }
    assert_eq!(health(&server).await.0, 503);
    assert_eq!(redis.ask(&["exists", SHUTDOWN]), "0", "it does not end");
    drop(holders);
    redis.wait_for(READY);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_a_killed_server_left_goes_before_the_next_is_ready() {
    let redis = Redis::start();
    redis.ask(&["set", READY, "\"of one that was killed\""]);
    let server = Server::start(&config(&redis.url()));
    wait_until("its own entry", || redis.wait_for(READY)["status"] == "ready");
    drop(server);
    assert_eq!(redis.ask(&["exists", SHUTDOWN]), "0", "a killed server takes no leave");
    assert!((1..=300).contains(&redis.ttl(READY)), "and is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn away_at_the_start_and_killed_and_restarted_under_load() {
    let port = free_port();
    let server = Server::start(&config(&format!("redis://127.0.0.1:{port}/0")));
    let detail = wait_for_check(&server, "redis", false, "is not there").await;
    assert!(detail.contains("REDIS_URL"), "what to do: {detail}");
    let load = Load::start(&server);
    let mut redis = Redis::start_on(port, None);
    redis.wait_for(READY);
    wait_for_check(&server, "redis", true, "").await;
    for _ in 0..2 {
        redis.kill();
        wait_for_check(&server, "redis", false, "").await;
        redis.restart();
        redis.wait_for(READY);
        redis.wait_for(SERVICE);
        wait_for_check(&server, "redis", true, "").await;
    }
    load.end().await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_never_shown() {
    let redis = Redis::start_on(free_port(), Some("right-one"));
    let url = format!("redis://:wr0ng-secret@127.0.0.1:{}/0", redis.port);
    let server = Server::start(&config(&url));
    let detail = wait_for_check(&server, "redis", false, "password").await;
    assert!(detail.contains("***@127.0.0.1"), "{detail}");
    redis.ask(&["config", "set", "requirepass", "wr0ng-secret"]);
    wait_for_check(&server, "redis", true, "").await;
    let shown = mms().args(["config", "show"]).current_dir(server.folder()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("***@127.0.0.1"), "{shown}");
    let (_, health) = health(&server).await;
    for text in [server.log(), server.stdout(), health.to_string(), shown] {
        assert!(!text.contains("wr0ng-secret"), "{text}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_and_a_server_that_hangs_are_told_and_waited_for() {
    let redis = Redis::start();
    let server = Server::start(&config(&redis.url()));
    redis.wait_for(READY);
    redis.ask(&["replicaof", "127.0.0.1", &free_port().to_string()]);
    wait_for_check(&server, "redis", false, "read-only replica").await;
    redis.ask(&["replicaof", "no", "one"]);
    wait_for_check(&server, "redis", true, "").await;

    let load = Load::start(&server);
    redis.signal(Signal::STOP);
    wait_for_check(&server, "redis", false, "gives no answer").await;
    redis.signal(Signal::CONT);
    wait_for_check(&server, "redis", true, "").await;
    load.end().await;

    // A server that ends while Redis hangs ends all the same, and well.
    redis.signal(Signal::STOP);
    server.stop();
    redis.signal(Signal::CONT);
}
