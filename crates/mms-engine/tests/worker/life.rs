//! Handshake, load and the ways in which a worker ends.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use mms_protocol::worker::{
    EXIT_LOAD_FAILED, EXIT_PROTOCOL, EngineSettings, Heartbeat, LoadSpec, MAX_FRAME_BYTES, PROTOCOL_VERSION, ToHost,
    ToWorker,
};

use crate::support::{Host, ask, demo, demo_model, ramble};

#[test]
fn handshake_and_load() {
    let mut host = Host::spawn();
    let hello = host.shake_hands();
    assert_eq!(hello.protocol_version, PROTOCOL_VERSION);
    assert_eq!(hello.pid, host.worker.id());
    assert!(hello.system_info.contains("CPU"), "{}", hello.system_info);
    assert_eq!(hello.devices[0].name, "CPU");
    assert!(hello.devices[0].total_mb > 0);

    let info = host.load(demo()).expect("loads");
    assert!(info.context_length >= 512);
    assert_eq!(info.slots, 4);
    assert!(info.vocab_size > 100);
    assert!(info.model_bytes > 0 && info.kv_bytes > 0);
    assert_eq!(info.device, "cpu");
    assert!(matches!(host.receive(), ToHost::Heartbeat(Heartbeat { busy_slots: 0, queued: 0, .. })));
    // And another one without being asked.
    assert!(matches!(host.receive(), ToHost::Heartbeat(_)));
}

#[test]
fn settings_are_used() {
    let settings =
        EngineSettings { context_length: 128, slots: 2, threads: 1, mmap: false, ..EngineSettings::default() };
    let mut host = Host::spawn();
    host.shake_hands();
    let info = host.load(LoadSpec { settings, ..demo() }).expect("loads");
    assert_eq!((info.context_length, info.slots), (128, 2));
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let mut host = Host::spawn();
    host.send(&ToWorker::Hello { protocol_version: PROTOCOL_VERSION + 1 });
    assert!(matches!(host.receive(), ToHost::Hello(hello) if hello.protocol_version == PROTOCOL_VERSION));
    assert_eq!(host.exit().code(), Some(EXIT_PROTOCOL));
}

#[test]
fn what_is_not_the_protocol_ends_the_worker() {
    for body in [&b"{"[..], b"\xff\xfe", b"{\"type\":\"dance\"}", b"[]", b""] {
        let mut host = Host::spawn();
        host.send_raw(body);
        assert_eq!(host.exit().code(), Some(EXIT_PROTOCOL), "{body:?}");
    }
    let mut host = Host::spawn();
    let length = u32::try_from(MAX_FRAME_BYTES + 1).expect("fits");
    host.socket.write_all(&length.to_be_bytes()).expect("the worker reads");
    assert_eq!(host.exit().code(), Some(EXIT_PROTOCOL));

    let mut host = Host::with(EngineSettings::default());
    host.send(&ToWorker::Load(Box::new(demo())));
    assert_eq!(host.exit().code(), Some(EXIT_PROTOCOL));
    let mut host = Host::spawn();
    host.send(&ToWorker::Load(Box::new(demo())));
    assert_eq!(host.exit().code(), Some(EXIT_PROTOCOL));
}

#[test]
fn a_model_that_cannot_be_loaded_has_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(demo_model()).expect("the built-in model");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let cases = [
        (folder.path().join("none.gguf").to_str().expect("UTF-8").to_owned(), "No such file"),
        (folder.path().to_str().expect("UTF-8").to_owned(), "not a file"),
        (write("text.gguf", b"this is no model at all"), "not a GGUF file"),
        (write("empty.gguf", b""), "not a GGUF file"),
        (write("magic.gguf", b"GGUF"), ""),
        (write("header.gguf", &whole[..2000]), ""),
        (write("half.gguf", &whole[..whole.len() / 2]), "corrupted or incomplete"),
        (write("almost.gguf", &whole[..whole.len() - 100]), "corrupted or incomplete"),
        (write("null\u{1}.gguf", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), ""),
    ];
    for (path, expect) in cases {
        let mut host = Host::spawn();
        host.shake_hands();
        let reason = host.load(LoadSpec { path: path.clone(), ..demo() }).expect_err("no model");
        assert!(reason.contains(expect), "{path}: {reason}");
        assert!(
            !reason.is_empty() && !reason.contains('\n') && reason != "null result from llama cpp",
            "{path}: {reason}"
        );
        assert_eq!(host.exit().code(), Some(EXIT_LOAD_FAILED), "{path}");
    }
}

#[test]
fn a_context_that_no_machine_holds_is_refused_at_once() {
    let mut host = Host::spawn();
    host.shake_hands();
    let settings = EngineSettings { context_length: u32::MAX, slots: 64, ..EngineSettings::default() };
    let reason = host.load(LoadSpec { settings, ..demo() }).expect_err("too long");
    assert!(reason.contains("the limit is"), "{reason}");
}

#[test]
fn the_end_of_the_socket_ends_the_worker() {
    // Before the handshake.
    let mut host = Host::spawn();
    host.socket.shutdown(std::net::Shutdown::Both).expect("a socket");
    assert_eq!(host.worker.wait().expect("a child").code(), Some(0));
    // While loading.
    let mut host = Host::spawn();
    host.shake_hands();
    host.send(&ToWorker::Load(Box::new(demo())));
    host.socket.shutdown(std::net::Shutdown::Both).expect("a socket");
    assert_eq!(host.exit().code(), Some(0));
    // Idle.
    let host = Host::with(EngineSettings::default());
    host.socket.shutdown(std::net::Shutdown::Both).expect("a socket");
    assert_eq!(host.exit().code(), Some(0));
    // While decoding.
    let mut host = Host::with(EngineSettings::default());
    host.start(1, &ramble("Once", 400));
    while !matches!(host.next(), ToHost::Text { .. }) {}
    host.socket.shutdown(std::net::Shutdown::Both).expect("a socket");
    assert_eq!(host.exit().code(), Some(0));
}

#[test]
fn shutdown_ends_the_worker_at_once() {
    let mut host = Host::with(EngineSettings::default());
    host.start(1, &ramble("Once", 400));
    host.send(&ToWorker::Shutdown);
    assert_eq!(host.exit().code(), Some(0));
}

#[test]
fn control_c_is_left_to_the_host() {
    let mut host = Host::with(EngineSettings::default());
    let signal = |name: &str| {
        let pid = host.worker.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
    };
    signal("-INT");
    signal("-HUP");
    // Its parent lives, so this means nothing.
    signal("-USR1");
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
    let pid = host.worker.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert_eq!(host.exit().signal(), Some(15));
}

#[test]
fn started_by_hand_it_explains_itself() {
    let run = |argument: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mms-worker"));
        let output = command.args(argument).stdin(Stdio::null()).output().expect("the worker starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, said) = run(None);
    assert_eq!(code, Some(2));
    assert!(said.contains("not a socket") && said.contains("mms serve"), "{said}");
    let (code, said, _) = run(Some("--version"));
    assert_eq!((code, said.trim()), (Some(0), concat!("mms-worker ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(Some("--help")).0, Some(0));
    assert_eq!(run(Some("--fast")).0, Some(2));
}
