//! The `version` command: what this program is, which schema and formats it has, and what the PostgreSQL inside it is.
//!
//! What stands here is what an operator compares before an upgrade or writes into a report: version, commit, newest
//! migration, numbers of the formats on disk. Bundled programs are updated by no distribution, so their age and origin
//! stand beside it. Needs neither settings nor a database.

use std::io::Write as _;
use std::process::ExitCode;

use chrono::DateTime;
use serde::Serialize;

use crate::api::CURSOR_VERSION;
use crate::clock;
use crate::embedded::{BundledPostgres, bundled_postgres};
use crate::spool::RECORD_VERSION;
use crate::store::schema::newest_migration;

/// The version of the program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built; `unknown` where the build did not know it.
pub(super) const COMMIT: &str = env!("GROUP_MIRROR_COMMIT");

/// The time of that commit in Unix seconds, or `unknown`.
const COMMIT_SECS: &str = env!("GROUP_MIRROR_COMMIT_DATE");

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct ProgramVersion {
    version: &'static str,
    /// Null where it is not known, as the date.
    commit: Option<&'static str>,
    date: Option<String>,
    schema: SchemaVersion,
    formats: FormatVersions,
    bundled_postgresql: Option<BundledVersion>,
}

/// The schema that the program works with.
#[derive(Debug, Serialize)]
struct SchemaVersion {
    /// The number of the newest migration.
    newest_migration: i64,
    migrations: usize,
}

/// The numbers of the formats that have one; docs/formats.md describes them.
#[derive(Debug, Serialize)]
struct FormatVersions {
    spool_record: u8,
    cursor: u8,
}

/// The PostgreSQL inside the program.
#[derive(Debug, Serialize)]
struct BundledVersion {
    version: &'static str,
    released: &'static str,
    months_old: i64,
    source: &'static str,
    sha256: &'static str,
}

impl ProgramVersion {
    fn of_this_program(now_ms: i64) -> Self {
        let known = |text: &'static str| (text != "unknown").then_some(text);
        let date = known(COMMIT_SECS).and_then(|secs| DateTime::from_timestamp(secs.parse().ok()?, 0));
        let (newest_migration, migrations) = newest_migration();
        let bundled = |bundled: BundledPostgres| BundledVersion {
            version: bundled.version,
            released: bundled.released,
            months_old: bundled.months_old(now_ms),
            source: bundled.source,
            sha256: bundled.digest,
        };
        Self {
            version: VERSION,
            commit: known(COMMIT),
            date: date.map(|date| date.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
            schema: SchemaVersion { newest_migration, migrations },
            formats: FormatVersions { spool_record: RECORD_VERSION, cursor: CURSOR_VERSION },
            bundled_postgresql: bundled_postgres().map(bundled),
        }
    }

    fn lines(&self) -> Vec<String> {
        let date = self.date.as_ref().map(|date| format!(" of {date}")).unwrap_or_default();
        let bundled = match &self.bundled_postgresql {
            None => "none".to_owned(),
            Some(bundled) => format!(
                "{}, released on {} ({} months ago), from the crate {}, SHA-256 {}",
                bundled.version, bundled.released, bundled.months_old, bundled.source, bundled.sha256
            ),
        };
        let (schema, formats) = (&self.schema, &self.formats);
        vec![
            format!("group-mirror {}", self.version),
            format!("commit: {}{date}", self.commit.unwrap_or("unknown")),
            format!("schema: migration {}, the newest of {}", schema.newest_migration, schema.migrations),
            format!("formats: record of the spool {}, cursor {}", formats.spool_record, formats.cursor),
            format!("bundled PostgreSQL: {bundled}"),
        ]
    }
}

/// `version`.
///
/// # Errors
/// A standard output that cannot be written.
pub fn version(json: bool) -> anyhow::Result<ExitCode> {
    let (mut out, version) = (std::io::stdout(), ProgramVersion::of_this_program(clock::now().get()));
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&version)?)?;
    } else {
        version.lines().iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
