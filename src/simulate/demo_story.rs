//! How a scene is written down: a moment, who acts, and what happens to which club.
//!
//! It makes bodies as Tencent writes them: old names of types, event times as numbers or quoted numbers. Every callback has
//! an event time, those about topics too, because what has none is stamped with its receipt and would be another callback
//! when it is sent again.

use serde_json::{Map, Value, json};

use super::demo_clubs::{Club, person_of};
use crate::model::Millis;

/// A moment of the story: day, hour, minute, second.
pub(super) type When = (i64, i64, i64, i64);

/// One callback of the story: what happened, and where the user who did it sat.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DemoCallback {
    pub(super) at: Millis,
    pub(super) body: Value,
    pub(super) client_ip: &'static str,
    pub(super) platform: &'static str,
}

/// The callbacks so far, in whatever order the scenes are written.
#[derive(Debug)]
pub(super) struct Story {
    begin: Millis,
    callbacks: Vec<DemoCallback>,
}

impl Story {
    pub(super) fn new(begin: Millis) -> Self {
        Self { begin, callbacks: Vec::new() }
    }

    /// All callbacks in order of time; a moment that two of them share goes to the one that was written first, the other
    /// happens a millisecond later.
    pub(super) fn finish(self) -> Vec<DemoCallback> {
        let mut callbacks = self.callbacks;
        callbacks.sort_by_key(|callback| callback.at);
        let mut before = i64::MIN;
        for (number, callback) in callbacks.iter_mut().enumerate() {
            before = callback.at.get().max(before + 1);
            callback.at = Millis::new(before);
            // Tencent sends a number or a quoted number; the first one is a number, from which a test reads it.
            let is_quoted = number % 3 == 2;
            callback.body["EventTime"] = if is_quoted { json!(before.to_string()) } else { json!(before) };
        }
        callbacks
    }

    /// A callback of this command, with what it says beside the fields that all have.
    pub(super) fn send(&mut self, when: When, club: Club, by: &str, command: &str, more: Value) {
        let (day, hour, minute, second) = when;
        let at = Millis::new(self.begin.get() + (((day * 24 + hour) * 60 + minute) * 60 + second) * 1000);
        let mut body = Map::new();
        body.insert("CallbackCommand".to_owned(), json!(format!("Group.Callback{command}")));
        body.insert("GroupId".to_owned(), json!(club.id));
        body.insert("Operator_Account".to_owned(), json!(by));
        body.insert("Type".to_owned(), json!(club.kind));
        if let Value::Object(more) = more {
            body.extend(more);
        }
        let (client_ip, platform) =
            person_of(by).map_or(("203.0.113.9", "RESTAPI"), |person| (person.client_ip, person.platform));
        self.callbacks.push(DemoCallback { at, body: Value::Object(body), client_ip, platform });
    }

    pub(super) fn create(&mut self, when: When, club: Club, by: &str, members: &[&str], fields: &Value) {
        let more = json!({ "Name": club.name, "Owner_Account": by, "MemberList": accounts(members),
                           "UserDefinedDataList": fields });
        self.send(when, club, by, "AfterCreateGroup", more);
    }

    /// A user applies, and is in.
    pub(super) fn apply(&mut self, when: When, club: Club, user: &str) {
        let more = json!({ "JoinType": "Apply", "NewMemberList": accounts(&[user]) });
        self.send(when, club, user, "AfterNewMemberJoin", more);
    }

    pub(super) fn invite(&mut self, when: When, club: Club, by: &str, users: &[&str]) {
        let more = json!({ "JoinType": "Invited", "NewMemberList": accounts(users) });
        self.send(when, club, by, "AfterNewMemberJoin", more);
    }

    pub(super) fn leave(&mut self, when: When, club: Club, user: &str) {
        let more = json!({ "ExitType": "Quit", "ExitMemberList": accounts(&[user]) });
        self.send(when, club, user, "AfterMemberExit", more);
    }

    pub(super) fn remove(&mut self, when: When, club: Club, by: &str, users: &[&str]) {
        let more = json!({ "ExitType": "Kicked", "ExitMemberList": accounts(users) });
        self.send(when, club, by, "AfterMemberExit", more);
    }

    /// The user's own name card.
    pub(super) fn card(&mut self, when: When, club: Club, user: &str) {
        let card = person_of(user).map_or("", |person| person.card);
        let more = json!({ "Member_Account": user, "NameCard": card });
        self.send(when, club, user, "AfterMemberFieldChanged", more);
    }

    pub(super) fn role(&mut self, when: When, club: Club, by: &str, user: &str, role: &str) {
        // The domestic pages have this key for the member.
        let more = json!({ "Modified_Account": user, "Role": role });
        self.send(when, club, by, "AfterMemberFieldChanged", more);
    }

    /// Texts of the profile: `Name`, `Introduction`, `Notification`, `FaceUrl`.
    pub(super) fn profile(&mut self, when: When, club: Club, by: &str, texts: Value) {
        self.send(when, club, by, "AfterGroupInfoChanged", texts);
    }

    pub(super) fn attributes(
        &mut self,
        when: When,
        club: Club,
        by: &str,
        option: &str,
        pairs: &[(&str, &str)],
    ) {
        let pairs: Value = pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        self.send(
            when,
            club,
            by,
            "AfterGroupAttrChanged",
            json!({ "OptionType": option, "GroupAttr": pairs }),
        );
    }

    pub(super) fn topic(&mut self, when: When, club: Club, by: &str, (topic, name): (&str, &str)) {
        let more = json!({ "TopicId": format!("{}@TOPIC#_{topic}", club.id), "Name": name });
        self.send(when, club, by, "AfterCreateTopic", more);
    }
}

/// A list of members as Tencent writes it.
pub(super) fn accounts(users: &[&str]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}
