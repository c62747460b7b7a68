//! A second implementation of the rules: callbacks in the order of their stamps go through a plain state machine, which knows
//! neither registers nor barriers, and it must end where the fold ends.
//!
//! What the machine says in few lines is what `docs/merge.md` promises. One thing is left out that the fold does not know: which
//! profile a group showed that was destroyed a second time without a create between, because its barrier is the create's.

use std::collections::BTreeMap;

use group_mirror::callback::{
    AVCHATROOM, AttributesChange, Callback, Event, EventKind, Profile, ProfileText, Role, WORK,
};
use group_mirror::mirror::{self, Rows};
use group_mirror::model::{Stamp, TopicId, UserId};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rules::laws::received;
use crate::support::{histories, shown};

/// A value and when it was said.
type Said<T> = BTreeMap<String, (Stamp, T)>;

/// How long after an end a callback cannot undo it, and how far before a create an earlier life may still be its own.
const SPARE_MS: i64 = 10_000;

/// True for a callback that may speak of the time before the end.
fn straggles(stamp: Stamp, end: Stamp) -> bool {
    stamp.time().get() < end.time().get() + SPARE_MS
}

/// Forgets what was said before a moment.
fn forget<T>(said: &mut Said<T>, before: Stamp) {
    said.retain(|_, (stamp, _)| *stamp >= before);
}

#[derive(Default)]
struct Stay {
    /// The newest sign that the user is in; none: only values that would count if the user came back.
    sign: Option<Stamp>,
    /// The join it began with, where that is known.
    joined: Option<Stamp>,
    role: Option<(Stamp, Role)>,
    card: Option<(Stamp, String)>,
    /// What ended the stay before this one.
    ended: Option<Stamp>,
    /// A leave that nothing has undone.
    left: Option<Stamp>,
}

impl Stay {
    fn join(&mut self, stamp: Stamp) {
        (self.sign, self.joined, self.left) = (Some(stamp), Some(stamp), None);
    }

    fn confirm(&mut self, stamp: Stamp) {
        if self.left.is_none_or(|left| !straggles(stamp, left)) {
            (self.sign, self.left) = (Some(stamp), None);
        }
    }

    /// Ends what is older than a moment, at the time of the end.
    fn end(&mut self, before: Stamp, end: Stamp) {
        if self.sign.take_if(|sign| *sign < before).is_some() {
            self.ended = Some(end);
        }
        self.joined.take_if(|stamp| *stamp < before);
        self.role.take_if(|(stamp, _)| *stamp < before);
        self.card.take_if(|(stamp, _)| *stamp < before);
    }
}

#[derive(Default)]
struct Topic {
    sign: Option<Stamp>,
    destroyed: Option<Stamp>,
    profile: Said<String>,
    created: Option<(Stamp, Option<UserId>)>,
    /// What ended it beside its own destroy.
    ended: Option<Stamp>,
}

impl Topic {
    fn show(&mut self, stamp: Stamp, is_create: bool) {
        if let Some(end) = self.destroyed.take_if(|end| is_create || !straggles(stamp, *end)) {
            self.forget(end);
        }
        self.sign = Some(stamp);
    }

    fn forget(&mut self, before: Stamp) {
        forget(&mut self.profile, before);
        self.created.take_if(|(stamp, _)| *stamp < before);
    }

    fn end(&mut self, before: Stamp, end: Stamp) {
        if self.sign.take_if(|sign| *sign < before).is_some() {
            self.ended = Some(end);
        }
        self.forget(before);
    }

    fn say(&mut self, profile: &Profile, stamp: Stamp) {
        for (text, value) in profile.texts.iter().filter(|(text, _)| ProfileText::OF_TOPICS.contains(text)) {
            let key: &str = text.into();
            self.profile.insert(key.to_owned(), (stamp, value.clone()));
        }
    }
}

#[derive(Default)]
struct Group {
    profile: Said<String>,
    owner: Option<(Stamp, UserId, bool)>,
    fields: Said<String>,
    attributes: Said<String>,
    stays: BTreeMap<UserId, Stay>,
    topics: BTreeMap<TopicId, Topic>,
    /// The destroy that nothing has undone.
    destroyed: Option<Stamp>,
    lives: u32,
    known: bool,
}

impl Group {
    /// Forgets what the profile was before a moment.
    fn forget(&mut self, before: Stamp) {
        forget(&mut self.profile, before);
        forget(&mut self.fields, before);
        forget(&mut self.attributes, before);
        self.owner.take_if(|(stamp, ..)| *stamp < before);
    }

    /// Ends what the group holds and is older than a moment, at the time of the end.
    fn end(&mut self, before: Stamp, end: Stamp) {
        self.stays.values_mut().for_each(|stay| stay.end(before, end));
        self.topics.values_mut().for_each(|topic| topic.end(before, end));
    }

    fn lives(&mut self, stamp: Stamp, is_create: bool) {
        if let Some(end) = self.destroyed.take_if(|end| is_create || !straggles(stamp, *end)) {
            self.forget(end);
            self.lives += 1;
            self.known = self.profile.keys().any(|key| key != "type");
        }
    }

    fn stay(&mut self, user: &UserId) -> &mut Stay {
        self.stays.entry(user.clone()).or_default()
    }

    fn topic(&mut self, topic: &TopicId) -> &mut Topic {
        self.topics.entry(topic.clone()).or_default()
    }

    fn say(&mut self, profile: &Profile, stamp: Stamp) {
        for (text, value) in &profile.texts {
            let key: &str = text.into();
            self.profile.insert(key.to_owned(), (stamp, value.clone()));
            self.known = true;
        }
        for (key, value) in &profile.user_defined_fields {
            self.fields.insert(key.as_str().to_owned(), (stamp, value.clone()));
        }
    }

    fn hear(&mut self, event: &Event, stamp: Stamp) {
        match &event.kind {
            EventKind::GroupCreated { owner, profile, members } => {
                let spared = stamp.earlier(SPARE_MS);
                self.end(spared, stamp);
                self.forget(spared);
                self.lives(stamp, true);
                self.known = true;
                self.say(profile, stamp);
                self.owner = owner.clone().map(|owner| (stamp, owner, false));
                if event.group_type.as_deref() != Some(AVCHATROOM) {
                    members.iter().chain(owner).for_each(|user| self.stay(user).join(stamp));
                }
            }
            EventKind::MembersJoined { members, .. } => {
                self.lives(stamp, false);
                members.iter().for_each(|user| self.stay(user).join(stamp));
            }
            EventKind::MembersLeft { members, .. } => members.iter().for_each(|user| self.leave(user, stamp)),
            EventKind::GroupDestroyed => {
                self.end(stamp, stamp);
                self.destroyed = Some(stamp);
            }
            EventKind::ProfileChanged(profile) => {
                self.lives(stamp, false);
                self.say(profile, stamp);
            }
            EventKind::MemberChanged { member, role, name_card } => {
                let stay = self.stay(member);
                stay.confirm(stamp);
                stay.role = role.map(|role| (stamp, role)).or(stay.role.take());
                stay.card = name_card.clone().map(|card| (stamp, card)).or(stay.card.take());
            }
            EventKind::OwnerChanged { old, new } => self.hand_over(old.as_ref(), new.as_ref(), stamp),
            EventKind::AttributesChanged(change) => self.change(change, stamp),
            EventKind::TopicCreated { topic, profile } => {
                let topic = self.topic(topic);
                topic.show(stamp, true);
                topic.created = Some((stamp, event.operator.clone()));
                topic.say(profile, stamp);
            }
            EventKind::TopicsDestroyed(topics) => {
                topics.iter().for_each(|topic| self.topic(topic).destroyed = Some(stamp));
            }
            EventKind::TopicChanged { topic: Some(topic), profile } => {
                self.topic(topic).show(stamp, false);
                self.topic(topic).say(profile, stamp);
            }
            EventKind::TopicChanged { topic: None, .. } => {}
        }
        if let (Some(name), false) = (&event.group_type, event.kind == EventKind::GroupDestroyed) {
            self.profile.insert("type".to_owned(), (stamp, name.clone()));
        }
    }

    fn leave(&mut self, user: &UserId, stamp: Stamp) {
        *self.stay(user) = Stay { ended: Some(stamp), left: Some(stamp), ..Stay::default() };
        if let Some((_, owner, left)) = &mut self.owner {
            *left |= owner == user;
        }
    }

    fn hand_over(&mut self, old: Option<&UserId>, new: Option<&UserId>, stamp: Stamp) {
        self.lives(stamp, false);
        let old = old.filter(|old| Some(*old) != new);
        if let Some(stay) = old.and_then(|old| self.stays.get_mut(old)) {
            stay.role = Some((stamp, Role::Member));
        }
        self.owner = new.map(|new| (stamp, new.clone(), false));
        if let Some(new) = new {
            self.stay(new).confirm(stamp);
        }
    }

    fn change(&mut self, change: &AttributesChange, stamp: Stamp) {
        if matches!(change, AttributesChange::Set(_) | AttributesChange::Clear) {
            self.attributes.clear();
        }
        match change {
            AttributesChange::Set(pairs) | AttributesChange::Modify(pairs) => {
                for (key, value) in pairs {
                    self.attributes.insert(key.as_str().to_owned(), (stamp, value.clone()));
                }
            }
            AttributesChange::Delete(keys) => {
                for key in keys {
                    self.attributes.remove(key.as_str());
                }
            }
            AttributesChange::Clear | AttributesChange::Unknown => {}
        }
    }

    /// When something ended that has no end of its own.
    fn end_of(&self, sign: Option<Stamp>, ended: Option<Stamp>) -> Option<Stamp> {
        if sign.is_some() { self.destroyed } else { ended }
    }

    fn shown(&self) -> Value {
        let group_type = self.profile.get("type").map(|(_, name)| name.as_str());
        let owner = self.owner.as_ref().filter(|(_, _, left)| !(*left && group_type == Some(WORK)));
        let owner = owner.map(|(_, user, _)| user.as_str());
        let text = |key: &str| self.profile.get(key).map(|(_, text)| text.clone());
        let plain = |said: &Said<String>| -> BTreeMap<String, String> {
            said.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect()
        };
        let exists = self.destroyed.is_none();
        let members = self.stays.iter().filter(|(_, stay)| stay.sign.is_some() || stay.ended.is_some());
        let members = members.map(|(user, stay)| {
            if stay.sign.is_none() || !exists {
                let end = stay.left.or(self.end_of(stay.sign, stay.ended));
                return json!([user.as_str(), "left", end.map(|end| end.time().get())]);
            }
            let role = stay.role.map_or("Member", |(_, role)| role.as_str());
            let role = if owner == Some(user.as_str()) { "Owner" } else { role };
            let card = stay.card.as_ref().map(|(_, card)| card);
            json!([user.as_str(), role, card, stay.joined.map(|stamp| stamp.time().get())])
        });
        let topics = self.topics.iter().map(|(id, topic)| {
            if topic.destroyed.is_some() || topic.sign.is_none() || !exists {
                let end = topic.destroyed.or(self.end_of(topic.sign, topic.ended));
                return json!([id.as_str(), "destroyed", end.map(|end| end.time().get())]);
            }
            let text = |key: &str| topic.profile.get(key).map(|(_, text)| text.clone());
            let texts = ["name", "introduction", "notification", "face_url"].map(text);
            let by = topic
                .created
                .as_ref()
                .map(|(stamp, by)| (stamp.time().get(), by.as_ref().map(UserId::as_str)));
            json!([id.as_str(), texts, by.map(|(time, _)| time), by.and_then(|(_, by)| by)])
        });
        let status = match (exists, self.known) {
            (false, _) => "destroyed",
            (true, true) => "active",
            (true, false) => "unseen",
        };
        let mut shown = json!({
            "status": status, "members": members.collect::<Vec<_>>(), "topics": topics.collect::<Vec<_>>(),
        });
        if exists || self.lives == 0 {
            let more = json!([
                group_type,
                text("name"),
                text("introduction"),
                text("notification"),
                text("face_url"),
                owner,
                plain(&self.fields),
                plain(&self.attributes)
            ]);
            shown["profile"] = more;
        }
        shown
    }
}

/// What the fold shows, as far as the machine can say it.
fn folded(whole: &Value, like: &Value) -> Value {
    let members = whole["members"].as_array().unwrap().iter().map(|member| {
        if member["status"] == "left" {
            return json!([member["user_id"], "left", member["left_at"]]);
        }
        json!(["user_id", "role", "name_card", "joined_at"].map(|key| &member[key]))
    });
    let topics = whole["topics"].as_array().unwrap().iter().map(|topic| {
        if topic["status"] == "destroyed" {
            return json!([topic["topic_id"], "destroyed", topic["destroyed_at"]]);
        }
        let texts = ["name", "introduction", "notification", "face_url"].map(|key| &topic[key]);
        json!([topic["topic_id"], texts, topic["created_at"], topic["created_by"]])
    });
    let mut shown = json!({
        "status": whole["status"], "members": members.collect::<Vec<_>>(), "topics": topics.collect::<Vec<_>>(),
    });
    if !like["profile"].is_null() {
        let keys = [
            "type",
            "name",
            "introduction",
            "notification",
            "face_url",
            "owner",
            "user_defined_fields",
            "attributes",
        ];
        shown["profile"] = json!(keys.map(|key| &whole[key]));
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, max_shrink_time: 30_000, ..ProptestConfig::with_cases(4000)
    })]

    #[test]
    fn told_in_order_to_a_plain_machine_a_history_leads_to_what_the_fold_shows(
        history in histories::receipts(),
    ) {
        let mut callbacks: Vec<Callback> = history.iter().map(received).collect();
        let rows = Rows::of(callbacks.iter().flat_map(mirror::facts));
        let stamp = |callback: &Callback| mirror::facts(callback)[0].stamp;
        callbacks.sort_by_key(stamp);
        callbacks.dedup_by_key(|callback| (stamp(callback), callback.group.clone()));
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for callback in &callbacks {
            let event = callback.event.as_ref().unwrap();
            groups.entry(event.group.as_str().to_owned()).or_default().hear(event, stamp(callback));
        }
        let folds = shown::pure(&rows);
        prop_assert_eq!(folds.len(), groups.len());
        for (id, group) in groups {
            let expected = group.shown();
            prop_assert_eq!(folded(&folds[&id], &expected), expected, "{}", id);
        }
    }
}
