//! One visit of a page: who looks, which app, the choices of the reader, and the addresses of other pages as seen from here.
//!
//! The extractor stands in the signature of every page: a page without an authenticated caller does not compile. Ids in
//! addresses are percent-encoded; the app is repeated in links where the address of the page names it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::language::Language;
use super::preferences::Preferences;
use super::state::ConsoleState;
use super::trust::Trust;
use super::zone::Zone;
use crate::api::auth::Caller;
use crate::api::errors::ApiError;
use crate::model::SdkAppId;

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The parameter that names an app.
const APP: &str = "sdk_app_id";

/// A visit of a page.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) preferences: Preferences,
    /// Who looks; none on pages that need no login.
    pub(crate) caller: Option<Caller>,
    pub(crate) app: SdkAppId,
    /// The apps among which this reader may choose.
    pub(crate) apps: Vec<SdkAppId>,
    /// None without a login: the line names times and numbers of the app.
    pub(crate) trust: Option<Trust>,
    /// Path and query of the page, without the path prefix.
    pub(crate) here: String,
    names_app: bool,
    can_log_out: bool,
    prefix: Arc<str>,
}

impl Visit {
    /// Of a request. `caller` is who was authenticated.
    pub(crate) async fn of(
        state: &ConsoleState,
        caller: Option<Caller>,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<Self, ApiError> {
        let named = named_app(uri.query())?;
        let (only, configured) = (caller.as_ref().and_then(Caller::only_app), state.api.app);
        let app = match &caller {
            Some(caller) => caller.app(named, configured)?,
            None => configured.first(),
        };
        let trust = match &caller {
            Some(_) => Some(Trust::of(state, app).await),
            None => None,
        };
        let here = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Ok(Self {
            preferences: Preferences::of(headers),
            app,
            apps: only.map_or_else(|| state.apps.to_vec(), |only| vec![only]),
            names_app: named.is_some(),
            trust,
            here,
            can_log_out: state.has_sessions(),
            prefix: state.prefix().into(),
            caller,
        })
    }

    /// The same for a page that says why another one failed: where the address names an app that cannot be read, with the
    /// one that is read without a name.
    pub(crate) async fn of_failure(
        state: &ConsoleState,
        caller: Option<Caller>,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Self {
        let plain = Uri::from_static("/");
        match Self::of(state, caller.clone(), headers, uri).await {
            Ok(visit) => visit,
            Err(_) => match Self::of(state, caller, headers, &plain).await {
                Ok(visit) => visit,
                Err(_) => unreachable!("an address without a query names no app"),
            },
        }
    }

    #[must_use]
    pub(crate) fn language(&self) -> Language {
        self.preferences.language
    }

    #[must_use]
    pub(crate) fn zone(&self) -> Zone {
        self.preferences.zone
    }

    /// Who looks, for calls of the read API.
    ///
    /// # Errors
    /// 401 on a page that is open.
    pub(crate) fn known_caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or_else(|| ApiError::unauthorized("This page needs a login."))
    }

    /// A message of the catalogue.
    #[must_use]
    pub(crate) fn text(&self, key: &str) -> String {
        self.language().text(key)
    }

    /// The address of a page: a path, and for pages of an app its choice.
    #[must_use]
    pub(crate) fn url(&self, path: &str) -> String {
        self.url_with(path, &[])
    }

    /// The address of what belongs to no app: a file, or where a form is sent.
    #[must_use]
    pub(crate) fn url_of_file(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The same with a query; pairs whose value is empty are left out.
    #[must_use]
    pub(crate) fn url_with(&self, path: &str, pairs: &[(&str, &str)]) -> String {
        let (path, fragment) = path.split_once('#').map_or((path, None), |(path, part)| (path, Some(part)));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
        if self.names_app {
            query.append_pair(APP, &self.app.to_string());
        }
        let query = query.finish();
        let mut url = format!("{}{path}", self.prefix);
        if !query.is_empty() {
            url = format!("{url}?{query}");
        }
        fragment.map_or_else(|| url.clone(), |fragment| format!("{url}#{fragment}"))
    }

    /// The page of a group.
    #[must_use]
    pub(crate) fn group_url(&self, group: &str) -> String {
        match segment(group) {
            Some(id) => self.url(&format!("/groups/{id}")),
            None => self.url_with("/groups", &[("group_id", group)]),
        }
    }

    /// A page below that of a group.
    #[must_use]
    pub(crate) fn group_part_url(&self, group: &str, part: &str) -> String {
        match segment(group) {
            Some(id) => self.url(&format!("/groups/{id}/{part}")),
            None => self.group_url(group),
        }
    }

    /// The history of a person in the read API.
    #[must_use]
    pub(crate) fn user_history_url(&self, user: &str, pairs: &[(&str, &str)]) -> String {
        self.url_with(&format!("/v1/users/{}/history", utf8_percent_encode(user, SEGMENT)), pairs)
    }

    /// The page of a group as it was at a moment.
    #[must_use]
    pub(crate) fn group_url_at(&self, group: &str, time: DateTime<Utc>) -> String {
        match segment(group) {
            Some(id) => self.url_with(&format!("/groups/{id}"), &[("at", &moment_text(time))]),
            None => self.group_url(group),
        }
    }

    /// The page of a person.
    #[must_use]
    pub(crate) fn user_url(&self, user: &str) -> String {
        match segment(user) {
            Some(id) => self.url(&format!("/users/{id}")),
            None => self.url_with("/groups", &[("member", user)]),
        }
    }

    /// The same page with another app.
    #[must_use]
    pub(crate) fn with_app(&self, app: SdkAppId) -> String {
        let other = Self { app, names_app: true, ..self.clone() };
        other.url("/")
    }

    /// The address of this page, with the path prefix.
    #[must_use]
    pub(crate) fn here_url(&self) -> String {
        format!("{}{}", self.prefix, self.here)
    }

    /// The app, for a hidden field of a form: a form replaces the query of its address.
    #[must_use]
    pub(crate) fn app_field(&self) -> Option<String> {
        self.names_app.then(|| self.app.to_string())
    }

    /// Whether there is a session to end: without tokens there is no login.
    #[must_use]
    pub(crate) fn can_log_out(&self) -> bool {
        self.can_log_out
    }
}

/// An id as a segment of a path; none for `.` and `..`, which a browser takes for steps in the path, encoded or not.
fn segment(id: &str) -> Option<String> {
    (![".", ".."].contains(&id)).then(|| utf8_percent_encode(id, SEGMENT).to_string())
}

/// A moment as the addresses of pages have it.
#[must_use]
pub(crate) fn moment_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn named_app(query: Option<&str>) -> Result<Option<SdkAppId>, ApiError> {
    let query = query.unwrap_or_default().as_bytes();
    let named = form_urlencoded::parse(query).find(|(name, value)| name == APP && !value.is_empty());
    let Some((_, text)) = named else { return Ok(None) };
    let app = SdkAppId::parse(&text);
    app.map(Some)
        .map_err(|error| ApiError::bad_parameter(format!("Parameter {APP} cannot be used: {error}.")))
}

impl FromRequestParts<ConsoleState> for Visit {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ConsoleState) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        Self::of(state, Some(caller), &parts.headers, &parts.uri).await
    }
}
