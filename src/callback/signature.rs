//! Authentication of a request: its app id and its signature, from the query string alone, before the body is read.
//!
//! `Sign` = hex(SHA-256(token ++ `RequestTime`)), 1047/34354. It covers neither body nor command, so a URL that is seen
//! by a third party can be used again for a minute: HTTPS is needed all the same. The clock is handed in.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;

use crate::model::SdkAppId;

/// A token of the console's callback authentication. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Any text; Tencent documents no rule for it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The signature that goes with a `RequestTime`, as 64 lower-case hex characters.
    #[must_use]
    pub fn sign(&self, request_time: &str) -> String {
        self.digest(request_time).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn digest(&self, request_time: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.0.as_bytes());
        hash.update(request_time.as_bytes());
        hash.finalize().into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a request must show.
#[derive(Debug, Clone)]
pub struct Gate {
    /// The apps whose callbacks are accepted, each with its own tokens: two while one is being replaced, none where
    /// signatures are not asked for.
    pub tokens: BTreeMap<SdkAppId, Vec<Token>>,
    /// The allowed distance of `RequestTime` from the clock in seconds, both ways.
    pub max_skew_secs: u64,
}

/// The parts of a query string that authenticate it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// `SdkAppid`.
    pub app: Option<&'a str>,
    /// `Sign`.
    pub sign: Option<&'a str>,
    /// `RequestTime`, Unix seconds in decimal.
    pub request_time: Option<&'a str>,
}

/// Why a request is refused. The answer says "wrong app" or "wrong signature" and nothing finer, so that it helps no
/// one who guesses; the numbers are for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `SdkAppid` is missing or unreadable, or another app's.
    #[error("SdkAppid is missing or not that of this mirror")]
    App(Option<SdkAppId>),
    /// `Sign` or `RequestTime` is missing or malformed.
    #[error("the signature is missing, stale or wrong")]
    Missing,
    /// `RequestTime` is that many seconds behind the clock, or ahead of it where the number is negative.
    #[error("the signature is missing, stale or wrong")]
    Stale(i64),
    /// No token makes this signature.
    #[error("the signature is missing, stale or wrong")]
    Wrong,
}

/// Lets a request of one of the apps in, or says why not. Only the tokens of the app that the request names count: a
/// signature of another app's token is a wrong one.
///
/// # Errors
/// See [`Refusal`].
pub fn verify(credentials: Credentials<'_>, gate: &Gate, now_secs: i64) -> Result<SdkAppId, Refusal> {
    let named = credentials.app.and_then(|text| SdkAppId::parse(text).ok());
    let found = named.and_then(|app| gate.tokens.get(&app).map(|tokens| (app, tokens)));
    let Some((app, tokens)) = found else { return Err(Refusal::App(named)) };
    if tokens.is_empty() {
        return Ok(app);
    }
    let (Some(sign), Some(request_time)) = (credentials.sign, credentials.request_time) else {
        return Err(Refusal::Missing);
    };
    let (Some(sign), Some(at)) = (unhex(sign), unix_secs(request_time)) else {
        return Err(Refusal::Missing);
    };
    if now_secs.abs_diff(at) > gate.max_skew_secs {
        return Err(Refusal::Stale(now_secs.saturating_sub(at)));
    }
    // Every token is tried and every byte compared, so that the time taken gives nothing away.
    let right = tokens
        .iter()
        .fold(Choice::from(0), |right, token| right | token.digest(request_time).as_slice().ct_eq(&sign));
    if right.into() { Ok(app) } else { Err(Refusal::Wrong) }
}

/// Whose token makes a signature, whatever its time and whichever app its request names: the app, and which of its tokens,
/// counted from 1. For a person who looks at a request that was refused; [`verify`] is what decides.
#[must_use]
pub fn made_with(sign: &str, request_time: &str, gate: &Gate) -> Option<(SdkAppId, usize)> {
    let sign = unhex(sign)?;
    let makes_it = |token: &Token| token.digest(request_time).as_slice().ct_eq(&sign).into();
    gate.tokens.iter().find_map(|(app, tokens)| Some((*app, tokens.iter().position(makes_it)? + 1)))
}

/// Whether a text has the form of a `Sign`, and another that of a `RequestTime`.
#[must_use]
pub fn have_form(sign: &str, request_time: &str) -> (bool, bool) {
    (unhex(sign).is_some(), unix_secs(request_time).is_some())
}

/// Digits only: the text is hashed as it stands, so a sign or a space would be another time to another reader.
fn unix_secs(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// 64 hex digits of either case to 32 bytes.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: u8| char::from(at).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";

    fn gate(tokens: &[&str]) -> Gate {
        let tokens = tokens.iter().map(|token| Token::new((*token).into())).collect();
        Gate { tokens: [(app("1400000001"), tokens)].into(), max_skew_secs: 60 }
    }

    fn app(text: &str) -> SdkAppId {
        SdkAppId::parse(text).unwrap()
    }

    fn credentials<'a>(sign: &'a str, request_time: &'a str) -> Credentials<'a> {
        Credentials { app: Some("1400000001"), sign: Some(sign), request_time: Some(request_time) }
    }

    #[test]
    fn the_documented_signatures_come_out() {
        for (token, time, sign) in [
            ("xxxxyyyy", "1669872112", PAGE),
            ("xxxyyy", "1669872112", "e78a85473bed2cdc8d6fa8c4d5a4ba4735fd64156e15a99516b9890293e135de"),
            (
                "mirror-secret-01",
                "1767225600",
                "3d2e25811e71e8dd5d24cf6d34aa4abde6b127af4b645302885c9e82908599f5",
            ),
        ] {
            assert_eq!(Token::new(token.into()).sign(time), sign);
            assert_eq!(
                verify(credentials(sign, time), &gate(&[token]), time.parse().unwrap()),
                Ok(app("1400000001"))
            );
        }
    }

    #[test]
    fn the_digest_printed_for_the_shorter_token_is_a_misprint() {
        let refused = verify(credentials(PAGE, "1669872112"), &gate(&["xxxyyy"]), 1_669_872_112);
        assert_eq!(refused, Err(Refusal::Wrong));
    }

    #[test]
    fn either_of_two_tokens_and_either_case_will_do() {
        let both = gate(&["new", "xxxxyyyy"]);
        assert_eq!(
            verify(credentials(&PAGE.to_uppercase(), "1669872112"), &both, 1_669_872_112),
            Ok(app("1400000001"))
        );
        assert_eq!(
            verify(credentials(PAGE, "1669872112"), &gate(&["new"]), 1_669_872_112),
            Err(Refusal::Wrong)
        );
    }

    #[test]
    fn the_window_ends_after_a_minute_on_both_sides() {
        let let_in = Ok(app("1400000001"));
        for (now, verdict) in [
            (1_669_872_052, let_in),
            (1_669_872_172, let_in),
            (1_669_872_051, Err(Refusal::Stale(-61))),
            (1_669_872_173, Err(Refusal::Stale(61))),
        ] {
            assert_eq!(verify(credentials(PAGE, "1669872112"), &gate(&["xxxxyyyy"]), now), verdict, "{now}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_refused() {
        let now = 1_669_872_112;
        let full = credentials(PAGE, "1669872112");
        let gate = gate(&["xxxxyyyy"]);
        for (credentials, verdict) in [
            (Credentials { sign: None, ..full }, Refusal::Missing),
            (Credentials { request_time: None, ..full }, Refusal::Missing),
            (Credentials { sign: Some(""), ..full }, Refusal::Missing),
            (Credentials { sign: Some(&PAGE[1..]), ..full }, Refusal::Missing),
            (Credentials { sign: Some(&PAGE.replace('1', "g")), ..full }, Refusal::Missing),
            (Credentials { request_time: Some("+1669872112"), ..full }, Refusal::Missing),
            (Credentials { request_time: Some(""), ..full }, Refusal::Missing),
            (Credentials { request_time: Some("99999999999999999999"), ..full }, Refusal::Missing),
            (Credentials { app: None, ..full }, Refusal::App(None)),
            (
                Credentials { app: Some("1400000002"), ..full },
                Refusal::App(SdkAppId::parse("1400000002").ok()),
            ),
            (Credentials { app: Some("01400000001x"), ..full }, Refusal::App(None)),
        ] {
            assert_eq!(verify(credentials, &gate, now), Err(verdict), "{credentials:?}");
        }
    }

    #[test]
    fn the_token_of_one_app_does_not_let_a_request_of_another_in() {
        let token = |text: &str| vec![Token::new(text.into())];
        let tokens = [(app("1400000001"), token("xxxxyyyy")), (app("1400000002"), token("other"))].into();
        let both = Gate { tokens, max_skew_secs: 60 };
        let now = 1_669_872_112;
        let signed = |id: &'static str, sign: &str| {
            verify(
                Credentials { app: Some(id), sign: Some(sign), request_time: Some("1669872112") },
                &both,
                now,
            )
        };
        let of_other = Token::new("other".into()).sign("1669872112");
        assert_eq!(signed("1400000001", PAGE), Ok(app("1400000001")));
        assert_eq!(signed("1400000002", &of_other), Ok(app("1400000002")));
        assert_eq!(signed("1400000002", PAGE), Err(Refusal::Wrong));
        assert_eq!(signed("1400000001", &of_other), Err(Refusal::Wrong));
        assert_eq!(signed("1400000003", PAGE), Err(Refusal::App(Some(app("1400000003")))));
    }

    #[test]
    fn the_token_that_made_a_signature_is_found_whatever_the_request_names() {
        let token = |text: &str| Token::new(text.into());
        let tokens = [
            (app("1400000001"), vec![token("new"), token("xxxxyyyy")]),
            (app("1400000002"), vec![token("other")]),
        ];
        let gate = Gate { tokens: tokens.into(), max_skew_secs: 60 };
        let of_other = token("other").sign("1669872112");
        let found = |sign: &str| made_with(sign, "1669872112", &gate);
        assert_eq!(found(PAGE), Some((app("1400000001"), 2)));
        assert_eq!(found(&of_other), Some((app("1400000002"), 1)));
        assert_eq!(found(&token("none").sign("1669872112")), None);
        assert_eq!([found(""), found(&PAGE[1..])], [None, None]);
        assert_eq!(have_form(PAGE, "1669872112"), (true, true));
        assert_eq!(have_form(&PAGE[1..], "+1"), (false, false));
    }

    #[test]
    fn without_tokens_the_app_still_counts() {
        let open = gate(&[]);
        assert_eq!(
            verify(Credentials { app: Some("1400000001"), ..Credentials::default() }, &open, 0),
            Ok(app("1400000001"))
        );
        assert_eq!(
            verify(Credentials { app: Some("7"), ..Credentials::default() }, &open, 0),
            Err(Refusal::App(SdkAppId::parse("7").ok()))
        );
    }
}
