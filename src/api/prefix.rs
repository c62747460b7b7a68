//! The path prefix of the internal listener: everything lies below it where a proxy serves several things under one name.
//!
//! A request below the prefix goes on without it, so no route and no handler knows of it; what writes an absolute link or
//! the path of a cookie takes [`PathPrefix::as_str`]. `/livez` and `/readyz` answer without the prefix too, because a load
//! balancer asks the listener itself and not through the proxy.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::map_request_with_state;

use super::errors::ApiError;

/// The longest prefix in bytes.
const PREFIX_BYTES_MAX: usize = 128;

/// Paths that answer without the prefix as well.
const ALWAYS: [&str; 2] = ["/livez", "/readyz"];

/// A path prefix such as `/mirror`; empty: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(Arc<str>);

impl Default for PathPrefix {
    fn default() -> Self {
        Self("".into())
    }
}

impl PathPrefix {
    /// Of a text that begins with a slash; one at its end is dropped, and a slash alone is no prefix. `None`: it holds
    /// something else than segments of letters, digits and `-._~`, or is a path of health.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let prefix = text.strip_suffix('/').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_segment = |part: &str| {
            !part.is_empty() && part.bytes().all(allowed) && !part.bytes().all(|byte| byte == b'.')
        };
        let is_path = text.starts_with('/') && prefix.split('/').skip(1).all(is_segment);
        let fits = is_path && prefix.len() <= PREFIX_BYTES_MAX && !ALWAYS.contains(&prefix);
        fits.then(|| Self(prefix.into()))
    }

    /// Empty, or a path that begins with a slash and does not end with one: what is written before a path of the service.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A path without the prefix; `None` where it does not lie below it.
    #[must_use]
    pub fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&*self.0)?;
        if rest.is_empty() { Some("/") } else { Some(rest).filter(|rest| rest.starts_with('/')) }
    }
}

/// A router whose paths lie below the prefix.
pub(super) fn below(prefix: &PathPrefix, router: Router) -> Router {
    if prefix.0.is_empty() {
        return router;
    }
    // A layer of the router itself would come after its choice of the route.
    Router::new().fallback_service(router).layer(map_request_with_state(prefix.clone(), without_prefix))
}

async fn without_prefix(State(prefix): State<PathPrefix>, mut request: Request) -> Result<Request, ApiError> {
    let path = request.uri().path();
    if ALWAYS.contains(&path) {
        return Ok(request);
    }
    let rest = prefix.strip(path).ok_or_else(|| {
        ApiError::not_found(format!("There is no such path here; {}/v1/groups is one.", prefix.as_str()))
    })?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = PathAndQuery::try_from(format!("{rest}{query}")).map_err(ApiError::internal)?;
    *request.uri_mut() = Uri::from(target);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::PathPrefix;

    #[test]
    fn a_prefix_is_a_path_of_plain_segments() {
        for (text, read_as) in [("/mirror", "/mirror"), ("/a/b-c_d.e~/", "/a/b-c_d.e~"), ("/", "")] {
            assert_eq!(PathPrefix::parse(text).unwrap().as_str(), read_as, "{text}");
        }
        let long = format!("/{}", "x".repeat(128));
        for text in
            ["", "mirror", "//", "/a//b", "/a b", "/ä", "/a?b", "/..", "/a/./b", "/%41", "/livez", &long]
        {
            assert_eq!(PathPrefix::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_lies_below_a_prefix_as_a_whole_segment_only() {
        let prefix = PathPrefix::parse("/mirror").unwrap();
        for (path, rest) in [
            ("/mirror", Some("/")),
            ("/mirror/", Some("/")),
            ("/mirror/v1/groups", Some("/v1/groups")),
            ("/mirrors", None),
            ("/v1/groups", None),
        ] {
            assert_eq!(prefix.strip(path), rest, "{path}");
        }
        assert_eq!(PathPrefix::default().strip("/v1/groups"), Some("/v1/groups"));
    }
}
