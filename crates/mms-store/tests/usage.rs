//! Uses of models over a real file.

use mms_store::{Store, StoreError, Usage};
use rusqlite::Connection;

#[tokio::test]
async fn uses_of_models_are_kept_in_order_and_not_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evaluation.db");
    let store = Store::open(&path).unwrap();
    let usage = |model: &str, client: Option<&str>, used_at: f64| Usage {
        model_id: model.to_owned(),
        client: client.map(str::to_owned),
        used_at,
    };
    store.log_usage(usage("b", None, 20.0)).await.unwrap();
    assert!(store.log_usage_soon(usage("a", Some("c'; DROP TABLE model_usage; --"), 10.0)));
    let refused = |error: StoreError| error.to_string();
    assert_eq!(refused(store.log_usage(usage("", None, 1.0)).await.unwrap_err()), "model_id must not be empty");
    let nan = store.log_usage(usage("a", None, f64::NAN)).await.unwrap_err();
    assert_eq!(refused(nan), "used_at must be a finite number, not NaN");
    assert!(!store.log_usage_soon(usage(&"x".repeat(2000), None, 1.0)));
    store.close().await;

    let store = Store::open(&path).unwrap();
    let kept = store.usage().await.unwrap();
    assert_eq!(kept, [usage("a", Some("c'; DROP TABLE model_usage; --"), 10.0), usage("b", None, 20.0)]);
    store.close().await;
    // As many as are kept, made at once, and what others may have written.
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) \
             INSERT INTO model_usage (model_id, client, used_at) SELECT 'many', NULL, 100.0 + i FROM n; \
             INSERT INTO model_usage (model_id, client, used_at) VALUES (x'00', NULL, 1.0), ('a', x'01', 1.0), ('a', NULL, 'now')",
        )
        .unwrap();
    let store = Store::open(&path).unwrap();
    store.log_usage(usage("last", None, 1e9)).await.unwrap();
    let kept = store.usage().await.unwrap();
    assert_eq!((kept.last().unwrap().model_id.as_str(), kept[0].model_id.as_str()), ("last", "many"));
    let rows: i64 = other.query_row("SELECT count(*) FROM model_usage", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 50_000);
    assert_eq!(store.status().usage_written, 1);
}
