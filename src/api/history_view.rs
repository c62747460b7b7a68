//! A ledger entry as the history shows it: what its body says, in the words of the API.
//!
//! The view stands beside its handler and is made from the row and from what the decoder reads in the body; nothing is
//! read from the database here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;

use super::parameters::words;
use super::timestamp::Timestamp;
use crate::callback::{AttributesChange, Event, EventKind, Profile, ProfileText, Role};
use crate::mirror::{FactKind, GroupBarrier, PersonPart, PersonParts};
use crate::model::{FieldKey, TopicId, UserId};
use crate::replay;
use crate::store::history::HistoryRow;

/// One entry of the ledger.
///
/// What the body does not say, or cannot be read, is null or empty.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct HistoryView {
    /// Null where it cannot be read.
    group_id: Option<String>,
    /// The name that the group has now; null where none is known.
    group_name: Option<String>,
    /// In the history of a person: what the person is in it, `operator`, `member`, `owner`, or several of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parts: Option<Vec<&'static str>>,
    /// As sent, whether or not it was believed; null where the body has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    event_time: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    command: String,
    /// `callback` or `rest`.
    source: String,
    /// `applied`, `partial` or `parked`.
    outcome: String,
    /// Why it is parked, or what was skipped of it.
    reason: Option<String>,
    /// The causes in the reason, out of a closed list; empty where it is applied.
    causes: Vec<String>,
    /// Who did it; often an app administrator who is no member.
    operator: Option<String>,
    /// Who joined, left or was changed, or was there from the start beside the owner; of a list of members (`source` `rest`)
    /// those who were shown as members and are not in it. At most 1,000.
    users: Vec<String>,
    /// How many these are in all.
    user_count: usize,
    /// `Apply` or `Invited`; free text.
    join_type: Option<String>,
    /// `Quit` or `Kicked`; free text.
    exit_type: Option<String>,
    /// The new role of the one in `users`: `Admin` or `Member`.
    role: Option<&'static str>,
    /// The new name card of the one in `users`.
    name_card: Option<String>,
    /// The owner from then on, of a create or a change of owner.
    owner: Option<String>,
    /// The owner until then.
    previous_owner: Option<String>,
    /// What it says about the profile of the group, or of the topic; null where that is nothing.
    profile: Option<ProfileView>,
    /// What it does to the attributes; null where that is nothing.
    attributes: Option<AttributesView>,
    /// The topics it is about.
    topics: Vec<String>,
    platform: Option<String>,
    /// From where the user acted; null as well for a token without `+raw`.
    client_ip: Option<String>,
    request_id: Option<String>,
    /// Whom a list of members names, and whom `users` leaves out, for the filter by user.
    #[serde(skip)]
    listed: Vec<String>,
    /// With `with=body`: the body as it came, never written anew; `body_encoding` says how.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    body: Option<String>,
    /// With `with=body`: `utf-8` where `body` is the text itself, `base64` where the bytes are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = shown_encoding)]
    body_encoding: Option<&'static str>,
}

/// How many users an entry shows: a body of 1 MiB may name 30,000, and a page 4 MiB of such bodies.
const USERS_MAX: usize = 1_000;

/// How a body that is UTF-8 is written.
const UTF_8: &str = "utf-8";

/// How any other one is written.
const BASE64: &str = "base64";

fn shown_encoding() -> ObjectBuilder {
    words(&[(UTF_8, ()), (BASE64, ())])
}

/// The parts of a profile that were named; what is left out was not. Empty is now empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ProfileView {
    /// The type of the group, under its present name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    introduction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    notification: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    face_url: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    user_defined_fields: BTreeMap<String, String>,
}

impl ProfileView {
    fn text_mut(&mut self, text: ProfileText) -> &mut Option<String> {
        match text {
            ProfileText::Type => &mut self.r#type,
            ProfileText::Name => &mut self.name,
            ProfileText::Introduction => &mut self.introduction,
            ProfileText::Notification => &mut self.notification,
            ProfileText::FaceUrl => &mut self.face_url,
        }
    }

    fn of(profile: Profile, group_type: Option<String>) -> Self {
        let fields = profile.user_defined_fields.into_iter();
        let text =
            |wanted| profile.texts.iter().find(|(text, _)| *text == wanted).map(|(_, value)| value.clone());
        Self {
            r#type: group_type,
            name: text(ProfileText::Name),
            introduction: text(ProfileText::Introduction),
            notification: text(ProfileText::Notification),
            face_url: text(ProfileText::FaceUrl),
            user_defined_fields: fields.map(|(key, value)| (key.as_str().to_owned(), value)).collect(),
        }
    }
}

/// What an entry does to the attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct AttributesView {
    /// `set` (these and no others), `modify`, `delete`, `clear`, or `unknown`: the body does not tell.
    change: &'static str,
    /// The new values; null for one that is gone.
    values: BTreeMap<String, Option<String>>,
}

impl From<AttributesChange> for AttributesView {
    fn from(change: AttributesChange) -> Self {
        let given = |pairs: Vec<(FieldKey, String)>| {
            pairs.into_iter().map(|(key, value)| (key.as_str().to_owned(), Some(value))).collect()
        };
        let (change, values) = match change {
            AttributesChange::Set(pairs) => ("set", given(pairs)),
            AttributesChange::Modify(pairs) => ("modify", given(pairs)),
            AttributesChange::Delete(keys) => {
                ("delete", keys.iter().map(|key| (key.as_str().to_owned(), None)).collect())
            }
            AttributesChange::Clear => ("clear", BTreeMap::new()),
            AttributesChange::Unknown => ("unknown", BTreeMap::new()),
        };
        Self { change, values }
    }
}

impl HistoryView {
    pub(super) fn of(row: HistoryRow, with_body: bool) -> Self {
        let (event, facts) = (replay::event(&row.row), replay::snapshot_facts(&row.row));
        let mut view = Self {
            group_id: Some(row.row.group_id).filter(|id| !id.is_empty()),
            group_name: row.group_name,
            parts: None,
            event_time: row.event_time_ms.and_then(Timestamp::of_millis),
            received_at: Timestamp::of_millis(row.row.received_ms),
            command: row.row.command,
            source: row.source,
            outcome: row.row.outcome,
            reason: row.row.reason,
            causes: row.row.causes.unwrap_or_default(),
            operator: None,
            users: Vec::new(),
            user_count: 0,
            join_type: None,
            exit_type: None,
            role: None,
            name_card: None,
            owner: None,
            previous_owner: None,
            profile: None,
            attributes: None,
            topics: Vec::new(),
            platform: row.platform,
            client_ip: row.client_ip,
            request_id: row.row.request_id,
            listed: Vec::new(),
            body: None,
            body_encoding: None,
        };
        if let Some(event) = event {
            view.add_event(event);
        }
        facts.into_iter().flatten().for_each(|fact| view.add_fact(fact.kind));
        view.user_count = view.users.len();
        let beyond = view.users.split_off(view.user_count.min(USERS_MAX));
        view.listed.extend(beyond);
        if with_body {
            let (body, encoding) = match String::from_utf8(row.row.body) {
                Ok(text) => (text, UTF_8),
                Err(error) => (STANDARD.encode(error.as_bytes()), BASE64),
            };
            (view.body, view.body_encoding) = (Some(body), Some(encoding));
        }
        view
    }

    /// With what the person is in it whose history is read.
    pub(super) fn with_parts(mut self, parts: PersonParts) -> Self {
        self.parts = Some(parts.iter().map(PersonPart::name).collect());
        self
    }

    fn add_event(&mut self, event: Event) {
        self.operator = text(event.operator);
        match event.kind {
            EventKind::GroupCreated { owner, profile, members } => {
                self.owner = text(owner);
                self.users = texts(members);
                self.profile = Some(ProfileView::of(profile, event.group_type));
            }
            EventKind::MembersJoined { how, members } => {
                self.join_type = how;
                self.users = texts(members);
            }
            EventKind::MembersLeft { how, members } => {
                self.exit_type = how;
                self.users = texts(members);
            }
            EventKind::GroupDestroyed => {}
            EventKind::ProfileChanged(profile) => self.profile = Some(ProfileView::of(profile, None)),
            EventKind::MemberChanged { member, role, name_card } => {
                self.users = texts(vec![member]);
                self.role = role.map(Role::as_str);
                self.name_card = name_card;
            }
            EventKind::AttributesChanged(change) => self.attributes = Some(change.into()),
            EventKind::OwnerChanged { old, new } => {
                self.previous_owner = text(old);
                self.owner = text(new);
            }
            EventKind::TopicCreated { topic, profile } => {
                self.topics = topics(&[topic]);
                self.profile = Some(ProfileView::of(profile, None));
            }
            EventKind::TopicsDestroyed(destroyed) => self.topics = topics(&destroyed),
            EventKind::TopicChanged { topic, profile } => {
                self.topics = topics(topic.as_slice());
                self.profile = Some(ProfileView::of(profile, None));
            }
        }
    }

    /// What a snapshot says. Whom a list names is left out: a list of 5,000 members is entered whole for one who differs.
    fn add_fact(&mut self, kind: FactKind) {
        match kind {
            FactKind::Text(text, value) => {
                *self.profile.get_or_insert_default().text_mut(text) = Some(value);
            }
            FactKind::UserDefinedField(key, value) => {
                let fields = &mut self.profile.get_or_insert_default().user_defined_fields;
                fields.insert(key.as_str().to_owned(), value);
            }
            FactKind::Owner(owner) => self.owner = text(owner),
            FactKind::Listed(user, _) => self.listed.push(user.as_str().to_owned()),
            FactKind::Missing(user) => self.users.push(user.as_str().to_owned()),
            FactKind::Barrier(GroupBarrier::AttributesBarrier) => self.attributes_mut().change = "set",
            FactKind::Attribute(key, value) => {
                self.attributes_mut().values.insert(key.as_str().to_owned(), value);
            }
            FactKind::TopicText(topic, ..) | FactKind::TopicBarrier(topic, _) => {
                let topic = topic.as_str().to_owned();
                if self.topics.last() != Some(&topic) {
                    self.topics.push(topic);
                }
            }
            _ => {}
        }
    }

    fn attributes_mut(&mut self) -> &mut AttributesView {
        let none = || AttributesView { change: "modify", values: BTreeMap::new() };
        self.attributes.get_or_insert_with(none)
    }

    pub(super) fn names(&self, user: &UserId) -> bool {
        let one = [&self.operator, &self.owner, &self.previous_owner];
        let listed = self.listed.iter();
        one.into_iter().flatten().chain(&self.users).chain(listed).any(|named| named == user.as_str())
    }
}

fn text(user: Option<UserId>) -> Option<String> {
    user.map(|user| user.as_str().to_owned())
}

fn texts(users: Vec<UserId>) -> Vec<String> {
    users.into_iter().map(|user| user.as_str().to_owned()).collect()
}

fn topics(topics: &[TopicId]) -> Vec<String> {
    topics.iter().map(|topic| topic.as_str().to_owned()).collect()
}
