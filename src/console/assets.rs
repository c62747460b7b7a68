//! The style sheet and the script of the console, compiled in, each at an address that holds a hash of it.
//!
//! So a browser may keep them until the address changes (`immutable`), and a new version of the program never meets an old
//! style sheet. They need no login: they say nothing of the mirror.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use crate::api::errors::ApiError;

const STYLE: &str = concat!(
    include_str!("../../assets/console/console.css"),
    include_str!("../../assets/console/people.css")
);
const SCRIPT: &str = include_str!("../../assets/console/console.js");

/// The file names, with the hash in them.
static NAMES: LazyLock<[String; 2]> =
    LazyLock::new(|| [format!("console-{}.css", hash(STYLE)), format!("console-{}.js", hash(SCRIPT))]);

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The path of the style sheet.
#[must_use]
pub(crate) fn style_path() -> String {
    format!("/assets/{}", NAMES[0])
}

/// The path of the script.
#[must_use]
pub(crate) fn script_path() -> String {
    format!("/assets/{}", NAMES[1])
}

/// One of them, by its name.
pub(super) async fn asset(path: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let unknown = || ApiError::not_found("The console has no such file.");
    let Path(name) = path.map_err(|_| unknown())?;
    let (kind, text) = match NAMES.iter().position(|known| *known == name) {
        Some(0) => ("text/css; charset=utf-8", STYLE),
        Some(_) => ("text/javascript; charset=utf-8", SCRIPT),
        None => return Err(unknown()),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, text).into_response())
}
