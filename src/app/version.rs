//! The `version` command: what this program is, and what the PostgreSQL inside it is.
//!
//! Bundled programs are updated by no distribution, so their age and origin stand beside the version. Needs neither settings
//! nor a database.

use std::io::Write as _;
use std::process::ExitCode;

use crate::clock;
use crate::embedded::bundled_postgres;

/// `version`.
///
/// # Errors
/// A standard output that cannot be written.
pub fn version() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    writeln!(out, "group-mirror {}", env!("CARGO_PKG_VERSION"))?;
    match bundled_postgres() {
        Some(bundled) => writeln!(
            out,
            "bundled PostgreSQL: {}, released on {} ({} months ago), from the crate {}, SHA-256 {}",
            bundled.version,
            bundled.released,
            bundled.months_old(clock::now().get()),
            bundled.source,
            bundled.digest
        )?,
        None => writeln!(out, "bundled PostgreSQL: none")?,
    }
    Ok(ExitCode::SUCCESS)
}
