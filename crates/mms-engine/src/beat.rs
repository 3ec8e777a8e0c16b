//! Heartbeats while the model loads. llama.cpp tells how far it is only between two tensors; mapping a large file from a slow disk or
//! clearing a large KV cache takes longer than the host waits for a sign of life.

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
