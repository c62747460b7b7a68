//! What an answer of a backend is worth: whether it goes back to Tencent, or the fallback does; and whether the backend has
//! taken a stored callback. One judgement for both, so that an answer which counts while Tencent waits counts later as well.
//!
//! Tencent takes HTTP 200 with a JSON body and counts everything else as a failed callback (1047/34354). An answer that
//! Tencent would take goes back as it is, whatever its code says. So does a status below 500, which is a decision of the
//! backend that would have reached Tencent without the mirror, too. A backend that answers 5xx, or 200 with what is no
//! JSON, is broken: the fallback is for that.

use hyper::StatusCode;
use hyper::header::CONTENT_ENCODING;
use serde::Deserialize;
use serde::de::IgnoredAny;
use strum::IntoStaticStr;
use thiserror::Error;

use super::target::RelayAnswer;

/// An answer that goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Worth {
    /// `ErrorCode` 0, or one that cannot be read: understood for metrics alone.
    Allowed,
    /// Another `ErrorCode`.
    Refused,
    /// A status other than 200, below 500.
    OtherStatus,
}

/// An answer that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum UnusableAnswer {
    /// It refuses what a relay sends.
    #[error(
        "it is a relay itself and refuses what another relay sends (HTTP status 508): does its RELAY_URL lead back here?"
    )]
    Loop,
    /// HTTP status 5xx, or none that HTTP knows.
    #[error("HTTP status {0}")]
    ServerError(u16),
    /// 200 with something else.
    #[error("its answer is no JSON")]
    NotJson,
}

#[derive(Deserialize)]
struct AnswerCode {
    #[serde(rename = "ErrorCode")]
    code: Option<i64>,
}

impl Worth {
    /// The label for counters.
    pub(super) fn label(self) -> &'static str {
        self.into()
    }
}

impl UnusableAnswer {
    /// The label for counters.
    pub(super) fn label(self) -> &'static str {
        self.into()
    }
}

/// Judges an answer by its status and its bytes.
///
/// # Errors
/// An answer that Tencent could not use either, or that of another relay.
pub fn judge(answer: &RelayAnswer) -> Result<Worth, UnusableAnswer> {
    match answer.status {
        StatusCode::LOOP_DETECTED => Err(UnusableAnswer::Loop),
        status if status.as_u16() >= 500 => Err(UnusableAnswer::ServerError(status.as_u16())),
        StatusCode::OK => judge_bytes(answer),
        _ => Ok(Worth::OtherStatus),
    }
}

fn judge_bytes(answer: &RelayAnswer) -> Result<Worth, UnusableAnswer> {
    // Compressed bytes come where Tencent asked for them; they are its to read.
    if answer
        .headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Ok(Worth::Allowed);
    }
    // A byte order mark, which some servers write, is no part of the JSON.
    let bytes = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
    match serde_json::from_slice::<AnswerCode>(bytes) {
        Ok(AnswerCode { code: None | Some(0) }) => Ok(Worth::Allowed),
        Ok(AnswerCode { code: Some(_) }) => Ok(Worth::Refused),
        // JSON of another form is Tencent's to judge.
        Err(_) => match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(IgnoredAny) => Ok(Worth::Allowed),
            Err(_) => Err(UnusableAnswer::NotJson),
        },
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::body::Bytes;
    use hyper::header::HeaderValue;

    use super::*;

    fn answer(status: u16, body: &[u8]) -> RelayAnswer {
        let status = StatusCode::from_u16(status).unwrap();
        RelayAnswer { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn json_with_200_goes_back_whatever_it_says() {
        for (body, worth) in [
            (&br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#[..], Worth::Allowed),
            (br#"{"ActionStatus":"FAIL","ErrorCode":0}"#, Worth::Allowed),
            (br#"{"ErrorCode":10100,"ErrorInfo":"\ud800"}"#, Worth::Refused),
            (b"{\"ErrorCode\":1,\"ErrorInfo\":\"\xff\"}", Worth::Refused),
            (b"\xef\xbb\xbf {\"ErrorCode\":2}\r\n", Worth::Refused),
            (br#"{"ErrorCode":"1"}"#, Worth::Allowed),
            (br#"{"ErrorCode":0,"ErrorCode":1}"#, Worth::Allowed),
            (b"[]", Worth::Allowed),
            (b"0", Worth::Allowed),
            (&[b"[".repeat(100_000), b"]".repeat(100_000)].concat(), Worth::Allowed),
        ] {
            assert_eq!(judge(&answer(200, body)), Ok(worth), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_is_no_json_and_what_is_a_server_s_error_does_not() {
        for body in [&b""[..], b"ok", b"success", b"<html>", b"{\"ErrorCode\":0", b"{} {}", b"\x1f\x8b\x08"] {
            assert_eq!(judge(&answer(200, body)), Err(UnusableAnswer::NotJson));
        }
        for status in [500, 502, 503, 599, 600, 999] {
            assert_eq!(judge(&answer(status, b"{}")), Err(UnusableAnswer::ServerError(status)));
        }
        assert_eq!(judge(&answer(508, b"{}")), Err(UnusableAnswer::Loop));
    }

    #[test]
    fn a_status_below_500_is_the_backend_s_own_and_compressed_bytes_are_not_read() {
        for status in [201, 204, 302, 400, 403, 404, 429, 499] {
            assert_eq!(judge(&answer(status, b"no")), Ok(Worth::OtherStatus), "{status}");
        }
        let mut compressed = answer(200, b"\x1f\x8b\x08");
        compressed.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(judge(&compressed), Ok(Worth::Allowed));
        compressed.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("Identity"));
        assert_eq!(judge(&compressed), Err(UnusableAnswer::NotJson));
    }
}
