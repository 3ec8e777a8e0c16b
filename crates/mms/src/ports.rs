//! Ports: taking them, and finding out who holds one that cannot be had.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::serve_error::ServeError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Listens on `address`; `what` names the port in errors. A port in use is an error, never another port.
pub(crate) fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder_of(address).map(|holder| format!(" by {} (process {})", holder.name, holder.pid));
            ServeError::PortInUse { what, address, holder: holder.unwrap_or_default() }
        }
        _ => ServeError::Bind { what, address, source },
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart need not wait for the old connections' TIME_WAIT; a port that is listened on stays taken.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub name: String,
}

/// Who listens on `address`, as far as this user may see it: the socket's inode from `/proc/net`, then the process that has it open.
pub(crate) fn holder_of(address: SocketAddr) -> Option<Holder> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, address))
        .collect();
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(entry.path().join("fd")).ok()?.filter_map(Result::ok);
        let holds = descriptors.any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|target| {
                let target = target.to_string_lossy();
                let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                inode.is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
            })
        });
        let name =
            || fs::read_to_string(entry.path().join("comm")).map_or("?".to_owned(), |name| name.trim().to_owned());
        holds.then(|| Holder { pid, name: name() })
    })
}

/// Inodes of the sockets in a table of `/proc/net` that listen where `address` would.
fn listening_inodes(table: &str, address: SocketAddr) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state, inode) = (fields.next()?, fields.nth(1)?, fields.nth(5)?);
            let (ip, port) = local.rsplit_once(':')?;
            let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
            let listens = state == LISTEN && same_port && overlaps(parse_ip(ip)?, address.ip());
            listens.then(|| inode.to_owned())
        })
        .collect()
}

/// Two listeners on the same port are in each other's way when their addresses are equal or one of them is every address.
fn overlaps(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    one == other || one.is_unspecified() || other.is_unspecified()
}

/// An address of `/proc/net`: words of 32 bits in the machine's byte order, each as eight hex digits.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len() / 8)
        .map(|word| u32::from_str_radix(hex.get(word * 8..word * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    let bytes = words?.concat();
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::{holder_of, listen, listening_inodes, parse_ip};
    use crate::serve_error::ServeError;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:26AD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:26AD 0100007F:8888 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 00000000:26AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_the_table_of_the_system() {
        let inodes = |address: &str| listening_inodes(TABLE, address.parse().unwrap());
        assert_eq!(inodes("127.0.0.1:9901"), ["4711"]);
        assert_eq!(inodes("0.0.0.0:9901"), ["4711"]);
        assert_eq!(inodes("127.0.0.2:9901"), [""; 0]);
        assert_eq!(inodes("127.0.0.1:9902"), ["4713"]);
        assert_eq!(inodes("127.0.0.1:9903"), [""; 0]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_both_kinds_of_addresses() {
        assert_eq!(parse_ip("0100007F"), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(parse_ip("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
        assert_eq!(parse_ip("0000000000000000FFFF00000100007F"), Some("::ffff:127.0.0.1".parse().unwrap()));
        assert_eq!(parse_ip("xyz"), None);
    }

    #[tokio::test]
    async fn a_port_in_use_names_this_very_process() {
        let first = listen("main port", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(holder_of(address).unwrap().pid, std::process::id());
        let error = listen("main port", address).expect_err("the port is taken");
        assert!(matches!(error, ServeError::PortInUse { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains(&address.to_string()), "{text}");
    }
}
