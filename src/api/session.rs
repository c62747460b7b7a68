//! Sessions of a browser: a token that is entered once in a form becomes a cookie that stands for it.
//!
//! The cookie holds no token. It is a signed statement (HMAC-SHA256) of when it ends, and the key is the digest of the
//! token, the only thing that the service keeps of it. So every replica with the same `API_TOKEN` knows the cookie, a
//! restart ends no session, and a token that is taken out of the settings ends all of its sessions. What a session may read
//! is what its token may.
//!
//! A log-out deletes the cookie in the browser, and this process refuses a copy of it until it would have ended; other
//! replicas and the next run do not know of it. A wrong token is answered after a pause, and only a limited number of such
//! answers is delayed at once; a right token never waits. Both are against scripts that hammer: what protects a token is its
//! length, at least 16 characters where other machines reach the listener.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::auth::{ApiAuth, Caller, TokenDigest};
use super::local::{self, only};
use super::prefix::PathPrefix;
use crate::clock;

/// The name of the cookie.
pub const SESSION_COOKIE: &str = "group-mirror-session";

/// How long a session lasts from its beginning, in seconds: a shift and a half.
pub const SESSION_SECS: i64 = 12 * 60 * 60;

/// The format of the cookie's value.
const VERSION: &str = "1";

/// The longest value of a cookie that is looked at; ours has about 80 bytes.
const VALUE_BYTES_MAX: usize = 256;

/// How many cookies of our name are looked at in one request: a browser sends one for each path.
const COOKIES_MAX: usize = 4;

/// How long the answer to a wrong token waits.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_secs(1);

/// How many such answers wait at once. Beyond it they are refused without a pause.
const PAUSES_MAX: usize = 16;

/// How many sessions that were logged out are remembered. Beyond it the one that ends first is forgotten.
const LOGGED_OUT_MAX: usize = 10_000;

/// Why a login was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFault {
    /// The form was sent by a page of another site, as this header shows.
    OtherSite(&'static str),
    /// No token of the settings.
    WrongToken,
    /// The same, and more wrong ones are waiting than may.
    TooManyWrong,
}

/// The sessions of this service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<SessionState>);

#[derive(Debug)]
struct SessionState {
    auth: Arc<ApiAuth>,
    prefix: PathPrefix,
    /// The listener itself speaks TLS.
    has_tls: bool,
    pauses: Semaphore,
    /// What was logged out, by the signature of its cookie, and when it would have ended.
    logged_out: Mutex<BTreeMap<String, i64>>,
}

impl Sessions {
    /// Of callers with these tokens, below this prefix.
    #[must_use]
    pub fn new(auth: Arc<ApiAuth>, prefix: PathPrefix, has_tls: bool) -> Self {
        let (pauses, logged_out) = (Semaphore::new(PAUSES_MAX), Mutex::default());
        Self(Arc::new(SessionState { auth, prefix, has_tls, pauses, logged_out }))
    }

    /// How callers are authenticated.
    pub(super) fn auth(&self) -> &ApiAuth {
        &self.0.auth
    }

    /// Below which path the service lies, for links.
    #[must_use]
    pub fn prefix(&self) -> &PathPrefix {
        &self.0.prefix
    }

    /// False where the service is read without tokens, from its own machine.
    #[must_use]
    pub fn are_needed(&self) -> bool {
        matches!(*self.0.auth, ApiAuth::Tokens(_))
    }

    /// Whether the browser that sends these headers will keep the cookie: over plain HTTP only on its own machine.
    #[must_use]
    pub fn is_cookie_kept(&self, headers: &HeaderMap) -> bool {
        self.is_encrypted(headers) || names_loopback(headers)
    }

    /// Begins a session with the token of a form; the value of `Set-Cookie`.
    ///
    /// # Errors
    /// See [`LoginFault`]. One for a wrong token comes after a pause.
    pub async fn log_in(&self, headers: &HeaderMap, token: &str) -> Result<HeaderValue, LoginFault> {
        if let Some(reason) = other_site(headers) {
            return Err(LoginFault::OtherSite(reason));
        }
        // A token that is pasted may bring white space along, which no token holds.
        let digest = TokenDigest::of(token.trim().as_bytes());
        let Some(caller) = self.auth().caller_with(|known| known.ct_eq(&digest)) else {
            metrics::counter!("group_mirror_logins_total", "outcome" => "refused").increment(1);
            let Ok(_permit) = self.0.pauses.try_acquire() else { return Err(LoginFault::TooManyWrong) };
            sleep(WRONG_TOKEN_PAUSE).await;
            return Err(LoginFault::WrongToken);
        };
        metrics::counter!("group_mirror_logins_total", "outcome" => "accepted").increment(1);
        tracing::info!(caller = &*caller.name, "a session begins");
        let ends = clock::now().get() / 1000 + SESSION_SECS;
        // Distinguishes sessions that begin in one second; it needs no secrecy, which the signature has.
        let number = fastrand::u64(..);
        let signed = format!("{VERSION}.{ends}.{number:x}");
        let value = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature(&digest, &signed)));
        Ok(self.cookie(headers, value, SESSION_SECS))
    }

    /// Ends the session of a request, if it has one; the value of `Set-Cookie` that deletes the cookie.
    ///
    /// # Errors
    /// [`LoginFault::OtherSite`].
    pub fn log_out(&self, headers: &HeaderMap) -> Result<HeaderValue, LoginFault> {
        if let Some(reason) = other_site(headers) {
            return Err(LoginFault::OtherSite(reason));
        }
        let now = clock::now().get() / 1000;
        let ended = values(headers).filter(|value| self.caller_by(value, now).is_some());
        let ended: Vec<_> =
            ended.filter_map(|value| Some((value.rsplit_once('.')?.1.to_owned(), ends(&value)?))).collect();
        let mut logged_out = self.0.logged_out.lock().unwrap_or_else(PoisonError::into_inner);
        logged_out.retain(|_, ends| *ends > now);
        logged_out.extend(ended);
        while logged_out.len() > LOGGED_OUT_MAX {
            let first = logged_out.iter().min_by_key(|(_, ends)| **ends).map(|(name, _)| name.clone());
            let Some(first) = first else { break };
            logged_out.remove(&first);
        }
        drop(logged_out);
        Ok(self.cookie(headers, String::new(), 0))
    }

    /// The caller of the session that a request has; `None` without one, or where it has ended.
    pub(crate) fn caller_of(&self, headers: &HeaderMap) -> Option<Caller> {
        let now = clock::now().get() / 1000;
        values(headers).find_map(|value| self.caller_by(&value, now))
    }

    fn caller_by(&self, value: &str, now: i64) -> Option<Caller> {
        let ends = ends(value).filter(|ends| (now + 1..=now + SESSION_SECS).contains(ends))?;
        let (signed, given) = value.rsplit_once('.')?;
        let caller = URL_SAFE_NO_PAD.decode(given).ok().and_then(|given| {
            self.auth().caller_with(|known| signature(known, signed).as_slice().ct_eq(&given))
        })?;
        let logged_out = self.0.logged_out.lock().unwrap_or_else(PoisonError::into_inner);
        // By the text: base64 without padding has one text for bytes of this length that the decoder accepts.
        let is_ended = logged_out.get(given).is_some_and(|known| *known == ends);
        Some(caller).filter(|_| !is_ended)
    }

    fn cookie(&self, headers: &HeaderMap, value: String, secs: i64) -> HeaderValue {
        let path = self.0.prefix.as_str();
        let cookie = Cookie::build((SESSION_COOKIE, value))
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.is_encrypted(headers) || !names_loopback(headers))
            .path(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
            .max_age(cookie::time::Duration::seconds(secs));
        let text = cookie.build().to_string();
        assert!(text.is_ascii(), "a cookie of ours is ASCII");
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Whether the browser speaks TLS: to this listener, or to the proxy in front of it.
    fn is_encrypted(&self, headers: &HeaderMap) -> bool {
        let forwarded = only(headers, &HeaderName::from_static("x-forwarded-proto"));
        self.0.has_tls || forwarded.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }
}

/// Which header shows that a page of another site sent a request, if one does.
pub(super) fn other_site(headers: &HeaderMap) -> Option<&'static str> {
    let forwarded = HeaderName::from_static("x-forwarded-host");
    // No page can set either of the two in a request to another site.
    let hosts: Vec<&str> =
        [&header::HOST, &forwarded].into_iter().filter_map(|name| only(headers, name)).collect();
    local::other_site(headers, &hosts)
}

fn names_loopback(headers: &HeaderMap) -> bool {
    only(headers, &header::HOST).is_some_and(local::is_loopback)
}

/// The values of our cookie in a request.
fn values(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = texts.flat_map(Cookie::split_parse).filter_map(Result::ok);
    let ours =
        cookies.filter(|cookie| cookie.name() == SESSION_COOKIE && cookie.value().len() <= VALUE_BYTES_MAX);
    ours.map(|cookie| cookie.value().to_owned()).take(COOKIES_MAX)
}

/// When a session ends, in Unix seconds, as its cookie says, whether or not that is signed.
fn ends(value: &str) -> Option<i64> {
    let mut parts = value.split('.');
    if parts.next() != Some(VERSION) {
        return None;
    }
    parts.next()?.parse().ok()
}

fn signature(key: &TokenDigest, signed: &str) -> [u8; 32] {
    // A key of any length does.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.bytes()) else { return [0; 32] };
    mac.update(b"group-mirror session\0");
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::auth::ApiToken;

    const TOKEN: &str = "a-token-of-some-length";

    async fn session(sessions: &Sessions) -> HeaderMap {
        let set = sessions.log_in(&HeaderMap::new(), TOKEN).await.unwrap();
        let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(cookie).unwrap())])
    }

    #[tokio::test]
    async fn a_session_that_was_logged_out_is_refused_and_the_others_of_its_token_are_not() {
        let auth = ApiAuth::Tokens(vec![ApiToken::new(Some("desk"), TOKEN)]);
        let sessions = Sessions::new(auth.into(), PathPrefix::default(), false);
        let (one, other) = (session(&sessions).await, session(&sessions).await);
        assert_eq!(&*sessions.caller_of(&one).unwrap().name, "desk");
        let mut forged = one.clone();
        forged.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
        assert!(matches!(sessions.log_out(&forged), Err(LoginFault::OtherSite(_))));
        assert!(sessions.caller_of(&one).is_some());
        let deleted = sessions.log_out(&one).unwrap();
        assert!(deleted.to_str().unwrap().contains("Max-Age=0"), "{deleted:?}");
        assert!(sessions.caller_of(&one).is_none() && sessions.caller_of(&other).is_some());
    }

    #[tokio::test]
    async fn no_more_logged_out_sessions_are_remembered_than_the_limit() {
        let auth = ApiAuth::Tokens(vec![ApiToken::new(None, TOKEN)]);
        let sessions = Sessions::new(auth.into(), PathPrefix::default(), false);
        let ends = clock::now().get() / 1000 + 10;
        let many = (0..LOGGED_OUT_MAX).map(|number| (format!("{number}"), ends));
        sessions.0.logged_out.lock().unwrap().extend(many);
        let newest = session(&sessions).await;
        sessions.log_out(&newest).unwrap();
        assert_eq!(sessions.0.logged_out.lock().unwrap().len(), LOGGED_OUT_MAX);
        assert!(sessions.caller_of(&newest).is_none(), "one that ends sooner is forgotten");
        let past = (0..10).map(|number| (format!("past {number}"), ends - 20));
        sessions.0.logged_out.lock().unwrap().extend(past);
        sessions.log_out(&HeaderMap::new()).unwrap();
        assert_eq!(sessions.0.logged_out.lock().unwrap().len(), LOGGED_OUT_MAX, "what has ended is not kept");
    }
}
