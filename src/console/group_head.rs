//! The head of a group's page: what the group is, now or as of a moment, and how fresh that is.
//!
//! Both ways lead to one [`GroupHead`], so that the past looks like the present. What is not known is said, never shown as
//! zero. Texts are cut where they are long: a name may have a mebibyte. A picture is shown as its address and never loaded.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::language::grouped;
use super::pieces::{chip, moment, person_link, time_at, unknown, whole_id};
use super::sentence::clipped;
use super::sentence_html::time_of;
use super::visit::Visit;
use crate::mirror::{GroupState, Status, are_members_known};
use crate::model::{Millis, UserId};
use crate::store::groups::GroupStateRow;

/// How many characters of the name stand in the heading, and of other texts in the head.
pub(super) const TITLE_CHARS_MAX: usize = 120;
const TEXT_CHARS_MAX: usize = 600;

/// What the head of the page shows.
#[derive(Debug, Clone)]
pub(super) struct GroupHead {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) group_type: Option<String>,
    /// `active`, `destroyed` or `unseen`.
    pub(super) status: String,
    owner: Option<String>,
    created_by: Option<String>,
    created_at: Option<DateTime<Utc>>,
    destroyed_at: Option<DateTime<Utc>>,
    /// Introduction, notice, address of the picture, who may join, who may invite.
    texts: [Option<String>; 5],
    mute_all: Option<bool>,
    most_members: Option<i64>,
    /// `None` where the number of rows would be a wrong answer.
    pub(super) members: Option<u64>,
    /// Of the present alone: when Tencent was asked last for the profile, and for the members.
    verified: Option<[Option<DateTime<Utc>>; 2]>,
}

/// The messages that name [`GroupHead::texts`].
const TEXT_KEYS: [&str; 5] = [
    "group-introduction",
    "group-notification",
    "group-face-url",
    "group-join-option",
    "group-invite-option",
];

impl GroupHead {
    /// Of the present. `rooms`: the membership of audio-video rooms is mirrored.
    pub(super) fn of_row(row: GroupStateRow, rooms: bool) -> Self {
        let are_known = are_members_known(row.group_type.as_deref(), row.has_all_members, rooms);
        let is_counted = are_known || row.status == Status::Destroyed.as_str();
        let members = row.member_count.and_then(|count| u64::try_from(count).ok());
        Self {
            id: row.group_id,
            name: row.name,
            group_type: row.group_type,
            status: row.status,
            owner: row.owner,
            created_by: row.created_by,
            created_at: row.created_at,
            destroyed_at: row.destroyed_at,
            texts: [
                row.introduction,
                row.notification,
                row.face_url,
                row.apply_join_option,
                row.invite_join_option,
            ],
            mute_all: row.mute_all,
            most_members: row.max_member_count,
            members: members.filter(|_| is_counted),
            verified: Some([row.verified_at, row.members_verified_at]),
        }
    }

    /// As of a moment, with the number of members that were present.
    pub(super) fn of_state(id: &str, state: &GroupState, present: usize, rooms: bool) -> Self {
        let are_known = are_members_known(state.group_type.as_deref(), state.has_all_members, rooms);
        let is_counted = are_known || state.status == Status::Destroyed;
        let user = |user: &Option<UserId>| user.as_ref().map(|user| user.as_str().to_owned());
        let time = |time: Option<Millis>| time.and_then(|time| time_of(time.get()));
        Self {
            id: id.to_owned(),
            name: state.name.clone(),
            group_type: state.group_type.clone(),
            status: state.status.as_str().to_owned(),
            owner: user(&state.owner),
            created_by: user(&state.created_by),
            created_at: time(state.created_at),
            destroyed_at: time(state.destroyed_at),
            texts: [
                state.introduction.clone(),
                state.notification.clone(),
                state.face_url.clone(),
                state.apply_join_option.clone(),
                state.invite_join_option.clone(),
            ],
            mute_all: state.mute_all,
            most_members: state.max_member_count,
            members: u64::try_from(present).ok().filter(|_| is_counted),
            verified: None,
        }
    }

    /// Of a group of which nothing but its id is known.
    pub(super) fn unknown(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: None,
            group_type: None,
            status: Status::Unseen.as_str().to_owned(),
            owner: None,
            created_by: None,
            created_at: None,
            destroyed_at: None,
            texts: Default::default(),
            mute_all: None,
            most_members: None,
            members: None,
            verified: None,
        }
    }

    /// The heading of the page.
    pub(super) fn title(&self) -> String {
        let name = self.name.as_deref().filter(|name| !name.trim().is_empty());
        clipped(name.unwrap_or(&self.id), TITLE_CHARS_MAX)
    }

    /// The head without its heading.
    pub(super) fn markup(&self, visit: &Visit) -> Markup {
        html! {
            p class="under-title" {
                (whole_id(&self.id)) " "
                @if let Some(group_type) = &self.group_type { (chip("type", &clipped(group_type, 40))) " " }
                (status_chip(visit, &self.status))
            }
            dl class="facts" {
                (fact(&visit.text("group-members"), &self.members_markup(visit)))
                (fact(&visit.text("group-owner"), &person_or_unknown(visit, self.owner.as_deref())))
                (fact(&visit.text("group-creator"), &person_or_unknown(visit, self.created_by.as_deref())))
                (fact(&visit.text("group-created"), &self.time(visit, self.created_at)))
                @if self.destroyed_at.is_some() {
                    (fact(&visit.text("group-destroyed"), &self.time(visit, self.destroyed_at)))
                }
                @for (key, text) in TEXT_KEYS.iter().zip(&self.texts) {
                    @if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                        (fact(&visit.text(key), &html! { span class="long" dir="auto" { (clipped(text, TEXT_CHARS_MAX)) } }))
                    }
                }
                @if let Some(muted) = self.mute_all {
                    @let key = if muted { "group-muted" } else { "group-not-muted" };
                    (fact(&visit.text("group-mute"), &html! { (visit.text(key)) }))
                }
                @if let Some(verified) = self.verified {
                    @for (key, time) in ["group-verified", "group-members-verified"].iter().zip(verified) {
                        @let shown = time.map_or_else(|| html! { (visit.text("group-never")) }, |time| time_at(visit, time));
                        (fact(&visit.text(key), &shown))
                    }
                }
            }
        }
    }

    fn members_markup(&self, visit: &Visit) -> Markup {
        let most = self.most_members.map(i128::from).map(grouped);
        html! {
            @match self.members {
                Some(members) => strong { (grouped(members)) },
                None => (unknown(visit)),
            }
            @if let Some(most) = most { span class="quiet" { " " (visit.text("group-of-most")) " " (most) } }
        }
    }

    fn time(&self, visit: &Visit, time: Option<DateTime<Utc>>) -> Markup {
        time.map_or_else(|| unknown(visit), |time| moment(visit, &self.id, time))
    }
}

/// A line of a list of facts.
pub(super) fn fact(name: &str, value: &Markup) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

/// A person, or that there is none that is known.
pub(super) fn person_or_unknown(visit: &Visit, id: Option<&str>) -> Markup {
    id.map_or_else(|| unknown(visit), |id| person_link(visit, id))
}

/// The status as a word in a frame.
pub(super) fn status_chip(visit: &Visit, status: &str) -> Markup {
    let key = match status {
        "active" => "status-active",
        "destroyed" => "status-destroyed",
        _ => "status-unseen",
    };
    chip(key, &visit.text(key))
}
