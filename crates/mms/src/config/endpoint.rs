//! Where the client commands find the server.

use super::source::{Environment, Mistake, Mistakes, Origin};

/// Main port of a server that nobody configured.
const DEFAULT_PORT: u16 = 9901;
/// From the main port to the HTTP port in the default layout (9901, 9902, 9903).
const HTTP_OFFSET: u16 = 2;

/// Addresses of a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// Main port, `tcp://host:port`.
    pub main: String,
    /// HTTP port, `http://host:port`.
    pub http: String,
}

impl Endpoints {
    /// From the flags `--endpoint` and `--http`, else from `MODEL_MANAGER_HOST`, `MODEL_MANAGER_PORT` and `HTTP_PORT`, else the
    /// default ports on this machine. An HTTP port that nobody names is two above the main port.
    pub(crate) fn find(
        endpoint: Option<&str>,
        http: Option<&str>,
        environment: &Environment,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let host = environment.get("MODEL_MANAGER_HOST").unwrap_or("127.0.0.1");
        let port = port_in(environment, "MODEL_MANAGER_PORT", &mut mistakes).unwrap_or(DEFAULT_PORT);
        let main = match endpoint {
            Some(given) if given.contains("://") => given.to_owned(),
            Some(given) => format!("tcp://{given}"),
            None => format!("tcp://{}:{port}", bracketed(host)),
        };
        let http = match (http, port_in(environment, "HTTP_PORT", &mut mistakes)) {
            (Some(given), _) if given.contains("://") => given.to_owned(),
            (Some(given), _) => format!("http://{given}"),
            (None, named) => {
                let (host, main_port) = split(&main).unwrap_or((host.to_owned(), port));
                // An HTTP_PORT in the environment belongs to the server that the environment names.
                let http_port = named.filter(|_| endpoint.is_none());
                let http_port = http_port.unwrap_or_else(|| main_port.saturating_add(HTTP_OFFSET));
                format!("http://{}:{http_port}", bracketed(&host))
            }
        };
        if mistakes.is_empty() { Ok(Self { main, http }) } else { Err(Mistakes(mistakes)) }
    }
}

fn port_in(environment: &Environment, variable: &str, mistakes: &mut Vec<Mistake>) -> Option<u16> {
    let text = environment.get(variable)?;
    let port = text.parse().ok().filter(|port| *port > 0);
    if port.is_none() {
        let at = Origin::Environment { variable: variable.to_owned() };
        mistakes.push(Mistake { at, message: format!("must be a port from 1 to 65535, got {text:?}") });
    }
    port
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn split(endpoint: &str) -> Option<(String, u16)> {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let (host, port) = authority.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Endpoints, Environment};

    fn find(endpoint: Option<&str>, http: Option<&str>, environment: &[(&str, &str)]) -> (String, String) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let found = Endpoints::find(endpoint, http, &environment).expect("no mistakes");
        (found.main, found.http)
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_defaults() {
        let pair = |main: &str, http: &str| (main.to_owned(), http.to_owned());
        assert_eq!(find(None, None, &[]), pair("tcp://127.0.0.1:9901", "http://127.0.0.1:9903"));
        let environment = [("MODEL_MANAGER_PORT", "5570"), ("MODEL_MANAGER_HOST", "box"), ("HTTP_PORT", "80")];
        assert_eq!(find(None, None, &environment), pair("tcp://box:5570", "http://box:80"));
        assert_eq!(find(Some("other:7211"), None, &environment), pair("tcp://other:7211", "http://other:7213"));
        assert_eq!(find(Some("tcp://[::1]:1"), None, &[]), pair("tcp://[::1]:1", "http://[::1]:3"));
        assert_eq!(find(None, Some("x:1"), &environment), pair("tcp://box:5570", "http://x:1"));
        assert_eq!(find(None, Some("http://x:1/"), &[]), pair("tcp://127.0.0.1:9901", "http://x:1/"));
    }

    #[test]
    fn a_bad_port_is_told() {
        let environment: Environment = [("MODEL_MANAGER_PORT".to_owned(), "many".to_owned())].into_iter().collect();
        let error = Endpoints::find(None, None, &environment).expect_err("a mistake").to_string();
        assert_eq!(error, "environment MODEL_MANAGER_PORT: must be a port from 1 to 65535, got \"many\"");
    }
}
