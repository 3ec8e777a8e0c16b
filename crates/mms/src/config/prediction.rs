//! `[prediction]`: how uses are foreseen, and what is loaded ahead of them.

use mms_manager::prediction::{PredictionConfig, PredictorSettings, PreloadSettings};

use super::reader::Reader;
use super::sections::DAY_S;
use super::value::{Integer, Number, Switch};

pub(super) fn read(reader: &mut Reader<'_>) -> PredictionConfig {
    let mut section = reader.section("prediction");
    let preload = PreloadSettings {
        enabled: section
            .key(
                "preload",
                "Whether models that will probably be asked for are loaded ahead, into memory that is free.",
            )
            .read(Switch, true),
        max_models: section
            .key("preload_models", "Models that may wait in memory for their first request at once.")
            .read(Integer(1..=64u32), 3) as usize,
        min_probability: section
            .key("min_probability", "How likely it must be that a model is asked for within lookahead_s.")
            .read(Number(0.01..=1.0), 0.5),
        min_hit_rate: section
            .key(
                "min_hit_rate",
                "When a smaller part of guesses comes true, nothing is loaded ahead until 1.5 times as many do.",
            )
            .read(Number(0.0..=1.0), 0.4),
    };
    let predictor = PredictorSettings {
        window_s: f64::from(
            section
                .key("window_s", "Half of a use's weight is gone after this time where it counts how often models are used, seconds.")
                .read(Integer(60..=30 * DAY_S), 3600),
        ),
        lookahead_s: f64::from(
            section.key("lookahead_s", "How far ahead is looked, seconds.").read(Integer(10..=DAY_S), 300),
        ),
    };
    PredictionConfig { predictor, preload }
}
