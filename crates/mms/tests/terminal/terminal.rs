//! A terminal of the test's own: the program in it runs as in a window, and what it draws is read as a person would see it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{PATIENCE, wait_until};

/// A terminal with a program in it, which is killed at the end if it still runs.
pub(crate) struct Terminal {
    /// The side of the person.
    control: File,
    /// The side of the program; kept, so that it can be asked how it was left.
    line: File,
    before: Termios,
    seen: Arc<Mutex<vt100::Parser>>,
    child: Child,
}

impl Terminal {
    /// Starts a program in a terminal of this many columns and rows.
    pub(crate) fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let name = ptsname(&control, Vec::new()).unwrap();
        let line =
            OpenOptions::new().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.as_bytes())).unwrap();
        let before = tcgetattr(&line).unwrap();
        let control = File::from(control);
        set_size(&control, columns, rows);
        let seen = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let (mut output, reader) = (control.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                reader.lock().unwrap().process(&bytes[..count]);
            }
        });
        // A session of its own, with this as its terminal, so that it hears of another size.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        session.env_clear().env("TERM", "xterm-256color");
        session.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if let Some(folder) = command.get_current_dir() {
            session.current_dir(folder);
        }
        let side = || OwnedFd::from(line.try_clone().unwrap());
        let child = session.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        Self { control, line, before, seen, child }
    }

    /// What stands on it now.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().unwrap().screen().contents()
    }

    /// Waits until this stands on it.
    pub(crate) fn wait_for(&self, part: &str) {
        self.wait_until(part, |screen| screen.contains(part));
    }

    pub(crate) fn wait_until(&self, what: &str, shown: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !shown(&self.screen()) {
            assert!(begun.elapsed() < PATIENCE, "never came: {what:?}; the screen shows\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types this.
    pub(crate) fn press(&mut self, keys: &str) {
        self.control.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the window larger or smaller.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.seen.lock().unwrap().screen_mut().set_size(cells(rows), cells(columns));
        set_size(&self.control, columns, rows);
    }

    /// The process in it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the end of what runs in the terminal", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// It is as it was before: lines and echo, the first screen, a cursor.
    pub(crate) fn assert_as_before(&self) {
        wait_until("the first screen with a cursor", || {
            let parser = self.seen.lock().unwrap();
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        });
        let now = tcgetattr(&self.line).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
    }

    /// A program has taken it.
    pub(crate) fn is_taken(&self) -> bool {
        let other_screen = self.seen.lock().unwrap().screen().alternate_screen();
        other_screen && tcgetattr(&self.line).unwrap().local_modes != self.before.local_modes
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Already ended, or killed here: either way it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

fn set_size(control: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(control, size).unwrap();
}
