//! Starts worker processes from one thread that lives as long as the manager. A worker asks the kernel to be killed when its
//! parent dies, and to the kernel the parent is the *thread* that started it; a thread of the runtime's pool may end any time.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

type Started = io::Result<(Child, StdUnixStream)>;

struct Order {
    program: PathBuf,
    reply: oneshot::Sender<Started>,
}

/// The way to the thread; it ends when the last of them is dropped.
#[derive(Debug, Clone)]
pub struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    /// Starts the thread. Must be called inside the runtime that the processes are to be watched by.
    pub fn start() -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        std::thread::Builder::new().name("mms-spawner".to_owned()).stack_size(256 * 1024).spawn(move || {
            let _inside = runtime.enter();
            for order in inbox {
                // Nobody may wait any more; the child is killed when it is dropped here then.
                _ = order.reply.send(spawn(&order.program));
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts the program with one end of a socket pair as its standard input; gives the other end.
    pub async fn spawn(&self, program: &Path) -> io::Result<(Child, UnixStream)> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts workers has ended");
        self.orders.send(Order { program: program.to_owned(), reply }).map_err(|_| gone())?;
        let (child, socket) = answer.await.map_err(|_| gone())??;
        socket.set_nonblocking(true)?;
        Ok((child, UnixStream::from_std(socket)?))
    }
}

/// What a worker logs; its owner's word goes before ours.
const LOG_FILTER: &str = "MMS_WORKER_LOG";

fn spawn(program: &Path) -> Started {
    let (ours, theirs) = StdUnixStream::pair()?;
    let mut command = Command::new(program);
    if std::env::var_os(LOG_FILTER).is_none() && tracing::enabled!(tracing::Level::DEBUG) {
        command.env(LOG_FILTER, "debug,llama=error");
    }
    let child = command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Otherwise llama.cpp attaches a debugger to a dying worker, if there is one, and the reason drowns in its output.
        .env("GGML_NO_BACKTRACE", "1")
        // GPUs are numbered by their place on the bus, as the driver's library numbers them for us.
        .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        // Ctrl-C in the terminal is for the server, which ends its workers in its own order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, ours))
}
