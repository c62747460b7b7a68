//! A second opinion on the rules: callbacks told in the order of their stamps to a plain state machine, which knows
//! neither registers nor barriers, must lead to what the fold shows.
//!
//! What the machine says in few lines is what the README promises. Left out are two things that the fold cannot know:
//! what of an earlier life a group shows that was destroyed a second time, and when a stay ended that only a later
//! create ended.

use std::collections::BTreeMap;

use group_mirror::callback::{AVCHATROOM, AttributesChange, Callback, Event, EventKind, Profile, Role, WORK};
use group_mirror::mirror::{self, Rows};
use group_mirror::model::{Stamp, UserId};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rules::laws::callback;
use crate::support::{histories, shown};

/// A value and when it was said.
type Said<T> = BTreeMap<String, (Stamp, T)>;

#[derive(Default)]
struct Stay {
    /// The newest sign that the user is in.
    sign: Stamp,
    /// The join it began with, where that is known.
    joined: Option<Stamp>,
    role: Option<(Stamp, Role)>,
    card: Option<(Stamp, String)>,
}

#[derive(Default)]
struct Group {
    profile: Said<String>,
    owner: Option<(Stamp, UserId, bool)>,
    fields: Said<String>,
    attributes: Said<String>,
    stays: BTreeMap<UserId, Stay>,
    destroyed: Option<Stamp>,
    lives: u32,
    known: bool,
}

impl Group {
    /// Forgets what was said before a moment.
    fn forget(&mut self, before: Stamp, members_too: bool) {
        self.profile.retain(|_, (stamp, _)| *stamp >= before);
        self.fields.retain(|_, (stamp, _)| *stamp >= before);
        self.attributes.retain(|_, (stamp, _)| *stamp >= before);
        self.owner.take_if(|(stamp, ..)| *stamp < before);
        if members_too {
            self.stays.retain(|_, stay| stay.sign >= before);
            for stay in self.stays.values_mut() {
                stay.joined.take_if(|stamp| *stamp < before);
                stay.role.take_if(|(stamp, _)| *stamp < before);
                stay.card.take_if(|(stamp, _)| *stamp < before);
            }
        }
    }

    fn lives(&mut self) {
        if let Some(end) = self.destroyed.take() {
            self.forget(end, false);
            self.lives += 1;
            self.known = self.profile.keys().any(|key| key != "type");
        }
    }

    fn stay(&mut self, user: &UserId, stamp: Stamp) -> &mut Stay {
        let stay = self.stays.entry(user.clone()).or_default();
        stay.sign = stamp;
        stay
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
                let ended = stamp.earlier(10_000);
                self.forget(ended, true);
                self.lives();
                self.known = true;
                self.say(profile, stamp);
                self.owner = owner.clone().map(|owner| (stamp, owner, false));
                if event.group_type.as_deref() != Some(AVCHATROOM) {
                    for user in members.iter().chain(owner) {
                        self.stay(user, stamp).joined = Some(stamp);
                    }
                }
            }
            EventKind::MembersJoined { members, .. } => {
                self.lives();
                for user in members {
                    self.stay(user, stamp).joined = Some(stamp);
                }
            }
            EventKind::MembersLeft { members, .. } => {
                for user in members {
                    self.stays.remove(user);
                    if let Some((_, owner, left)) = &mut self.owner {
                        *left |= owner == user;
                    }
                }
            }
            EventKind::GroupDestroyed => {
                self.destroyed = Some(stamp);
                self.stays.clear();
            }
            EventKind::ProfileChanged(profile) => {
                self.lives();
                self.say(profile, stamp);
            }
            EventKind::MemberChanged { member, role, name_card } => {
                let stay = self.stay(member, stamp);
                stay.role = role.map(|role| (stamp, role)).or(stay.role.take());
                stay.card = name_card.clone().map(|card| (stamp, card)).or(stay.card.take());
            }
            EventKind::OwnerChanged { old, new } => {
                self.lives();
                if let Some(stay) = old
                    .as_ref()
                    .filter(|old| Some(*old) != new.as_ref())
                    .and_then(|old| self.stays.get_mut(old))
                {
                    stay.role = Some((stamp, Role::Member));
                }
                self.owner = new.clone().map(|new| (stamp, new, false));
                if let Some(new) = new {
                    self.stay(new, stamp);
                }
            }
            EventKind::AttributesChanged(change) => self.change(change, stamp),
            EventKind::TopicCreated { .. }
            | EventKind::TopicsDestroyed(_)
            | EventKind::TopicChanged { .. } => {}
        }
        if let (Some(name), false) = (&event.group_type, event.kind == EventKind::GroupDestroyed) {
            self.profile.insert("type".to_owned(), (stamp, name.clone()));
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

    fn shown(&self) -> Value {
        let group_type = self.profile.get("type").map(|(_, name)| name.as_str());
        let owner = self.owner.as_ref().filter(|(_, _, left)| !(*left && group_type == Some(WORK)));
        let owner = owner.map(|(_, user, _)| user.as_str());
        let text = |key: &str| self.profile.get(key).map(|(_, text)| text.clone());
        let plain = |said: &Said<String>| -> BTreeMap<String, String> {
            said.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect()
        };
        let stays = self.stays.iter().filter(|_| self.destroyed.is_none()).map(|(user, stay)| {
            let role = stay.role.map_or("Member", |(_, role)| role.as_str());
            let role = if owner == Some(user.as_str()) { "Owner" } else { role };
            json!([
                user.as_str(),
                role,
                stay.card.as_ref().map(|(_, card)| card),
                stay.joined.map(|stamp| stamp.time().get())
            ])
        });
        let status = match (self.destroyed, self.known) {
            (Some(_), _) => "destroyed",
            (None, true) => "active",
            (None, false) => "unseen",
        };
        let mut shown = json!({ "status": status, "present": stays.collect::<Vec<_>>() });
        if self.destroyed.is_none() || self.lives == 0 {
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
    let present = whole["members"].as_array().unwrap().iter().filter(|member| member["status"] == "member");
    let present =
        present.map(|member| json!(["user_id", "role", "name_card", "joined_at"].map(|key| &member[key])));
    let mut shown = json!({ "status": whole["status"], "present": present.collect::<Vec<_>>() });
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn told_in_order_to_a_plain_machine_a_history_leads_to_what_the_fold_shows(
        history in prop::collection::vec(histories::body(), 1..40),
    ) {
        let mut callbacks: Vec<Callback> = history.iter().map(callback).collect();
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
            let told = group.shown();
            prop_assert_eq!(folded(&folds[&id], &told), told, "{}", id);
        }
    }
}
