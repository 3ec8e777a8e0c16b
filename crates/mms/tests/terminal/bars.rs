//! What a person sees who waits for a model: how far its load is, and nothing of it when that is over. A file sees none of it.

use std::process::Stdio;

use crate::support::{Server, hold_loads, is_alive, wait_until};
use crate::terminal::Terminal;

const MODEL: &str = "mms-demo";

fn held() -> Server {
    let folder = tempfile::tempdir().unwrap();
    hold_loads(folder.path(), "");
    Server::start_in(folder, &[])
}

fn let_go(server: &Server) {
    std::fs::remove_file(server.folder().join("hold")).unwrap();
}

#[test]
fn whoever_waits_for_a_load_sees_how_far_it_is() {
    for (args, then) in [
        (&["models", "load", MODEL][..], "Model mms-demo loaded in"),
        // What `fast` means is found out.
        (&["generate", "Hello!", "-t", "0", "-n", "20"], ""),
        (&["generate", "Hello!", "-t", "0", "-n", "20", "--stream"], ""),
    ] {
        let server = held();
        let mut terminal = Terminal::start(&server.command(args), 80, 24);
        terminal.wait_until("a bar", |screen| {
            screen.contains("loading mms-demo, about") && screen.contains("s left") && screen.contains("43%")
        });
        assert!(is_alive(terminal.pid()));
        let_go(&server);
        assert_eq!(terminal.wait().code(), Some(0), "{args:?}");
        terminal.wait_until("the result alone", |screen| !screen.contains("43%") && screen.contains(then));
        if then.is_empty() {
            // The model is there now, so that this is quick.
            let text = server.ok(&["generate", "Hello!", "-t", "0", "-n", "20"]);
            terminal.wait_until(&text, |screen| words(screen) == words(&text));
        }
        terminal.assert_as_before();
        server.stop();
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn a_conversation_shows_it_too() {
    let server = held();
    let mut terminal = Terminal::start(&server.command(&["chat", "-t", "0", "-n", "20"]), 80, 24);
    terminal.wait_for("> ");
    terminal.press("Hello!\r");
    terminal.wait_until("a bar", |screen| screen.contains("loading mms-demo") && screen.contains("43%"));
    let_go(&server);
    terminal.wait_until("the next turn", |screen| !screen.contains("43%") && screen.matches("> ").count() == 2);
    terminal.press("/exit\r");
    assert_eq!(terminal.wait().code(), Some(0));
    server.stop();
}

#[test]
fn the_live_view_shows_it() {
    let server = held();
    let mut terminal = Terminal::start(&server.command(&["top", "--interval", "0.1"]), 80, 24);
    terminal.wait_for("> mms-demo");
    terminal.press("l");
    terminal.wait_for("loading 43 %");
    terminal.wait_for("s left");
    let_go(&server);
    terminal.wait_for("Model mms-demo loaded");
    terminal.press("q");
    assert_eq!(terminal.wait().code(), Some(0));
    server.stop();
}

#[test]
fn a_file_sees_nothing_of_it() {
    let server = held();
    let mut command = server.command(&["models", "load", MODEL]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the load", || server.json(&["models", "show", MODEL])["load_fraction"].as_f64() > Some(0.4));
    let_go(&server);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Model mms-demo loaded in"), "{output:?}");
    server.stop();
}
