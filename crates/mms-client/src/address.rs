//! The base address of an HTTP server: `http://host:port`, `host:port`, or with a path in front of every path.

use crate::error::ClientError;

/// Where to connect, what to put into `Host`, and what every path begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) prefix: String,
}

impl Base {
    pub(crate) fn parse(base: &str) -> Result<Self, ClientError> {
        let bad = |why: &str| ClientError::BadEndpoint { endpoint: base.to_owned(), why: why.to_owned() };
        let rest = match base.split_once("://") {
            None => base,
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(bad(&format!("the scheme {scheme} is not supported, give http://host:port")));
            }
        };
        let (authority, prefix) = match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
            None => (rest, ""),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(|| bad("the ] of the IPv6 address is missing"))?;
                (host, after.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(bad("the host is missing, give http://host:port"));
        }
        let port = match port {
            None => 80,
            Some(port) => port.parse().map_err(|_| bad("the port must be a number from 1 to 65535"))?,
        };
        Ok(Self { host: host.to_owned(), port, prefix: prefix.to_owned() })
    }

    pub(crate) fn host_header(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Base;

    #[test]
    fn what_is_accepted() {
        for (text, host, port, prefix, header) in [
            ("http://127.0.0.1:9903", "127.0.0.1", 9903, "", "127.0.0.1:9903"),
            ("localhost:80/", "localhost", 80, "", "localhost:80"),
            ("http://host", "host", 80, "", "host:80"),
            ("http://[::1]:9903/api/", "::1", 9903, "/api", "[::1]:9903"),
        ] {
            let base = Base::parse(text).expect(text);
            assert_eq!((base.host.as_str(), base.port, base.prefix.as_str()), (host, port, prefix), "{text}");
            assert_eq!(base.host_header(), header);
        }
    }

    #[test]
    fn what_is_not() {
        for text in ["https://host:1", "http://:1", "http://host:port", "http://host:70000", "http://[::1:1", ""] {
            let error = Base::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("bad endpoint"), "{text}: {error}");
        }
    }
}
