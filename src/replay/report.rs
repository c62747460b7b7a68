//! What replay found: counts, and one line for each row of the mirror that differs.
//!
//! The number of lines has a limit; differences beyond it are counted.

use std::collections::BTreeSet;

use crate::store::lines::{self, LineKey, Lines};

/// How many differences get a line; the rest is counted.
const LINES_MAX: usize = 100;

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Ledger entries folded.
    pub ledger_rows: u64,
    /// Rows of the mirror compared.
    pub mirror_rows: u64,
    /// Rows that differ, are missing, or are too many.
    pub differences: u64,
    /// Tables and views that were not there and were made.
    pub restored: Vec<String>,
    /// One line each, [`LINES_MAX`] at most.
    pub lines: Vec<String>,
    /// Entries that this version can read further than the one that took them; no differences. `--parked` applies them.
    pub readable: u64,
    /// One line each, [`LINES_MAX`] at most.
    pub readable_lines: Vec<String>,
}

impl Report {
    /// Counts entries that were applied and cannot be read, as differences.
    pub(super) fn add_unreadable(&mut self, lines: &[String]) {
        let left = LINES_MAX.saturating_sub(self.lines.len());
        self.lines.extend(lines.iter().take(left).cloned());
        self.differences += lines.len() as u64;
    }

    /// Counts entries that can be read further by now; they are no differences.
    pub(super) fn add_readable(&mut self, lines: &[String]) {
        let left = LINES_MAX.saturating_sub(self.readable_lines.len());
        self.readable_lines.extend(lines.iter().take(left).cloned());
        self.readable += lines.len() as u64;
    }

    /// Counts a difference that is described already.
    pub(super) fn add_line(&mut self, line: String) {
        self.differences += 1;
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        }
    }

    /// Compares what the tables hold with what a fold makes, row by row; true if anything differs. The groups that are
    /// spared differ for another reason, which is reported apart.
    pub(super) fn compare(&mut self, held: &Lines, wanted: &Lines, spared: &BTreeSet<(i64, String)>) -> bool {
        let before = self.differences;
        let is_spared =
            |(_, app, group, _): &LineKey| !spared.is_empty() && spared.contains(&(*app, group.clone()));
        self.mirror_rows += wanted.len() as u64;
        for (key, values) in wanted.iter().filter(|(key, _)| !is_spared(key)) {
            match held.get(key) {
                None => self.add(key, "is missing"),
                Some(held) if held != values => self.add(key, &differing_columns(key.0, held, values)),
                Some(_) => {}
            }
        }
        for key in held.keys().filter(|key| !wanted.contains_key(*key) && !is_spared(key)) {
            self.add(key, "is not in the ledger");
        }
        self.differences > before
    }

    fn add(&mut self, (table, app, group, rest): &LineKey, difference: &str) {
        let rest = if rest.is_empty() { String::new() } else { format!(" {rest:?}") };
        self.add_line(format!("{table} {app} {group:?}{rest}: {difference}"));
    }
}

/// The columns that differ, with both values.
fn differing_columns(table: &str, held: &[Option<String>], wanted: &[Option<String>]) -> String {
    assert_eq!(held.len(), wanted.len(), "both sides have the columns of the table");
    let tables = lines::tables();
    let names = tables.iter().find(|known| known.table == table).map_or(&[][..], |known| &known.columns);
    let differing = names.iter().zip(held.iter().zip(wanted)).filter(|(_, (held, wanted))| held != wanted);
    let described = differing.map(|((name, _), (held, wanted))| {
        let show =
            |value: &Option<String>| value.as_ref().map_or("NULL".to_owned(), |text| format!("{text:?}"));
        format!("{name} is {}, the ledger says {}", show(held), show(wanted))
    });
    described.collect::<Vec<_>>().join("; ")
}
