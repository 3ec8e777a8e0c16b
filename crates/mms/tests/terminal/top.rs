//! The live view, in a terminal.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::support::{Server, mms, send};
use crate::terminal::Terminal;

const MODEL: &str = "mms-demo";

fn top(server: &Server, columns: u16, rows: u16) -> Terminal {
    let command = server.command(&["top", "--interval", "0.1"]);
    Terminal::start(&command, columns, rows)
}

#[test]
fn models_are_watched_loaded_and_unloaded_and_the_terminal_is_given_back() {
    let server = Server::start("");
    let is_loaded = || server.json(&["models", "show", MODEL])["loaded"] == true;
    let mut terminal = top(&server, 80, 24);
    for part in ["ready, up", &server.main, "0 active, 0 queued", "cpu ", "free", "MODEL", "MEASURED", "> mms-demo"] {
        terminal.wait_for(part);
    }
    terminal.wait_for("available");
    assert!(terminal.is_taken());

    terminal.press("l");
    terminal.wait_for("Model mms-demo loaded");
    let pid = server.workers()[0].to_string();
    terminal.wait_until("its row", |screen| {
        screen.lines().any(|line| line.contains(MODEL) && line.contains("loaded") && line.contains(&pid))
    });
    assert!(is_loaded());

    terminal.press("u");
    terminal.wait_for("unload mms-demo? y/n");
    terminal.press("n");
    terminal.wait_until("the question is gone", |screen| !screen.contains("y/n"));
    assert!(is_loaded());
    terminal.press("uy");
    terminal.wait_for("Model mms-demo unloaded");
    terminal
        .wait_until("its row", |screen| screen.lines().any(|line| line.contains(MODEL) && line.contains("available")));
    assert!(!is_loaded());

    // A smaller window shows less, and that whole.
    terminal.resize(40, 10);
    terminal.wait_until("a smaller picture", |screen| screen.contains("> mms-demo") && !screen.contains("MEASURED"));
    terminal.resize(100, 30);
    terminal.wait_for("ESTIMATED");
    terminal.press("q");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.assert_as_before();
    server.stop();
}

#[test]
fn what_runs_and_what_failed_is_seen() {
    let server = Server::start("");
    let terminal = top(&server, 100, 30);
    terminal.wait_for("> mms-demo");
    server.ok(&["generate", "Hello!", "-n", "20"]);
    terminal.wait_for("1 requests");
    assert_eq!(server.mms(&["generate", "Hello!", "-m", "nobody"]).status.code(), Some(4));
    terminal.wait_for("ago generate model_not_found: model_pref 'nobody'");
    terminal.wait_for("1 errors");
}

#[test]
fn every_way_to_end_gives_the_terminal_back() {
    let server = Server::start("");
    for (keys, signal, code) in [
        ("\u{1b}", None, 0),
        ("\u{3}", None, 0),
        ("", Some(Signal::TERM), 143),
        ("", Some(Signal::INT), 130),
        ("", Some(Signal::HUP), 129),
    ] {
        let mut terminal = top(&server, 80, 24);
        terminal.wait_for("> mms-demo");
        assert!(terminal.is_taken());
        match signal {
            None => terminal.press(keys),
            Some(signal) => send(terminal.pid(), signal),
        }
        assert_eq!(terminal.wait().code(), Some(code), "{keys:?} {signal:?}");
        terminal.assert_as_before();
    }
}

#[test]
fn a_server_that_is_away_is_told_and_found_again() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let mut command = mms();
    command.args(["top", "--interval", "0.1", "--timeout", "0.5", "--endpoint", &endpoint]);
    let mut terminal = Terminal::start(&command, 120, 24);
    terminal.wait_for("NO ANSWER, trying again: no server at");
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        Server::start_in(folder, &["--port", &port])
    };
    let server = start();
    terminal.wait_for("ready, up");
    // One that hangs is away, too.
    server.signal(Signal::STOP);
    terminal.wait_for("NO ANSWER, trying again: no answer from");
    assert!(terminal.screen().contains(MODEL), "what was seen last is kept:\n{}", terminal.screen());
    server.signal(Signal::CONT);
    terminal.wait_for("ready, up");
    server.stop();
    terminal.wait_for("NO ANSWER");
    let server = start();
    terminal.wait_for("ready, up");
    terminal.press("q");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.assert_as_before();
    server.stop();
}
