//! The store over real files: what is acknowledged is there, whatever happens to the process or to the file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mms_store::{EvaluationFilter, MetricFilter, NewEvaluation, NewMetric, Store, StoreError, StoreOptions, Window};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

fn metric(name: &str, value: f64) -> NewMetric {
    NewMetric {
        agent_name: "agent".to_owned(),
        metric_name: name.to_owned(),
        value,
        context: Some(json!({ "model_id": "m" })),
    }
}

fn named(name: &str) -> MetricFilter {
    let window = Window { limit: Some(10_000), ..Window::default() };
    MetricFilter { metric_name: Some(name.to_owned()), window, ..MetricFilter::default() }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/model_evaluation.db");
    (folder, path)
}

/// Quick to give up and quick to try again.
fn impatient() -> StoreOptions {
    StoreOptions {
        busy_timeout: Duration::from_millis(20),
        retry_first: Duration::from_millis(10),
        retry_longest: Duration::from_millis(50),
        ..StoreOptions::default()
    }
}

/// Waits for something that happens in the background; the limit only ends a test that has failed.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn rows_come_back_newest_first_and_filtered() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    for value in 0..5 {
        store.log_metric(metric("latency", f64::from(value))).await.unwrap();
    }
    let id = store.log_metric(NewMetric { agent_name: "other".to_owned(), ..metric("tokens", 9.0) }).await.unwrap();

    let latency = store.metrics(named("latency")).await.unwrap().rows;
    assert_eq!(latency.iter().map(|row| row.value.unwrap()).collect::<Vec<_>>(), [4.0, 3.0, 2.0, 1.0, 0.0]);
    let of_other = MetricFilter { agent_name: Some("other".to_owned()), ..MetricFilter::default() };
    let rows = store.metrics(of_other).await.unwrap().rows;
    assert_eq!((rows.len(), &rows[0].metric_id, &rows[0].context), (1, &id, &Some(json!({ "model_id": "m" }))));
    let within = |start: Option<String>, end: Option<String>| MetricFilter {
        window: Window { start_time: start, end_time: end, ..Window::default() },
        ..MetricFilter::default()
    };
    let oldest = latency[4].timestamp.unwrap().to_string();
    assert_eq!(store.metrics(within(Some(oldest.clone()), None)).await.unwrap().rows.len(), 6);
    let only = store.metrics(within(Some(oldest.clone()), Some(oldest))).await.unwrap().rows;
    assert_eq!(only, latency[4..], "both bounds belong to it");
    assert_eq!(store.metrics(within(Some("2999-01-01".to_owned()), None)).await.unwrap().rows.len(), 0);
    let before = within(None, Some("2001-01-01T00:00:00Z".to_owned()));
    assert_eq!(store.metrics(before).await.unwrap().rows.len(), 0);
    let error = store.metrics(within(Some("soon".to_owned()), None)).await.unwrap_err();
    assert!(
        error.is_invalid() && error.to_string().starts_with("start_time must be epoch seconds or a time"),
        "{error}"
    );
}

/// Every row once, newest first, also where many have the same time.
#[tokio::test]
async fn pages_follow_one_another() {
    let (_folder, path) = folder();
    old_file(&path);
    let rows: String = (0..25)
        .map(|n| {
            format!(
                "INSERT INTO performance_metrics VALUES ('p{n:02}', 'a', 'p', {n}, '2024-06-01T0{}:00:00', NULL);",
                n / 10
            )
        })
        .collect();
    Connection::open(&path).unwrap().execute_batch(&rows).unwrap();
    let store = Store::open(&path).unwrap();
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let window = Window { limit: Some(10), cursor, ..Window::default() };
        let page = store.metrics(MetricFilter { window, ..named("p") }).await.unwrap();
        seen.extend(page.rows.into_iter().map(|row| row.value.unwrap()));
        pages += 1;
        // What comes meanwhile is newer than everything that is still to come.
        store.log_metric(metric("p", 100.0)).await.unwrap();
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((pages, seen), (3, (0..25).rev().map(f64::from).collect()));
    let window = Window { cursor: Some("nonsense".to_owned()), ..Window::default() };
    let error = store.metrics(MetricFilter { window, ..MetricFilter::default() }).await.unwrap_err();
    assert_eq!(error.to_string(), "cursor must be the next_cursor of an earlier reply, not \"nonsense\"");
}

/// Large rows make short pages.
#[tokio::test]
async fn a_page_is_bounded_in_bytes() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    for _ in 0..12 {
        let context = Some(json!("x".repeat(1_000_000)));
        store.log_metric(NewMetric { context, ..metric("large", 1.0) }).await.unwrap();
    }
    let page = store.metrics(named("large")).await.unwrap();
    assert_eq!(page.rows.len(), 9, "8 MiB and the row that reached it");
    let window = Window { cursor: page.next_cursor, ..Window::default() };
    let rest = store.metrics(MetricFilter { window, ..MetricFilter::default() }).await.unwrap();
    assert_eq!((rest.rows.len(), rest.next_cursor), (3, None));
}

/// No filter makes SQLite look at rows that it does not give, or sort them.
#[tokio::test]
async fn every_filter_has_its_index() {
    let (_folder, path) = folder();
    drop(Store::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    let time = "replace(timestamp, ' ', 'T')";
    for filter in ["1", "agent_name = 'a'", "metric_name = 'm'", "agent_name = 'a' AND metric_name = 'm'"] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT * FROM performance_metrics WHERE {filter} AND {time} >= '2' ORDER BY {time} DESC, rowid DESC"
        );
        let plan: Vec<String> = connection
            .prepare(&sql)
            .unwrap()
            .query_map([], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let names = filter.matches(" = ").count();
        assert!(plan.len() == 1 && plan[0].contains("USING INDEX"), "{filter}: {plan:?}");
        assert_eq!(plan[0].matches('=').count(), names, "{filter}: {plan:?}");
    }
}

#[tokio::test]
async fn evaluations_are_kept_with_all_columns() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let evaluation = |model: &str, cycle: &str| NewEvaluation {
        model_name: model.to_owned(),
        cycle_id: cycle.to_owned(),
        trust_score: 0.75,
        accuracy: Some(0.5),
        f1_score: None,
        avg_latency_ms: 12.5,
        comparison_data: Some(json!([1, 2])),
    };
    let id = store.log_evaluation(evaluation("a", "1")).await.unwrap();
    store.log_evaluation(evaluation("a", "2")).await.unwrap();
    store.log_evaluation(evaluation("b", "1")).await.unwrap();
    let (model_name, cycle_id) = (Some("a".to_owned()), Some("1".to_owned()));
    let filter = EvaluationFilter { model_name, cycle_id, window: Window::default() };
    let rows = store.evaluations(filter).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((&row.evaluation_id, row.accuracy, row.f1_score), (&id, Some(0.5), None));
    assert_eq!(
        (row.trust_score, row.avg_latency_ms, &row.comparison_data),
        (Some(0.75), Some(12.5), &Some(json!([1, 2])))
    );
    let status = store.status();
    assert_eq!((status.ok, status.evaluations_written, status.metrics_written), (true, 3, 0));
}

/// Far fewer transactions than rows: counted in the write-ahead log, where each transaction ends with a frame that says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_transactions() {
    let (_folder, path) = folder();
    let patient = StoreOptions { busy_timeout: Duration::from_secs(60), ..StoreOptions::default() };
    let store = Store::open_or_retry(&path, patient).unwrap();
    // Another process holds the file while the rows queue up, so that the group does not depend on the speed of this machine.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commits_before = commits(&path);
    let writers: Vec<_> = (0..200)
        .map(|value| {
            let store = store.clone();
            tokio::spawn(async move { store.log_metric(metric("group", f64::from(value))).await })
        })
        .collect();
    eventually("200 rows wait", || store.status().queued == 200).await;
    other.execute_batch("ROLLBACK").unwrap();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let used = commits(&path) - commits_before;
    assert!((1..=4).contains(&used), "{used} transactions for 200 rows");
    assert_eq!(store.metrics(named("group")).await.unwrap().rows.len(), 200);
    assert_eq!(store.status().queued, 0);
}

/// Transactions in the write-ahead log. Layout: a header of 32 bytes, then frames of 24 bytes and a page; bytes 4 to 8 of a frame
/// hold the size of the database when it ends a transaction, else 0.
fn commits(path: &Path) -> usize {
    let log = std::fs::read(format!("{}-wal", path.display())).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn closing_writes_what_is_queued() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    for value in 0..1500 {
        assert!(store.log_metric_soon(metric("soon", f64::from(value))));
    }
    store.close().await;
    store.close().await;
    assert_eq!(store.log_metric(metric("late", 1.0)).await, Err(StoreError::Closed));
    assert!(!store.log_metric_soon(metric("late", 1.0)));
    assert_eq!((store.status().written, store.status().dropped), (1500, 1));
    let rows: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM performance_metrics", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1500);
}

#[tokio::test]
async fn nan_is_refused_and_leaves_no_lock_behind() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let error = store.log_metric(metric("x", f64::NAN)).await.unwrap_err();
    assert_eq!(error.to_string(), "value must be a finite number, not NaN");
    assert!(!store.log_metric_soon(metric("x", f64::INFINITY)));
    store.log_metric(metric("x", 1.0)).await.unwrap();
    assert_eq!((store.status().ok, store.status().written, store.status().dropped), (true, 1, 1));
}

/// As the old suite made it: no indexes, rollback journal, times with and without a T.
fn old_file(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    Connection::open(path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE performance_metrics (metric_id TEXT PRIMARY KEY, agent_name TEXT NOT NULL, metric_name TEXT NOT NULL,
                 value REAL NOT NULL, timestamp TIMESTAMP NOT NULL, context TEXT);
             CREATE TABLE model_evaluation_scores (evaluation_id TEXT PRIMARY KEY, model_name TEXT NOT NULL, cycle_id TEXT NOT NULL,
                 trust_score REAL NOT NULL, accuracy REAL, f1_score REAL, avg_latency_ms REAL NOT NULL,
                 evaluation_timestamp TIMESTAMP NOT NULL, comparison_data TEXT);
             INSERT INTO performance_metrics VALUES
                 ('1', 'a', 'm', 1, '2024-05-01T09:00:00.5', NULL),
                 ('2', 'a', 'm', 2, '2024-05-01 10:00:00', '{\"k\": 1}'),
                 ('3', 'a', 'm', 3, '2024-05-01T11:00:00', 'no json');
             INSERT INTO model_evaluation_scores VALUES ('e', 'm', 'c', 0.5, NULL, NULL, 3, '2024-05-01T09:00:00', NULL);",
        )
        .unwrap();
}

fn table_definitions(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name <> 'model_usage' ORDER BY name")
        .unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn an_old_file_keeps_its_rows_and_its_shape() {
    let (_folder, path) = folder();
    old_file(&path);
    let tables = table_definitions(&path);
    for round in 1..=2 {
        let store = Store::open(&path).unwrap();
        store.log_metric(metric("new", 1.0)).await.unwrap();
        let rows = store.metrics(named("m")).await.unwrap().rows;
        let ids: Vec<&str> = rows.iter().map(|row| row.metric_id.as_str()).collect();
        assert_eq!(ids, ["3", "2", "1"], "a space sorts like a T");
        assert_eq!(rows[0].context, Some(json!("no json")));
        assert_eq!(rows[1].context, Some(json!({ "k": 1 })));
        let window = Window { start_time: Some("2024-05-01T09:30:00".to_owned()), ..Window::default() };
        let from = MetricFilter { window, ..named("m") };
        assert_eq!(rows[0].timestamp.unwrap() - rows[1].timestamp.unwrap(), 3600.0);
        assert_eq!(store.metrics(from).await.unwrap().rows.len(), 2);
        assert_eq!(store.metrics(named("new")).await.unwrap().rows.len(), round);
        assert_eq!(store.evaluations(EvaluationFilter::default()).await.unwrap().rows.len(), 1);
        store.close().await;
        assert_eq!(table_definitions(&path), tables);
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_and_tried_again() {
    let (_folder, path) = folder();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "these are no SQLite pages, only some text that is long enough to be looked at".repeat(20))
        .unwrap();
    assert_eq!(Store::open(&path).unwrap_err(), StoreError::NotADatabase { path: path.clone() });

    let store = Store::open_or_retry(&path, impatient()).unwrap();
    let status = store.status();
    assert_eq!((status.ok, status.detail), (false, format!("{} is not an SQLite database", path.display())));
    assert!(store.log_metric(metric("refused", 1.0)).await.is_err());
    assert!(store.log_metric_soon(metric("kept", 1.0)));
    assert!(store.metrics(MetricFilter::default()).await.is_err());

    std::fs::remove_file(&path).unwrap();
    eventually("the store works again", || store.status().ok && store.status().written == 1).await;
    assert_eq!(store.metrics(named("kept")).await.unwrap().rows.len(), 1);
    assert_eq!(store.metrics(named("refused")).await.unwrap().rows.len(), 0);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Store::open(&folder.path().join("file/below/x.db")).unwrap_err();
    assert!(matches!(error, StoreError::Folder { .. }), "{error}");
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn a_lock_of_another_process_is_named_and_outlived() {
    let (_folder, path) = folder();
    let store = Store::open_or_retry(&path, impatient()).unwrap();
    store.log_metric(metric("first", 1.0)).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.log_metric(metric("refused", 1.0)).await, Err(StoreError::Locked { path: path.clone() }));
    assert!(!store.status().ok);
    assert!(store.log_metric_soon(metric("kept", 1.0)));
    // Readers are not held up by a writer.
    assert_eq!(store.metrics(named("first")).await.unwrap().rows.len(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    eventually("the store works again", || store.status().ok && store.status().written == 2).await;
    assert_eq!(store.metrics(named("kept")).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn damage_inside_the_file_is_named() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    for value in 0..50 {
        store.log_metric(metric("x", f64::from(value))).await.unwrap();
    }
    store.close().await;
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    // Every page but the first, which holds the schema.
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open_or_retry(&path, impatient()).unwrap();
    let error = store.metrics(MetricFilter::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let error = store.log_metric(metric("x", 1.0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(!store.status().ok);
}

#[tokio::test]
async fn a_removed_file_is_made_anew() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    store.log_metric(metric("old", 1.0)).await.unwrap();
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{ending}", path.display())).unwrap();
    }
    store.log_metric(metric("new", 1.0)).await.unwrap();
    assert_eq!(store.metrics(MetricFilter::default()).await.unwrap().rows.len(), 1);
    assert!(path.exists() && store.status().ok);
}

/// Twenty tasks write in a child process, which prints the id of each row it was told is kept, until it is killed.
#[test]
fn acknowledged_rows_survive_a_kill() {
    const CHILD: &str = "MMS_STORE_TEST_CHILD";
    if let Ok(path) = std::env::var(CHILD) {
        return write_until_killed(Path::new(&path));
    }
    let (_folder, path) = folder();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["acknowledged_rows_survive_a_kill", "--exact", "--nocapture"])
        .env(CHILD, &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut acknowledged = Vec::new();
    let mut id_of = |line: String| line.split_once("kept ").map(|(_, id)| acknowledged.push(id.to_owned()));
    let mut seen = 0;
    while seen < 200 {
        let line = lines.next().expect("the child ended by itself").unwrap();
        seen += usize::from(id_of(line).is_some());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        id_of(line.unwrap());
    }

    let connection = Connection::open(&path).unwrap();
    for id in &acknowledged {
        let found: i64 = connection
            .query_row("SELECT count(*) FROM performance_metrics WHERE metric_id = ?1", [id], |row| row.get(0))
            .unwrap();
        assert_eq!(found, 1, "{id} of {} was lost", acknowledged.len());
    }
    let healthy: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(healthy, "ok");
}

fn write_until_killed(path: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(path).unwrap();
        for _ in 0..20 {
            let store = store.clone();
            tokio::spawn(async move {
                // An error ends the child, which the parent notices.
                while let Ok(id) = store.log_metric(metric("kill", 1.0)).await {
                    println!("kept {id}");
                }
                std::process::exit(1);
            });
        }
        std::future::pending::<()>().await;
    });
}

#[tokio::test]
async fn the_last_trust_scores_of_each_model_are_found_newest_first() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.last_trust_scores(3).await.unwrap(), []);
    let evaluation = |model: &str, trust_score| NewEvaluation {
        model_name: model.to_owned(),
        cycle_id: "c".to_owned(),
        trust_score,
        accuracy: None,
        f1_score: None,
        avg_latency_ms: 0.0,
        comparison_data: None,
    };
    for (model, trust_score) in [("b", 0.1), ("a", 0.2), ("b", 0.3), ("b", 0.4), ("b", 0.5), ("A", 0.6)] {
        store.log_evaluation(evaluation(model, trust_score)).await.unwrap();
    }
    let other = Connection::open(&path).unwrap();
    let old = "INSERT INTO model_evaluation_scores VALUES ('x', 'old', 'c', 'none', NULL, NULL, 0, '2024-01-01 10:00:00', NULL), \
               ('y', 'b', 'c', 0.9, NULL, NULL, 0, '2024-01-01 10:00:00', NULL)";
    other.execute_batch(old).unwrap();
    let expected = [("A", vec![0.6]), ("a", vec![0.2]), ("b", vec![0.5, 0.4, 0.3]), ("old", vec![])];
    assert_eq!(store.last_trust_scores(3).await.unwrap(), expected.map(|(name, scores)| (name.to_owned(), scores)));
    assert_eq!(store.last_trust_scores(9).await.unwrap()[2].1.last(), Some(&0.9), "an old row is the oldest");
}
