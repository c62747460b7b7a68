//! Evidence that a command fails in every group: a table which its callbacks write is locked or refuses as a whole.
//!
//! One group that fails alone is set aside by itself. Where group after group fails and none is committed, each further
//! one would wait for the same lock, so that every callback would take PostgreSQL's whole share of its time. So the
//! command as a whole is set aside: its callbacks go to the spool at once, and those of other commands are committed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::callback::Callback;
use crate::model::{GroupId, SdkAppId};

/// In so many groups a command fails until it is set aside as a whole: more than a few rows that one session has locked,
/// and fewer than the parts of a batch that are tried in a row.
const GROUPS_MIN: usize = 8;

/// Within this time: a lane that waits for a lock finds some three groups in a second. Failures that are further apart have
/// causes of their own.
const WINDOW: Duration = Duration::from_secs(3);

/// A command of an app.
type CommandKey = (SdkAppId, String);

/// The groups in which a command has failed since one of its callbacks was committed.
#[derive(Debug)]
struct FailingGroups {
    since: Instant,
    groups: HashSet<String>,
}

/// By command: those that failed within [`WINDOW`], with [`GROUPS_MIN`] groups each.
#[derive(Debug, Default)]
pub(super) struct Evidence(HashMap<CommandKey, FailingGroups>);

impl Evidence {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A callback was committed: its command does not fail everywhere.
    pub(super) fn committed(&mut self, callback: &Callback) {
        self.0.remove(&key_of(callback));
    }

    /// A callback failed by a lock or a refusal; true when that completes the evidence, which then begins anew.
    pub(super) fn failed(&mut self, callback: &Callback, now: Instant) -> bool {
        self.0.retain(|_, failing| failing.since + WINDOW >= now);
        let key = key_of(callback);
        let group = callback.group.as_ref().map_or("", GroupId::as_str).to_owned();
        let fresh = || FailingGroups { since: now, groups: HashSet::new() };
        let failing = self.0.entry(key.clone()).or_insert_with(fresh);
        failing.groups.insert(group);
        assert!(failing.groups.len() <= GROUPS_MIN, "complete evidence is taken away at once");
        let complete = failing.groups.len() == GROUPS_MIN;
        if complete {
            self.0.remove(&key);
        }
        complete
    }
}

fn key_of(callback: &Callback) -> CommandKey {
    (callback.received.app, callback.command.clone())
}
