//! Any bytes as a whole connection: behind a valid greeting and READY, or from the first byte on.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mms_zmtp::{
    Incoming, Mechanism, Request, Server, ServerOptions,
    codec::{Command, Greeting, Outbox},
};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let mut sent = Vec::new();
    if kind % 4 != 0 {
        let mut outbox = Outbox::default();
        outbox.push_command(&Command::Ready(vec![("Socket-Type".into(), "DEALER".into())]));
        sent.extend(Greeting::ours(Mechanism::Null).encode());
        sent.extend_from_slice(bytes::Buf::chunk(&outbox));
    }
    sent.extend_from_slice(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    runtime.block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let echo = |request: Request| async move { request.body.unwrap_or_else(|why| vec![why.to_string().into()]) };
        let server = Server::new(echo, ServerOptions::default());
        let serving = server.serve_connection(theirs, Incoming::default(), CancellationToken::new());
        let sending = async move {
            let _ = ours.write_all(&sent).await;
        };
        let _ = tokio::join!(serving, sending);
    });
});
