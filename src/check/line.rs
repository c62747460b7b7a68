//! One line of `check`: a level, what was looked at, what was found, and a remedy.
//!
//! Levels and subjects are closed lists with labels that never change, because scripts search for them, and the page that
//! describes them is compared with them by a test. What is shown as text is shown as one object of JSON as well.

use std::fmt;

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

/// How good what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CheckLevel {
    /// As it should be.
    Ok,
    /// It works now, and a person should know.
    Warning,
    /// It does not work.
    Wrong,
}

/// What was looked at. The labels never change: scripts search for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CheckSubject {
    /// Flags, environment, `.env`.
    Settings,
    /// Owner and mode of `DATA_DIR`.
    DataDir,
    /// Whether a file of it can be written and synced.
    Fsync,
    /// Space and kind of its volume.
    Volume,
    /// Whether a `serve` works on the directory.
    Service,
    /// Requests that a running `serve` did not take.
    Refusals,
    /// The spool's file, and what waits in it.
    Spool,
    /// The address of callbacks.
    CallbackListener,
    /// The internal address.
    ApiListener,
    /// Whether it is reached, its version, whether it takes writes.
    Database,
    /// What the role may do.
    Rights,
    /// The migrations.
    Schema,
    /// Whose database it is.
    DatabaseId,
    /// Its clock against this host's.
    DatabaseClock,
    /// How many it allows.
    Connections,
    /// Whether a failover can lose commits.
    Replication,
    /// The standby for reads.
    ReadDatabase,
    /// Whether old entries are pruned.
    Pruning,
    /// When each command was seen last.
    Callbacks,
    /// Event times against receipts.
    CallbackClock,
    /// The host of the REST API, its credentials.
    Tencent,
    /// Tencent's clock against this host's.
    TencentClock,
    /// How many groups Tencent has, and how many the mirror.
    Groups,
    /// The existing backend.
    Relay,
    /// The callback that was waited for.
    Wait,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckLine {
    /// How good it is.
    pub level: CheckLevel,
    /// What was looked at.
    pub subject: CheckSubject,
    /// Which one, where there are several: an app, a command, an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What was found.
    pub found: String,
    /// What to do; never absent where the level is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl CheckLine {
    /// As it should be.
    #[must_use]
    pub fn ok(subject: CheckSubject, found: impl Into<String>) -> Self {
        Self { level: CheckLevel::Ok, subject, of: None, found: found.into(), remedy: None }
    }

    /// Works, and a person should know.
    #[must_use]
    pub fn warning(subject: CheckSubject, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { level: CheckLevel::Warning, subject, of: None, found: found.into(), remedy }
    }

    /// Does not work.
    #[must_use]
    pub fn wrong(subject: CheckSubject, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: CheckLevel::Wrong, ..Self::warning(subject, found, remedy) }
    }

    /// The text of an error that ends with its remedy behind a semicolon, as those of this program do; `remedy` where it
    /// has none.
    #[must_use]
    pub fn wrong_by(subject: CheckSubject, error: &str, remedy: &str) -> Self {
        let (found, remedy) = error.split_once("; ").unwrap_or((error, remedy));
        Self::wrong(subject, found, remedy)
    }

    /// The same of one of several.
    #[must_use]
    pub fn of(self, of: impl fmt::Display) -> Self {
        Self { of: Some(of.to_string()), ..self }
    }
}

impl fmt::Display for CheckLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (level, subject): (&str, &str) = (self.level.into(), self.subject.into());
        write!(f, "{level:<8} {subject}")?;
        if let Some(of) = &self.of {
            write!(f, " {of}")?;
        }
        write!(f, ": {}", one_line(&self.found))?;
        match &self.remedy {
            Some(remedy) => write!(f, "; remedy: {}", one_line(remedy)),
            None => Ok(()),
        }
    }
}

/// A text of another program may hold line ends, and a line is a line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A number of bytes as a person reads it.
pub(super) fn bytes_shown(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = UNITS.iter().find(|(_, size)| bytes >= *size);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, size)| {
            let tenths = bytes / (size / 10).max(1);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}

/// A length of time in its largest unit.
pub(super) fn span_shown(secs: i64) -> String {
    match secs.unsigned_abs() {
        secs @ 0..=119 => format!("{secs} s"),
        secs @ 120..=7_199 => format!("{} min", secs / 60),
        secs @ 7_200..=172_799 => format!("{} h", secs / 3_600),
        secs => format!("{} days", secs / 86_400),
    }
}

/// Seconds with one digit behind the point, out of milliseconds.
pub(super) fn secs_shown(millis: i64) -> String {
    let tenths = millis.unsigned_abs() / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{CheckLine, CheckSubject, bytes_shown, secs_shown, span_shown};

    #[test]
    fn a_line_has_level_subject_what_was_found_and_a_remedy_and_no_line_end() {
        let line = CheckLine::wrong(CheckSubject::DataDir, "it is\nelsewhere", "look").of(7);
        assert_eq!(line.to_string(), "wrong    data_dir 7: it is elsewhere; remedy: look");
        let line = CheckLine::wrong_by(CheckSubject::Schema, "behind; run migrate; twice", "none");
        assert_eq!((line.found.as_str(), line.remedy.as_deref()), ("behind", Some("run migrate; twice")));
        assert_eq!(CheckLine::wrong_by(CheckSubject::Schema, "x", "y").remedy.as_deref(), Some("y"));
        assert_eq!(CheckLine::ok(CheckSubject::Rights, "all").to_string(), "ok       rights: all");
    }

    #[test]
    fn sizes_and_times_are_shown_in_their_largest_unit() {
        assert_eq!(
            [0, 1023, 1536, 3 << 29].map(bytes_shown),
            ["0 bytes", "1023 bytes", "1.5 KiB", "1.5 GiB"]
        );
        assert_eq!(
            [0, 119, 7_199, 7_200, -172_800].map(span_shown),
            ["0 s", "119 s", "119 min", "2 h", "2 days"]
        );
        assert_eq!([0, -1_550, 90_000].map(secs_shown), ["0.0 s", "1.5 s", "90.0 s"]);
    }
}
