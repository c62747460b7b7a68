//! The console: pages for people at `/` of the internal listener, rendered here from the same store calls as the read API.
//!
//! [`pages`] is the list of paths. A page is a file with its handler and its markup; what pages share are the frame around
//! them (`frame`), small pieces (`pieces`), the visit with the reader's choices (`visit`, `preferences`), the message
//! catalogues (`language`), time zones (`zone`) and the first line (`trust`). Everything is a link or a form: a script adds
//! liveness and shortcuts. Nothing here changes anything but the reader's cookies.

mod app_entries;
mod asked;
mod assets;
mod chart;
mod choices;
mod deed;
mod docs_page;
mod entry;
mod entry_line;
mod failure;
mod feed_line;
mod frame;
mod group;
mod group_ask;
mod group_entries;
mod group_fields;
mod group_head;
mod group_member_tab;
mod group_members;
mod group_past;
mod group_rail;
mod group_raw;
mod groups;
mod groups_table;
mod health;
mod health_card;
mod health_database;
mod language;
mod live;
mod live_events;
mod login;
mod moment;
mod outcome;
mod parked;
mod person;
mod person_groups;
mod pieces;
mod preferences;
mod rail;
mod refused;
mod search;
mod sentence;
mod sentence_event;
mod sentence_html;
mod sentence_read;
mod sentence_writer;
pub mod state;
mod steps;
mod suffered;
mod trust;
mod visit;
pub mod wall;
mod zone;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::api::errors::ApiError;
use crate::api::{PageRoutes, in_work};
use state::ConsoleState;

/// The longest body of a form, in bytes.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// The pages, for the internal listener.
#[must_use]
pub fn pages(state: ConsoleState) -> PageRoutes {
    let guarded = Router::new()
        .route("/", get(live::live))
        .route("/groups", get(groups::groups))
        .route("/groups/{group_id}/raw", get(group_raw::raw_entries))
        .route("/users/{user_id}", get(person::person))
        .route("/moment", get(moment::moment_page))
        .route("/parked", get(parked::parked))
        .route("/entry", get(entry::entry))
        .route("/health", get(health::health))
        .route_layer(from_fn(in_work::in_time))
        // Folds take longer by right; each read of theirs is bounded.
        .route("/groups/{group_id}", get(group::group))
        .route("/live/events", get(live_events::events))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(state.clone());
    let open = Router::new()
        .route("/login", get(login::login_page).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/preferences", get(choices::preferences_page).post(choices::choose))
        .route("/assets/{name}", get(assets::asset))
        .route("/docs", get(docs_page::docs_page))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(state.clone());
    let around = Box::new(move |router: Router| router.layer(from_fn_with_state(state, failure::as_pages)));
    PageRoutes { guarded, open, around }
}
