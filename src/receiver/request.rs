//! A request as it arrives: its path, its query, its body within limits, and whether a browser sent it.
//!
//! Knows nothing of callbacks beyond their query: what a body says is read later.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::callback::signature::Credentials;
use crate::callback::{BODY_BYTES_MAX, HEADER_BYTES_MAX, QUERY_TEXT_BYTES_MAX, Received};
use crate::model::{Millis, SdkAppId};

/// How many bytes of bodies may be in memory while they are being read, 32 MiB. At the limit a body waits for room until
/// its time is over.
const READING_BYTES_MAX: usize = 32 * BODY_BYTES_MAX;

/// How many characters of a path that is not served a log line shows.
const QUOTED_PATH_CHARS_MAX: usize = 80;

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
    /// Too many bytes are being read already, and that lasted.
    Busy,
    /// It did not come in time.
    Late,
    /// The sender closed the connection.
    Incomplete,
}

/// Reads a body until the deadline, within its limit and that of all bodies together. A body is charged with the bytes
/// that have come, frame by frame, so that its stated length, or a missing one, takes no room from others.
pub(super) async fn read_body(
    permits: &ReadPermits,
    mut body: Body,
    deadline: Instant,
) -> Result<Vec<u8>, Unread> {
    // Known before the first byte is read, where the sender states the length.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(Unread::TooLarge);
    }
    let mut read = Vec::new();
    let mut charged: Option<SemaphorePermit<'_>> = None;
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(Unread::Late),
            Ok(None) => return Ok(read),
            Ok(Some(Err(_))) => return Err(Unread::Incomplete),
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers say nothing that is used.
        let Ok(bytes) = frame.into_data() else { continue };
        if read.len() + bytes.len() > BODY_BYTES_MAX {
            return Err(Unread::TooLarge);
        }
        let charge = u32::try_from(bytes.len()).map_err(|_| Unread::TooLarge)?;
        let permit = match permits.0.try_acquire_many(charge) {
            Ok(permit) => permit,
            Err(_) => match timeout_at(deadline, permits.0.acquire_many(charge)).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(Unread::Busy),
            },
        };
        match &mut charged {
            Some(charged) => charged.merge(permit),
            None => charged = Some(permit),
        }
        // Most bodies are one frame, which becomes the body without being copied.
        if read.is_empty() {
            read = bytes.into();
        } else {
            read.extend_from_slice(&bytes);
        }
        assert!(read.len() <= BODY_BYTES_MAX, "a body keeps its limit");
        assert_eq!(
            charged.as_ref().map_or(0, SemaphorePermit::num_permits),
            read.len(),
            "a body is charged with what it holds"
        );
    }
}

/// `/` and `/callback`, also with a slash at the end or with doubled ones: proxies that cut or join prefixes make them.
pub(super) fn is_callback_path(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next()) {
        (None, _) => true,
        (Some(first), None) => first == "callback",
        (Some(_), Some(_)) => false,
    }
}

/// The beginning of a path, escaped, for the log. It ends where a query could begin: a proxy that escapes the `?` makes the
/// query, with the signature in it, a part of the path.
pub(super) fn quoted_path(path: &str) -> String {
    let plain = path.split(['%', '&', '=', ';']).next().unwrap_or_default();
    let shown: String = plain.chars().take(QUOTED_PATH_CHARS_MAX).collect();
    if shown.len() == path.len() { format!("{shown:?}") } else { format!("{shown:?} and more") }
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
            query: None,
            content_type: None,
            forwarded_for: None,
            received_at,
            body,
        }
    }
}

/// Keeps what a later delivery of the request needs beside its body.
pub(super) fn keep_request(received: &mut Received, parts: &Parts) {
    received.query = Some(parts.uri.query().unwrap_or_default().to_owned());
    let content_type = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    received.content_type = content_type
        .filter(|bytes| bytes.len() <= HEADER_BYTES_MAX)
        .map(|bytes| bytes.iter().copied().map(char::from).collect());
    let before = parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let sender = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let sender = sender.map(|info| info.0.ip().to_canonical().to_string());
    let list: Vec<String> = before.map(str::to_owned).chain(sender).collect();
    received.forwarded_for =
        Some(list.join(", ")).filter(|list| !list.is_empty() && list.len() <= HEADER_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn a_body_waits_for_room_until_its_time_is_over_and_gives_it_back() {
        let permits = ReadPermits(Arc::new(Semaphore::new(10)));
        let taken = permits.0.acquire_many(5).await.unwrap();
        assert_eq!(read_body(&permits, Body::from("sixsix"), soon()).await, Err(Unread::Busy));
        assert_eq!(read_body(&permits, Body::from("five!"), soon()).await, Ok(b"five!".to_vec()));
        assert_eq!(permits.0.available_permits(), 5, "what was charged is given back");
        let waiting = read_body(&permits, Body::from("sixsix"), Instant::now() + Duration::from_secs(60));
        let (read, ()) = tokio::join!(waiting, async {
            tokio::task::yield_now().await;
            drop(taken);
        });
        assert_eq!(read, Ok(b"sixsix".to_vec()));
    }

    #[tokio::test]
    async fn a_body_is_charged_by_what_has_come_whatever_its_length_is_said_to_be() {
        let permits = ReadPermits(Arc::new(Semaphore::new(10)));
        let (mut sender, channel) = http_body_util::channel::Channel::<axum::body::Bytes>::new(4);
        let reading = read_body(&permits, Body::new(channel), Instant::now() + Duration::from_secs(60));
        let (read, ()) = tokio::join!(reading, async {
            assert_eq!(permits.0.available_permits(), 10, "nothing has come yet");
            sender.send_data("four".into()).await.unwrap();
            while permits.0.available_permits() != 6 {
                tokio::task::yield_now().await;
            }
            sender.send_data("five!".into()).await.unwrap();
            drop(sender);
        });
        assert_eq!(read, Ok(b"fourfive!".to_vec()));
    }

    #[tokio::test]
    async fn a_body_that_stays_out_is_late_and_one_over_the_limit_too_large() {
        let permits = ReadPermits::default();
        let (sender, channel) = http_body_util::channel::Channel::<axum::body::Bytes>::new(1);
        assert_eq!(read_body(&permits, Body::new(channel), soon()).await, Err(Unread::Late));
        drop(sender);
        let body = Body::from(vec![b'x'; BODY_BYTES_MAX + 1]);
        assert_eq!(read_body(&permits, body, soon()).await, Err(Unread::TooLarge));
    }

    #[test]
    fn a_path_in_the_log_ends_where_an_escaped_query_could_begin() {
        assert_eq!(quoted_path("/webapi/callback"), r#""/webapi/callback""#);
        for path in ["/callback%3FSdkAppid=1&Sign=abc", "/callback&Sign=abc", "/callback;Sign=abc"] {
            assert_eq!(quoted_path(path), r#""/callback" and more"#, "{path}");
        }
        assert_eq!(quoted_path(&"/x".repeat(500)).len(), QUOTED_PATH_CHARS_MAX + "\"\" and more".len());
    }

    #[test]
    fn a_slash_too_many_does_not_make_another_path() {
        for path in ["/", "//", "/callback", "/callback/", "//callback", "//callback//"] {
            assert!(is_callback_path(path), "{path}");
        }
        for path in ["/Callback", "/callback/x", "/x/callback", "/v1/groups", "/callbacks", "/%2F"] {
            assert!(!is_callback_path(path), "{path}");
        }
    }
}
