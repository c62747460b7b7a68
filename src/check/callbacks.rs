//! What the ledger shows of callbacks: when each command was seen last, and how event times stand to receipts.
//!
//! Each callback has a switch of its own in Tencent's console, and one that is off is never sent: no count and no log
//! line shows it. What shows it is a command that never came although groups exist, so each stands beside what stays
//! wrong in the mirror without it.

use chrono::{DateTime, SecondsFormat, Utc};

use super::line::{CheckLine, CheckSubject, secs_shown, span_shown};
use crate::callback::STATE_COMMANDS;
use crate::model::{Millis, SdkAppId};
use crate::store::condition::{self, GroupTotals, ReceiptDelays, SeenCommands};
use crate::store::{Database, READ_WAIT_MAX, in_time};

/// A callback that was received this much before its event: this host's clock stands behind Tencent's, beyond what the
/// servers of Tencent differ among each other.
const BEFORE_EVENT_MAX_MS: i64 = 3_000;

/// Where even the quickest callback took as long, this host's clock stands ahead, or something holds callbacks up.
const QUICKEST_MAX_MS: i64 = 30_000;

/// Whose switch a command has in the console, and what stays wrong in the mirror while that is off.
struct CommandSwitch {
    command: &'static str,
    switch: &'static str,
    explains: &'static str,
    /// Of communities alone.
    of_topics: bool,
}

const fn own(command: &'static str, explains: &'static str) -> CommandSwitch {
    CommandSwitch { command, switch: command, explains, of_topics: false }
}

/// Topic callbacks have no switches of their own.
const fn of_topics(command: &'static str, switch: &'static str, explains: &'static str) -> CommandSwitch {
    CommandSwitch { command, switch, explains, of_topics: true }
}

const SWITCHES: [CommandSwitch; 11] = [
    own("Group.CallbackAfterCreateGroup", "new groups stay unseen or missing"),
    own("Group.CallbackAfterNewMemberJoin", "members are missing"),
    own("Group.CallbackAfterMemberExit", "members that left are still shown"),
    own("Group.CallbackAfterGroupDestroyed", "destroyed groups are still shown"),
    own("Group.CallbackAfterGroupInfoChanged", "names, introductions, notices and pictures are old"),
    own("Group.CallbackAfterMemberFieldChanged", "roles and name cards are old"),
    own("Group.CallbackAfterGroupAttrChanged", "attributes are missing or old"),
    own("Group.CallbackAfterChangeGroupOwner", "owners are old"),
    of_topics("Group.CallbackAfterCreateTopic", "Group.CallbackAfterCreateGroup", "topics are missing"),
    of_topics(
        "Group.CallbackAfterTopicDestroyed",
        "Group.CallbackAfterGroupDestroyed",
        "ended topics are still shown",
    ),
    of_topics("Group.CallbackAfterTopicInfoChanged", "Group.CallbackAfterGroupInfoChanged", "topics are old"),
];

/// What was read of one app.
#[derive(Debug, Clone)]
pub struct AppLines {
    /// The lines.
    pub lines: Vec<CheckLine>,
    /// The groups of the mirror, where they could be counted.
    pub totals: Option<GroupTotals>,
}

/// Looks at the ledger and the mirror of an app, each read by itself within the time limit of a read: counting a million
/// groups must not hide when callbacks came.
pub async fn of_app(database: &Database, app: SdkAppId, now: Millis) -> AppLines {
    let reader = database.reader();
    let totals =
        in_time(READ_WAIT_MAX, async { condition::group_totals(&mut *reader.acquire().await?, app).await });
    let totals = totals.await.ok();
    let seen =
        in_time(READ_WAIT_MAX, async { condition::seen_commands(&mut *reader.acquire().await?, app).await });
    let mut lines = match seen.await {
        Ok(seen) => command_lines(&seen, totals, now),
        Err(_) => {
            let remedy = "try again while the database is less busy";
            vec![CheckLine::warning(CheckSubject::Callbacks, "the ledger could not be read in time", remedy)]
        }
    };
    let delays =
        in_time(READ_WAIT_MAX, async { condition::receipt_delays(&mut *reader.acquire().await?, app).await });
    lines.extend(delays.await.ok().flatten().map(delay_line));
    AppLines { lines: lines.into_iter().map(|line| named(line, app)).collect(), totals }
}

/// The app stands before the command.
fn named(line: CheckLine, app: SdkAppId) -> CheckLine {
    let of = line.of.as_ref().map_or_else(|| app.to_string(), |of| format!("{app} {of}"));
    line.of(of)
}

fn command_lines(seen: &SeenCommands, totals: Option<GroupTotals>, now: Millis) -> Vec<CheckLine> {
    assert_eq!(SWITCHES.len(), STATE_COMMANDS.len(), "each command of the mirror has a switch");
    SWITCHES.iter().map(|switch| command_line(switch, seen, totals, now).of(switch.command)).collect()
}

fn command_line(
    switch: &CommandSwitch,
    seen: &SeenCommands,
    totals: Option<GroupTotals>,
    now: Millis,
) -> CheckLine {
    if let Some(known) = seen.commands.iter().find(|known| known.command == switch.command) {
        let age = (now.get() - known.last_at.timestamp_millis()).max(0) / 1000;
        let found = format!("last seen at {}, {} ago", shown(known.last_at), span_shown(age));
        return CheckLine::ok(CheckSubject::Callbacks, found);
    }
    if !seen.is_all() {
        let since = seen.since.map_or_else(String::new, |since| format!(", since {}", shown(since)));
        let found = format!("not among the last {} entries of the ledger{since}", seen.looked_at);
        return CheckLine::ok(CheckSubject::Callbacks, found);
    }
    let Some(totals) = totals else {
        let found = "never seen; the groups of the mirror could not be counted in time";
        return CheckLine::ok(CheckSubject::Callbacks, found);
    };
    let exist = if switch.of_topics { totals.communities } else { totals.active + totals.unseen };
    let what = if switch.of_topics { "communities" } else { "groups" };
    if exist == 0 {
        return CheckLine::ok(CheckSubject::Callbacks, format!("never seen; the mirror has no {what}"));
    }
    CheckLine::warning(
        CheckSubject::Callbacks,
        format!(
            "never seen, and the mirror has {exist} {what}; while it is switched off {}",
            switch.explains
        ),
        format!(
            "look at the switch of {} in Tencent's console; where it is on, nothing of the kind has happened yet",
            switch.switch
        ),
    )
}

fn delay_line(delays: ReceiptDelays) -> CheckLine {
    let least = secs_shown(delays.least_ms);
    let side = if delays.least_ms < 0 { "before" } else { "after" };
    let found = format!(
        "of {} callbacks of the last day the quickest was received {least} {side} its event, half of them within {}{}",
        delays.callbacks,
        if delays.median_ms < 0 { "-" } else { "" },
        secs_shown(delays.median_ms)
    );
    if delays.least_ms < -BEFORE_EVENT_MAX_MS {
        let remedy = "synchronise this host (NTP): its clock stands behind Tencent's";
        return CheckLine::warning(CheckSubject::CallbackClock, found, remedy);
    }
    if delays.least_ms > QUICKEST_MAX_MS {
        let remedy =
            "synchronise this host (NTP), or look at what holds callbacks up on their way, such as a proxy";
        return CheckLine::warning(CheckSubject::CallbackClock, found, remedy);
    }
    CheckLine::ok(CheckSubject::CallbackClock, found)
}

/// A time as it stands in every answer of the read API, in whole seconds.
pub(super) fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::line::CheckLevel;
    use crate::store::condition::{ENTRIES_LOOKED_AT_MAX, SeenCommand};

    #[test]
    fn every_command_of_the_mirror_has_its_switch() {
        for (switch, command) in SWITCHES.iter().zip(STATE_COMMANDS) {
            assert_eq!(switch.command, command);
            assert!(STATE_COMMANDS.contains(&switch.switch));
        }
    }

    #[test]
    fn a_command_is_missed_only_where_groups_exist_and_the_whole_ledger_was_read() {
        let level = |seen: &SeenCommands, totals, at: usize| {
            command_line(&SWITCHES[at], seen, Some(totals), Millis::new(0)).level
        };
        let (none, some) = (GroupTotals::default(), GroupTotals { active: 2, communities: 0, unseen: 0 });
        let all = SeenCommands { looked_at: 5, ..SeenCommands::default() };
        assert_eq!(level(&all, none, 1), CheckLevel::Ok);
        assert_eq!(level(&all, some, 1), CheckLevel::Warning);
        assert_eq!(level(&all, some, 8), CheckLevel::Ok, "topics without a community");
        assert_eq!(level(&all, GroupTotals { communities: 1, ..some }, 8), CheckLevel::Warning);
        let part = SeenCommands { looked_at: ENTRIES_LOOKED_AT_MAX, ..all.clone() };
        assert_eq!(level(&part, some, 1), CheckLevel::Ok);
        let command = SeenCommand {
            command: SWITCHES[1].command.to_owned(),
            last_at: DateTime::from_timestamp_millis(1_767_225_600_000).unwrap(),
            count: 1,
        };
        let seen = SeenCommands { commands: vec![command], ..all };
        let line = command_line(&SWITCHES[1], &seen, Some(some), Millis::new(1_767_225_690_000));
        assert_eq!(line.found, "last seen at 2026-01-01T00:00:00Z, 90 s ago");
    }

    #[test]
    fn a_clock_behind_tencents_and_a_quickest_callback_that_took_long_are_warnings() {
        let level = |least_ms| delay_line(ReceiptDelays { callbacks: 3, least_ms, median_ms: 200 }).level;
        assert_eq!([level(-3_000), level(150), level(30_000)], [CheckLevel::Ok; 3]);
        assert_eq!([level(-3_001), level(30_001)], [CheckLevel::Warning; 2]);
    }
}
