//! Promises of the scheduling, in virtual time.

use std::time::Duration;

use proptest::prelude::*;

use super::{Outcome, SimModel, Trace, baseline, run};
use crate::catalogue::Priority;

/// Of each model the longest time in which it had requests and none of them began.
fn droughts(trace: &Trace, outcome: &Outcome) -> Vec<Duration> {
    let mut longest = vec![Duration::ZERO; trace.models.len()];
    let mut last_start = vec![Duration::ZERO; trace.models.len()];
    // A model's requests begin in the order in which they came.
    for (arrival, wait) in trace.arrivals.iter().zip(&outcome.waits) {
        let start = arrival.at + *wait;
        let drought = start - last_start[arrival.model].max(arrival.at);
        longest[arrival.model] = longest[arrival.model].max(drought);
        last_start[arrival.model] = start;
    }
    longest
}

/// What no model waits longer for: its patience, and for each model one turn with what is under way at its end, the end of its
/// process, a load; and the head start that another one may have.
fn bound(trace: &Trace) -> Duration {
    let longest = |of: fn(&SimModel) -> Duration| trace.models.iter().map(of).max().unwrap_or_default();
    let load = longest(|model| model.load);
    let answer = longest(|model| model.token * 60);
    let turn = (4 * load).max(Duration::from_secs(1)) * 2;
    let uneven = trace.models.iter().any(|model| model.priority != trace.models[0].priority);
    let head_start = if uneven { Duration::from_secs(30) } else { Duration::ZERO };
    load + head_start + trace.models.len() as u32 * (turn + 3 * answer + trace.end + load)
}

#[test]
fn a_mixed_trace_takes_fewer_swaps_and_shorter_waits_than_first_come_first_served() {
    for seed in 0..20 {
        let trace = Trace::mixed(seed, 200);
        assert_eq!(trace, Trace::mixed(seed, 200), "the same seed, the same trace");
        let (own, other) = (run(&trace), baseline(&trace));
        assert_eq!(own, run(&trace), "the same trace, the same outcome");
        let (ours, theirs) = (own.figures(), other.figures());
        assert_eq!((ours.unanswered, theirs.unanswered), (0, 0));
        assert!(ours.swaps_per_request < theirs.swaps_per_request, "{seed}: {ours:?} {theirs:?}");
        assert!(ours.wait_p95_s < theirs.wait_p95_s, "{seed}: {ours:?} {theirs:?}");
        assert!(ours.wait_max_s < bound(&trace).as_secs_f64(), "{seed}: {ours:?}");
    }
}

#[test]
fn at_a_calm_pace_it_is_no_worse() {
    let (mut ours_swaps, mut their_swaps) = (0, 0);
    for seed in 0..20 {
        let trace = Trace::mixed(seed, 0).with_arrivals(seed, 200, Duration::from_secs(5));
        let (ours, theirs) = (run(&trace).figures(), baseline(&trace).figures());
        assert!(ours.wait_p95_s <= theirs.wait_p95_s, "{seed}: {ours:?} {theirs:?}");
        ours_swaps += ours.swaps;
        their_swaps += theirs.swaps;
    }
    assert!(ours_swaps as f64 <= 1.05 * their_swaps as f64, "{ours_swaps} {their_swaps}");
}

#[test]
fn a_stream_of_requests_to_what_is_resident_starves_nobody() {
    // Both of the first two are asked for all the time, more than they can answer; the third once in a while.
    let model = |id: &str, share| SimModel {
        id: id.to_owned(),
        memory_mb: 500.0,
        load: Duration::from_secs(1),
        token: Duration::from_millis(20),
        slots: 1,
        priority: Priority::Medium,
        share,
    };
    let models = vec![model("a", 50), model("b", 50), model("c", 1)];
    let trace = Trace { models, budget_mb: 1000.0, ..Trace::mixed(0, 0) };
    let trace = trace.with_arrivals(7, 1000, Duration::from_millis(100));
    let outcome = run(&trace);
    assert_eq!(outcome.unanswered, 0);
    let longest = droughts(&trace, &outcome);
    assert!(longest.iter().all(|drought| *drought < bound(&trace)), "{longest:?}");
    let rare = trace.arrivals.iter().zip(&outcome.waits).filter(|(arrival, _)| arrival.model == 2);
    let longest = rare.map(|(_, wait)| *wait).max().unwrap();
    assert!(longest < bound(&trace), "{longest:?}");
}

fn any_trace() -> impl Strategy<Value = Trace> {
    let model = (100_u32..1000, 0_u64..5000, 1_u32..4, 0_usize..3, 1_u32..10);
    let models = prop::collection::vec(model, 2..5);
    (models, 1000_u32..1800, 0_usize..3, any::<u64>(), 10_u64..3000).prop_map(|(models, budget, most, seed, gap)| {
        let models = models.into_iter().enumerate().map(|(number, (memory, load, slots, priority, share))| SimModel {
            id: format!("model-{number}"),
            memory_mb: f64::from(memory),
            load: Duration::from_millis(load),
            token: Duration::from_millis(20),
            slots,
            priority: [Priority::Low, Priority::Medium, Priority::High][priority],
            share,
        });
        let empty = Trace { max_loaded_models: most, budget_mb: f64::from(budget), ..Trace::mixed(0, 0) };
        Trace { models: models.collect(), ..empty }.with_arrivals(seed, 150, Duration::from_millis(gap))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_and_no_model_waits_beyond_the_bound(trace in any_trace()) {
        let outcome = run(&trace);
        prop_assert_eq!(outcome.unanswered, 0);
        for (model, drought) in trace.models.iter().zip(droughts(&trace, &outcome)) {
            prop_assert!(drought <= bound(&trace), "{}: {drought:?} of {:?}", model.id, bound(&trace));
        }
    }
}
