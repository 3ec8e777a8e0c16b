-- One index for each way of filtering, so that a page costs the same however many rows there are.
CREATE INDEX IF NOT EXISTS mms_metrics_by_agent_and_time
    ON performance_metrics (agent_name, replace(timestamp, ' ', 'T'));
CREATE INDEX IF NOT EXISTS mms_metrics_by_agent_name_and_time
    ON performance_metrics (agent_name, metric_name, replace(timestamp, ' ', 'T'));
CREATE INDEX IF NOT EXISTS mms_evaluations_by_time
    ON model_evaluation_scores (replace(evaluation_timestamp, ' ', 'T'));
CREATE INDEX IF NOT EXISTS mms_evaluations_by_cycle_and_time
    ON model_evaluation_scores (cycle_id, replace(evaluation_timestamp, ' ', 'T'));
