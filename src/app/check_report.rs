//! What `check` prints: each line at once, as text or as JSON, and a count at the end that becomes the exit code.
//!
//! Findings go to standard output, which a script reads; what a person should do meanwhile goes to standard error. Exit
//! codes: 0 where nothing is wrong, warnings included; 1 where something is.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::check::{CheckLevel, CheckLine};

/// What was printed.
pub(super) struct CheckReport {
    json: bool,
    counts: [u32; 3],
}

impl CheckReport {
    pub(super) fn new(json: bool) -> Self {
        Self { json, counts: [0; 3] }
    }

    pub(super) fn add(&mut self, lines: impl IntoIterator<Item = CheckLine>) -> anyhow::Result<()> {
        for line in lines {
            assert!(line.level == CheckLevel::Ok || line.remedy.is_some(), "what is not ok has a remedy");
            self.counts[line.level as usize] += 1;
            self.print(&line)?;
        }
        Ok(())
    }

    pub(super) fn print<T: Serialize + std::fmt::Display>(&self, shown: &T) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(shown)? } else { shown.to_string() };
        Ok(writeln!(std::io::stdout(), "{text}")?)
    }

    /// What a person does now, on standard error: it is no finding.
    pub(super) fn hint(&self, seconds: u64) {
        let _ = writeln!(
            std::io::stderr(),
            "waiting up to {seconds} s for a callback; make a group in the app now, or change one"
        );
    }

    pub(super) fn end(&self) -> anyhow::Result<ExitCode> {
        let [ok, warnings, wrong] = self.counts;
        if !self.json {
            writeln!(std::io::stdout(), "{ok} ok, {warnings} warnings, {wrong} wrong")?;
        }
        Ok(if wrong > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}
