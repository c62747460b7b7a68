//! Authentication and authorisation of the read API: bearer tokens with what each may read, or, where the service is set
//! so, this machine alone.
//!
//! [`require`] is a middleware around the router, so it covers unknown paths and methods as well. What it found is an
//! argument of the handlers, the extractor [`Caller`], and [`Caller::app`] alone gives them the app to read: one that
//! forgot the caller would not compile, and one outside the middleware answers with 401.
//!
//! Only digests of tokens are kept, and they are compared in constant time: the time of an answer shows neither a wrong
//! byte nor a wrong length.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::errors::ApiError;
use super::local;
use crate::model::SdkAppId;

/// How callers are authenticated.
#[derive(Debug)]
pub enum ApiAuth {
    /// By one of these, as `Authorization: Bearer …`. An empty list refuses every request.
    Tokens(Vec<ApiToken>),
    /// By being on this machine: the listener is on loopback. `api/local.rs` refuses requests that show that they come
    /// from elsewhere, or from a page of another site.
    None,
}

/// The digest of a token, the name of its caller and what that caller may read.
pub struct ApiToken {
    caller: Caller,
    digest: [u8; 32],
}

impl ApiToken {
    /// The caller of a token without a name is `unnamed` in the log. It reads every app, and neither raw bodies nor client
    /// addresses.
    #[must_use]
    pub fn new(name: Option<&str>, token: &str) -> Self {
        let caller = Caller { name: name.unwrap_or("unnamed").into(), app: None, raw: false };
        Self { caller, digest: Sha256::digest(token.as_bytes()).into() }
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
        let Caller { name, app, raw } = &self.caller;
        f.debug_struct("ApiToken")
            .field("name", name)
            .field("app", app)
            .field("raw", raw)
            .finish_non_exhaustive()
    }
}

/// An authenticated caller. A handler gets it as an argument, and needs it to learn the app that it reads; in the
/// extensions of the response it goes to the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// What the access log calls it.
    pub(crate) name: Arc<str>,
    /// The only app that it may read, if so.
    app: Option<SdkAppId>,
    raw: bool,
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

    /// Whether it may read raw bodies and client addresses.
    pub(crate) fn reads_raw(&self) -> bool {
        self.raw
    }

    /// The only app that it may read, if so.
    pub(crate) fn only_app(&self) -> Option<SdkAppId> {
        self.app
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    /// The caller that [`require`] has authenticated. A route outside that layer has none, and answers with 401.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::unauthorized(HOW_TO_AUTHENTICATE))
    }
}

/// What a caller without a token should do.
const HOW_TO_AUTHENTICATE: &str = "Send a token of this service as: Authorization: Bearer TOKEN.";

/// Passes an authenticated request on.
///
/// # Errors
/// 401 or 403 `unauthorized`.
pub(super) async fn require(
    State(auth): State<Arc<ApiAuth>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = match auth.as_ref() {
        ApiAuth::Tokens(tokens) => {
            let token = bearer(request.headers());
            let token = token.ok_or_else(|| ApiError::unauthorized(HOW_TO_AUTHENTICATE))?;
            caller_of(tokens, token).ok_or_else(|| ApiError::unauthorized("This token is not known here."))?
        }
        ApiAuth::None => {
            local::check(&request)?;
            Caller { name: "local".into(), app: None, raw: true }
        }
    };
    request.extensions_mut().insert(caller.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(caller);
    Ok(response)
}

/// The token of the request; `None` where there is none, or more than one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// Compares with every token, also after a match, so that the time does not depend on which one matches.
fn caller_of(tokens: &[ApiToken], token: &[u8]) -> Option<Caller> {
    let digest: [u8; 32] = Sha256::digest(token).into();
    let mut found = None;
    for known in tokens {
        let same: Choice = known.digest.ct_eq(&digest);
        if bool::from(same) {
            found = Some(known.caller.clone());
        }
    }
    found
}
