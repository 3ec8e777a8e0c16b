//! Points in time as text.

/// ISO 8601 in UTC with up to microseconds, such as `2025-08-02T10:50:16.223Z`, of epoch seconds.
pub fn iso_utc(epoch_seconds: f64) -> String {
    jiff::Timestamp::from_microsecond((epoch_seconds * 1e6) as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The same with an offset and always six digits, such as `2025-08-02T10:50:16.223000+00:00`: the form that Python writes, and that every
/// version of its `datetime.fromisoformat` reads.
pub fn iso_offset(epoch_seconds: f64) -> String {
    let time = jiff::Timestamp::from_microsecond((epoch_seconds * 1e6) as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::{iso_offset, iso_utc};

    #[test]
    fn python_reads_them() {
        assert_eq!(iso_offset(1_754_131_816.5), "2025-08-02T10:50:16.500000+00:00");
        assert_eq!(iso_offset(0.0), "1970-01-01T00:00:00.000000+00:00");
    }

    #[test]
    fn known_days() {
        assert_eq!(iso_utc(0.0), "1970-01-01T00:00:00Z");
        assert_eq!(iso_utc(951_826_153.25), "2000-02-29T12:09:13.25Z");
        assert_eq!(iso_utc(1_754_131_816.5), "2025-08-02T10:50:16.5Z");
    }
}
