//! How a process ended, in words.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Lines of stderr that a reason shows.
const LINES_SHOWN: usize = 3;
/// Longest line that a reason shows, characters.
const LINE_SHOWN: usize = 200;

/// One line that says how a worker ended: the fault that was found, the exit code or signal, and, unless all was well, the last
/// words. `starved`: the kernel has ended a process for want of memory meanwhile, and nobody here has killed this one.
pub fn ending(
    status: io::Result<ExitStatus>,
    fault: Option<String>,
    stderr: &VecDeque<String>,
    starved: bool,
) -> String {
    let well = fault.is_none() && status.as_ref().is_ok_and(ExitStatus::success);
    let how = match status {
        Err(error) => format!("its end could not be waited for: {error}"),
        Ok(status) => match (status.signal(), status.code()) {
            (Some(libc::SIGKILL), _) if starved => {
                "killed by the kernel: out of memory (lower memory.budget, or give this server more)".to_owned()
            }
            (Some(signal), _) => format!("killed by signal {signal}{}", signal_name(signal)),
            (None, Some(0)) => "it ended by itself with exit code 0".to_owned(),
            (None, Some(code)) => format!("it ended with exit code {code}"),
            (None, None) => "it ended without an exit code".to_owned(),
        },
    };
    let mut text = match fault {
        Some(fault) => format!("{fault} ({how})"),
        None => how,
    };
    let shown = stderr.iter().skip(stderr.len().saturating_sub(LINES_SHOWN));
    let lines: Vec<String> = shown.map(|line| line.chars().take(LINE_SHOWN).collect()).collect();
    if !lines.is_empty() && !well {
        text.push_str(&format!("; its last words: {}", lines.join(" | ")));
    }
    text
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS: the model file was probably cut short)",
        libc::SIGILL => " (SIGILL: the program was built for another CPU)",
        libc::SIGKILL => " (SIGKILL: by hand, or by the kernel for lack of memory)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGTERM => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::ending;

    fn check(raw_status: i32, fault: Option<&str>, stderr: &[&str], expected: &str) {
        let lines: VecDeque<String> = stderr.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(ending(Ok(ExitStatus::from_raw(raw_status)), fault.map(str::to_owned), &lines, false), expected);
    }

    #[test]
    fn exit_codes_signals_and_last_words() {
        check(3 << 8, None, &[], "it ended with exit code 3");
        check(0, None, &["started", "loaded"], "it ended by itself with exit code 0");
        check(0, Some("bad frame"), &["x"], "bad frame (it ended by itself with exit code 0); its last words: x");
        check(9, None, &[], "killed by signal 9 (SIGKILL: by hand, or by the kernel for lack of memory)");
        check(
            6,
            Some("bad frame"),
            &["a", "b", "c", "d"],
            "bad frame (killed by signal 6 (SIGABRT)); its last words: b | c | d",
        );
    }

    #[test]
    fn want_of_memory_is_named() {
        let text = |raw_status| ending(Ok(ExitStatus::from_raw(raw_status)), None, &VecDeque::new(), true);
        assert!(text(9).starts_with("killed by the kernel: out of memory"), "{}", text(9));
        assert_eq!(text(6), "killed by signal 6 (SIGABRT)");
    }

    #[test]
    fn long_lines_are_cut_and_a_failed_wait_is_named() {
        let lines = VecDeque::from(["ä".repeat(500)]);
        let text = ending(Err(io::Error::other("no child")), None, &lines, true);
        assert_eq!(text, format!("its end could not be waited for: no child; its last words: {}", "ä".repeat(200)));
    }
}
