//! `mms status`: health, memory, resident models and routing.

use serde_json::{Map, Value};

use super::ask::{QUICK, Server, number, text};
use crate::cli::Target;
use crate::exit::Failure;
use crate::output::{mebibytes, pairs, table};

pub(super) async fn run(target: &Target) -> Result<(), Failure> {
    let server = Server::of(target)?;
    let reply = server.call("status", Map::new(), QUICK).await?;
    let json = Value::Object(reply.clone());
    Ok(server.output.either(&json, || describe(&server.endpoints.main, &reply))?)
}

fn describe(endpoint: &str, reply: &Map<String, Value>) -> String {
    let memory = format!(
        "{} of {} used on {} ({} in all)",
        mebibytes(number(reply, "total_vram_used_mb")),
        mebibytes(number(reply, "vram_budget_mb")),
        text(reply, "device"),
        mebibytes(number(reply, "total_vram_mb")),
    );
    let resident: Vec<_> = reply.get("loaded_models").and_then(Value::as_object).into_iter().flatten().collect();
    let mut shown = pairs(&[
        ("server", format!("{} {} at {endpoint}", text(reply, "agent"), text(reply, "version"))),
        ("health", format!("{} ({})", text(reply, "health"), text(reply, "message"))),
        ("uptime", format!("{:.0} s", number(reply, "uptime"))),
        ("memory", memory),
        ("models", format!("{} known, {} resident", number(reply, "total_models"), resident.len())),
        ("loading ahead", loading_ahead(reply)),
    ]);
    for device in reply.get("devices").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        shown.push_str(&format!(
            "device  {}: {} of {} used, {} of {} available\n",
            text(device, "device"),
            mebibytes(number(device, "used_mb")),
            mebibytes(number(device, "budget_mb")),
            mebibytes(number(device, "available_mb")),
            mebibytes(number(device, "total_mb")),
        ));
    }
    for (preference, model) in reply.get("routing_policy").and_then(Value::as_object).into_iter().flatten() {
        shown.push_str(&format!("route   {preference} -> {}\n", model.as_str().unwrap_or_default()));
    }
    if !resident.is_empty() {
        let rows = resident.into_iter().filter_map(|(id, model)| {
            let model = model.as_object()?;
            let active = model.get("is_active") == Some(&Value::Bool(true));
            Some(vec![
                id.clone(),
                if active { "busy" } else { "idle" }.to_owned(),
                mebibytes(number(model, "vram_usage_mb")),
                mebibytes(number(model, "estimated_mb")),
                known(model, "measured_mb").map(mebibytes).unwrap_or_default(),
                known(model, "estimate_error_mb")
                    .map(|error| percent(error, number(model, "estimated_mb")))
                    .unwrap_or_default(),
                text(model, "quantization").to_owned(),
                text(model, "device").to_owned(),
            ])
        });
        shown.push('\n');
        shown.push_str(&table(
            &["RESIDENT", "STATE", "HELD", "ESTIMATED", "MEASURED", "ERROR", "QUANT", "DEVICE"],
            rows.collect(),
            &[2, 3, 4, 5],
        ));
    }
    shown
}

/// What comes of loading models before they are asked for.
fn loading_ahead(reply: &Map<String, Value>) -> String {
    let preloading = reply.get("preloading").and_then(Value::as_object).cloned().unwrap_or_default();
    let active = preloading.get("active") == Some(&Value::Bool(true));
    format!("{}, {}", if active { "on" } else { "off" }, text(&preloading, "detail"))
}

fn known(model: &Map<String, Value>, key: &str) -> Option<f64> {
    model.get(key).and_then(Value::as_f64)
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:+.1} %", part / whole * 100.0) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::describe;

    #[test]
    fn shows_memory_and_resident_models() {
        let Value::Object(reply) = json!({
            "agent": "A", "version": "1", "health": "ok", "message": "ready", "uptime": 3.2, "device": "cpu",
            "total_vram_used_mb": 30.0, "vram_budget_mb": 2048.0, "total_vram_mb": 4096.0, "total_models": 2,
            "routing_policy": {"fast": "m"}, "preloading": {"active": true, "detail": "80 % came true"},
            "devices": [{"device": "cpu", "used_mb": 30.0, "budget_mb": 2048.0, "available_mb": 3000.0, "total_mb": 4096.0}],
            "loaded_models": {"m": {"is_active": true, "vram_usage_mb": 30.0, "estimated_mb": 28.0, "measured_mb": 27.3, "estimate_error_mb": -0.7, "quantization": "Q8_0", "device": "cpu"}},
        }) else {
            panic!("an object")
        };
        let shown = describe("tcp://x:1", &reply);
        for part in [
            "A 1 at tcp://x:1",
            "ok (ready)",
            "30 MB of 2.0 GB used on cpu",
            "fast -> m",
            "on, 80 % came true",
            "busy",
            "28 MB",
            "-2.5 %",
            "cpu: 30 MB of 2.0 GB used",
        ] {
            assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
        }
    }
}
