//! Which model will be asked for next. Plain synchronous code without I/O and without a clock: the time is passed in.
//!
//! [`Predictor`] is told each use and ranks models; [`replay`] plays traces of uses through it and through simpler rules, in virtual
//! time; [`traces`] makes such traces. The formula stands in docs/prediction.md.

use std::time::Duration;

mod opinions;
mod predictions;
mod predictor;
mod preload;
pub mod replay;
mod streams;
#[cfg(test)]
mod tests;
pub mod traces;

pub use predictions::Predictions;
pub use predictor::{EXPERTS, Predictor};
pub use preload::PreloadSettings;
pub(crate) use preload::Turn;

/// What the predictor goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictorSettings {
    /// Half of a use's weight is gone after this time where recent uses are counted, seconds.
    pub window_s: f64,
    /// How far ahead is looked, seconds.
    pub lookahead_s: f64,
}

impl Default for PredictorSettings {
    fn default() -> Self {
        Self { window_s: 3600.0, lookahead_s: 300.0 }
    }
}

/// A point in time, and what clocks on the wall show then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Epoch seconds.
    pub at: f64,
    /// Seconds since midnight.
    pub day_s: f64,
}

/// How uses are foreseen, and what is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PredictionConfig {
    /// How they are foreseen.
    pub predictor: PredictorSettings,
    /// When models are loaded before they are asked for.
    pub preload: PreloadSettings,
}

impl PredictionConfig {
    /// How far ahead is looked.
    pub fn lookahead(&self) -> Duration {
        Duration::try_from_secs_f64(self.predictor.lookahead_s).unwrap_or(Duration::MAX)
    }
}

const DAY_S: f64 = 86_400.0;

impl Moment {
    /// By clocks that show UTC.
    pub fn utc(at: f64) -> Self {
        Self { at, day_s: at.rem_euclid(DAY_S) }
    }

    /// By clocks that show this machine's local time.
    pub fn local(at: f64) -> Self {
        let zone = jiff::tz::TimeZone::system();
        let offset = jiff::Timestamp::from_second(at as i64).map_or(0, |at| zone.to_offset(at).seconds());
        Self { at, day_s: (at + f64::from(offset)).rem_euclid(DAY_S) }
    }
}
