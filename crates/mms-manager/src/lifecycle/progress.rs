//! How far a load is, and how long it will take yet.

use std::time::Duration;

/// Below this part of a load its pace says little: the file's header and the first tensors tell nothing of the rest.
const TELLING: f32 = 0.05;

/// A load under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// 0 to 1.
    pub fraction: f32,
    /// Since it began.
    pub elapsed: Duration,
    /// Until its end, probably; `None`: nothing is known to tell it from.
    pub remaining: Option<Duration>,
}

impl Progress {
    /// `last`: what the model's last load took. The pace of this load tells more, as soon as there is one.
    pub(super) fn of(fraction: f32, elapsed: Duration, last: Option<Duration>) -> Self {
        let remaining = if fraction >= TELLING {
            let left = f64::from(1.0 - fraction) / f64::from(fraction);
            Some(elapsed.mul_f64(left))
        } else {
            last.map(|last| last.saturating_sub(elapsed))
        };
        Self { fraction, elapsed, remaining }
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:.0} %, {} so far", self.fraction * 100.0, seconds(self.elapsed));
        if let Some(remaining) = self.remaining {
            text.push_str(&format!(", about {} left", seconds(remaining)));
        }
        text
    }
}

/// Such as `0.4 s` and `12 s`.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.95 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Progress;

    #[test]
    fn the_pace_tells_more_than_the_last_load() {
        let (ten, last) = (Duration::from_secs(10), Some(Duration::from_secs(16)));
        let check = |fraction, last, expect: &str| assert_eq!(Progress::of(fraction, ten, last).text(), expect);
        check(0.0, None, "0 %, 10 s so far");
        check(0.0, last, "0 %, 10 s so far, about 6.0 s left");
        check(0.25, last, "25 %, 10 s so far, about 30 s left");
        check(1.0, last, "100 %, 10 s so far, about 0.0 s left");
        assert_eq!(Progress::of(0.01, 2 * ten, last).remaining, Some(Duration::ZERO), "later than the last time");
    }
}
