//! The frame around every page: first line, navigation, search, choices, one `h1`, the list of keys; and the headers of the
//! answer.
//!
//! Everything is a link or a form and works without script. The content security policy lets a page load one style sheet
//! and one script of this listener and nothing else: a name that were not escaped could run nothing, and a picture that
//! a group names is never loaded.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};
use strum::VariantArray as _;

use super::assets::{script_path, style_path};
use super::language::Language;
use super::pieces::{app_field, select};
use super::preferences::Theme;
use super::visit::Visit;

/// What a page may load, send and be shown in.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
    form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The same for a page that runs a foreign script of this listener.
const POLICY_OF_SCRIPT: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The headers of every page. The policy of referrers keeps `Origin` in forms, which `no-referrer` would take away.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The part of the console that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Live,
    Groups,
    Moment,
    Parked,
    Health,
    Docs,
    /// None of the navigation.
    Other,
}

/// The entries of the navigation: section, path, key of the message, the second key of its shortcut.
const NAVIGATION: [(Section, &str, &str, &str); 5] = [
    (Section::Live, "/", "nav-live", "l"),
    (Section::Groups, "/groups", "nav-groups", "g"),
    (Section::Moment, "/moment", "nav-moment", "m"),
    (Section::Parked, "/parked", "nav-parked", "p"),
    (Section::Health, "/health", "nav-health", "h"),
];

/// A whole page: `title` is its `h1` and the first words of its title.
pub(crate) fn page(visit: &Visit, section: Section, title: &str, body: &Markup) -> Response {
    page_with_status(visit, section, title, body, StatusCode::OK)
}

/// The same with another status.
pub(crate) fn page_with_status(
    visit: &Visit,
    section: Section,
    title: &str,
    body: &Markup,
    status: StatusCode,
) -> Response {
    let page = document(visit, section, title, body).into_string();
    let mut answer = (status, Body::from(page)).into_response();
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The page of a foreign script, which sets styles by attribute and whose style sheet holds its pictures.
pub(crate) fn page_of_script(visit: &Visit, section: Section, title: &str, body: &Markup) -> Response {
    let mut answer = page(visit, section, title, body);
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY_OF_SCRIPT));
    answer
}

fn document(visit: &Visit, section: Section, title: &str, body: &Markup) -> Markup {
    let preferences = &visit.preferences;
    let keys = if preferences.keys { "on" } else { "off" };
    html! {
        (DOCTYPE)
        html lang=(visit.language().tag()) data-theme=(preferences.theme.word()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex, nofollow";
                meta name="color-scheme" content="light dark";
                title { (title) " · group-mirror" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(visit.url_of_file(&style_path()));
                script src=(visit.url_of_file(&script_path())) defer {}
            }
            body data-keys=(keys) {
                a class="skip" href="#main" { (visit.text("skip")) }
                (top(visit, section))
                main id="main" tabindex="-1" {
                    h1 dir="auto" { (title) }
                    (body)
                }
                (foot(visit))
            }
        }
    }
}

fn top(visit: &Visit, section: Section) -> Markup {
    html! {
        header {
            @if let Some(trust) = &visit.trust {
                p id="trust" class="trust" data-stale=(visit.text("trust-stale")) { (trust.line(visit.language(), |path| visit.url(path))) }
            }
            @if visit.caller.is_some() {
                div class="bar" {
                    nav aria-label=(visit.text("nav")) {
                        @for (of, path, key, shortcut) in NAVIGATION {
                            @let is_here = of == section;
                            a href=(visit.url(path)) aria-current=[is_here.then_some("page")] data-go=(shortcut) {
                                (visit.text(key))
                            }
                        }
                        @let is_here = section == Section::Docs;
                        a href=(visit.url("/docs")) aria-current=[is_here.then_some("page")] { (visit.text("nav-docs")) }
                        a href="#choices" { (visit.language().own_name()) " · " (visit.zone().name().replace('_', " ")) }
                    }
                    (search_box(visit))
                }
                (app_choice(visit))
            }
        }
    }
}

/// The one search box.
fn search_box(visit: &Visit) -> Markup {
    html! {
        form role="search" action=(visit.url_of_file("/groups")) {
            (app_field(visit))
            label {
                span class="hidden" { (visit.text("search-label")) }
                input id="search" type="search" name="q" maxlength="512" autocomplete="off" dir="auto"
                    placeholder=(visit.text("search-hint"));
            }
            button { (visit.text("search-button")) }
        }
    }
}

/// The choice of an app, where there are several.
fn app_choice(visit: &Visit) -> Markup {
    html! {
        @if visit.apps.len() > 1 {
            nav class="apps" aria-label=(visit.text("apps")) {
                span { (visit.text("apps")) }
                @for app in &visit.apps {
                    @let is_here = *app == visit.app;
                    a href=(visit.with_app(*app)) aria-current=[is_here.then_some("true")] { (app) }
                }
            }
        }
    }
}

fn foot(visit: &Visit) -> Markup {
    html! {
        footer {
            (choices(visit))
            @if visit.caller.is_some() {
                details id="keys" {
                    summary { (visit.text("keys-title")) }
                    (keys(visit))
                }
                (leave(visit))
            }
            p class="quiet" { "group-mirror " (env!("CARGO_PKG_VERSION")) " · " (visit.text("foot-reads-only")) }
        }
    }
}

/// Language, zone and colours.
fn choices(visit: &Visit) -> Markup {
    let preferences = &visit.preferences;
    let zones: Vec<_> = preferences
        .zone
        .choices()
        .iter()
        .map(|zone| (zone.name().to_owned(), zone.name().replace('_', " ")))
        .collect();
    let themes: Vec<_> = Theme::VARIANTS
        .iter()
        .map(|theme| {
            let text = match theme {
                Theme::Auto => visit.text("theme-auto"),
                Theme::Light => visit.text("theme-light"),
                Theme::Dark => visit.text("theme-dark"),
            };
            (theme.word().to_owned(), text)
        })
        .collect();
    let languages: Vec<_> = Language::VARIANTS
        .iter()
        .map(|language| (language.tag().to_owned(), language.own_name().to_owned()))
        .collect();
    let switches = [("on".to_owned(), visit.text("keys-on")), ("off".to_owned(), visit.text("keys-off"))];
    let keys = if preferences.keys { "on" } else { "off" };
    html! {
        form id="choices" class="choices" method="post" action=(visit.url_of_file("/preferences")) aria-label=(visit.text("choices")) {
            input type="hidden" name="back" value=(visit.here);
            (select("lang", &visit.text("choice-language"), preferences.language.tag(), &languages))
            (select("tz", &visit.text("choice-zone"), preferences.zone.name(), &zones))
            (select("theme", &visit.text("choice-theme"), preferences.theme.word(), &themes))
            (select("keys", &visit.text("choice-keys"), keys, &switches))
            button { (visit.text("choices-keep")) }
            a href=(visit.url("/preferences")) { (visit.text("choice-all-zones")) }
        }
        form id="next-theme" class="hidden" method="post" action=(visit.url_of_file("/preferences")) {
            input type="hidden" name="back" value=(visit.here);
            input type="hidden" name="theme" value=(preferences.theme.next().word());
        }
    }
}

fn keys(visit: &Visit) -> Markup {
    let lines = [
        ("/", "key-search"),
        ("g l", "nav-live"),
        ("g g", "nav-groups"),
        ("g m", "nav-moment"),
        ("g p", "nav-parked"),
        ("g h", "nav-health"),
        (".", "key-pause"),
        ("[ ]", "key-steps"),
        ("t", "key-theme"),
        ("?", "key-keys"),
    ];
    html! {
        dl class="keys" {
            @for (key, text) in lines {
                div { dt { kbd { (key) } } dd { (visit.text(text)) } }
            }
        }
    }
}

/// Who is logged in, and the way out.
fn leave(visit: &Visit) -> Markup {
    html! {
        @if let Some(caller) = &visit.caller {
            form class="leave" method="post" action=(visit.url_of_file("/logout")) {
                span { (visit.text("caller")) " " bdi { (caller.name) } }
                @if visit.can_log_out() { button { (visit.text("log-out")) } }
            }
        }
    }
}
