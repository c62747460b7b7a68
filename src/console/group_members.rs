//! The tab "members" of a group: who is or was in it, in which role, and how and by whom each came and went.
//!
//! Rows of the present come from the store, those of a moment from its fold; both become a [`MemberLine`], so that one table
//! shows both.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::pieces::{moment, person_link, table, unknown};
use super::sentence::{SentencePart, Slot, clipped, compose};
use super::sentence_html::{fitting, said, time_of};
use super::visit::Visit;
use crate::model::{Millis, UserId};
use crate::replay::as_of::MemberAsOf;
use crate::store::members::MemberStateRow;

/// How many bytes of HTML a table may be on a page that has a head and a rail as well.
pub(super) const TABLE_BYTES_MAX: usize = 32_000;

/// How many characters of a name card are shown.
const CARD_CHARS_MAX: usize = 80;

/// How many characters of a word of Tencent's are shown.
const WORD_CHARS_MAX: usize = 32;

/// A membership as the page shows it.
#[derive(Debug, Clone)]
pub(super) struct MemberLine {
    pub(super) user: String,
    pub(super) present: bool,
    pub(super) role: String,
    pub(super) card: Option<String>,
    pub(super) joined_at: Option<DateTime<Utc>>,
    pub(super) came: Passage,
    pub(super) left_at: Option<DateTime<Utc>>,
    pub(super) went: Passage,
}

/// How a member came or went, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Passage {
    /// In Tencent's word.
    pub(super) how: Option<String>,
    pub(super) by: Option<String>,
}

impl From<MemberStateRow> for MemberLine {
    fn from(row: MemberStateRow) -> Self {
        Self {
            user: row.user_id,
            present: row.present,
            role: row.role,
            card: row.name_card,
            joined_at: row.joined_at,
            came: Passage { how: row.join_type, by: row.joined_by },
            left_at: row.left_at,
            went: Passage { how: row.exit_type, by: row.left_by },
        }
    }
}

impl From<&MemberAsOf> for MemberLine {
    fn from(MemberAsOf { user, state }: &MemberAsOf) -> Self {
        let time = |time: Option<Millis>| time.and_then(|time| time_of(time.get()));
        let id = |user: &Option<UserId>| user.as_ref().map(|user| user.as_str().to_owned());
        Self {
            user: user.as_str().to_owned(),
            present: state.present,
            role: state.role.to_owned(),
            card: state.name_card.clone(),
            joined_at: time(state.joined_at),
            came: Passage { how: state.join.how.clone(), by: id(&state.join.by) },
            left_at: time(state.left_at),
            went: Passage { how: state.exit.how.clone(), by: id(&state.exit.by) },
        }
    }
}

impl MemberLine {
    /// How it came about, as a phrase.
    pub(super) fn came_phrase(&self, visit: &Visit) -> Markup {
        let Passage { how, by } = &self.came;
        let key = match (how.as_deref(), by) {
            (Some("Invited"), Some(_)) => "came-invited-by",
            (Some("Invited"), None) => "came-invited",
            (Some("Apply"), Some(by)) if *by != self.user => "came-applied-by",
            (Some("Apply"), _) => "came-applied",
            (Some(_), _) => "came-otherwise",
            (None, Some(by)) if *by != self.user => "came-by",
            (None, _) => return unknown(visit),
        };
        phrase(visit, key, &self.came)
    }

    /// How it ended, as a phrase; nothing for one that has not.
    pub(super) fn went_phrase(&self, visit: &Visit) -> Markup {
        if self.present {
            return html! {};
        }
        let Passage { how, by } = &self.went;
        // The pages of Tencent call one field the leaver and the operator.
        let by = by.as_ref().filter(|by| **by != self.user);
        let key = match (how.as_deref(), by) {
            (Some("Kicked"), Some(_)) => "went-removed-by",
            (Some("Kicked"), None) => "went-removed",
            (Some("Quit"), _) => "went-left",
            (Some(_), _) => "went-otherwise",
            (None, _) => return html! { (visit.text("went-unknown")) },
        };
        phrase(visit, key, &self.went)
    }

    /// The role in the reader's language.
    pub(super) fn role_text(&self, visit: &Visit) -> String {
        match self.role.as_str() {
            "Owner" => visit.text("role-owner"),
            "Admin" => visit.text("role-admin"),
            _ => visit.text("role-member"),
        }
    }
}

fn phrase(visit: &Visit, key: &str, Passage { how, by }: &Passage) -> Markup {
    let by = SentencePart::Person(by.clone().unwrap_or_default());
    let how = SentencePart::Code(clipped(how.as_deref().unwrap_or_default(), WORD_CHARS_MAX));
    said(visit, &compose(visit.language(), key, &[("by", Slot::One(by)), ("how", Slot::One(how))]))
}

/// Members as a table, up to a number of bytes, and how many of them are in it; `with_past`: some of them may have left.
pub(super) fn members_table(
    visit: &Visit,
    group: &str,
    lines: &[MemberLine],
    with_past: bool,
) -> (Markup, usize) {
    let mut heads: Vec<String> = ["member-user", "member-role", "member-card", "member-since", "member-came"]
        .map(|key| visit.text(key))
        .into();
    if with_past {
        heads.extend(["member-until", "member-went"].map(|key| visit.text(key)));
    }
    let rows = fitting(lines.iter().map(|line| row(visit, group, line, with_past)), TABLE_BYTES_MAX);
    (table(&visit.text("group-tab-members"), &heads, &rows), rows.len())
}

fn row(visit: &Visit, group: &str, line: &MemberLine, with_past: bool) -> Markup {
    let time =
        |time: Option<DateTime<Utc>>| time.map_or_else(|| unknown(visit), |time| moment(visit, group, time));
    html! {
        th scope="row" { (person_link(visit, &line.user)) }
        td { (line.role_text(visit)) }
        td { @if let Some(card) = &line.card { bdi { (clipped(card, CARD_CHARS_MAX)) } } }
        td { (time(line.joined_at)) }
        td { (line.came_phrase(visit)) }
        @if with_past {
            td { @if !line.present { (time(line.left_at)) } }
            td { (line.went_phrase(visit)) }
        }
    }
}
