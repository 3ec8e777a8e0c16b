//! A disk that is full: the evaluation store says so, everything else goes on, and what was kept meanwhile is written when there is
//! space again.

use mms_client::HttpClient;
use serde_json::{Value, json};

use crate::asking::{answers, ask, eventually, generates};
use crate::kv::{goes_on, unload};
use crate::models::folder;
use crate::support::{Disk, PATIENCE, Server};

async fn health(server: &Server) -> Value {
    HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE).get("/health").await.unwrap().json().unwrap()
}

async fn rows(server: &Server) -> u64 {
    ask(&server.main, &json!({"action": "get_stats"})).await["metrics"]["performance_logs"].as_u64().unwrap()
}

/// A full disk locked the database, and then the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_is_lost_that_can_be_kept() {
    let (server, disk) = Server::start_on_small_disk(folder("", &[]));
    told_and_kept(server, &disk).await;
}

/// A limit on the length of files (`ulimit -f`) ended the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_the_length_of_files_is_told_too() {
    let server = Server::start_in(folder("", &[]), &[]);
    let disk = Disk::Limited(server.pid());
    told_and_kept(server, &disk).await;
}

/// Conversations are saved when their model goes; on a full disk they begin anew, which is all that happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_no_conversations_and_stops_none() {
    let config = "[engine]\nslots = 1\ncontext_length = 1024\n[kv_store]\nfolder = \"disk/kv\"\n";
    let (server, disk) = Server::start_on_small_disk(folder(config, &[]));
    unload(&server, "mms-demo").await;
    disk.fill();
    let (expect, warm) = goes_on(&server, "mms-demo", "Ship").await;
    assert!(!warm);
    goes_on(&server, "mms-demo", "A boat").await;
    unload(&server, "mms-demo").await;
    assert_eq!(goes_on(&server, "mms-demo", "Ship").await, (expect.clone(), false));
    unload(&server, "mms-demo").await;
    disk.free();
    assert_eq!(goes_on(&server, "mms-demo", "Ship").await, (expect.clone(), false));
    unload(&server, "mms-demo").await;
    assert_eq!(goes_on(&server, "mms-demo", "Ship").await, (expect, true));
    server.stop();
}

async fn told_and_kept(server: Server, disk: &Disk) {
    generates(&server, "mms-demo").await;
    eventually("the first rows", async || rows(&server).await > 0).await;
    let before = rows(&server).await;

    disk.fill();
    eventually("the store to tell", async || {
        generates(&server, "mms-demo").await;
        health(&server).await["health_checks"]["evaluation_store"] == false
    })
    .await;
    let state = health(&server).await;
    assert_eq!(state["status"], "degraded", "{state}");
    assert_eq!(state["ready"], true, "the store is no reason to turn requests away: {state}");
    let detail = state["health_details"]["evaluation_store"].as_str().unwrap();
    assert!(detail.contains("evaluation") && detail.len() > 20, "what and why: {detail}");
    for _ in 0..5 {
        generates(&server, "mms-demo").await;
        answers(&server).await;
    }

    disk.free();
    eventually("the store to work again", async || health(&server).await["health_checks"]["evaluation_store"] == true)
        .await;
    eventually("the rows of the bad time", async || rows(&server).await >= before + 5).await;
    server.stop();
}
