-- Newest first, whatever is asked for. Old rows may have a space where ISO 8601 has a T, so both are made alike for comparing.
CREATE INDEX IF NOT EXISTS mms_metrics_by_time
    ON performance_metrics (replace(timestamp, ' ', 'T'));
CREATE INDEX IF NOT EXISTS mms_metrics_by_name_and_time
    ON performance_metrics (metric_name, replace(timestamp, ' ', 'T'));
CREATE INDEX IF NOT EXISTS mms_evaluations_by_model_and_time
    ON model_evaluation_scores (model_name, replace(evaluation_timestamp, ' ', 'T'));
