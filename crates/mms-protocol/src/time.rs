//! Points in time as text.

/// ISO 8601 in UTC with up to microseconds, such as `2025-08-02T10:50:16.223Z`, of epoch seconds.
pub fn iso_utc(epoch_seconds: f64) -> String {
    jiff::Timestamp::from_microsecond((epoch_seconds * 1e6) as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::iso_utc;

    #[test]
    fn known_days() {
        assert_eq!(iso_utc(0.0), "1970-01-01T00:00:00Z");
        assert_eq!(iso_utc(951_826_153.25), "2000-02-29T12:09:13.25Z");
        assert_eq!(iso_utc(1_754_131_816.5), "2025-08-02T10:50:16.5Z");
    }
}
