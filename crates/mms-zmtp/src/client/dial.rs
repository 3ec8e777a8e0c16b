//! From an endpoint to a TCP connection and a finished handshake.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use super::ClientOptions;
use crate::{
    ConnectError, PeerInfo, SocketType, handshake,
    handshake::{Ours, Side},
    link::Link,
};

/// Connects and shakes hands as a socket of type `socket_type`.
pub(super) async fn dial(
    endpoint: &str,
    socket_type: SocketType,
    options: &ClientOptions,
) -> Result<(Link<TcpStream>, PeerInfo), ConnectError> {
    let deadline = Instant::now() + options.connect_timeout;
    let addrs = resolve(endpoint, deadline, options.connect_timeout).await?;
    let (stream, addr) = connect_tcp(&addrs, deadline, options.connect_timeout).await?;
    let mut link = Link::new(stream, &[], options.limits.max_command);
    let ours = Ours { socket_type, identity: options.identity.clone() };
    match handshake::shake(&mut link, &ours, Side::Connect, options.handshake_timeout).await {
        Ok(peer) => {
            link.open(options.limits.clone());
            Ok((link, peer))
        }
        Err(source) => Err(ConnectError::Handshake { addr, source }),
    }
}

/// The addresses of `tcp://host:port` or `host:port`; at least one.
pub(crate) async fn resolve(
    endpoint: &str,
    deadline: Instant,
    after: Duration,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let (host, port) =
        parse(endpoint).map_err(|why| ConnectError::BadEndpoint { endpoint: endpoint.to_owned(), why })?;
    let failed = |source| ConnectError::ResolveFailed { host: host.to_owned(), source };
    let found = timeout_at(deadline, lookup_host((host, port))).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} ms", after.as_millis())))
    });
    let addrs: Vec<_> = found.map_err(failed)?.collect();
    if addrs.is_empty() { Err(failed(io::ErrorKind::NotFound.into())) } else { Ok(addrs) }
}

/// The first of `addrs` that takes a connection; otherwise the error of the last.
pub(crate) async fn connect_tcp(
    addrs: &[SocketAddr],
    deadline: Instant,
    after: Duration,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut last = None;
    for &addr in addrs {
        let error = match timeout_at(deadline, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => match stream.set_nodelay(true) {
                Ok(()) => return Ok((stream, addr)),
                Err(source) => ConnectError::Unreachable { addr, source },
            },
            Ok(Err(source)) if source.kind() == io::ErrorKind::ConnectionRefused => ConnectError::Refused { addr },
            Ok(Err(source)) => ConnectError::Unreachable { addr, source },
            Err(_) => return Err(ConnectError::ConnectTimeout { addr, after }),
        };
        last = Some(error);
    }
    let nothing = || ConnectError::BadEndpoint { endpoint: String::new(), why: "no address" };
    Err(last.unwrap_or_else(nothing))
}

fn parse(endpoint: &str) -> Result<(&str, u16), &'static str> {
    let address = match endpoint.split_once("://") {
        Some(("tcp", address)) => address,
        Some(_) => return Err("only tcp:// is supported"),
        None => endpoint,
    };
    let (host, port) = address.rsplit_once(':').ok_or("the port is missing, as in tcp://127.0.0.1:5555")?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port must be a number from 1 to 65535")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host {
        "" => Err("the host is missing, as in tcp://127.0.0.1:5555"),
        "*" => Err("* is for binding; connect to a host, as in tcp://127.0.0.1:5555"),
        _ => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn endpoints() {
        assert_eq!(parse("tcp://127.0.0.1:9901"), Ok(("127.0.0.1", 9901)));
        assert_eq!(parse("localhost:1"), Ok(("localhost", 1)));
        assert_eq!(parse("tcp://[::1]:9901"), Ok(("::1", 9901)));
        for bad in ["ipc:///tmp/x", "tcp://host", "tcp://:1", "tcp://*:5555", "host:0", "host:99999", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
