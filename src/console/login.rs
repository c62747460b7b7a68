//! Logging in with an API token, and out.
//!
//! The token goes into a session cookie of `api/session.rs` and is never shown again. The pages are open, because there is no
//! login yet, and show nothing of the mirror. A wrong token is answered by the same page with what to look at. A form that
//! another site sends is refused.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use maud::html;

use super::choices::redirect;
use super::frame::{Section, page, page_with_status};
use super::state::ConsoleState;
use super::visit::Visit;
use crate::api::entrance::after_login;
use crate::api::errors::ApiError;
use crate::api::session::LoginFault;

/// A field of a form or of a query; empty where it is not there.
fn field(text: &[u8], name: &str) -> String {
    let found = form_urlencoded::parse(text).find(|(found, _)| found == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// `GET /login`.
pub(super) async fn login_page(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let visit = Visit::of_failure(&state, None, &headers, &uri).await;
    let next = field(query.unwrap_or_default().as_bytes(), "next");
    login_form(&state, &visit, &headers, &next, None)
}

/// `POST /login`.
pub(super) async fn log_in(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let next = field(&body, "next");
    let fault = match state.api.sessions.log_in(&headers, &field(&body, "token")).await {
        Ok(cookie) => {
            let target = after_login(&state.api.sessions, Some(&next));
            return redirect(&target, vec![cookie]);
        }
        Err(fault) => fault,
    };
    let visit = Visit::of_failure(&state, None, &headers, &uri).await;
    login_form(&state, &visit, &headers, &next, Some(fault))
}

/// `POST /logout`.
pub(super) async fn log_out(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let cookie = state.api.sessions.log_out(&headers).map_err(|_| other_site())?;
    let target = format!("{}/login", state.api.sessions.prefix().as_str());
    Ok(redirect(&target, vec![cookie]))
}

fn other_site() -> ApiError {
    ApiError::forbidden("This form was not sent by a page of this service.")
}

fn login_form(
    state: &ConsoleState,
    visit: &Visit,
    headers: &HeaderMap,
    next: &str,
    fault: Option<LoginFault>,
) -> Response {
    let sessions = &state.api.sessions;
    let title = visit.text("login-title");
    if !sessions.are_needed() {
        let body = html! {
            p { (visit.text("login-not-needed")) }
            p class="actions" { a href=(visit.url("/")) { (visit.text("nav-live")) } }
        };
        return page(visit, Section::Other, &title, &body);
    }
    let (status, message) = match fault {
        None => (StatusCode::OK, None),
        Some(LoginFault::WrongToken) => (StatusCode::UNAUTHORIZED, Some("login-wrong")),
        Some(LoginFault::TooManyWrong) => (StatusCode::TOO_MANY_REQUESTS, Some("login-too-many")),
        Some(LoginFault::OtherSite(_)) => (StatusCode::FORBIDDEN, Some("login-other-site")),
    };
    let body = html! {
        @if let Some(message) = message {
            p id="login-fault" class="fault" role="alert" { span aria-hidden="true" { "▲ " } (visit.text(message)) }
        }
        @if !sessions.is_cookie_kept(headers) {
            p class="fault" { span aria-hidden="true" { "▲ " } (visit.text("login-plain-http")) }
        }
        form class="login" method="post" action=(visit.url_of_file("/login")) {
            input type="hidden" name="next" value=(next);
            label {
                span { (visit.text("login-token")) }
                input type="password" name="token" required autocomplete="current-password" spellcheck="false"
                    aria-invalid=[message.map(|_| "true")] aria-describedby="login-hint";
            }
            p id="login-hint" class="quiet" { (visit.text("login-hint")) }
            button { (visit.text("login-button")) }
        }
    };
    page_with_status(visit, Section::Other, &title, &body, status)
}
