//! A snapshot: one answer of Tencent's REST API about one group, with the time as of which it counts, and its facts.
//!
//! A snapshot goes into the ledger as an envelope, a JSON object that holds the answer as it came, and its facts are made
//! from those bytes alone, when it comes and when it is replayed. Its time is σ = S − G: S is a lower bound of Tencent's clock
//! when the request was sent, G covers how far a read may lag and clocks may differ. So whatever the answer does not know
//! yet has a stamp above σ, and no read undoes a newer callback. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::fact::{Fact, FactKind, GroupBarrier, GroupKey, TopicBarrier};
use super::listed::{ListRange, Listed, Silent};
use crate::callback::{ProfileText, Role, present_type_name};
use crate::model::{Digest, Millis, Stamp, TopicId, UserId};
use crate::tencent::canonical::member_list;
use crate::tencent::details::{AttributesAnswer, TopicElement, TopicInfo, TopicsAnswer};
use crate::tencent::groups::{GroupInfo, GroupInfos};
use crate::tencent::members::{ListedMember, MemberPage};

/// The most members of one entry; a larger list is entered in ranges.
pub const LIST_MEMBERS_MAX: usize = 5_000;

/// The most bytes of a list in one entry, about as many as a callback's body may have.
pub const LIST_BYTES_MAX: usize = 1024 * 1024;

/// What was asked. The names are stored; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadKind {
    /// The profile of a group that exists.
    #[strum(serialize = "get_group_info")]
    Profile,
    /// The same, answered twice with a code that says that there is no such group.
    #[strum(serialize = "get_group_info")]
    Gone,
    /// Members, of one range where one is named.
    #[strum(serialize = "get_group_member_info")]
    Members,
    /// All attributes.
    #[strum(serialize = "get_group_attr")]
    Attributes,
    /// All topics.
    #[strum(serialize = "get_topic")]
    Topics,
}

impl ReadKind {
    /// The command, as the ledger names it.
    #[must_use]
    pub fn command(self) -> &'static str {
        self.into()
    }
}

/// As of when an answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadTime {
    /// σ: what is stamped later than this may be missing in the answer.
    pub sigma: Millis,
    /// S: a lower bound of Tencent's clock when the request was sent; of a list in pages, the first one.
    pub sent: Millis,
    /// G: how far σ was meant to lie before S, in milliseconds.
    pub spare_ms: i64,
}

impl ReadTime {
    /// σ = S − G, raised to the creation of the group where that is not above S: nothing of the group is older.
    #[must_use]
    pub fn new(sent: Millis, spare_ms: i64, create_secs: Option<i64>) -> Self {
        let created =
            create_secs.map(|secs| secs.saturating_mul(1_000)).filter(|created| *created <= sent.get());
        let sigma = (sent.get() - spare_ms.max(0)).max(created.unwrap_or(i64::MIN));
        Self { sigma: Millis::new(sigma), sent, spare_ms }
    }
}

/// What the time of a list in pages is made of, as it is stored with each page: fields are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTime {
    /// S of the first page.
    pub sent: i64,
    /// G, in milliseconds.
    pub spare_ms: i64,
    /// When the group was created, Unix seconds; none where that is not known.
    pub create_secs: Option<i64>,
}

impl ListTime {
    /// S and σ of the list.
    #[must_use]
    pub fn read_time(self) -> ReadTime {
        ReadTime::new(Millis::new(self.sent), self.spare_ms, self.create_secs)
    }
}

/// One answer about one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The group.
    pub group: GroupKey,
    /// As of when it counts.
    pub time: ReadTime,
    /// What was asked.
    pub kind: ReadKind,
    /// True where a list is known to be whole: only then does it say who is not in it. Of a profile it is about the list
    /// of custom fields.
    pub is_complete: bool,
    /// The range that a part of a large list is complete for.
    pub range: Option<ListRange>,
    /// Members and topics that the mirror showed and that the list leaves out, found when it was entered: so they show the
    /// time of this read as their end, and not that of the newest one.
    pub missing: Vec<String>,
    /// An answer of the command about this group alone.
    pub answer: Vec<u8>,
}

/// Why a snapshot says nothing; it never enters the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer of {command} about group {group:?} cannot be read: {why}")]
pub struct UnreadableSnapshot {
    /// What was asked.
    pub command: &'static str,
    /// The group.
    pub group: String,
    /// What is wrong.
    pub why: String,
}

/// The envelope but for the answer, which stands behind it as it came.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    read: ReadKind,
    sigma: i64,
    sent: i64,
    spare: i64,
    complete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// What stands between envelope and answer. No text of the envelope can hold it: a quote inside a JSON text is escaped.
const ANSWER: &[u8] = b",\"answer\":";

impl Snapshot {
    /// A complete list of members, whole or, where it is too large for one entry, in all ranges.
    #[must_use]
    pub fn of_members(group: &GroupKey, time: ReadTime, members: &[ListedMember]) -> Vec<Self> {
        let list = |range: Option<ListRange>, members: &[&ListedMember]| Self {
            group: group.clone(),
            time,
            kind: ReadKind::Members,
            is_complete: true,
            range,
            missing: Vec::new(),
            answer: member_list(members.iter().copied()),
        };
        let whole = list(None, &members.iter().collect::<Vec<_>>());
        if members.len() <= LIST_MEMBERS_MAX && whole.answer.len() <= LIST_BYTES_MAX {
            return vec![whole];
        }
        let mut ranges: BTreeMap<ListRange, Vec<&ListedMember>> =
            ListRange::all().map(|range| (range, Vec::new())).collect();
        members.iter().for_each(|member| ranges.entry(ListRange::of(&member.user)).or_default().push(member));
        ranges.into_iter().map(|(range, members)| list(Some(range), &members)).collect()
    }

    /// The bytes that the ledger keeps.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let envelope = Envelope {
            read: self.kind,
            sigma: self.time.sigma.get(),
            sent: self.time.sent.get(),
            spare: self.time.spare_ms,
            complete: self.is_complete,
            range: self.range.as_ref().map(|range| range.as_str().to_owned()),
            missing: self.missing.clone(),
        };
        let Ok(mut body) = serde_json::to_vec(&envelope) else {
            unreachable!("texts and numbers can be written as JSON")
        };
        assert_eq!(body.pop(), Some(b'}'), "an envelope is an object");
        body.extend_from_slice(ANSWER);
        body.extend_from_slice(&self.answer);
        body.push(b'}');
        body
    }

    /// Reads the bytes of a ledger entry; `None` where they are no envelope.
    #[must_use]
    pub fn of_body(group: GroupKey, body: &[u8]) -> Option<Self> {
        let at = body.windows(ANSWER.len()).position(|window| window == ANSWER)?;
        let answer = body.get(at + ANSWER.len()..body.len().checked_sub(1)?)?;
        let envelope: Envelope = serde_json::from_slice(&[&body[..at], b"}"].concat()).ok()?;
        let range = match envelope.range {
            Some(text) => Some(ListRange::parse(&text)?),
            None => None,
        };
        if envelope.sent < envelope.sigma {
            return None;
        }
        Some(Self {
            group,
            time: ReadTime {
                sigma: Millis::new(envelope.sigma),
                sent: Millis::new(envelope.sent),
                spare_ms: envelope.spare,
            },
            kind: envelope.read,
            is_complete: envelope.complete,
            range,
            missing: envelope.missing,
            answer: answer.to_vec(),
        })
    }

    /// What it states, stamped with its σ; the digest is that of its ledger entry.
    ///
    /// # Errors
    /// An answer that cannot be read, or is about another group.
    pub fn facts(&self, digest: &Digest) -> Result<Vec<Fact>, UnreadableSnapshot> {
        if self.time.sent < self.time.sigma {
            return Err(self.unreadable(&"it counts as of a time after it was sent"));
        }
        let stamp = Stamp::of_read(self.time.sigma, self.time.sent, digest);
        let mut kinds = vec![FactKind::Seen];
        match self.kind {
            ReadKind::Profile => profile_facts(&self.profile()?, self.is_complete, &mut kinds),
            ReadKind::Gone => kinds.push(FactKind::Barrier(GroupBarrier::GoneStamp)),
            ReadKind::Members => self.member_facts(&mut kinds)?,
            ReadKind::Attributes => self.attribute_facts(&mut kinds)?,
            ReadKind::Topics => self.topic_facts(&mut kinds)?,
        }
        Ok(kinds.into_iter().map(|kind| Fact { group: self.group.clone(), stamp, kind }).collect())
    }

    /// Refuses a time that no callback could have either: one before 2010 is none, and one more than a day ahead of
    /// receipt would win over every later callback until it comes.
    ///
    /// # Errors
    /// Such a time.
    pub fn check_time(&self, received_at: Millis) -> Result<(), UnreadableSnapshot> {
        let checked = Millis::parse_event_time(self.time.sigma.get(), received_at);
        checked.map(drop).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, why: &dyn ToString) -> UnreadableSnapshot {
        let group = self.group.group.as_str().to_owned();
        UnreadableSnapshot { command: self.kind.command(), group, why: why.to_string() }
    }

    fn profile(&self) -> Result<GroupInfo, UnreadableSnapshot> {
        let answer = GroupInfos::read(&self.answer).map_err(|error| self.unreadable(&error))?;
        let mut elements = answer.elements.into_iter();
        let element = elements.find(|element| element.group == self.group.group);
        element
            .ok_or_else(|| self.unreadable(&"the group is not in it"))?
            .info
            .map_err(|code| self.unreadable(&code))
    }

    fn member_facts(&self, kinds: &mut Vec<FactKind>) -> Result<(), UnreadableSnapshot> {
        let page = MemberPage::read(&self.answer).map_err(|error| self.unreadable(&error))?;
        // A list with a row that cannot be read is no complete one, whatever its reader took it for.
        if self.is_complete && page.unread.is_empty() {
            kinds.push(match &self.range {
                Some(range) => FactKind::RangeListed(range.clone()),
                None => FactKind::Barrier(GroupBarrier::MembersBarrier),
            });
            let missing = self.missing.iter().filter_map(|user| UserId::parse(user).ok());
            kinds.extend(missing.filter(|user| self.covers(user)).map(FactKind::Missing));
        }
        for member in page.members.into_iter().filter(|member| self.covers(&member.user)) {
            if member.role.as_deref() == Some("Owner") {
                kinds.push(FactKind::Owner(Some(member.user.clone())));
            }
            let user = member.user.clone();
            kinds.push(FactKind::Listed(user, listed(member)));
        }
        Ok(())
    }

    /// True for a user of the range, if the list is one of a range.
    fn covers(&self, user: &UserId) -> bool {
        self.range.as_ref().is_none_or(|range| ListRange::of(user) == *range)
    }

    fn attribute_facts(&self, kinds: &mut Vec<FactKind>) -> Result<(), UnreadableSnapshot> {
        let answer = AttributesAnswer::read(&self.answer).map_err(|error| self.unreadable(&error))?;
        if self.is_complete && answer.unread.is_empty() {
            kinds.push(FactKind::Barrier(GroupBarrier::AttributesBarrier));
        }
        let given = answer.attributes.into_iter();
        kinds.extend(given.map(|(key, value)| FactKind::Attribute(key, Some(value))));
        Ok(())
    }

    fn topic_facts(&self, kinds: &mut Vec<FactKind>) -> Result<(), UnreadableSnapshot> {
        let answer = TopicsAnswer::read(&self.answer).map_err(|error| self.unreadable(&error))?;
        let is_known = |topic: &TopicElement| {
            topic.info.as_ref().err().is_none_or(|code| TOPIC_GONE_CODES.contains(&code.code))
        };
        if self.is_complete && answer.unread.is_empty() && answer.topics.iter().all(is_known) {
            kinds.push(FactKind::Barrier(GroupBarrier::TopicsBarrier));
            let missing = self.missing.iter().filter_map(|topic| TopicId::parse(topic).ok());
            kinds.extend(missing.map(|topic| FactKind::TopicBarrier(topic, TopicBarrier::MissingStamp)));
        }
        for topic in answer.topics {
            if let Ok(info) = topic.info {
                kinds.extend(topic_kinds(&topic.topic, info));
            }
        }
        Ok(())
    }
}

/// Codes of a single topic that say that it is gone (`get_topic`).
const TOPIC_GONE_CODES: [i64; 2] = [110_002, 110_003];

fn profile_facts(info: &GroupInfo, is_complete: bool, kinds: &mut Vec<FactKind>) {
    kinds.push(FactKind::Barrier(GroupBarrier::ReadStamp));
    let group_type = info.group_type.as_deref().map(|name| present_type_name(name).to_owned());
    let texts = [
        (ProfileText::Type, group_type),
        (ProfileText::Name, info.name.clone()),
        (ProfileText::Introduction, info.introduction.clone()),
        (ProfileText::Notification, info.notification.clone()),
        (ProfileText::FaceUrl, info.face_url.clone()),
    ];
    kinds.extend(texts.into_iter().filter_map(|(text, value)| Some(FactKind::Text(text, value?))));
    kinds.extend(info.owner.clone().map(FactKind::Owner));
    let created = info.create_secs.filter(is_time).map(|secs| Millis::new(secs.saturating_mul(1_000)));
    kinds.extend(created.map(FactKind::Began));
    kinds.push(FactKind::Silent(Silent {
        apply_join_option: info.apply_join_option.clone(),
        invite_join_option: info.invite_join_option.clone(),
        mute_all: info.mute_all,
        max_member_count: info.max_member_num.and_then(|number| i64::try_from(number).ok()),
        create_secs: info.create_secs.filter(is_time),
    }));
    if let Some(fields) = &info.custom_fields {
        if is_complete && info.unread.is_empty() {
            kinds.push(FactKind::Barrier(GroupBarrier::FieldsBarrier));
        }
        let fields = fields.iter().cloned();
        kinds.extend(fields.map(|(key, value)| FactKind::UserDefinedField(key, value)));
    }
}

/// True for Unix seconds up to the year 9999. What is above can be no time, and PostgreSQL would refuse the whole batch.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a filter")]
fn is_time(secs: &i64) -> bool {
    (1..=253_402_300_799).contains(secs)
}

fn listed(member: ListedMember) -> Listed {
    Listed {
        role: if member.role.as_deref() == Some("Admin") { Role::Admin } else { Role::Member },
        name_card: member.name_card,
        join_secs: member.join_secs.filter(is_time),
        mute_until: member.mute_until_secs.filter(is_time),
        custom_fields: member.custom_fields.as_deref().and_then(Listed::custom_fields_text),
    }
}

fn topic_kinds(topic: &TopicId, info: TopicInfo) -> Vec<FactKind> {
    let texts = [
        (ProfileText::Name, info.name),
        (ProfileText::Introduction, info.introduction),
        (ProfileText::Notification, info.notification),
        (ProfileText::FaceUrl, info.face_url),
    ];
    let texts = texts.into_iter().filter_map(|(text, value)| Some((text, value?)));
    let texts = texts.map(|(text, value)| FactKind::TopicText(topic.clone(), text, value));
    [FactKind::TopicBarrier(topic.clone(), TopicBarrier::ReadStamp)].into_iter().chain(texts).collect()
}
