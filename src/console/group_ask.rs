//! What a reader asks of a group's page: as of when, which tab, which part of a list; and the addresses of the same page with
//! another choice.
//!
//! Addresses are queries alone, relative to the page, so that an id of 512 bytes is not repeated in each of a hundred marks.

use chrono::{DateTime, Utc};

use super::asked::AskedPage;
use super::deed::Deed;
use super::sentence_html::time_of;
use super::visit::{Visit, moment_text};
use crate::api::errors::ApiError;
use crate::model::UserId;
use crate::store::history::HistoryCursorKey;

/// The tabs of a group's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupTab {
    Members,
    Events,
    Fields,
    Topics,
}

/// Each tab with its word in addresses and its message; the first one is the default.
pub(super) const TABS: [(GroupTab, &str, &str); 4] = [
    (GroupTab::Members, "members", "group-tab-members"),
    (GroupTab::Events, "events", "group-tab-events"),
    (GroupTab::Fields, "fields", "group-tab-fields"),
    (GroupTab::Topics, "topics", "group-tab-topics"),
];

/// Which memberships the members' tab shows: the word in addresses, whether present, and the message.
pub(super) const STATUSES: [(&str, Option<bool>, &str); 3] = [
    ("member", Some(true), "members-present"),
    ("left", Some(false), "members-left"),
    ("all", None, "members-all"),
];

/// The roles: the word of the API, and the message.
pub(super) const ROLES: [(&str, &str); 3] =
    [("Owner", "role-owner"), ("Admin", "role-admin"), ("Member", "role-member")];

/// The sources of entries: the word of the API, and the message.
pub(super) const SOURCES: [(&str, &str); 2] = [("callback", "source-callback"), ("rest", "source-rest")];

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct GroupAsk {
    /// As of when, Unix milliseconds; `None`: now.
    pub(super) at_ms: Option<i64>,
    pub(super) tab: GroupTab,
    /// Which memberships.
    pub(super) present: Option<bool>,
    pub(super) role: Option<&'static str>,
    /// A part of a user id or a name card.
    pub(super) part: Option<String>,
    /// The user behind whom the members, or the topic behind which the topics go on.
    pub(super) behind_id: Option<String>,
    pub(super) deed: Option<Deed>,
    pub(super) person: Option<UserId>,
    pub(super) source: Option<&'static str>,
    pub(super) after: Option<DateTime<Utc>>,
    pub(super) before: Option<DateTime<Utc>>,
    /// The entry behind which the list of events goes on.
    pub(super) behind: Option<HistoryCursorKey>,
}

impl GroupAsk {
    /// Of the query of an address.
    ///
    /// # Errors
    /// `bad_parameter` for a value that is none, `bad_cursor` for a place that is none.
    pub(super) fn of(query: Option<&str>, visit: &Visit) -> Result<Self, ApiError> {
        let asked = AskedPage::of(query, visit.zone());
        let word = |name: &str, wanted: &'static str| asked.text(name) == Some(wanted);
        let tab = TABS.iter().find(|(_, tab, _)| word("tab", tab)).map_or(TABS[0].0, |(tab, ..)| *tab);
        let status = STATUSES.iter().find(|(status, ..)| word("status", status));
        Ok(Self {
            at_ms: asked.time("at")?.map(|time| time.timestamp_millis()),
            tab,
            present: status.map_or(STATUSES[0].1, |(_, present, _)| *present),
            role: ROLES.iter().find(|(role, _)| word("role", role)).map(|(role, _)| *role),
            part: asked.text("part").map(str::to_owned),
            behind_id: asked.text("behind_id").map(str::to_owned),
            deed: asked.text("kind").and_then(Deed::of_label),
            person: asked.user("person")?,
            source: SOURCES.iter().find(|(source, _)| word("source", source)).map(|(source, _)| *source),
            after: asked.time("after")?,
            before: asked.time("before")?,
            behind: asked.place("behind")?,
        })
    }

    /// The word of the tab, unless it is the first one.
    pub(super) fn tab_word(&self) -> Option<&'static str> {
        TABS.iter().skip(1).find(|(tab, ..)| *tab == self.tab).map(|(_, word, _)| *word)
    }

    fn at_text(&self) -> Option<String> {
        self.at_ms.and_then(time_of).map(moment_text)
    }

    /// The same page as of another moment, or of now, with the same tab.
    pub(super) fn query_at(&self, visit: &Visit, at_ms: Option<i64>) -> String {
        let at = at_ms.and_then(time_of).map(moment_text);
        query(visit, &[("at", at.as_deref()), ("tab", self.tab_word())])
    }

    /// The same moment with another tab.
    pub(super) fn query_of_tab(&self, visit: &Visit, tab: &str) -> String {
        let word = (tab != TABS[0].1).then_some(tab);
        query(visit, &[("at", self.at_text().as_deref()), ("tab", word)])
    }

    /// The same tab with the same filters, behind an entry, a user or a topic.
    pub(super) fn query_behind(&self, visit: &Visit, name: &str, place: Option<&str>) -> String {
        let time = |time: Option<DateTime<Utc>>| time.map(moment_text);
        let status = STATUSES.iter().skip(1).find(|(_, present, _)| *present == self.present);
        query(
            visit,
            &[
                ("at", self.at_text().as_deref()),
                ("tab", self.tab_word()),
                ("status", status.map(|(word, ..)| *word)),
                ("role", self.role),
                ("part", self.part.as_deref()),
                ("kind", self.deed.map(Deed::label)),
                ("person", self.person.as_ref().map(UserId::as_str)),
                ("source", self.source),
                ("after", time(self.after).as_deref()),
                ("before", time(self.before).as_deref()),
                (name, place),
            ],
        )
    }

    /// The hidden fields of a form that filters a tab.
    pub(super) fn kept_fields(&self) -> Vec<(&'static str, String)> {
        let at = self.at_text().map(|at| ("at", at));
        let tab = self.tab_word().map(|tab| ("tab", tab.to_owned()));
        at.into_iter().chain(tab).collect()
    }
}

/// A query with these pairs and the app of the page; `?` alone where there are none, which leads to the same page without a
/// query.
pub(super) fn query(visit: &Visit, pairs: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
    if let Some(app) = visit.app_field() {
        query.append_pair("sdk_app_id", &app);
    }
    format!("?{}", query.finish())
}
