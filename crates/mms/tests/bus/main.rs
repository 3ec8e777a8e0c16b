//! What the server tells others of itself, with real servers of the others: Redis, NATS and a SystemDigitalTwin; and that none of them, however
//! it fails, is felt by anybody who uses the server.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../acceptance/asking.rs"]
#[expect(dead_code, reason = "this program uses a part of it")]
mod asking;
mod brokers;
mod feed;
mod load;
mod nats;
mod outages;
mod presence;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "this program uses a part of it")]
mod support;
mod twin;

use mms_client::HttpClient;
use serde_json::Value;

use support::{PATIENCE, Server};

/// `GET /health`: its status, and the object.
async fn health(server: &Server) -> (u16, Value) {
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let reply = http.get("/health").await.unwrap();
    (reply.status, reply.json().unwrap())
}

/// Waits until the health board says of `check` what is `wanted`; the server must be ready all the time.
async fn wait_for_check(server: &Server, check: &str, ok: bool, wanted: &str) -> String {
    let begun = std::time::Instant::now();
    loop {
        let (status, health) = health(server).await;
        assert_eq!((status, &health["ready"]), (200, &Value::Bool(true)), "{health}");
        let detail = health["health_details"][check].as_str().unwrap_or_default().to_owned();
        if health["health_checks"][check] == ok && detail.contains(wanted) {
            assert!(ok || health["status"] == "degraded", "a fault degrades: {health}");
            return detail;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{check} never became {ok} with {wanted:?}; it says {detail:?}\nlog:\n{}",
            server.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
