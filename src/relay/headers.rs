//! A callback as it is passed on, and what happens to each of its headers.
//!
//! End-to-end headers keep their bytes, so that the backend sees what it would have seen without the mirror, the absence
//! of `Content-Type` included. Headers of one connection (RFC 9110, 7.6.1) end with it, `Host` and `Content-Length` are
//! those of the new request, and the address of the sender is appended to `X-Forwarded-For`.

use std::net::IpAddr;

use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, http};

use super::loop_guard::LOOP_GUARD;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Says of a delivery that it is not the request of Tencent itself.
const DELIVERY: HeaderName = HeaderName::from_static("x-group-mirror-delivery");

/// `RequestTime` of the request of Tencent, where the query has another one by now.
const ORIGINAL_TIME: HeaderName = HeaderName::from_static("x-group-mirror-original-request-time");

/// What belongs to a connection or to the message as it was framed, and what is ours to say.
const NOT_PASSED_ON: [HeaderName; 15] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    DELIVERY,
    ORIGINAL_TIME,
    LOOP_GUARD,
];

/// A callback on its way to a backend.
#[derive(Debug, Clone)]
pub struct RelayRequest {
    /// The query string as it came; it holds a signature, so it is never logged.
    query: Option<String>,
    headers: HeaderMap,
    body: Bytes,
}

impl RelayRequest {
    /// A request as it came from `sender`.
    #[must_use]
    pub fn received(head: &http::request::Parts, sender: Option<IpAddr>, body: Bytes) -> Self {
        let mut headers = head.headers.clone();
        let of_connection: Vec<HeaderName> = head
            .headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // A sender cannot make what the backend needs disappear.
            .filter(|name| ![CONTENT_TYPE, FORWARDED_FOR].contains(name))
            .collect();
        for name in of_connection.iter().chain(&NOT_PASSED_ON) {
            headers.remove(name);
        }
        if let Some(sender) = sender {
            append_sender(&mut headers, sender);
        }
        Self { query: head.uri.query().map(str::to_owned), headers, body }
    }

    /// A callback that was kept: of its headers the content type alone is known, where it had one.
    #[must_use]
    pub fn kept(query: Option<String>, content_type: Option<&[u8]>, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type.and_then(|bytes| http::HeaderValue::from_bytes(bytes).ok()) {
            headers.insert(CONTENT_TYPE, value);
        }
        Self { query, headers, body }
    }

    /// The same with a note in `X-Group-Mirror-Delivery`, such as `late; attempt=2`. A text that is no value of a header
    /// is left out.
    #[must_use]
    pub fn noted(mut self, delivery: &str) -> Self {
        if let Ok(value) = http::HeaderValue::from_str(delivery) {
            self.headers.insert(DELIVERY, value);
        }
        self
    }

    /// The same with an `X-Forwarded-For` that holds its sender already. A text that is no value of a header is left out.
    #[must_use]
    pub fn forwarded_for(mut self, list: &str) -> Self {
        if let Ok(value) = http::HeaderValue::from_str(list) {
            self.headers.insert(FORWARDED_FOR, value);
        }
        self
    }

    /// The same with the `RequestTime` of Tencent's request, in Unix seconds, where the query is signed anew.
    #[must_use]
    pub fn originally_at(mut self, request_time: i64) -> Self {
        self.headers.insert(ORIGINAL_TIME, http::HeaderValue::from(request_time));
        self
    }

    /// How many bytes the body has.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    pub(super) fn into_parts(self) -> (Option<String>, HeaderMap, Bytes) {
        (self.query, self.headers, self.body)
    }
}

/// One line, whatever came: a backend that reads the first or the last line alone sees the whole list.
fn append_sender(headers: &mut HeaderMap, sender: IpAddr) {
    let sender = sender.to_canonical().to_string();
    let mut list: Vec<&[u8]> =
        headers.get_all(FORWARDED_FOR).iter().map(http::HeaderValue::as_bytes).collect();
    list.push(sender.as_bytes());
    if let Ok(value) = http::HeaderValue::from_bytes(&list.join(&b", "[..])) {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut request = http::Request::post("/callback?a=b");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let sender = "::ffff:203.0.113.9".parse().ok();
        let (query, headers, _) = RelayRequest::received(&head, sender, Bytes::new()).into_parts();
        assert_eq!(query.as_deref(), Some("a=b"));
        let text = |value: &http::HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn end_to_end_headers_are_passed_on_and_those_of_the_connection_are_not() {
        let mut headers = passed_on(&[
            ("Host", "mirror.example"),
            ("Content-Length", "7"),
            ("Content-Type", "text/plain; charset=\"odd\""),
            ("User-Agent", "sender/1"),
            ("Connection", "keep-alive, X-Hop, Content-Type"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Expect", "100-continue"),
            ("X-Group-Mirror-Delivery", "late; attempt=9"),
            ("Accept", "*/*"),
        ]);
        headers.sort();
        let expected = [
            ("accept", "*/*"),
            ("content-type", "text/plain; charset=\"odd\""),
            ("user-agent", "sender/1"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_sender_is_appended_to_those_before_it() {
        let headers = passed_on(&[("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "198.51.100.2")]);
        let expected = ("x-forwarded-for".to_owned(), "198.51.100.1, 198.51.100.2, 203.0.113.9".to_owned());
        assert_eq!(headers, [expected]);
    }

    #[test]
    fn what_was_kept_has_its_content_type_or_none() {
        let (_, headers, _) = RelayRequest::kept(None, None, Bytes::new()).into_parts();
        assert!(headers.is_empty());
        let kept = RelayRequest::kept(None, Some(b"application/json"), Bytes::new()).noted("late; attempt=2");
        let (_, headers, _) = kept.into_parts();
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(headers[DELIVERY], "late; attempt=2");
    }
}
