-- The two tables of the old suite, in its shape. A file of the old suite has them already and keeps them as they are.
CREATE TABLE IF NOT EXISTS performance_metrics (
    metric_id   TEXT PRIMARY KEY,
    agent_name  TEXT NOT NULL,
    metric_name TEXT NOT NULL,
    value       REAL NOT NULL,
    timestamp   TIMESTAMP NOT NULL,
    context     TEXT
);

CREATE TABLE IF NOT EXISTS model_evaluation_scores (
    evaluation_id        TEXT PRIMARY KEY,
    model_name           TEXT NOT NULL,
    cycle_id             TEXT NOT NULL,
    trust_score          REAL NOT NULL,
    accuracy             REAL,
    f1_score             REAL,
    avg_latency_ms       REAL NOT NULL,
    evaluation_timestamp TIMESTAMP NOT NULL,
    comparison_data      TEXT
);
