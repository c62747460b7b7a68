//! Why a request is let in or refused, as a person asks who has its URL in the log of a proxy.
//!
//! The answer to a sender says nothing finer than "wrong signature", so that it helps no one who guesses. This one is for
//! the operator: which token made the signature, how far its time was from the clock, whose token it is if it is another
//! app's. Whether it is let in is decided by [`verify`], as in the receiver.

use std::fmt;

use anyhow::ensure;

use crate::callback::signature::{Credentials, Gate, Refusal, have_form, made_with, verify};
use crate::model::SdkAppId;

/// What is known of one request.
#[derive(Debug)]
pub(super) struct SignVerdict {
    verdict: Result<SdkAppId, Refusal>,
    /// Whose token makes its signature, and which of that app's.
    made_with: Option<(SdkAppId, usize)>,
    /// What is missing or has another form.
    malformed: Option<&'static str>,
    apps: Vec<SdkAppId>,
    /// Seconds from `RequestTime` to the clock.
    behind: Option<i64>,
    max_skew_secs: u64,
}

impl SignVerdict {
    /// Of a URL, a query string, or the line of a log that holds one, as of a time in Unix seconds.
    ///
    /// # Errors
    /// A text without any parameter of a callback; no token to compare with.
    pub(super) fn of(request: &str, gate: &Gate, now: i64) -> anyhow::Result<Self> {
        ensure!(
            gate.tokens.values().any(|tokens| !tokens.is_empty()),
            "there is no token to compare with; set CALLBACK_TOKEN to that of the console's callback authentication"
        );
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query_in(request).as_bytes()).into_owned().collect();
        let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let credentials =
            Credentials { app: get("SdkAppid"), sign: get("Sign"), request_time: get("RequestTime") };
        ensure!(
            credentials.app.or(credentials.sign).or(credentials.request_time).is_some(),
            "--verify has no query of a callback; it should read like \
             https://mirror.example.org/callback?SdkAppid=1400000001&RequestTime=…&Sign=…, in quotes"
        );
        let signed = credentials.sign.zip(credentials.request_time);
        let behind =
            credentials.request_time.and_then(|time| time.parse().ok()).map(|at: i64| now.saturating_sub(at));
        Ok(Self {
            verdict: verify(credentials, gate, now),
            made_with: signed.and_then(|(sign, time)| made_with(sign, time, gate)),
            malformed: malformed(credentials),
            apps: gate.tokens.keys().copied().collect(),
            behind,
            max_skew_secs: gate.max_skew_secs,
        })
    }

    pub(super) fn is_let_in(&self) -> bool {
        self.verdict.is_ok()
    }

    /// How far `RequestTime` is from the clock.
    fn distance(&self) -> String {
        match self.behind {
            None => "RequestTime is no time".to_owned(),
            Some(behind) => {
                let side = if behind >= 0 { "behind" } else { "ahead of" };
                format!("RequestTime is {} s {side} the clock", behind.unsigned_abs())
            }
        }
    }

    fn owner(&self) -> String {
        match self.made_with {
            Some((app, number)) => format!("token {number} of app {app} makes this signature"),
            None => "no token of CALLBACK_TOKEN makes this signature".to_owned(),
        }
    }
}

/// The query string of a URL, of the first line of a request, or of a line of a log; the text itself where it has no
/// question mark.
fn query_in(text: &str) -> &str {
    let query = text.split_once('?').map_or(text, |(_, query)| query);
    query.split(|mark: char| mark.is_whitespace() || "\"'#<>".contains(mark)).next().unwrap_or_default()
}

fn malformed(credentials: Credentials<'_>) -> Option<&'static str> {
    match (credentials.sign, credentials.request_time) {
        (None, None) => Some(
            "the query has neither Sign nor RequestTime; is callback authentication switched on in the console?",
        ),
        (None, Some(_)) => Some("the query has no Sign"),
        (Some(_), None) => Some("the query has no RequestTime"),
        (Some(sign), Some(time)) => match have_form(sign, time) {
            (false, _) => Some("Sign is not 64 hexadecimal digits; was the line cut?"),
            (true, false) => Some("RequestTime is no number of seconds"),
            (true, true) => None,
        },
    }
}

impl fmt::Display for SignVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = self.max_skew_secs;
        match self.verdict {
            Ok(app) if self.made_with.is_none() => {
                write!(f, "let in: callbacks of app {app} need no signature")
            }
            Ok(_) => {
                write!(f, "let in: {}; {}, of {allowed} s that are allowed", self.owner(), self.distance())
            }
            Err(Refusal::App(named)) => {
                match named {
                    Some(app) => write!(f, "refused: SdkAppid {app} is not one of SDK_APP_ID ")?,
                    None => write!(
                        f,
                        "refused: the query has no SdkAppid that can be read, which should be one of SDK_APP_ID "
                    )?,
                }
                let apps: Vec<String> = self.apps.iter().map(ToString::to_string).collect();
                write!(f, "({})", apps.join(", "))?;
                if self.made_with.is_some() { write!(f, "; {}", self.owner()) } else { Ok(()) }
            }
            Err(Refusal::Missing) => {
                write!(f, "refused: {}", self.malformed.unwrap_or("the signature is missing or malformed"))
            }
            Err(Refusal::Stale(_)) => write!(
                f,
                "refused: {}, and {allowed} s are allowed (CALLBACK_MAX_SKEW_SECS); {}. For a request that came earlier \
                 give the time of its receipt by --time",
                self.distance(),
                self.owner()
            ),
            Err(Refusal::Wrong) if self.made_with.is_some() => {
                write!(f, "refused: {}, which is not the app that SdkAppid names", self.owner())
            }
            Err(Refusal::Wrong) => {
                write!(f, "refused: {}; is it the token of the console?", self.owner())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callback::signature::Token;

    const AT: i64 = 1_669_872_112;

    fn gate() -> Gate {
        let app = |text: &str| SdkAppId::parse(text).unwrap();
        let token = |text: &str| Token::new(text.into());
        let tokens = [
            (app("1400000001"), vec![token("new"), token("old")]),
            (app("1400000002"), vec![token("other")]),
        ];
        Gate { tokens: tokens.into(), max_skew_secs: 60 }
    }

    fn said(request: &str, now: i64) -> (bool, String) {
        let verdict = SignVerdict::of(request, &gate(), now).unwrap();
        (verdict.is_let_in(), verdict.to_string())
    }

    fn query(app: &str, token: &str) -> String {
        let sign = Token::new(token.into()).sign(&AT.to_string());
        format!("SdkAppid={app}&CallbackCommand=x&RequestTime={AT}&Sign={sign}")
    }

    #[test]
    fn a_request_is_found_in_whatever_a_log_writes_around_it() {
        let query = query("1400000001", "old");
        for text in [
            query.clone(),
            format!("/callback?{query}"),
            format!("https://mirror.example.org/callback?{query}#x"),
            format!("203.0.113.9 - - [01/Dec/2022] \"POST /callback?{query} HTTP/1.1\" 403 88 \"-\""),
        ] {
            let (let_in, line) = said(&text, AT + 7);
            assert!(let_in, "{text}: {line}");
            assert_eq!(
                line,
                "let in: token 2 of app 1400000001 makes this signature; RequestTime is 7 s behind the clock, of 60 s that are allowed"
            );
        }
    }

    #[test]
    fn each_reason_to_refuse_is_a_line_of_its_own() {
        let right = query("1400000001", "new");
        for (text, now, wanted) in [
            (
                right.clone(),
                AT + 300,
                "refused: RequestTime is 300 s behind the clock, and 60 s are allowed (CALLBACK_MAX_SKEW_SECS); token 1 of app 1400000001 makes",
            ),
            (right.clone(), AT - 61, "refused: RequestTime is 61 s ahead of the clock"),
            (
                query("1400000001", "none"),
                AT,
                "refused: no token of CALLBACK_TOKEN makes this signature; is it the token of the console?",
            ),
            (
                query("1400000001", "other"),
                AT,
                "refused: token 1 of app 1400000002 makes this signature, which is not the app",
            ),
            (
                query("1400000003", "new"),
                AT,
                "refused: SdkAppid 1400000003 is not one of SDK_APP_ID (1400000001, 1400000002); token 1 of app 1400000001",
            ),
            (right.replace("SdkAppid=", "AppId="), AT, "refused: the query has no SdkAppid that can be read"),
            (right.replace("&Sign=", "&Sing="), AT, "refused: the query has no Sign"),
            (right.replace("RequestTime=", "Time="), AT, "refused: the query has no RequestTime"),
            (right[..right.len() - 1].to_owned(), AT, "refused: Sign is not 64 hexadecimal digits"),
            (right.replace("RequestTime=", "RequestTime=x"), AT, "refused: RequestTime is no number"),
            ("SdkAppid=1400000001".to_owned(), AT, "refused: the query has neither Sign nor RequestTime"),
        ] {
            let (let_in, line) = said(&text, now);
            assert!(!let_in && line.starts_with(wanted), "{text}: {line}");
        }
        assert!(SignVerdict::of("/callback", &gate(), AT).is_err());
        let none =
            Gate { tokens: [(SdkAppId::parse("1400000001").unwrap(), Vec::new())].into(), max_skew_secs: 60 };
        assert!(SignVerdict::of(&right, &none, AT).is_err());
    }
}
