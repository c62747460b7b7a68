//! The groups of a person's page: those that the person is in, with role and how it came about, and those that the person left,
//! with how, by whom and when.
//!
//! Both lists are pages of one call of the store, which looks through a limited number of memberships: a page may be short and
//! still go on.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::group_ask::query;
use super::group_head::status_chip;
use super::group_members::MemberLine;
use super::pieces::{group_link, moment, pager, table, unknown};
use super::sentence::clipped;
use super::sentence_html::fitting;
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::api::state::ApiState;
use crate::model::{SdkAppId, UserId};
use crate::store::members::{UserGroups, of_user};
use crate::store::{READ_WAIT_MAX, in_time};

/// How many groups a list has, and how many bytes of HTML its table may be.
const GROUPS_MAX: usize = 20;
const TABLE_BYTES_MAX: usize = 18_000;

/// How many characters of a group's name are shown.
const NAME_CHARS_MAX: usize = 80;

/// Which of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belonging {
    Now,
    Left,
}

/// Reads a page of a list.
///
/// # Errors
/// Those of the read.
pub(super) async fn groups_of(
    state: &ApiState,
    (app, user): (SdkAppId, &UserId),
    belonging: Belonging,
    behind: Option<&str>,
) -> Result<UserGroups, ApiError> {
    let present = Some(belonging == Belonging::Now);
    let mut connection = state.connection().await?;
    let read = of_user(&mut connection, app, user, present, behind, GROUPS_MAX);
    Ok(in_time(READ_WAIT_MAX, read).await?)
}

/// A list with its heading and its pager; `behind`: the name of the parameter that pages it, and its value.
pub(super) fn markup(
    visit: &Visit,
    belonging: Belonging,
    groups: UserGroups,
    behind: (&str, Option<&str>),
) -> Markup {
    let (title, none, heads): (_, _, &[&str]) = match belonging {
        Belonging::Now => (
            "person-groups-now",
            "person-no-groups-now",
            &["person-group", "member-role", "member-since", "member-came"],
        ),
        Belonging::Left => (
            "person-groups-left",
            "person-no-groups-left",
            &["person-group", "member-since", "member-until", "member-went"],
        ),
    };
    let heads: Vec<String> = heads.iter().map(|key| visit.text(key)).collect();
    let more = groups.next.is_some();
    let ids: Vec<String> = groups.rows.iter().map(|row| row.group.group_id.clone()).collect();
    let rows = groups.rows.into_iter().map(|row| {
            let group = html! {
                (group_link(visit, &row.group.group_id, row.group.name.as_deref().map(|name| clipped(name, NAME_CHARS_MAX)).as_deref()))
                @if row.group.status != "active" { " " (status_chip(visit, &row.group.status)) }
            };
        line(visit, belonging, &row.group.group_id, &group, &row.member.into())
    });
    let rows = fitting(rows, TABLE_BYTES_MAX);
    // A table that is full before its rows are all in it goes on behind the last one that is.
    let cut = ids.get(..rows.len()).filter(|_| rows.len() < ids.len()).and_then(<[_]>::last);
    let next = cut.cloned().or(groups.next);
    let (name, behind) = behind;
    let next = next.map(|next| query(visit, &[(name, Some(&next))]));
    let first = behind.map(|_| query(visit, &[]));
    html! {
        section class="person-groups" {
            h2 { (visit.text(title)) }
            @if rows.is_empty() && !more {
                p class="quiet" { (visit.text(none)) }
            } @else {
                (table(&visit.text(title), &heads, &rows))
            }
            (pager(visit, first.as_deref(), next.as_deref()))
        }
    }
}

fn line(visit: &Visit, belonging: Belonging, group: &str, shown: &Markup, line: &MemberLine) -> Markup {
    let time =
        |time: Option<DateTime<Utc>>| time.map_or_else(|| unknown(visit), |time| moment(visit, group, time));
    html! {
        th scope="row" { (shown) }
        @match belonging {
            Belonging::Now => {
                td { (line.role_text(visit)) }
                td { (time(line.joined_at)) }
                td { (line.came_phrase(visit)) }
            },
            Belonging::Left => {
                td { (time(line.joined_at)) }
                td { (time(line.left_at)) }
                td { (line.went_phrase(visit)) }
            },
        }
    }
}
