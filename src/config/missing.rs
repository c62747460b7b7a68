//! Required settings that are not set: all of them in one error, a sentence for each.
//!
//! A person sets them in one go, and `check` makes a line of each.

use super::apps::NO_APP;
use super::loopback::NO_CALLBACK_TOKEN;

/// Required settings that are not set, a line for each.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.join(". "))]
pub(super) struct MissingSettings(pub(super) Vec<&'static str>);

/// The error that names what is missing.
pub(super) fn missing(app: bool, callback_token: bool, api_token: bool) -> anyhow::Error {
    let lines = [
        (app, NO_APP),
        (callback_token, NO_CALLBACK_TOKEN),
        (
            api_token,
            "API_TOKEN is not set; set it to one or more bearer tokens, or say API_AUTH=none on a loopback listener",
        ),
    ];
    let lines: Vec<&str> = lines.iter().filter(|(missing, _)| *missing).map(|(_, line)| *line).collect();
    assert!(!lines.is_empty(), "an error names what is missing");
    MissingSettings(lines).into()
}
