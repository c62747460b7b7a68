//! Requests to the open API (`API_AUTH=none`): those that show that they do not come from a program on this machine are
//! refused.
//!
//! The listener is on loopback, but a proxy or a page in a browser on this machine can send a request on behalf of
//! another machine. Headers of proxies, HTTP/1.0 (what nginx speaks to its upstreams by default), a `Host` that is not
//! loopback (DNS rebinding), and `Origin` or `Sec-Fetch-Site` of another site show it; the last two are looked at with the session of a browser as well. **A proxy that speaks HTTP/1.1
//! and adds no header cannot be recognised**, because it may rewrite `Host`, and a client can name `localhost` itself:
//! behind one there have to be tokens.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Version, header};

use super::errors::ApiError;

/// What proxies and the services of clouds add; beside all that begin with `x-forwarded` or `x-original`.
pub(super) const PROXY_HEADERS: [&str; 18] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-addr",
    "x-rewrite-url",
    "x-proxyuser-ip",
    "x-envoy-external-address",
    "x-amzn-trace-id",
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-azure-clientip",
    "cdn-loop",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "x-arr-log-id",
];

/// Lets a request of this machine pass.
///
/// # Errors
/// 403 `unauthorized`, with what shows that it comes from elsewhere.
pub(super) fn check(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    if let Some(name) = headers.keys().map(HeaderName::as_str).find(|name| is_of_proxy(name)) {
        return Err(refused(&format!("the header {name} shows a proxy")));
    }
    if request.version() < Version::HTTP_11 {
        return Err(refused("HTTP/1.0 is what proxies speak"));
    }
    let host = only(headers, &header::HOST).filter(|host| is_loopback(host));
    let uri_host = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let Some(host) = host.filter(|_| uri_host.is_none_or(is_loopback)) else {
        return Err(refused("Host must be localhost or a loopback address"));
    };
    other_site(headers, &[host]).map_or(Ok(()), |reason| Err(refused(reason)))
}

/// Which header shows that a page of another site sent a request, if one does. A browser names the page that sends one: only
/// pages below these hosts may.
pub(super) fn other_site(headers: &HeaderMap, hosts: &[&str]) -> Option<&'static str> {
    let is_ours = |origin: &str| {
        let host_of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host_of.is_some_and(|origin| hosts.iter().any(|host| origin.eq_ignore_ascii_case(host)))
    };
    if headers.contains_key(header::ORIGIN) && !only(headers, &header::ORIGIN).is_some_and(is_ours) {
        return Some("the header Origin names a page of another site");
    }
    let site = HeaderName::from_static("sec-fetch-site");
    // `none` is an address that a person typed.
    let allowed = |site: &str| ["same-origin", "none"].contains(&site);
    if headers.contains_key(&site) && !only(headers, &site).is_some_and(allowed) {
        return Some(
            "the header Sec-Fetch-Site shows that a page of another site sent it; type the address instead of \
             following a link",
        );
    }
    None
}

fn refused(reason: &str) -> ApiError {
    ApiError::not_local(format!(
        "This service is read without tokens, from its own machine only, and {reason}. Set API_TOKEN to read from elsewhere."
    ))
}

fn is_of_proxy(name: &str) -> bool {
    name.starts_with("x-forwarded") || name.starts_with("x-original") || PROXY_HEADERS.contains(&name)
}

/// The value of a header that comes once.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// `localhost`, 127.0.0.0/8 or `[::1]`, with or without a port.
pub(super) fn is_loopback(host: &str) -> bool {
    let is_port = |text: &str| {
        text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    };
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(ip, port)| {
            is_port(port) && ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
        });
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let is_local =
        name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    is_local && is_port(port)
}
