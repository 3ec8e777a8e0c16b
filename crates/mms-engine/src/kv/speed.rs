//! Whether copying a state costs little beside computing its tokens: pure decisions on measured times.

use std::time::Duration;

/// Bytes a second before anything was measured: below what memory and common disks do.
const RAM_RATE: f64 = 1e9;
const DISK_RATE: f64 = 4e8;
/// A shorter time is mostly the clock's and the calls' own.
const LEAST_MEASURED_BYTES: usize = 256 << 10;
/// Of the time that a state would spare, saving it may take this much: it is not sure to be used.
const SAVING_SHARE: f64 = 0.25;
/// Restoring it, at most.
const RESTORING_SHARE: f64 = 0.75;

/// Bytes a second, the best that was measured: other work on the machine makes every copy slower, and none faster.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    ram: Option<f64>,
    disk: Option<f64>,
}

impl Speed {
    /// Takes note of a copy between the KV cache and memory.
    pub(crate) fn copied(&mut self, bytes: usize, took: Duration) {
        note(&mut self.ram, bytes, took);
    }

    /// Takes note of reading from disk.
    pub(crate) fn read(&mut self, bytes: usize, took: Duration) {
        note(&mut self.disk, bytes, took);
    }

    /// Saving `bytes` is cheap beside computing `tokens`, each of which takes so many seconds if that is known.
    pub(crate) fn may_save(&self, bytes: usize, tokens: usize, token: Option<f64>) -> bool {
        self.is_within(self.seconds(bytes, true), tokens, token, SAVING_SHARE)
    }

    /// The same for restoring.
    pub(crate) fn may_restore(&self, bytes: usize, in_ram: bool, tokens: usize, token: Option<f64>) -> bool {
        self.is_within(self.seconds(bytes, in_ram), tokens, token, RESTORING_SHARE)
    }

    fn seconds(&self, bytes: usize, in_ram: bool) -> f64 {
        let copy = bytes as f64 / self.ram.unwrap_or(RAM_RATE);
        if in_ram { copy } else { copy + bytes as f64 / self.disk.unwrap_or(DISK_RATE) }
    }

    fn is_within(&self, seconds: f64, tokens: usize, token: Option<f64>, share: f64) -> bool {
        token.is_none_or(|token| seconds <= tokens as f64 * token * share)
    }
}

fn note(rate: &mut Option<f64>, bytes: usize, took: Duration) {
    if bytes >= LEAST_MEASURED_BYTES {
        let measured = bytes as f64 / took.as_secs_f64().max(1e-6);
        *rate = Some(rate.map_or(measured, |before| before.max(measured)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Speed;

    #[test]
    fn copies_have_to_be_cheaper_than_computing() {
        let mut speed = Speed::default();
        // 400 tokens of 36 KiB: 15 ms at 1 GB/s, 52 ms from disk.
        let bytes = 400 * 36 * 1024;
        assert!(speed.may_save(bytes, 400, None) && speed.may_restore(bytes, false, 400, None));
        assert!(speed.may_save(bytes, 400, Some(0.005)) && speed.may_restore(bytes, false, 400, Some(0.005)));
        // A token in 50 us: 20 ms.
        assert!(!speed.may_save(bytes, 400, Some(5e-5)) && speed.may_restore(bytes, true, 400, Some(5e-5)));
        assert!(!speed.may_restore(bytes, false, 400, Some(5e-5)));
        speed.copied(1 << 20, Duration::from_micros(100));
        assert!(speed.may_save(bytes, 400, Some(5e-5)));
        // What the machine was once able to do counts, not a bad moment.
        speed.copied(1 << 20, Duration::from_secs(1));
        assert!(speed.may_save(bytes, 400, Some(5e-5)));
        speed.read(1 << 20, Duration::from_micros(100));
        assert!(speed.may_restore(bytes, false, 400, Some(5e-5)));
        // Too little to measure.
        let mut speed = Speed::default();
        speed.copied(100, Duration::from_secs(1));
        assert!(speed.may_save(bytes, 400, Some(0.001)));
    }
}
