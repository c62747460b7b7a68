//! The table of groups, as the list and the search show it, and what stands in its place where there is none.
//!
//! A name leads to the page of the group, a time to the group as it was then. Pure.

use maud::{Markup, html};

use super::language::grouped;
use super::pieces::{WORD_CHARS_MAX, chip, empty, group_link, moment, person_link, table, whole_id};
use super::sentence::clipped;
use super::visit::Visit;
use crate::store::groups::GroupStateRow;

/// The table of groups.
pub(crate) fn group_rows(visit: &Visit, groups: &[GroupStateRow]) -> Markup {
    let is_counted = groups.iter().any(|group| group.member_count.is_some());
    let mut heads: Vec<String> =
        ["column-group", "column-type", "column-status", "column-owner", "column-created", "column-changed"]
            .map(|key| visit.text(key))
            .into();
    if is_counted {
        heads.insert(4, visit.text("column-members"));
    }
    let rows: Vec<Markup> = groups.iter().map(|group| row(visit, group, is_counted)).collect();
    table(&visit.text("groups-table"), &heads, &rows)
}

fn row(visit: &Visit, group: &GroupStateRow, is_counted: bool) -> Markup {
    let has_name = group.name.as_deref().is_some_and(|name| !name.trim().is_empty());
    html! {
        th scope="row" {
            (group_link(visit, &group.group_id, group.name.as_deref()))
            @if has_name { br; (whole_id(&group.group_id)) }
        }
        td { @if let Some(kind) = &group.group_type { (clipped(kind, WORD_CHARS_MAX)) } }
        td { (status_chip(visit, &group.status)) }
        td { @if let Some(owner) = &group.owner { (person_link(visit, owner)) } }
        @if is_counted {
            td class="number" { @if let Some(count) = group.member_count { (grouped(count)) } }
        }
        td { @if let Some(created) = group.created_at { (moment(visit, &group.group_id, created)) } }
        td { @if let Some(updated) = group.updated_at { (moment(visit, &group.group_id, updated)) } }
    }
}

/// The status of a group as a word in a frame.
pub(crate) fn status_chip(visit: &Visit, status: &str) -> Markup {
    match status {
        "active" => chip("good", &visit.text("status-active")),
        "destroyed" => chip("gone", &visit.text("status-destroyed")),
        _ => chip("quiet", &visit.text("status-unseen")),
    }
}

/// In place of the table: why there is no group, and a link to what helps.
pub(crate) fn no_groups(visit: &Visit, title: &str, hint: &str, path: &str) -> Markup {
    empty(&visit.text(title), &html! { p { a href=(visit.url(path)) { (visit.text(hint)) } } })
}
