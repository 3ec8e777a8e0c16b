//! Many clients at once, half of which vanish in the middle: the others have their answers, and no work is left behind.

use std::time::Duration;

use crate::asking::{ask, eventually, long, requests};
use crate::support::{PATIENCE, Server};
use mms_client::Client;
use tokio::task::JoinSet;

const CLIENTS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_half_of_which_vanish() {
    let server = Server::start("");
    let mut staying = JoinSet::new();
    let mut leaving = JoinSet::new();
    for number in 0..CLIENTS {
        let endpoint = server.main.clone();
        if number % 2 == 0 {
            staying.spawn(async move { (number, ask(&endpoint, &long(number, 20)).await) });
        } else {
            leaving.spawn(async move {
                let mut client = Client::connect(&endpoint, PATIENCE).await.unwrap();
                let request = long(number, 100);
                // Sent, then gone: at once, in the queue, in prefill, in decoding or after the answer.
                let asking = client.send_json("generate", &request);
                drop(tokio::time::timeout(Duration::from_millis(number as u64), asking).await);
            });
        }
    }
    let mut answered = 0;
    while let Some(done) = staying.join_next().await {
        let (number, reply) = done.unwrap();
        assert_eq!(reply["status"], "success", "{reply}");
        assert_eq!(reply["request_id"], number, "a reply of somebody else");
        answered += 1;
    }
    assert_eq!(answered, CLIENTS / 2);
    while let Some(done) = leaving.join_next().await {
        done.unwrap();
    }
    eventually("no request is left", async || requests(&server).await == 0).await;
    crate::asking::generates(&server, "mms-demo").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_peers_that_left_ends() {
    let server = Server::start("[engine]\nslots = 2\n");
    crate::asking::load(&server, "mms-demo").await;
    let mut clients = JoinSet::new();
    for number in 0..16 {
        let endpoint = server.main.clone();
        clients.spawn(async move { ask(&endpoint, &long(number, 400)).await });
    }
    eventually("running generations", async || requests(&server).await > 0).await;
    clients.shutdown().await;
    eventually("no request is left", async || requests(&server).await == 0).await;
    let stats = ask(&server.main, &serde_json::json!({"action": "get_stats"})).await;
    assert!(stats["metrics"]["generations"].as_u64().unwrap() < 16, "all were finished, none was cancelled: {stats}");
    crate::asking::generates(&server, "mms-demo").await;
    server.stop();
}
