//! `/preferences`: the reader's choices, kept in cookies; with every time zone there is.
//!
//! The page is open, because a login page has a language too. It leads back to the page that sent the form, if that is one of
//! this host. The cookies say nothing about who reads.

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::html;

use super::frame::{Section, page};
use super::pieces::select;
use super::preferences::Preferences;
use super::state::ConsoleState;
use super::visit::Visit;
use super::zone::Zone;
use crate::api::entrance::caller_if_any;

/// `GET /preferences`: all choices, with every zone of the tz database.
pub(super) async fn preferences_page(State(state): State<ConsoleState>, request: Request) -> Response {
    let caller = caller_if_any(&state.api.sessions, &request);
    let (headers, uri) = (request.headers(), request.uri());
    let visit = Visit::of_failure(&state, caller, headers, uri).await;
    let zones: Vec<_> =
        Zone::all().map(|zone| (zone.name().to_owned(), zone.name().replace('_', " "))).collect();
    let body = html! {
        p { (visit.text("zones-meaning")) }
        form class="choices" method="post" action=(visit.url_of_file("/preferences")) {
            input type="hidden" name="back" value="/preferences";
            (select("tz", &visit.text("choice-zone"), visit.zone().name(), &zones))
            button { (visit.text("choices-keep")) }
        }
    };
    page(&visit, Section::Other, &visit.text("choices"), &body)
}

/// `POST /preferences`: keeps choices in cookies, and leads back to the page that sent them.
pub(super) async fn choose(State(state): State<ConsoleState>, headers: HeaderMap, body: Bytes) -> Response {
    let chosen = Preferences::of(&headers).with_form(&body);
    let prefix = state.prefix();
    let back = form_urlencoded::parse(&body).find(|(name, _)| name == "back");
    let back = back.map(|(_, value)| value.into_owned()).filter(|back| is_own_path(back));
    let back = back.unwrap_or_else(|| "/".to_owned());
    let path = if prefix.is_empty() { "/" } else { prefix };
    redirect(&format!("{prefix}{back}"), chosen.cookies(path))
}

/// A path that a browser takes for one of this host: one slash, and nothing that it would read as another.
fn is_own_path(path: &str) -> bool {
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    is_plain && path.starts_with('/') && !path.starts_with("//")
}

/// 303 with cookies.
pub(super) fn redirect(target: &str, cookies: Vec<HeaderValue>) -> Response {
    let mut answer = StatusCode::SEE_OTHER.into_response();
    let headers = answer.headers_mut();
    if let Ok(target) = HeaderValue::from_str(target) {
        headers.insert(header::LOCATION, target);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::is_own_path;

    #[test]
    fn choices_lead_back_to_this_host_alone() {
        for (path, is_own) in [
            ("/groups?q=a%20b", true),
            ("/", true),
            ("//evil.example", false),
            ("/\\evil.example", false),
            ("https://evil.example", false),
            ("/a\nSet-Cookie: x", false),
            ("", false),
        ] {
            assert_eq!(is_own_path(path), is_own, "{path}");
        }
    }
}
