//! `mms predict`: what a server foresees, and how well the predictor does on a trace of uses beside simpler rules.

mod replay;
mod trace;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ask::{PATIENT, QUICK, Server, args, number, text};
use crate::cli::{PredictAction, PredictCommand, Target};
use crate::exit::Failure;
use crate::output::{pairs, table};

pub(super) async fn run(command: &PredictCommand) -> Result<(), Failure> {
    match &command.action {
        None => show(&command.target).await,
        Some(PredictAction::Preload { models, target }) => preload(target, models).await,
        Some(PredictAction::Replay(args)) => replay::run(args),
        Some(PredictAction::Trace { kind, seed, days }) => trace::print(*kind, *seed, *days),
    }
}

async fn show(target: &Target) -> Result<(), Failure> {
    let server = Server::of(target)?;
    let reply = server.call("predict_models", Map::new(), QUICK).await?;
    let json = Value::Object(reply.clone());
    Ok(server.output.either(&json, || describe(&reply))?)
}

fn describe(reply: &Map<String, Value>) -> String {
    let object = |key: &str| reply.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let (scores, probabilities, preloading) = (object("scores"), object("probabilities"), object("preloading"));
    let models =
        reply.get("predicted_models").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let percent = |of: &Map<String, Value>, model: &str| format!("{:.1} %", number(of, model) * 100.0);
    let rows: Vec<Vec<String>> =
        models.map(|model| vec![model.to_owned(), percent(&scores, model), percent(&probabilities, model)]).collect();
    let soon = format!("WITHIN {:.0} S", number(reply, "lookahead_s"));
    let mut shown = if rows.is_empty() {
        "nothing is foreseen: no use of a model of the catalogue is known yet\n".to_owned()
    } else {
        table(&["MODEL", "NEXT", &soon], rows, &[1, 2])
    };
    let mut weights: Vec<(String, f64)> =
        object("weights").into_iter().map(|(name, weight)| (name, weight.as_f64().unwrap_or_default())).collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    let weights: Vec<String> = weights.iter().map(|(name, weight)| format!("{name} {:.0} %", weight * 100.0)).collect();
    let guesses = format!(
        "{} guesses, {} came true, {} did not; {} loads, of which {} made room",
        number(&preloading, "guesses"),
        number(&preloading, "hits"),
        number(&preloading, "misses"),
        number(&preloading, "loads"),
        number(&preloading, "gave_way"),
    );
    shown.push('\n');
    shown.push_str(&pairs(&[
        ("uses", format!("{}", number(reply, "uses"))),
        ("goes by", weights.join(", ")),
        ("loading ahead", text(&preloading, "detail").to_owned()),
        ("guesses", guesses),
    ]));
    shown
}

async fn preload(target: &Target, models: &[String]) -> Result<(), Failure> {
    let server = Server::of(target)?;
    let reply = server.call("preload_models", args([("model_ids", json!(models))]), PATIENT).await?;
    let failed: BTreeMap<String, String> = reply
        .get("failed")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(model, why)| (model.clone(), why.as_str().unwrap_or_default().to_owned()))
        .collect();
    server.output.either(&Value::Object(reply.clone()), || {
        let mut shown = format!("{}\n", text(&reply, "message"));
        for (model, why) in &failed {
            shown.push_str(&format!("not {model}: {why}\n"));
        }
        shown
    })?;
    if failed.is_empty() { Ok(()) } else { Err(Failure::Requests { failed: failed.len(), all: models.len() }) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::describe;

    #[test]
    fn shows_what_is_foreseen_and_by_what() {
        let Value::Object(reply) = json!({
            "predicted_models": ["b", "a"], "scores": {"a": 0.25, "b": 0.75}, "probabilities": {"a": 0.1, "b": 0.9},
            "weights": {"recency": 0.2, "follows": 0.8}, "uses": 12, "lookahead_s": 300.0,
            "preloading": {"detail": "too few guesses yet to judge them", "guesses": 3, "hits": 2, "misses": 1, "loads": 3, "gave_way": 0},
        }) else {
            panic!("an object")
        };
        let shown = describe(&reply);
        for part in
            ["WITHIN 300 S", "b", "75.0 %", "90.0 %", "follows 80 %, recency 20 %", "too few", "3 guesses, 2 came true"]
        {
            assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
        }
        assert!(describe(&serde_json::Map::new()).starts_with("nothing is foreseen"));
    }
}
