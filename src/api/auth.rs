//! Authentication of the read API: bearer tokens, or, where the service is set so, this machine alone.
//!
//! [`require`] is a middleware around the whole router and not an extractor of each handler: it covers the answers for
//! unknown paths and methods as well, so a caller without a token learns nothing but health, and no new handler can
//! forget it. The [`Caller`] goes to the access log in the extensions of the response.
//!
//! Only digests of tokens are kept, and they are compared in constant time: the time of an answer shows neither a wrong
//! byte nor a wrong length.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::errors::ApiError;

/// How callers are authenticated.
#[derive(Debug)]
pub enum ApiAuth {
    /// By one of these, as `Authorization: Bearer …`. An empty list refuses every request.
    Tokens(Vec<ApiToken>),
    /// By being on this machine: the listener is on loopback. A request that names another host or came through a proxy
    /// is refused, because a page in a browser or a proxy could send it on behalf of another machine.
    None,
}

/// The digest of a token, and the name of its caller.
pub struct ApiToken {
    name: Arc<str>,
    digest: [u8; 32],
}

impl ApiToken {
    /// The caller of a token without a name is `unnamed` in the log.
    #[must_use]
    pub fn new(name: Option<&str>, token: &str) -> Self {
        Self { name: name.unwrap_or("unnamed").into(), digest: Sha256::digest(token.as_bytes()).into() }
    }
}

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiToken").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The name of an authenticated caller, in the extensions of the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) Arc<str>);

/// Passes an authenticated request on.
///
/// # Errors
/// 401 or 403 `unauthorized`.
pub(super) async fn require(
    State(auth): State<Arc<ApiAuth>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = match auth.as_ref() {
        ApiAuth::Tokens(tokens) => {
            let token = bearer(request.headers()).ok_or_else(|| {
                ApiError::unauthorized("Send a token of this service as: Authorization: Bearer TOKEN.")
            })?;
            caller_of(tokens, token).ok_or_else(|| ApiError::unauthorized("This token is not known here."))?
        }
        ApiAuth::None => {
            let uri_host = request.uri().authority().map(axum::http::uri::Authority::as_str);
            local(request.headers(), uri_host)?
        }
    };
    let mut response = next.run(request).await;
    response.extensions_mut().insert(caller);
    Ok(response)
}

/// The token of the request; `None` where there is none, or more than one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// Compares with every token, also after a match, so that the time does not depend on which one matches.
fn caller_of(tokens: &[ApiToken], token: &[u8]) -> Option<Caller> {
    let digest: [u8; 32] = Sha256::digest(token).into();
    let mut found = None;
    for known in tokens {
        let same: Choice = known.digest.ct_eq(&digest);
        if bool::from(same) {
            found = Some(Caller(Arc::clone(&known.name)));
        }
    }
    found
}

fn local(headers: &HeaderMap, uri_host: Option<&str>) -> Result<Caller, ApiError> {
    let forwarded = headers
        .keys()
        .map(header::HeaderName::as_str)
        .find(|name| name.starts_with("x-forwarded-") || ["forwarded", "x-real-ip", "via"].contains(name));
    if let Some(name) = forwarded {
        return Err(ApiError::forbidden(format!(
            "This service can be read without a token from its own machine only, and the header {name} shows a proxy; \
             set API_TOKEN to read through one."
        )));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    if host.is_some_and(is_loopback) && uri_host.is_none_or(is_loopback) {
        return Ok(Caller("local".into()));
    }
    Err(ApiError::forbidden(
        "This service can be read without a token from its own machine only: Host must be localhost or a loopback \
         address. Set API_TOKEN to read from elsewhere.",
    ))
}

/// `localhost`, 127.0.0.0/8 or `[::1]`, with or without a port.
fn is_loopback(host: &str) -> bool {
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
