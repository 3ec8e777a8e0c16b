//! A server on loopback answers only to names of this machine. Otherwise a web page could let its own name point at 127.0.0.1 and,
//! being of the same origin then, use the server from its visitor's browser (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use mms_protocol::{ErrorCode, Refusal};

use super::refuse;

/// Lets only requests to `localhost`, IP addresses and the `trusted` names through.
pub(super) fn guard<S: Clone + Send + Sync + 'static>(router: Router<S>, trusted: &[String]) -> Router<S> {
    let trusted: Arc<[String]> = trusted.into();
    router.layer(from_fn_with_state(trusted, check))
}

async fn check(State(trusted): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let header =
        request.headers().get(header::HOST).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned()).or(header);
    match host {
        Some(host) if !is_ours(&host, &trusted) => {
            let text = format!("the host {host:?} is not a name of this server; use localhost or its IP address");
            refuse(request.uri(), Some(StatusCode::FORBIDDEN), &Refusal::new(ErrorCode::InvalidRequest, text))
        }
        // Browsers always name the host.
        Some(_) | None => next.run(request).await,
    }
}

fn is_ours(host: &str, trusted: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
        || trusted.iter().any(|known| known.eq_ignore_ascii_case(&name))
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn names_of_this_machine() {
        let trusted = ["models.example".to_owned()];
        for ours in
            ["localhost", "LOCALHOST:9903", "a.localhost", "127.0.0.1:1", "[::1]:9903", "[::1]", "Models.Example:80"]
        {
            assert!(is_ours(ours, &trusted), "{ours}");
        }
        for strange in ["evil.example", "localhost.evil.example:9903", "127.0.0.1.evil.example", "", "::1"] {
            assert!(!is_ours(strange, &trusted), "{strange}");
        }
    }
}
