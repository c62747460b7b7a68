//! Authentication and authorisation of the internal listener: tokens with what each may read, or, where the service is set
//! so, this machine alone.
//!
//! The middleware of `entrance` finds the caller of a request. What it found is an argument of the handlers, the extractor
//! [`Caller`], and [`Caller::app`] alone gives them the app to read: one that forgot the caller would not compile, and one
//! outside the middleware answers with 401. What a read shows of raw data is noted in its caller, for the access log.
//!
//! Only digests of tokens are kept, and they are compared in constant time: the time of an answer shows neither a wrong
//! byte nor a wrong length.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::errors::ApiError;
use crate::model::SdkAppId;

/// How callers are authenticated.
#[derive(Debug)]
pub enum ApiAuth {
    /// By one of these, as `Authorization: Bearer …` or in the session of a browser. An empty list refuses every request.
    Tokens(Vec<ApiToken>),
    /// By being on this machine: the listener is on loopback. `api/local.rs` refuses requests that show that they come
    /// from elsewhere, or from a page of another site.
    None,
}

impl ApiAuth {
    /// The caller whose token has a digest that fits. Every token is looked at, also after one that fits, so that the time
    /// does not depend on which one it is.
    pub(super) fn caller_with(&self, fits: impl Fn(&TokenDigest) -> Choice) -> Option<Caller> {
        let Self::Tokens(tokens) = self else { return None };
        let mut found = None;
        for known in tokens {
            if bool::from(fits(&known.digest)) {
                found = Some(known.caller.for_one_request());
            }
        }
        found
    }
}

/// The SHA-256 of a token: what is kept of it.
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl ConstantTimeEq for TokenDigest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The digest of a token, the name of its caller and what that caller may read.
pub struct ApiToken {
    caller: Caller,
    digest: TokenDigest,
}

impl ApiToken {
    /// The caller of a token without a name is `unnamed` in the log. It reads every app, and neither raw bodies nor client
    /// addresses.
    #[must_use]
    pub fn new(name: Option<&str>, token: &str) -> Self {
        let caller = Caller::new(name.unwrap_or("unnamed"));
        Self { caller, digest: TokenDigest::of(token.as_bytes()) }
    }

    /// The same for one app alone, if one is named.
    #[must_use]
    pub fn of_app(mut self, app: Option<SdkAppId>) -> Self {
        self.caller.app = app;
        self
    }

    /// The same with or without raw bodies and client addresses.
    #[must_use]
    pub fn reading_raw(mut self, raw: bool) -> Self {
        self.caller.raw = raw;
        self
    }
}

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Caller { name, app, raw, .. } = &self.caller;
        f.debug_struct("ApiToken")
            .field("name", name)
            .field("app", app)
            .field("raw", raw)
            .finish_non_exhaustive()
    }
}

/// An authenticated caller. A handler gets it as an argument, and needs it to learn the app that it reads; in the
/// extensions of the response it goes to the access log.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// What the access log calls it.
    pub(crate) name: Arc<str>,
    /// The only app that it may read, if so.
    app: Option<SdkAppId>,
    raw: bool,
    shown: Arc<RawShown>,
}

/// What a request was shown of raw data.
#[derive(Debug, Default)]
struct RawShown {
    addresses: AtomicBool,
    bodies: AtomicBool,
}

/// The app that is read where neither request nor token names one, which only an authenticated caller can learn.
#[derive(Debug, Clone, Copy)]
pub struct ConfiguredApp {
    first: SdkAppId,
    /// No other app is served.
    is_only: bool,
}

impl ConfiguredApp {
    /// The first of the apps that are served.
    #[must_use]
    pub fn first_of(apps: &[SdkAppId]) -> Self {
        assert!(!apps.is_empty(), "a service has an app");
        Self { first: apps[0], is_only: apps.len() == 1 }
    }

    /// The app that is read by default.
    pub(crate) fn first(self) -> SdkAppId {
        self.first
    }
}

impl Caller {
    /// One that reads every app, and neither raw bodies nor client addresses.
    fn new(name: &str) -> Self {
        Self { name: name.into(), app: None, raw: false, shown: Arc::default() }
    }

    /// A program on this machine, where the service is read without tokens. It reads everything.
    pub(super) fn local() -> Self {
        Self { raw: true, ..Self::new("local") }
    }

    /// The same caller, of whom nothing is noted yet.
    fn for_one_request(&self) -> Self {
        Self { shown: Arc::default(), ..self.clone() }
    }

    /// The app of a request: the one that it names, else the caller's, else the first of those that are served. A caller
    /// of all apps may name one that is not served any more: the mirror still has what it knew.
    ///
    /// # Errors
    /// 404: the token is for another app. For its caller there is no other, whether or not the mirror has it.
    pub(crate) fn app(
        &self,
        named: Option<SdkAppId>,
        configured: ConfiguredApp,
    ) -> Result<SdkAppId, ApiError> {
        let app = named.or(self.app).unwrap_or(configured.first);
        if self.app.is_some_and(|only| only != app) {
            return Err(ApiError::not_found(format!("For this token there is no app {app}.")));
        }
        Ok(app)
    }

    /// Refuses numbers of the process, which are those of all apps together, to a caller of one of several.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn of_process(&self, configured: ConfiguredApp) -> Result<(), ApiError> {
        if self.app.is_some_and(|only| !configured.is_only || only != configured.first) {
            return Err(ApiError::not_found("Numbers of all apps are not for a token of one app."));
        }
        Ok(())
    }

    /// The only app that it may read, if so.
    pub(crate) fn only_app(&self) -> Option<SdkAppId> {
        self.app
    }

    /// Whether it has the right to raw data, for a link that leads to them: nothing is shown yet.
    pub(crate) fn may_read_raw(&self) -> bool {
        self.raw
    }

    /// Whether it may read client addresses. Asked where they are shown if so, and noted for the access log.
    pub(crate) fn reads_raw(&self) -> bool {
        self.shown.addresses.fetch_or(self.raw, Ordering::Relaxed);
        self.raw
    }

    /// Whether it may read raw bodies. Asked where they are shown if so, and noted for the access log.
    pub(crate) fn reads_bodies(&self) -> bool {
        self.shown.bodies.fetch_or(self.raw, Ordering::Relaxed);
        self.raw
    }

    /// What the request was shown of raw data, in a word for the access log; none where that is nothing.
    pub(super) fn raw_shown(&self) -> Option<&'static str> {
        let is_set = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match (is_set(&self.shown.bodies), is_set(&self.shown.addresses)) {
            (true, _) => Some("bodies"),
            (false, true) => Some("addresses"),
            (false, false) => None,
        }
    }
}

/// What a caller without a token should do.
pub(super) const HOW_TO_AUTHENTICATE: &str =
    "Send a token of this service as: Authorization: Bearer TOKEN. In a browser, log in at /login.";

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    /// The caller that `entrance` has authenticated. A route outside that layer has none, and answers with 401.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::unauthorized(HOW_TO_AUTHENTICATE))
    }
}
