//! What the one search box leads to: the page of the group or the person whose id it is, else the groups whose name holds it.
//!
//! One hit goes there at once. An id that a group and a person share leads to a choice between the two.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::html;

use super::frame::{Section, page};
use super::groups_table::{group_rows, no_groups};
use super::pieces::{WORD_CHARS_MAX, group_link, person_link};
use super::sentence::clipped;
use super::state::ConsoleState;
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::api::groups::listed;
use crate::model::{UserId, storable};
use crate::store::search::{KnownAs, known_as};

/// How many groups are shown whose name fits.
const LIMIT: &str = "50";

/// The page for what was typed.
pub(super) async fn search(state: &ConsoleState, visit: &Visit, typed: &str) -> Result<Response, ApiError> {
    let typed = storable(typed.trim());
    // What is too long for an id is none, and the list says what is wrong with it as a name.
    let known = if UserId::parse(&typed).is_ok() {
        let mut conn = state.api.lookup_connection().await?;
        known_as(&mut conn, visit.app, &typed).await?
    } else {
        KnownAs { group: false, user: false }
    };
    match known {
        KnownAs { group: true, user: false } => return Ok(go_to(&visit.group_url(&typed))),
        KnownAs { group: false, user: true } => return Ok(go_to(&visit.user_url(&typed))),
        KnownAs { group: true, user: true } => return Ok(choice(visit, &typed)),
        KnownAs { group: false, user: false } => {}
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("limit", LIMIT)
        .append_pair("status", "all")
        .append_pair("name", &typed)
        .append_pair("sdk_app_id", &visit.app.to_string())
        .finish();
    let found = listed(&state.api, visit.known_caller()?, Some(&query)).await?;
    if let ([only], None) = (found.items.as_slice(), &found.next_cursor) {
        return Ok(go_to(&visit.group_url(&only.group_id)));
    }
    let all = visit.url_with("/groups", &[("name", &typed), ("status", "all")]);
    let body = html! {
        p { (visit.text("search-for")) " " bdi class="typed" { (clipped(&typed, WORD_CHARS_MAX)) } }
        @if found.items.is_empty() {
            (no_groups(visit, "search-nothing", "search-nothing-hint", "/groups"))
        } @else {
            (group_rows(visit, &found.items))
            @if found.next_cursor.is_some() { p { a href=(all) { (visit.text("search-all")) } } }
        }
    };
    Ok(page(visit, Section::Groups, &visit.text("search-title"), &body))
}

fn choice(visit: &Visit, typed: &str) -> Response {
    let body = html! {
        p { (visit.text("search-both")) }
        ul {
            li { (visit.text("column-group")) ": " (group_link(visit, typed, None)) }
            li { (visit.text("column-person")) ": " (person_link(visit, typed)) }
        }
    };
    page(visit, Section::Groups, &visit.text("search-title"), &body)
}

/// 303: the hit has an address of its own, which is worth sharing.
fn go_to(url: &str) -> Response {
    let mut answer = StatusCode::SEE_OTHER.into_response();
    if let Ok(url) = HeaderValue::from_str(url) {
        answer.headers_mut().insert(header::LOCATION, url);
    }
    answer
}
