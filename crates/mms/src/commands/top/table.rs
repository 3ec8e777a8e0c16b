//! What there is to be seen, as lines and tables for a file or a pipe.

use super::report::{Device, Model, Report, duration, speed_text};
use crate::output::{mebibytes, pairs, table};

/// Everything.
pub(super) fn text(report: &Report) -> String {
    let mut shown = pairs(&[("server", server(report)), ("load", totals(report))]);
    if report.health != "ok" {
        shown.push_str(&pairs(&[("health", format!("{}: {}", report.health, report.message))]));
    }
    if !report.devices.is_empty() {
        shown.push('\n');
        shown.push_str(&table(
            &["DEVICE", "HELD", "MEASURED", "BUDGET", "FREE", "TOTAL"],
            report.devices.iter().map(device).collect(),
            &[1, 2, 3, 4, 5],
        ));
    }
    shown.push('\n');
    shown.push_str(&table(
        &["MODEL", "STATE", "PID", "ESTIMATED", "MEASURED", "ACTIVE", "QUEUED", "TOKENS/S", "KEEP", "USED", ""],
        report.models.iter().map(model).collect(),
        &[2, 3, 4, 5, 6, 7, 8, 9],
    ));
    if !report.recent_errors.is_empty() {
        shown.push('\n');
        let rows = report.recent_errors.iter().map(|recent| {
            let error = &recent.error;
            vec![
                format!("{} ago", duration(recent.ago_s)),
                error.operation.clone(),
                error.code.clone(),
                error.message.clone(),
            ]
        });
        shown.push_str(&table(&["ERROR", "OPERATION", "CODE", "MESSAGE"], rows.collect(), &[]));
    }
    shown
}

/// Who and how: `ready, up 3:12 h, tcp://...`, the most important first.
pub(super) fn server(report: &Report) -> String {
    let Report { endpoint, agent, version, uptime_s, .. } = report;
    let ready = if report.ready { "ready" } else { "NOT READY" };
    format!("{ready}, up {}, {endpoint}, {agent} {version}", duration(*uptime_s))
}

/// All models together in one line, the most important first.
pub(super) fn totals(report: &Report) -> String {
    let totals = &report.totals;
    let mut parts = vec![format!("{} active", totals.active), format!("{} queued", totals.queued)];
    if let Some(speed) = totals.tokens_per_second {
        parts.push(format!("{speed:.1} tokens/s"));
    }
    if let Some(speed) = totals.requests_per_second {
        parts.push(format!("{speed:.1} requests/s"));
    }
    if let Some(speed) = totals.prompt_tokens_per_second {
        parts.push(format!("{speed:.1} prompt tokens/s"));
    }
    parts.push(format!("{} errors", totals.errors));
    if totals.evictions > 0 {
        parts.push(format!("{} evictions", totals.evictions));
    }
    if totals.worker_deaths > 0 {
        parts.push(format!("{} workers died", totals.worker_deaths));
    }
    parts.join(", ")
}

fn device(device: &Device) -> Vec<String> {
    let figures = [device.held_mb, device.measured_mb, device.budget_mb, device.free_mb, device.total_mb];
    std::iter::once(device.device.clone()).chain(figures.map(mebibytes)).collect()
}

fn model(model: &Model) -> Vec<String> {
    vec![
        model.model_id.clone(),
        model.state_text(),
        model.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        mebibytes(model.estimated_mb),
        model.measured_mb.map(mebibytes).unwrap_or_default(),
        model.active.to_string(),
        model.queued.to_string(),
        speed_text(model.tokens_per_second),
        model.keep_alive_text(),
        model.last_used_s.map(duration).unwrap_or_default(),
        model.message.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Report, text};

    #[test]
    fn everything_is_shown() {
        let shown = text(&Report::example());
        for part in [
            "ready, up 1:42, tcp://127.0.0.1:9901, ModelManagerSuite 1",
            "1 active, 2 queued, 20.0 tokens/s, 2.0 requests/s",
            "4 errors, 1 evictions, 3 workers died",
            "degraded: ready",
            "1.0 GB",
            "loading 43 %",
            "4194303",
            "in use",
            "SIGABRT",
            "10 s ago",
        ] {
            assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
        }
    }
}
