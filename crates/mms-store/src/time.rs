//! Points in time as the two tables hold them: local time, ISO 8601, without a zone, so that old and new rows sort together.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::StoreError;

/// Now.
pub(crate) fn now() -> String {
    text(Zoned::now().datetime())
}

/// A point in time given by a client, in the form that the rows have.
pub(crate) fn given(field: &'static str, said: &str) -> Result<String, StoreError> {
    let said = said.trim();
    let local = |timestamp: Timestamp| timestamp.to_zoned(TimeZone::system()).datetime();
    if let Ok(timestamp) = said.parse::<Timestamp>() {
        return Ok(text(local(timestamp)));
    }
    if let Ok(datetime) = said.parse::<DateTime>() {
        return Ok(text(datetime));
    }
    let epoch = said.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    match epoch.map(|seconds| Timestamp::from_microsecond((seconds * 1e6) as i64)) {
        Some(Ok(timestamp)) => Ok(text(local(timestamp))),
        Some(Err(_)) | None => {
            let shown: String = said.chars().take(40).collect();
            Err(StoreError::invalid(field, format!("must be a time such as 2025-08-02T10:50:16, not {shown:?}")))
        }
    }
}

fn text(datetime: DateTime) -> String {
    datetime.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, civil};

    use super::{given, now, text};

    #[test]
    fn times_are_made_alike() {
        let check = |said: &str, expect: &str| assert_eq!(given("start_time", said).as_deref(), Ok(expect), "{said}");
        check("2025-08-02T10:50:16.5", "2025-08-02T10:50:16.500000");
        check("2025-08-02 10:50:16", "2025-08-02T10:50:16.000000");
        check("2025-08-02", "2025-08-02T00:00:00.000000");
        let utc = civil::date(2025, 8, 2).at(10, 50, 16, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
        let here = text(utc.to_zoned(TimeZone::system()).datetime());
        check("2025-08-02T10:50:16Z", &here);
        check("2025-08-02T12:50:16+02:00", &here);
        check(&utc.as_second().to_string(), &here);
        for bad in ["", "yesterday", "NaN", "1e300", "2025-13-01"] {
            let error = given("end_time", bad).unwrap_err().to_string();
            assert!(error.starts_with("end_time must be a time such as 2025-08-02T10:50:16, not \""), "{bad}: {error}");
        }
    }

    #[test]
    fn now_has_the_form_of_old_rows() {
        let now = now();
        let parsed: civil::DateTime = now.parse().unwrap();
        assert_eq!(now.len(), "2025-08-02T10:50:16.500000".len());
        let age = Timestamp::now().duration_since(parsed.to_zoned(TimeZone::system()).unwrap().timestamp());
        assert!(age.as_secs().abs() < 3600, "{now}");
    }
}
