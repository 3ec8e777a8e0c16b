//! Resident memory while many peers send parts of large messages. A program of its own, so that no other test takes memory meanwhile.

use bytes::{Buf, Bytes, BytesMut};
use mms_zmtp::{
    Client, ClientOptions, Frames, Limits, Mechanism, Request, Server, ServerOptions,
    codec::{Command, Decoder, Greeting, Item, Outbox},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;
const MESSAGE: usize = 16 * MIB;
const PART: usize = 14 * MIB;
const PEERS: usize = 20;
const BUDGET: usize = 48 * MIB;

/// The most that this process ever had resident.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the state of this process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("KiB") << 10
}

/// Greeting, READY and the header of a large message.
fn beginning() -> Vec<u8> {
    let mut outbox = Outbox::default();
    outbox.push_raw(&Greeting::ours(Mechanism::Null).encode());
    outbox.push_command(&Command::Ready(vec![("Socket-Type".into(), "DEALER".into())]));
    outbox.push_raw(b"\x01\x00\x02");
    outbox.push_raw(&(MESSAGE as u64).to_be_bytes());
    outbox.copy_to_bytes(outbox.len()).into()
}

async fn reply(stream: &mut TcpStream) -> Frames {
    let mut inbox = BytesMut::new();
    while inbox.len() < 64 {
        assert!(stream.read_buf(&mut inbox).await.expect("a greeting") > 0);
    }
    let _greeting = inbox.split_to(64);
    let mut decoder = Decoder::new(Limits::default());
    loop {
        match decoder.decode(&mut inbox).expect("valid ZMTP") {
            Some(Item::Message(frames)) => return frames,
            Some(_) => {}
            None => assert!(stream.read_buf(&mut inbox).await.expect("a reply") > 0),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_large_messages_stay_within_the_budget() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("address");
    let measure = |request: Request| async move {
        vec![match request.body {
            Ok(body) => Bytes::from(format!("{} bytes", body.iter().map(Bytes::len).sum::<usize>())),
            Err(why) => why.to_string().into(),
        }]
    };
    let options = ServerOptions { max_held: BUDGET, ..ServerOptions::default() };
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    tokio::spawn(async move { Server::new(measure, options).serve(listener, shutdown).await });

    let body: &'static [u8] = vec![b'x'; MESSAGE].leak();
    let before = peak();
    let senders = (0..PEERS).map(|_| {
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(addr).await.expect("connect");
            stream.write_all(&beginning()).await.expect("send");
            // More than the system keeps for us: it comes to an end only when it is read.
            stream.write_all(&body[..PART]).await.expect("send");
            stream
        })
    });
    let senders: Vec<_> = senders.collect();
    let mut honest = Client::connect(&addr.to_string(), ClientOptions::default()).await.expect("connect");
    let patience = std::time::Duration::from_secs(60);
    let small = Bytes::from_static(&[b'x'; 50_000]);
    while !senders.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(honest.request(vec![small.clone()], patience).await.expect("a reply"), ["50000 bytes"]);
    }
    let more = peak() - before;
    assert!(more < BUDGET + 16 * MIB, "{} MiB for {} MiB sent", more / MIB, PEERS * PART / MIB);

    let (mut whole, mut refused) = (0, 0);
    for sender in senders {
        let mut stream = sender.await.expect("sent");
        stream.write_all(&body[PART..]).await.expect("send");
        match std::str::from_utf8(&reply(&mut stream).await[1]).expect("text") {
            "16777216 bytes" => whole += 1,
            text if text.starts_with("no room now for the message of 16777216 bytes") => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(whole >= 1 && refused >= PEERS - BUDGET / PART, "{whole} came whole, {refused} were refused");
}
