//! Measured on generated traces, and on traces of any kind.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::replay::{Terms, TraceUse, replay};
use super::traces::{KINDS, generate, sizes_mb};
use super::{EXPERTS, Moment, Predictor, PredictorSettings};

#[test]
fn a_trace_is_the_same_for_the_same_seed_and_in_order() {
    for kind in KINDS {
        let trace = generate(kind, 3, 2);
        assert_eq!(trace, generate(kind, 3, 2));
        assert_ne!(trace, generate(kind, 4, 2));
        assert!(trace.windows(2).all(|pair| pair[0].time <= pair[1].time));
        assert!(trace.iter().all(|one| sizes_mb().contains_key(&one.model)));
    }
}

#[test]
fn what_follows_is_foreseen() {
    let mut predictor = Predictor::new(PredictorSettings::default());
    let mut at = 1e9;
    for _ in 0..30 {
        for model in ["plan", "write", "check"] {
            predictor.record(Moment::utc(at), model, None);
            at += 20.0;
        }
    }
    predictor.record(Moment::utc(at), "plan", None);
    let ranking = predictor.rank(Moment::utc(at + 1.0));
    assert_eq!(ranking[0].model_id, "write", "{ranking:?} {:?}", predictor.weights());
    assert!(ranking[0].score > 0.5 && ranking[0].probability > 0.9, "{ranking:?}");
}

#[test]
fn what_comes_at_its_time_of_day_is_foreseen() {
    let mut predictor = Predictor::new(PredictorSettings::default());
    let day = 86_400.0;
    for date in 0..10 {
        for (hour, model) in [(9.0, "mail"), (14.0, "report"), (20.0, "story")] {
            for minute in 0..10 {
                let at = f64::from(date) * day + hour * 3600.0 + f64::from(minute) * 60.0;
                predictor.record(Moment::utc(at), model, None);
            }
        }
    }
    for (hour, model) in [(9.0, "mail"), (14.0, "report")] {
        let ranking = predictor.rank(Moment::utc(10.0 * day + hour * 3600.0 - 60.0));
        assert_eq!(ranking[0].model_id, model, "{ranking:?} {:?}", predictor.weights());
        let of = |name: &str| ranking.iter().find(|likely| likely.model_id == name).unwrap().probability;
        assert!(of(model) > 0.5, "{ranking:?}");
        assert!(ranking.iter().filter(|likely| likely.probability > 0.5).count() == 1, "{ranking:?}");
    }
}

#[test]
fn requests_in_a_moment_by_one_client_are_one_use() {
    let mut predictor = Predictor::new(PredictorSettings::default());
    assert!(predictor.record(Moment::utc(0.0), "a", Some("x")));
    assert!(!predictor.record(Moment::utc(0.5), "a", Some("x")));
    assert!(predictor.record(Moment::utc(0.6), "a", Some("y")));
    assert!(predictor.record(Moment::utc(2.0), "a", Some("y")));
    assert_eq!(predictor.uses(), 3);
}

fn anything() -> impl Strategy<Value = Vec<TraceUse>> {
    prop::collection::vec((0.0_f64..20_000.0, 0_u8..9, prop::option::of(0_u8..4)), 0..80).prop_map(|steps| {
        let mut time = 1e9;
        let uses = steps.into_iter().map(|(gap, model, client)| {
            time += if gap < 10_000.0 { gap / 200.0 } else { gap };
            TraceUse { time, model: format!("m{model}"), client: client.map(|client| format!("c{client}")) }
        });
        uses.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn scores_are_a_distribution_and_probabilities_are_some(trace in anything(), later in 0.0_f64..1e7) {
        let mut predictor = Predictor::new(PredictorSettings::default());
        for one in &trace {
            predictor.record(Moment::utc(one.time), &one.model, one.client.as_deref());
        }
        let ranking = predictor.rank(Moment::utc(trace.last().map_or(0.0, |last| last.time) + later));
        let sum: f64 = ranking.iter().map(|likely| likely.score).sum();
        prop_assert!(ranking.is_empty() || (sum - 1.0).abs() < 1e-6, "{sum}");
        prop_assert!(ranking.windows(2).all(|pair| pair[0].score >= pair[1].score));
        prop_assert!(ranking.iter().all(|likely| (0.0..=1.0).contains(&likely.probability)), "{ranking:?}");
        let weights: f64 = predictor.weights().iter().sum();
        prop_assert!((weights - 1.0).abs() < 1e-6 && EXPERTS.len() == predictor.weights().len());
    }

    #[test]
    fn no_rule_knows_what_comes(trace in anything(), cut in 0_usize..80) {
        let cut = cut.min(trace.len());
        let terms = Terms { places: 2, ..Terms::default() };
        let (part, whole) = (replay(&trace[..cut], &terms), replay(&trace, &terms));
        for (part, whole) in part.iter().zip(&whole) {
            prop_assert!(part.hits <= whole.hits && part.memory_mb_s <= whole.memory_mb_s + 1e-6);
            prop_assert!(whole.hits - part.hits <= trace.len() - cut);
            prop_assert_eq!(whole.hits + whole.cold_starts, trace.len());
            prop_assert!(whole.cold_starts_avoided <= whole.hits);
        }
    }

    #[test]
    fn nothing_is_kept_beyond_the_budget(trace in anything(), budget in 0.0_f64..3.0) {
        let sizes: BTreeMap<String, f64> = (0..9).map(|model| (format!("m{model}"), 1.0)).collect();
        let terms = Terms { budget_mb: Some(budget), sizes_mb: sizes, ..Terms::default() };
        let span = trace.last().map_or(0.0, |last| last.time) - trace.first().map_or(0.0, |first| first.time);
        for outcome in replay(&trace, &terms) {
            prop_assert!(outcome.memory_mb_s <= budget * span + 1e-6, "{outcome:?}");
        }
    }
}
