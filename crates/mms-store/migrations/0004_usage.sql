-- Which model was used when, for predictions. Only the newest rows are kept.
CREATE TABLE IF NOT EXISTS model_usage (
    usage_id INTEGER PRIMARY KEY,
    model_id TEXT NOT NULL,
    client TEXT,
    used_at REAL NOT NULL
);
