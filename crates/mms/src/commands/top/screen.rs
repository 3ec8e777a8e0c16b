//! The terminal while the live view has it: taken at the start, and given back as it was however that ends, by a return, an error or a
//! panic.

use std::io;

use ratatui::DefaultTerminal;

/// A terminal that was taken. Dropping it gives the terminal back.
#[derive(Debug)]
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal: other screen, no echo, keys at once. A panic anywhere gives it back before it is told.
    pub(super) fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self).inspect_err(|_| {
            // What was changed before the failure, if anything; the failure itself is what counts.
            _ = ratatui::try_restore();
        })
    }

    /// Where to draw.
    pub(super) fn terminal(&mut self) -> &mut DefaultTerminal {
        &mut self.0
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone, as when its window was closed, needs nothing back.
        _ = ratatui::try_restore();
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{File, OpenOptions};
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::tcgetattr;

    use super::Screen;

    /// Set in the process of this test that panics.
    const PANICS: &str = "MMS_TEST_PANICS_ON_A_TERMINAL";
    const NAME: &str = "commands::top::screen::tests::a_panic_gives_the_terminal_back_before_it_is_told";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if std::env::var_os(PANICS).is_some() {
            let _screen = Screen::take().expect("a terminal");
            panic!("a fault of ours");
        }
        let mut control = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal"));
        grantpt(&control).expect("granted");
        unlockpt(&control).expect("unlocked");
        let name = ptsname(&control, Vec::new()).expect("a name");
        let open =
            || OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).expect("its line");
        let line = open();
        let before = tcgetattr(&line).expect("its state");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", NAME, "--nocapture"]).env(PANICS, "1").env("TERM", "xterm");
        let mut child = command.stdin(open()).stdout(open()).stderr(open()).spawn().expect("started");
        assert!(!child.wait().expect("ended").success(), "it panics");
        let after = tcgetattr(&line).expect("its state");
        assert_eq!((after.local_modes, after.output_modes), (before.local_modes, before.output_modes));
        let mut bytes = [0; 65536];
        let count = control.read(&mut bytes).expect("what it wrote");
        let written = String::from_utf8_lossy(&bytes[..count]);
        let place = |part: &str| written.find(part).unwrap_or_else(|| panic!("{part:?} is missing in {written:?}"));
        let (taken, given_back, told) = (place("\u{1b}[?1049h"), place("\u{1b}[?1049l"), place("a fault of ours"));
        assert!(taken < given_back && given_back < told, "{written:?}");
    }
}
