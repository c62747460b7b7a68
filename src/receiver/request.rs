//! A request as it arrives: its query, its body within limits, and whether a browser sent it.
//!
//! Knows nothing of callbacks beyond their query: what a body says is read later.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use crate::callback::signature::Credentials;
use crate::callback::{BODY_BYTES_MAX, QUERY_TEXT_BYTES_MAX, Received};
use crate::model::{Millis, SdkAppId};

/// How many bytes of bodies may be read at the same time, 32 MiB; a body without a length counts as the largest. At the
/// limit a callback is answered with 503 before its body is read.
const READING_BYTES_MAX: usize = 32 * BODY_BYTES_MAX;

/// Permits for the bytes of bodies that are being read; all clones share them.
#[derive(Debug, Clone)]
pub struct ReadPermits(Arc<Semaphore>);

impl Default for ReadPermits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READING_BYTES_MAX)))
    }
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is larger than a body may be.
    TooLarge,
    /// Too many bytes are being read already.
    Busy,
    /// The sender closed the connection.
    Incomplete,
}

/// Reads a body, within its limit and that of all bodies together.
pub(super) async fn read_body(permits: &ReadPermits, body: Body) -> Result<Vec<u8>, Unread> {
    // Known before the first byte is read, where the sender states the length.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(Unread::TooLarge);
    }
    let size = body.size_hint().upper().and_then(|size| u32::try_from(size).ok());
    let most = size.map_or(BODY_BYTES_MAX, |size| (size as usize).min(BODY_BYTES_MAX));
    let charge = u32::try_from(most).unwrap_or(u32::MAX);
    let Ok(_permit) = permits.0.try_acquire_many(charge) else { return Err(Unread::Busy) };
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => {
            let bytes: Vec<u8> = body.to_bytes().into();
            assert!(bytes.len() <= BODY_BYTES_MAX, "a body keeps its limit");
            Ok(bytes)
        }
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Incomplete),
    }
}

/// Tencent's servers send neither header; every browser sends at least one with a POST.
pub(super) fn is_from_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// The query string as a map; of a repeated parameter the first counts. Extra parameters are tolerated (1047/34354).
pub(super) struct CallbackQuery(Vec<(String, String)>);

impl CallbackQuery {
    pub(super) fn parse(parts: &Parts) -> Self {
        let raw = parts.uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn credentials(&self) -> Credentials<'_> {
        Credentials {
            app: self.get("SdkAppid"),
            sign: self.get("Sign"),
            request_time: self.get("RequestTime"),
        }
    }

    pub(super) fn received(&self, app: SdkAppId, received_at: Millis, body: Vec<u8>) -> Received {
        let kept = |name: &str| {
            self.get(name)
                .filter(|text| !text.is_empty() && text.len() <= QUERY_TEXT_BYTES_MAX)
                .map(str::to_owned)
        };
        Received {
            app,
            query_command: kept("CallbackCommand"),
            client_ip: kept("ClientIP"),
            platform: kept("OptPlatform"),
            request_id: kept("RequestID").or_else(|| kept("RequestId")),
            received_at,
            body,
        }
    }
}
