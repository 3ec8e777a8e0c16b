//! Heartbeats while the model loads, and while an encoder computes a long text. llama.cpp tells how far it is only between two tensors,
//! and not at all within a step; mapping a large file from a slow disk, clearing a large KV cache or computing thousands of tokens takes
//! longer than the host waits for a sign of life.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Does `work`, and meanwhile calls `beat` again and again.
pub(crate) fn beat_while<T>(every: Duration, beat: impl Fn() + Send, work: impl FnOnce() -> T) -> T {
    let (ended, end) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while end.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                beat();
            }
        });
        let result = work();
        drop(ended);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::beat_while;

    #[test]
    fn it_beats_until_the_work_has_ended() {
        let (beat, beats) = channel();
        let count = beat_while(
            Duration::from_millis(1),
            move || beat.send(()).expect("counted"),
            || beats.iter().take(3).count(),
        );
        assert_eq!(count, 3);
    }
}
