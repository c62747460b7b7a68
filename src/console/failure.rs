//! Errors as pages: what a person reads where a page cannot be shown, in the frame that says how the service is.
//!
//! The layer stands around everything that the internal listener serves. It turns the error of a page, and that of an unknown
//! path which a browser asks for, into a page in the reader's language with the detail of the API below it; an error of the
//! read API stays a problem document. The frame needs no database, so it stands while that is away.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use maud::html;
use tower_http::request_id::RequestId;

use super::frame::{Section, page_with_status};
use super::state::ConsoleState;
use super::visit::Visit;
use crate::api::auth::Caller;
use crate::api::errors::ApiError;

/// Paths of programs: their errors are problem documents for every client.
const OF_PROGRAMS: [&str; 6] = ["/v1", "/metrics", "/openapi.json", "/docs", "/livez", "/readyz"];

/// Paths of pages: their errors are pages for every client.
const OF_PAGES: [&str; 9] =
    ["/groups", "/users", "/entry", "/moment", "/parked", "/health", "/login", "/logout", "/preferences"];

/// Shows errors to people as pages.
pub(super) async fn as_pages(State(state): State<ConsoleState>, request: Request, next: Next) -> Response {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    let answer = next.run(request).await;
    if !is_for_people(uri.path(), &headers) {
        return answer;
    }
    let Some(error) = answer.extensions().get::<ApiError>().cloned() else { return answer };
    let caller = answer.extensions().get::<Caller>().cloned();
    let visit = Visit::of_failure(&state, caller.clone(), &headers, &uri).await;
    let mut page = error_page(&visit, &error, &id);
    for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ALLOW] {
        if let Some(value) = answer.headers().get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    page.extensions_mut().insert(error.shown());
    if let Some(caller) = caller {
        page.extensions_mut().insert(caller);
    }
    page
}

fn is_for_people(path: &str, headers: &HeaderMap) -> bool {
    let is_below =
        |stem: &&str| path.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if OF_PROGRAMS.iter().any(is_below) {
        return false;
    }
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    path == "/"
        || OF_PAGES.iter().any(is_below)
        || accepted.into_iter().any(|kinds| kinds.contains("text/html"))
}

fn error_page(visit: &Visit, error: &ApiError, request_id: &str) -> Response {
    let status = error.status();
    let (title, meaning) = match status {
        StatusCode::NOT_FOUND => ("error-not-found", "error-not-found-meaning"),
        StatusCode::BAD_REQUEST => ("error-bad-request", "error-bad-request-meaning"),
        StatusCode::GONE if error.is_pruned() => ("error-pruned", "error-pruned-meaning"),
        StatusCode::GONE => ("error-gone", "error-gone-meaning"),
        StatusCode::UNPROCESSABLE_ENTITY => ("error-too-large", "error-too-large-meaning"),
        StatusCode::UNAUTHORIZED => ("error-unauthorized", "error-unauthorized-meaning"),
        StatusCode::FORBIDDEN => ("error-forbidden", "error-forbidden-meaning"),
        StatusCode::METHOD_NOT_ALLOWED => ("error-method", "error-method-meaning"),
        StatusCode::SERVICE_UNAVAILABLE => ("error-unavailable", "error-unavailable-meaning"),
        _ => ("error-internal", "error-internal-meaning"),
    };
    let body = html! {
        p { (visit.text(meaning)) }
        p class="quiet" lang="en" dir="auto" { (error.detail()) }
        p class="actions" {
            @if status == StatusCode::SERVICE_UNAVAILABLE {
                a href=(visit.here_url()) { (visit.text("error-try-again")) }
            }
            a href=(visit.url("/")) { (visit.text("nav-live")) }
            a href=(visit.url("/health")) { (visit.text("nav-health")) }
        }
        p class="quiet" { (visit.text("error-request-id")) " " code class="id" { (request_id) } }
    };
    page_with_status(visit, Section::Other, &visit.text(title), &body, status)
}
