//! The process: how it ends (at once, with its parent, and not by the terminal) and what the kernel counts about it.
//!
//! The socket is what ends a worker: when `mms` dies in whatever way, the kernel closes its end and the reader thread exits. The
//! parent-death signal is a second line for a reader that cannot run. Linux sends it when the *thread* that spawned the worker
//! ends, which is not yet the death of `mms`; so it is not SIGKILL but a signal whose handler looks at the parent first.

use std::os::unix::process::parent_id;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};

use crate::crowd::ProcessorTime;

static PARENT: AtomicU32 = AtomicU32::new(0);

/// Ends the process without running destructors of C++ statics, which would pull llama.cpp away under its own threads.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends this process when its parent has ended.
pub(crate) fn end_with_parent() {
    PARENT.store(parent_id(), Ordering::Relaxed);
    // SAFETY: the handler calls only async-signal-safe functions (getppid, _exit) and reads an atomic.
    unsafe { libc::signal(libc::SIGUSR1, on_parent_death as *const () as libc::sighandler_t) };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::USR1)) {
        tracing::debug!(%error, "no parent-death signal; the socket alone will tell");
    }
}

/// Ctrl-C and a closed terminal reach the whole process group, but `mms` needs its workers while it drains; it ends them itself.
/// SIGTERM keeps its meaning: no terminal sends it, and it is how an administrator ends one worker. (A service manager that sends
/// it to every process of the service would cut the drain short; with systemd `KillMode=mixed` avoids that.)
pub(crate) fn ignore_terminal_signals() {
    for signal in [libc::SIGINT, libc::SIGHUP] {
        // SAFETY: SIG_IGN is a valid disposition for both signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// A file that would be longer than the limit on files (`ulimit -f`) gives an error then, as a full disk does, and does not end the
/// process.
pub(crate) fn survive_file_limits() {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// What the kernel counts about the processor time of this process so far.
pub(crate) fn processor_time() -> ProcessorTime {
    // SAFETY: all-zero is a valid `rusage`, and getrusage writes only to it.
    let process = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    ProcessorTime {
        preemptions: u64::try_from(process.ru_nivcsw).unwrap_or(0),
        process: clock(ClockId::ProcessCPUTime),
        thread: clock(ClockId::ThreadCPUTime),
    }
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

extern "C" fn on_parent_death(_signal: libc::c_int) {
    // SAFETY: getppid has no preconditions and is async-signal-safe.
    let parent = unsafe { libc::getppid() };
    if u32::try_from(parent) != Ok(PARENT.load(Ordering::Relaxed)) {
        exit_now(0);
    }
}
