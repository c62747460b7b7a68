//! The address of a backend: what `RELAY_URL` may say, and whether it is this process's own listener.
//!
//! Callbacks hold personal data, and their query a signature that is good for a minute, so they leave the machine by TLS
//! alone. The address has no query of its own, because that of the callback is appended; user and password have no place
//! in it, because they would be sent as a header that the backend did not see before.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use hyper::Uri;
use thiserror::Error;

/// Where a backend is: scheme, host and path.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendAddress {
    is_tls: bool,
    /// Host and port, as written.
    authority: String,
    path: String,
}

/// Why a text is no address of a backend. No variant holds the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BackendAddressError {
    /// Not scheme, host and path.
    #[error("it should read like https://backend.example/callback")]
    Form,
    /// A query or a fragment.
    #[error("it has a query or a fragment; the query of each callback is appended to it as it came")]
    Query,
    /// User or password.
    #[error("it has a user or a password, which cannot be sent to a backend")]
    UserInfo,
    /// Plain HTTP to another machine.
    #[error("it is not https; callbacks are sent without TLS to this machine alone")]
    Plain,
}

impl BackendAddress {
    /// Reads a URL.
    ///
    /// # Errors
    /// See [`BackendAddressError`].
    pub fn parse(text: &str) -> Result<Self, BackendAddressError> {
        if text.contains(['?', '#']) {
            return Err(BackendAddressError::Query);
        }
        let address: Uri = text.parse().map_err(|_| BackendAddressError::Form)?;
        let (Some(scheme), Some(authority)) = (address.scheme_str(), address.authority()) else {
            return Err(BackendAddressError::Form);
        };
        if authority.as_str().contains('@') {
            return Err(BackendAddressError::UserInfo);
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if !port.is_empty()
            && port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0)
        {
            return Err(BackendAddressError::Form);
        }
        let is_tls = match scheme {
            "https" => true,
            "http" if is_loopback(authority.host()) => false,
            "http" => return Err(BackendAddressError::Plain),
            _ => return Err(BackendAddressError::Form),
        };
        Ok(Self { is_tls, authority: authority.to_string(), path: address.path().to_owned() })
    }

    /// Scheme and host, for log lines: a path may hold a secret.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority)
    }

    fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The URL with the query of a callback appended as it came; none where it had none.
    pub(super) fn with_query(&self, query: Option<&str>) -> Option<Uri> {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{}{query}", self.origin(), self.path).parse().ok()
    }

    /// Whether it is this listener itself, as far as the address shows it: an IP address or `localhost`. A host name, or
    /// a proxy in between, shows it with the first callback: see `loop_guard`.
    #[must_use]
    pub fn is_own(&self, listener: SocketAddr) -> bool {
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().unwrap_or_default()),
            _ => (self.authority.as_str(), if self.is_tls { 443 } else { 80 }),
        };
        if port != listener.port() {
            return false;
        }
        let host = host.trim_matches(['[', ']']);
        let named = match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical(),
            Err(_) if host.eq_ignore_ascii_case("localhost") => {
                return listener.ip().is_loopback() || listener.ip().is_unspecified();
            }
            Err(_) => return false,
        };
        let own = listener.ip().to_canonical();
        own == named || (own.is_unspecified() && is_of_this_machine(named))
    }
}

impl std::fmt::Debug for BackendAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendAddress({}/…)", self.origin())
    }
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_this_machine_and_keeps_its_path() {
        for text in [
            "https://backend.example/",
            "https://backend.example:8443/im/callback",
            "http://127.0.0.1:9000/a//b/",
            "http://[::1]:9000/",
            "http://localhost/x%2Fy",
        ] {
            let address = BackendAddress::parse(text).unwrap();
            assert_eq!(address.with_query(None).unwrap().to_string(), text);
        }
        let bare = BackendAddress::parse("https://backend.example").unwrap();
        assert_eq!(bare.with_query(Some("a")).unwrap().to_string(), "https://backend.example/?a");
        for (text, error) in [
            ("", BackendAddressError::Form),
            ("backend.example", BackendAddressError::Form),
            ("/callback", BackendAddressError::Form),
            ("ftp://backend.example/", BackendAddressError::Form),
            ("https://backend.example:0/", BackendAddressError::Form),
            ("https://backend.example:99999/", BackendAddressError::Form),
            ("https://user:word@backend.example/", BackendAddressError::UserInfo),
            ("https://backend.example/?a=b", BackendAddressError::Query),
            ("https://backend.example/#a", BackendAddressError::Query),
            ("http://backend.example/", BackendAddressError::Plain),
            ("http://10.0.0.7:8080/", BackendAddressError::Plain),
        ] {
            assert_eq!(BackendAddress::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_query_is_appended_as_it_came() {
        let address = BackendAddress::parse("https://backend.example/callback").unwrap();
        assert_eq!(address.origin(), "https://backend.example");
        for (query, whole) in [
            (None, "/callback"),
            (Some(""), "/callback?"),
            (Some("a=%41+b&a=%e4&&=?/"), "/callback?a=%41+b&a=%e4&&=?/"),
        ] {
            let uri = address.with_query(query).unwrap();
            assert_eq!(uri.path_and_query().unwrap().as_str(), whole);
        }
    }

    #[test]
    fn the_own_listener_is_recognised_by_its_address() {
        let own =
            |url: &str, listener: &str| BackendAddress::parse(url).unwrap().is_own(listener.parse().unwrap());
        assert!(own("http://127.0.0.1:8080/", "127.0.0.1:8080"));
        assert!(own("http://localhost:8080/callback", "127.0.0.1:8080"));
        assert!(own("http://localhost:8080/callback", "[::1]:8080"));
        assert!(own("http://127.0.0.1:8080/", "0.0.0.0:8080"));
        assert!(own("https://127.0.0.1/", "0.0.0.0:443"));
        assert!(own("http://127.0.0.1/", "0.0.0.0:80"));
        assert!(!own("http://127.0.0.1:8081/", "127.0.0.1:8080"), "another port");
        assert!(!own("https://203.0.113.9:8080/", "0.0.0.0:8080"), "another machine");
        assert!(!own("https://backend.example:8080/", "0.0.0.0:8080"), "a name shows nothing");
    }
}
