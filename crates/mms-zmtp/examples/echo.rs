//! Echoes every request to its sender, for benchmarks and by hand: `echo [PORT]`.

use mms_zmtp::{Request, Server, ServerOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main(worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "5555".into());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("tcp://{}", listener.local_addr()?);
    let echo = |request: Request| async move { request.body.unwrap_or_else(|why| vec![why.to_string().into()]) };
    let shutdown = CancellationToken::new();
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                shutdown.cancel();
            }
        }
    });
    Server::new(echo, ServerOptions::default()).serve(listener, shutdown).await;
    Ok(())
}
