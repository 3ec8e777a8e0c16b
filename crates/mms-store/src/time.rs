//! Points in time as the two tables hold them: local time, ISO 8601. Rows of the old suite have no zone; ours have the offset from UTC
//! after it, so that they mean the same when the zone of the machine changes. Both sort together as text, by what clocks on the wall
//! showed; only within the hour that such clocks show twice in autumn is the order not that of time.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::StoreError;

/// Now.
pub(crate) fn now() -> String {
    Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()
}

/// What a row says, as epoch seconds. `None`: it is no time.
pub(crate) fn epoch(said: &str) -> Option<f64> {
    timestamp(said.trim()).map(|timestamp| timestamp.as_microsecond() as f64 / 1e6)
}

/// The least text that a row of this time or later has.
pub(crate) fn not_before(field: &'static str, said: &str) -> Result<String, StoreError> {
    // Old rows leave out a fraction that is 0.
    Ok(given(field, said)?.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// A text above those of all rows of this time or earlier, below those of later ones.
pub(crate) fn not_after(field: &'static str, said: &str) -> Result<String, StoreError> {
    // An offset may follow, and begins with a character before this one.
    Ok(given(field, said)? + "~")
}

/// A point in time given by a client: what clocks on the wall showed here.
fn given(field: &'static str, said: &str) -> Result<String, StoreError> {
    let said = said.trim();
    let epoch = || {
        let seconds = said.parse::<f64>().ok().filter(|seconds| seconds.is_finite())?;
        Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
    };
    let local = |timestamp: Timestamp| timestamp.to_zoned(TimeZone::system()).datetime();
    match timestamp(said).or_else(epoch) {
        Some(timestamp) => Ok(local(timestamp).strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()),
        None => {
            let shown: String = said.chars().take(40).collect();
            let why = format!("must be epoch seconds or a time such as 2025-08-02T10:50:16Z, not {shown:?}");
            Err(StoreError::invalid(field, why))
        }
    }
}

/// ISO 8601, in the zone of this machine where it names none.
fn timestamp(said: &str) -> Option<Timestamp> {
    let here = || Some(said.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok()?.timestamp());
    said.parse::<Timestamp>().ok().or_else(here)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{epoch, not_after, not_before, now};

    #[test]
    fn bounds_hold_rows_of_every_form() {
        let rows = [
            ("2025-08-02T10:50:16", "2025-08-02T10:50:16"),
            ("2025-08-02T10:50:16", "2025-08-02T10:50:16.000000"),
            ("2025-08-02T10:50:16.5", "2025-08-02T10:50:16.500000"),
            ("2025-08-02T10:50:16.5", "2025-08-02T10:50:16.500000-03:00"),
            ("2025-08-02 10:50:16", "2025-08-02T10:50:16.000000+02:00"),
            ("2025-08-02", "2025-08-02T00:00:00"),
        ];
        for (said, row) in rows {
            let (from, to) = (not_before("start_time", said).unwrap(), not_after("end_time", said).unwrap());
            assert!(from.as_str() <= row && row < to.as_str(), "{said}: {from} {row} {to}");
        }
        let (from, to) =
            (not_before("a", "2025-08-02T10:50:20").unwrap(), not_after("a", "2025-08-02T10:50:20").unwrap());
        assert!("2025-08-02T10:50:19.999999+02:00" < from.as_str() && to.as_str() < "2025-08-02T10:50:20.000001");
    }

    #[test]
    fn zones_and_epoch_seconds_are_one_point_in_time() {
        let check = |said: &str| not_before("start_time", said).unwrap();
        assert_eq!(check("2025-08-02T10:50:16Z"), check("2025-08-02T12:50:16+02:00"));
        assert_eq!(check("2025-08-02T10:50:16Z"), check("1754131816"));
        assert_eq!(check("2025-08-02T10:50:16.123457Z"), check("1754131816.123457"));
        for bad in ["", "yesterday", "NaN", "1e300", "2025-13-01"] {
            let error = not_after("end_time", bad).unwrap_err().to_string();
            assert!(error.starts_with("end_time must be epoch seconds or a time such as"), "{bad}: {error}");
        }
    }

    #[test]
    fn rows_tell_the_time() {
        assert_eq!(epoch("2025-08-02T12:50:16.500000+02:00"), Some(1_754_131_816.5));
        assert_eq!(epoch("2025-08-02 10:50:16"), epoch("2025-08-02T10:50:16.000000"));
        let age = Timestamp::now().as_microsecond() as f64 / 1e6 - epoch(&now()).unwrap();
        assert!(age.abs() < 3600.0, "{age}");
        assert_eq!(epoch("soon"), None);
    }
}
