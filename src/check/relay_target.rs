//! The existing backend behind the mirror: whether it can be reached.
//!
//! Only a connection is made, with its TLS handshake, and closed again: whatever was sent over it the backend could take
//! for a callback, and act on it. So an answer is not waited for; that the right program answers shows with the first
//! callback.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::ServiceExt as _;

use super::line::{CheckLine, CheckSubject};

/// How long a connection may take. A "before" callback waits 1.2 s for the backend, connection included.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// One that takes longer uses up much of the time of a "before" callback.
const SLOW: Duration = Duration::from_millis(400);

/// Connects to a backend. `scheme` and `host` with its port are those of `RELAY_URL`; `own` is the callback listener.
pub async fn line((scheme, host, port): (&str, &str, u16), own: SocketAddr) -> CheckLine {
    let subject = CheckSubject::Relay;
    let shown = format!("{scheme}://{host}:{port}");
    if is_own(host, port, own) {
        let remedy = "set RELAY_URL to the backend: this is the callback listener of the mirror itself";
        return CheckLine::wrong(subject, format!("{shown} is CALLBACK_LISTEN"), remedy);
    }
    let begun = Instant::now();
    let connected = tokio::time::timeout(CONNECT_WAIT_MAX, connect(&shown)).await;
    let took = begun.elapsed();
    let remedy = "start the backend, or correct RELAY_URL: name, port, firewall, certificate";
    match connected {
        Err(_) => {
            let found = format!("{shown}: no connection in {} s", CONNECT_WAIT_MAX.as_secs());
            CheckLine::wrong(subject, found, remedy)
        }
        Ok(Err(error)) => CheckLine::wrong(subject, format!("{shown}: {error}"), remedy),
        Ok(Ok(())) => {
            let how = if scheme == "https" { "connected, with TLS" } else { "connected" };
            let found = format!("{shown}: {how}, in {} ms; nothing was sent", took.as_millis());
            if took > SLOW {
                let remedy = "bring the backend nearer, or raise RELAY_TIMEOUT_MS: the connection is a part of that time";
                return CheckLine::warning(subject, found, remedy);
            }
            CheckLine::ok(subject, found)
        }
    }
}

fn is_own(host: &str, port: u16, own: SocketAddr) -> bool {
    let host = host.trim_matches(['[', ']']);
    let named = if host == "localhost" { "127.0.0.1" } else { host };
    let Ok(named) = named.parse::<std::net::IpAddr>() else { return false };
    let (named, listens) = (named.to_canonical(), own.ip().to_canonical());
    port == own.port() && (named == listens || (listens.is_unspecified() && named.is_loopback()))
}

/// Makes a connection and drops it.
async fn connect(address: &str) -> Result<(), String> {
    let uri: Uri = address.parse().map_err(|_| "the address is malformed".to_owned())?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| error.to_string())?;
    let connector = tls.https_or_http().enable_http1().wrap_connector(connector);
    connector.oneshot(uri).await.map(drop).map_err(|error| innermost(&*error))
}

/// "Connection refused" says more than "client error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn the_mirrors_own_listener_is_recognised() {
        for (host, port, own, wanted) in [
            ("127.0.0.1", 8080, "127.0.0.1:8080", true),
            ("localhost", 8080, "127.0.0.1:8080", true),
            ("localhost", 8080, "0.0.0.0:8080", true),
            ("[::1]", 8080, "[::]:8080", true),
            ("127.0.0.1", 8081, "127.0.0.1:8080", false),
            ("backend.example.org", 8080, "0.0.0.0:8080", false),
        ] {
            assert_eq!(is_own(host, port, own.parse().unwrap()), wanted, "{host} {own}");
        }
    }
}
