//! The `openapi` command: prints the document of this version.
//!
//! Needs neither settings nor a database; the same text is served as `/openapi.json`.

use std::io::Write as _;
use std::process::ExitCode;

use crate::api;

/// `openapi`.
///
/// # Errors
/// A standard output that cannot be written.
pub fn openapi() -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(api::document_text()?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
