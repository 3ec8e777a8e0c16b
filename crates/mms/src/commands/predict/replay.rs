//! `mms predict replay`: a trace through every rule, with the same terms.

use mms_manager::prediction::PredictorSettings;
use mms_manager::prediction::replay::{Outcome, Rule, Terms, replay};
use serde_json::json;

use super::trace;
use crate::cli::ReplayArgs;
use crate::exit::Failure;
use crate::output::{Output, table};

/// Rankings times models that one replay may take: about half a minute.
const MOST_WORK: f64 = 1e8;

pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let trace = trace::read(&args.trace)?;
    let sizes_known = !trace.sizes_mb.is_empty();
    if args.budget.is_some() && !sizes_known {
        let text = "--budget needs to know what models take: no use of the trace has \"mb\"";
        return Err(Failure::Usage(text.to_owned()));
    }
    let terms = Terms {
        places: args.keep as usize,
        budget_mb: args.budget,
        sizes_mb: trace.sizes_mb,
        every_s: args.every,
        load_s: args.load,
        min_probability: args.min_probability,
        predictor: PredictorSettings { window_s: args.window, lookahead_s: args.lookahead },
    };
    let moments = terms.moments(&trace.uses);
    if moments * trace.models as f64 > MOST_WORK {
        return Err(Failure::Usage(format!(
            "the trace {} is too long for --every {}: {moments:.0} choices among {} models; give a longer time, or a part of the trace",
            args.trace.display(),
            args.every,
            trace.models
        )));
    }
    let outcomes = replay(&trace.uses, &terms);
    let rate = |rule: Rule| outcomes.iter().find(|outcome| outcome.rule == rule).map_or(0.0, |found| found.hit_rate);
    let beside = |rule: Rule| (rate(rule) > 0.0).then(|| rate(Rule::Predictor) / rate(rule));
    let report = json!({
        "uses": trace.uses.len(),
        "models": trace.models,
        "keep": args.keep,
        "budget_mb": args.budget,
        "memory_unit": if sizes_known { "MiB s" } else { "model s" },
        "rules": outcomes,
        "hit_rate_to_most_used": beside(Rule::MostUsed),
        "hit_rate_to_last_used": beside(Rule::LastUsed),
    });
    let head = || {
        let places = if args.keep == 1 { "model".to_owned() } else { format!("{} models", args.keep) };
        let budget = args.budget.map_or_else(String::new, |mb| format!(" of {mb} MiB together"));
        let mut text =
            format!("{} uses of {} models, {places} kept at once{budget}\n\n", trace.uses.len(), trace.models);
        let memory = if sizes_known { "GiB HOURS" } else { "MODEL HOURS" };
        let unit = if sizes_known { 1024.0 * 3600.0 } else { 3600.0 };
        let rows = outcomes.iter().map(|outcome| row(outcome, unit)).collect();
        let titles = ["RULE", "HIT RATE", "COLD STARTS", "AVOIDED", "LOADS BY GUESS", memory];
        text.push_str(&table(&titles, rows, &[1, 2, 3, 4, 5]));
        let times = |rule, name: &str| beside(rule).map(|factor| format!("{factor:.2} times that of {name}"));
        let compared = [times(Rule::MostUsed, "the most used"), times(Rule::LastUsed, "the last used")];
        let compared: Vec<String> = compared.into_iter().flatten().collect();
        if !compared.is_empty() {
            text.push_str(&format!("\nthe predictor's hit rate is {}\n", compared.join(" and ")));
        }
        text
    };
    Ok(Output::new(args.json).either(&report, head)?)
}

fn row(outcome: &Outcome, unit: f64) -> Vec<String> {
    let rule = match outcome.rule {
        Rule::Predictor => "predictor",
        Rule::PredictorIfLikely => "predictor, only what is likely",
        Rule::MostUsed => "most used in the window",
        Rule::LastUsed => "last used",
    };
    vec![
        rule.to_owned(),
        format!("{:.1} %", outcome.hit_rate * 100.0),
        outcome.cold_starts.to_string(),
        outcome.cold_starts_avoided.to_string(),
        outcome.guessed_loads.to_string(),
        format!("{:.1}", outcome.memory_mb_s / unit),
    ]
}
