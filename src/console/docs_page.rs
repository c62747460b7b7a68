//! `/docs`: the OpenAPI document as a page to read and to try, in the frame of the console.
//!
//! The page is open, like the document: it says nothing of the mirror. What it calls is sent with the reader's session, or with the
//! token that *Authorize* takes. Below the heading stands Swagger UI, a foreign script, so this page alone needs scripts.

use axum::extract::{Request, State};
use axum::response::Response;
use maud::html;

use super::frame::{Section, page_of_script};
use super::state::ConsoleState;
use super::visit::Visit;
use crate::api::entrance::caller_if_any;

/// `GET /docs`.
pub(super) async fn docs_page(State(state): State<ConsoleState>, request: Request) -> Response {
    let caller = caller_if_any(&state.api.sessions, &request);
    let visit = Visit::of_failure(&state, caller, request.headers(), request.uri()).await;
    let file = |name: &str| visit.url_of_file(&format!("/docs/{name}"));
    let body = html! {
        p { a href=(visit.url_of_file("/openapi.json")) { "openapi.json" } }
        noscript { p { (visit.text("docs-need-script")) } }
        link rel="stylesheet" href=(file("swagger-ui.css"));
        div id="document" lang="en" {}
        script src=(file("swagger-ui-bundle.js")) defer {}
        script src=(file("docs.js")) defer {}
    };
    page_of_script(&visit, Section::Docs, &visit.text("nav-docs"), &body)
}
