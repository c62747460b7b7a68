//! The tabs "fields and attributes" and "topics" of a group.
//!
//! Of the present each value bears the time at which it was written, out of its stamp, and that time leads to the group as it
//! was then. A fold keeps values without their times, so that the past shows values alone, and says so.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::group_ask::GroupAsk;
use super::group_members::TABLE_BYTES_MAX;
use super::pieces::{chip, moment, pager, person_link, table, unknown, whole_id};
use super::sentence::clipped;
use super::sentence_html::{fitting, time_of};
use super::visit::Visit;
use crate::replay::as_of::FieldsAsOf;
use crate::store::moments::FieldValue;
use crate::store::page::PageRows;
use crate::store::topics::TopicStateRow;

/// How many characters of a key, a value and a text are shown.
const KEY_CHARS_MAX: usize = 80;
const VALUE_CHARS_MAX: usize = 300;

/// The values of the present.
pub(super) fn present(visit: &Visit, group: &str, values: &[FieldValue]) -> Markup {
    let row = |value: &FieldValue| {
        let time = value.written_ms.and_then(time_of).map(|time| moment(visit, group, time));
        row(
            visit,
            value.is_attribute,
            &value.key,
            &value.value,
            Some(&time.unwrap_or_else(|| unknown(visit))),
        )
    };
    let rows = fitting(values.iter().map(row), TABLE_BYTES_MAX);
    html! {
        (shown(visit, &rows, true))
        @if rows.len() < values.len() { p class="quiet" { (visit.text("fields-cut")) } }
    }
}

/// The values as of a moment; none where there were too many to keep.
pub(super) fn past(visit: &Visit, fields: Option<&FieldsAsOf>) -> Markup {
    let Some(fields) = fields else { return html! { p class="empty" { (visit.text("fields-too-many")) } } };
    let own = fields.user_defined_fields.iter().map(|(key, value)| (false, key, value));
    let all = own.chain(fields.attributes.iter().map(|(key, value)| (true, key, value)));
    let count = fields.user_defined_fields.len() + fields.attributes.len();
    let rows = all.map(|(is_attribute, key, value)| row(visit, is_attribute, key, value, None));
    let rows = fitting(rows, TABLE_BYTES_MAX);
    html! {
        (shown(visit, &rows, false))
        @if rows.len() < count { p class="quiet" { (visit.text("fields-cut")) } }
        @if !rows.is_empty() { p class="quiet" { (visit.text("fields-no-times")) } }
    }
}

fn row(visit: &Visit, is_attribute: bool, key: &str, value: &str, time: Option<&Markup>) -> Markup {
    let kind = if is_attribute { "fields-attribute" } else { "fields-field" };
    html! {
        th scope="row" { bdi { (clipped(key, KEY_CHARS_MAX)) } }
        td { (visit.text(kind)) }
        td class="long" { bdi { (clipped(value, VALUE_CHARS_MAX)) } }
        @if let Some(time) = time { td { (time) } }
    }
}

fn shown(visit: &Visit, rows: &[Markup], with_times: bool) -> Markup {
    let mut heads: Vec<String> =
        ["fields-key", "fields-kind", "fields-value"].map(|key| visit.text(key)).into();
    if with_times {
        heads.push(visit.text("fields-written"));
    }
    html! {
        @if rows.is_empty() {
            p class="empty" { (visit.text("fields-none")) }
        } @else {
            (table(&visit.text("group-tab-fields"), &heads, rows))
        }
    }
}

/// A page of the topics of the present.
pub(super) fn topics(visit: &Visit, ask: &GroupAsk, group: &str, page: &PageRows<TopicStateRow>) -> Markup {
    let rows = fitting(page.rows.iter().map(|row| topic_row(visit, group, row)), TABLE_BYTES_MAX);
    let more = page.more || rows.len() < page.rows.len();
    let last = page.rows[..rows.len()].last().filter(|_| more).map(|row| row.topic_id.as_str());
    let next = last.map(|topic| ask.query_behind(visit, "behind_id", Some(topic)));
    let first = ask.behind_id.is_some().then(|| ask.query_behind(visit, "behind_id", None));
    let heads = ["topic-name", "topic-id", "topic-status", "topic-creator", "topic-created"]
        .map(|key| visit.text(key));
    html! {
        @if ask.at_ms.is_some() { p class="note" { (visit.text("topics-of-now")) } }
        @if rows.is_empty() {
            p class="empty" { (visit.text("topics-none")) }
        } @else {
            (table(&visit.text("group-tab-topics"), &heads, &rows))
        }
        (pager(visit, first.as_deref(), next.as_deref()))
    }
}

fn topic_row(visit: &Visit, group: &str, row: &TopicStateRow) -> Markup {
    let time =
        |time: Option<DateTime<Utc>>| time.map_or_else(|| unknown(visit), |time| moment(visit, group, time));
    let key = if row.active { "status-active" } else { "status-destroyed" };
    html! {
        th scope="row" { bdi { (clipped(row.name.as_deref().unwrap_or_default(), KEY_CHARS_MAX)) } }
        td { (whole_id(&row.topic_id)) }
        td { (chip(key, &visit.text(key))) }
        td { @if let Some(user) = &row.created_by { (person_link(visit, user)) } @else { (unknown(visit)) } }
        td { (time(row.created_at)) }
    }
}
