//! `ETag` and `If-None-Match` of single things (RFC 9110, conditional requests): a reader that has the newest form gets 304.
//!
//! The tag is a digest of the answer's bytes, so that it is the same on every replica and changes with anything that is
//! shown. It spares the transfer and the reader's work, not the read: what is newest is known only then.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::errors::ApiError;
use super::parameters::{header as header_parameter, string};

/// The header `If-None-Match`, for the OpenAPI document.
pub(super) struct IfNoneMatch;

impl utoipa::IntoParams for IfNoneMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "If-None-Match",
            string(),
            "ETags of forms that the caller has: 304 for one of them.",
        )]
    }
}

/// The JSON of a thing with its tag, or 304 without a body where the request names that tag.
///
/// # Errors
/// `internal`: it cannot be serialized.
pub(super) fn tagged(request: &HeaderMap, thing: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(thing).map_err(ApiError::internal)?;
    tagged_bytes(request, "application/json", body)
}

/// The same of bytes of a media type.
///
/// # Errors
/// None that can come about: a tag is a header value.
pub(super) fn tagged_bytes(
    request: &HeaderMap,
    kind: &'static str,
    body: impl AsRef<[u8]> + Into<Body>,
) -> Result<Response, ApiError> {
    // 128 bits: two forms never meet by chance.
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..16]));
    let is_known = names(request, &tag);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(body.into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    };
    let tag = HeaderValue::try_from(tag).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::ETAG, tag);
    // A cache may keep it and has to ask each time.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Marks the tag of an answer as weak that was compressed on its way: its bytes are not those that the tag is a digest of.
pub(super) async fn weaken(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if headers.contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""))
        && let Ok(weak) = HeaderValue::try_from([b"W/", tag.as_bytes()].concat())
    {
        headers.insert(header::ETAG, weak);
    }
    response
}

/// True where one of the tags is this one, compared without regard to weakness, or where any form would do.
fn names(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}
