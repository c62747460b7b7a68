//! A ledger entry as a sentence, who did what to whom, with details beside it: how, from where, what was not understood.
//!
//! Each command of the catalogue of state changes has a message; so have what is parked, what another version wrote, and
//! answers of Tencent's REST API (`sentence_read`). Details are bounded in number, because a body can name any number of
//! fields. Pure.

use super::deed::{LEFT, REMOVED};
use super::entry_line::EntryLine;
use super::language::Language;
use super::sentence::{SentencePart, Slot, clipped, compose};
use super::sentence_read::read_sentence;
use super::sentence_writer::{Scene, Sentence, SentenceWriter, people, text_key};
use crate::callback::{AttributesChange, EventKind, Profile, Role};
use crate::model::{FieldKey, TopicId, UserId};

/// How many details a sentence has beside those of how and from where.
const DETAILS_MAX: usize = 6;

/// How many characters of a word of Tencent's are shown; the known ones have up to seven.
const WORD_CHARS_MAX: usize = 32;

/// How Tencent writes that a user was brought in, in a callback of a join.
const INVITED: &str = "Invited";

/// How Tencent writes that a user asked to join.
const APPLIED: &str = "Apply";

/// The sentence of an entry.
pub(super) fn sentence(language: Language, line: &EntryLine, scene: Scene) -> Sentence {
    let writer = SentenceWriter { language, line, scene };
    let mut said = match &line.event {
        Some(event) => writer.event(event),
        None if line.is_read && line.outcome != "parked" => read_sentence(&writer),
        None => writer.unread(),
    };
    if said.details.len() > DETAILS_MAX {
        let more = said.details.len() - DETAILS_MAX + 1;
        said.details.truncate(DETAILS_MAX - 1);
        said.details.push(compose(language, "detail-more", &[("count", Slot::Count(more))]));
    }
    assert!(said.details.len() <= DETAILS_MAX, "details are bounded");
    said.details.extend(writer.beside());
    said
}

impl SentenceWriter<'_> {
    fn event(&self, event: &EventKind) -> Sentence {
        match event {
            EventKind::GroupCreated { owner, profile, members } => {
                let mut said = self.main("event-created", Vec::new());
                if !members.is_empty() {
                    said.details.push(self.detail("detail-with", &[("people", people(members))]));
                }
                if let Some(owner) = owner.as_ref().filter(|owner| !self.is_operator(owner)) {
                    said.details.push(self.owner("detail-owner", owner));
                }
                let group_type = self.line.group_type.as_deref();
                said.details.extend(group_type.map(|name| self.value("detail-type", name)));
                said.details.extend(self.profile(profile));
                said
            }
            EventKind::MembersJoined { how, members } => self.joined(how.as_deref(), members),
            EventKind::MembersLeft { how, members } => self.left(how.as_deref(), members),
            EventKind::GroupDestroyed => self.main("event-destroyed", Vec::new()),
            EventKind::ProfileChanged(profile) => {
                let details = self.profile(profile);
                Sentence { details, ..self.main("event-profile", Vec::new()) }
            }
            EventKind::MemberChanged { member, role, name_card } => {
                self.member(member, *role, name_card.as_deref())
            }
            EventKind::AttributesChanged(change) => {
                let details = self.attributes(change);
                Sentence { details, ..self.main("event-attributes", Vec::new()) }
            }
            EventKind::OwnerChanged { old, new } => {
                let mut said = match new {
                    Some(new) => self.people("event-owner", std::slice::from_ref(new)),
                    None => self.main("event-ownerless", Vec::new()),
                };
                if let Some(old) = old.as_ref().filter(|old| !self.is_operator(old)) {
                    said.details.push(self.owner("detail-owner-before", old));
                }
                said
            }
            EventKind::TopicCreated { topic, profile } => {
                self.topics("event-topic-created", std::slice::from_ref(topic), Some(profile))
            }
            EventKind::TopicsDestroyed(topics) => self.topics("event-topic-destroyed", topics, None),
            EventKind::TopicChanged { topic, profile } => match topic {
                Some(topic) => self.topics("event-topic-changed", std::slice::from_ref(topic), Some(profile)),
                None => self.topics("event-topic-unnamed", &[], Some(profile)),
            },
        }
    }

    fn is_operator(&self, user: &UserId) -> bool {
        self.line.operator.as_deref() == Some(user.as_str())
    }

    fn owner(&self, key: &str, user: &UserId) -> Vec<SentencePart> {
        self.detail(key, &[("people", people(std::slice::from_ref(user)))])
    }

    fn joined(&self, how: Option<&str>, members: &[UserId]) -> Sentence {
        let key = if how == Some(INVITED) { "event-invited" } else { "event-joined" };
        let mut said = self.people(key, members);
        let is_other = members.iter().all(|member| !self.is_operator(member));
        // Who approved or who applied: the pages of Tencent do not say which of both the operator of an application is.
        if let (true, true, Some(by)) = (how != Some(INVITED), is_other, &self.line.operator) {
            let by = Slot::One(SentencePart::Person(by.clone()));
            said.details.push(self.detail("detail-by", &[("by", by)]));
        }
        said.details.extend(self.word(how.filter(|how| *how != APPLIED)));
        said
    }

    fn left(&self, how: Option<&str>, members: &[UserId]) -> Sentence {
        let key = match how {
            Some(REMOVED) => "event-removed",
            Some(LEFT) => "event-left",
            _ => "event-exited",
        };
        let mut said = self.people(key, members);
        if let (true, Some(by)) = (how != Some(REMOVED), &self.line.operator) {
            let by = Slot::One(SentencePart::Person(by.clone()));
            said.details.push(self.detail("detail-by", &[("by", by)]));
        }
        said.details.extend(self.word(how.filter(|how| *how != LEFT)));
        said
    }

    /// Tencent's word, where ours is another.
    fn word(&self, word: Option<&str>) -> Option<Vec<SentencePart>> {
        let word = SentencePart::Code(clipped(word?, WORD_CHARS_MAX));
        Some(self.detail("detail-word", &[("word", Slot::One(word))]))
    }

    fn member(&self, member: &UserId, role: Option<Role>, card: Option<&str>) -> Sentence {
        let key = match (role, card) {
            (Some(Role::Admin), _) => "event-admin",
            (Some(Role::Member), _) => "event-ordinary",
            (None, Some(_)) => "event-card",
            (None, None) => "event-member",
        };
        let mut said = self.people(key, std::slice::from_ref(member));
        said.details.extend(card.map(|card| self.value("detail-card", card)));
        said
    }

    fn attributes(&self, change: &AttributesChange) -> Vec<Vec<SentencePart>> {
        let given = |pairs: &[(FieldKey, String)]| {
            pairs.iter().map(|(key, value)| self.keyed("detail-attribute", key.as_str(), value)).collect()
        };
        match change {
            AttributesChange::Set(pairs) => {
                let mut details: Vec<_> = given(pairs);
                details.insert(0, self.detail("detail-attributes-only", &[]));
                details
            }
            AttributesChange::Modify(pairs) => given(pairs),
            AttributesChange::Delete(keys) => {
                let gone = |key: &FieldKey| {
                    let key = Slot::One(SentencePart::value(key.as_str(), self.language));
                    self.detail("detail-attribute-gone", &[("key", key)])
                };
                keys.iter().map(gone).collect()
            }
            AttributesChange::Clear => vec![self.detail("detail-attributes-cleared", &[])],
            AttributesChange::Unknown => vec![self.detail("detail-attributes-unclear", &[])],
        }
    }

    fn topics(&self, key: &str, topics: &[TopicId], profile: Option<&Profile>) -> Sentence {
        let shown = |topic: &TopicId| Slot::One(SentencePart::value(topic.as_str(), self.language));
        let slots = topics.first().map(|topic| ("topic", shown(topic)));
        let mut said = self.main(key, slots.into_iter().collect());
        let others = topics.iter().skip(1);
        said.details.extend(others.map(|topic| self.detail("detail-topic", &[("topic", shown(topic))])));
        said.details.extend(profile.map(|profile| self.profile(profile)).unwrap_or_default());
        said
    }

    fn profile(&self, profile: &Profile) -> Vec<Vec<SentencePart>> {
        let texts = profile.texts.iter().map(|(text, value)| self.value(text_key(*text), value));
        let fields = profile.user_defined_fields.iter();
        let fields = fields.map(|(key, value)| self.keyed("detail-field", key.as_str(), value));
        texts.chain(fields).collect()
    }

    /// What was parked, and what this program cannot read although it was applied.
    fn unread(&self) -> Sentence {
        let command = Slot::One(SentencePart::value(&self.line.command, self.language));
        let slots = vec![("command", command)];
        if self.line.outcome != "parked" {
            return self.main("event-foreign", slots);
        }
        if self.line.group.is_empty() {
            return Sentence { main: self.detail("event-unread-nowhere", &slots), details: Vec::new() };
        }
        self.main("event-unread", slots)
    }

    /// What holds for every entry: why something was not understood, with what and from where it was done.
    fn beside(&self) -> Vec<Vec<SentencePart>> {
        let reason_key = if self.line.outcome == "partial" { "detail-partial" } else { "detail-reason" };
        let beside = [
            (reason_key, &self.line.reason),
            ("detail-platform", &self.line.platform),
            ("detail-address", &self.line.client_ip),
        ];
        beside.into_iter().filter_map(|(key, value)| Some(self.value(key, value.as_deref()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::super::sentence::plain;
    use super::*;
    use crate::callback::STATE_COMMANDS;
    use crate::store::history::HistoryRow;
    use crate::store::ledger::LedgerRow;

    /// An entry of a command with this body, as the ledger has it.
    fn line(command: &str, body: &str, outcome: &str) -> EntryLine {
        let row = LedgerRow {
            sdk_app_id: 1,
            group_id: "g".to_owned(),
            time_ms: 1_767_225_600_000,
            digest: vec![0; 16],
            command: command.to_owned(),
            query_command: None,
            request_id: None,
            received_ms: 1_767_225_600_000,
            source: "callback".to_owned(),
            outcome: outcome.to_owned(),
            reason: None,
            causes: None,
            body: body.as_bytes().to_vec(),
        };
        let row = HistoryRow {
            row,
            event_time_ms: None,
            source: "callback".to_owned(),
            client_ip: Some("203.0.113.7".to_owned()),
            platform: Some("Web".to_owned()),
            group_name: Some("Owls".to_owned()),
        };
        EntryLine::of(row, true)
    }

    /// A body that has what any of the commands needs.
    const BODY: &str = r#"{"GroupId":"g","Operator_Account":"ana","Owner_Account":"ana","Name":"N","Type":"Public",
        "MemberList":[{"Member_Account":"boris"}],"NewMemberList":[{"Member_Account":"boris"}],"JoinType":"Invited",
        "ExitMemberList":[{"Member_Account":"boris"}],"ExitType":"Kicked","Member_Account":"boris","Role":"Admin",
        "OptionType":"set","GroupAttr":[{"key":"k","value":"v"}],"OldOwner_Account":"ana","NewOwner_Account":"boris",
        "TopicId":"g@TOPIC#_1","TopicIdList":["g@TOPIC#_1"]}"#;

    fn text(parts: &[Vec<SentencePart>]) -> String {
        parts.iter().map(|part| plain(part)).collect::<Vec<_>>().join(" · ")
    }

    #[test]
    fn every_command_has_a_sentence_in_each_language_and_place_with_and_without_an_operator() {
        let nameless = BODY.replace(r#""Operator_Account":"ana","#, "");
        for language in Language::VARIANTS.iter().copied() {
            for command in STATE_COMMANDS {
                for (body, scene) in [
                    (BODY, Scene::OfApp),
                    (BODY, Scene::OfGroup),
                    (&nameless, Scene::OfApp),
                    (&nameless, Scene::OfGroup),
                ] {
                    let said = sentence(language, &line(command, body, "applied"), scene);
                    let (main, details) = (plain(&said.main), text(&said.details));
                    assert!(!main.contains('⟦') && !details.contains('⟦'), "{language:?}: {main} {details}");
                    assert_eq!(
                        main.contains("Owls"),
                        scene == Scene::OfApp,
                        "{language:?} {command}: {main}"
                    );
                    let by = said.main.contains(&SentencePart::Person("ana".to_owned()));
                    assert_eq!(by, body == BODY, "{language:?} {command}: {main}");
                    assert!(details.contains("203.0.113.7") && details.contains("Web"), "{details}");
                }
            }
        }
    }

    #[test]
    fn who_is_named_and_counted_and_what_is_cut() {
        let users: Vec<String> = (0..9).map(|user| format!(r#"{{"Member_Account":"u{user}"}}"#)).collect();
        let kicked = |users: &[String]| {
            format!(r#"{{"GroupId":"g","ExitType":"Kicked","ExitMemberList":[{}]}}"#, users.join(","))
        };
        let said = |body: &str| {
            let line = line("Group.CallbackAfterMemberExit", body, "applied");
            plain(&sentence(Language::English, &line, Scene::OfGroup).main)
        };
        assert_eq!(said(&kicked(&users[..1])), "u0 was removed");
        assert_eq!(said(&kicked(&users[..4])), "u0, u1, u2, u3 were removed");
        assert_eq!(said(&kicked(&users)), "u0, u1, u2 and 6 more were removed");
        let fields: Vec<String> =
            (0..40).map(|key| format!(r#"{{"Key":"k{key}","Value":"{}"}}"#, "é".repeat(500))).collect();
        let body = format!(r#"{{"GroupId":"g","UserDefinedDataList":[{}]}}"#, fields.join(","));
        let said = sentence(
            Language::English,
            &line("Group.CallbackAfterGroupInfoChanged", &body, "applied"),
            Scene::OfApp,
        );
        assert_eq!(said.details.len(), DETAILS_MAX + 2, "and platform and address");
        assert!(text(&said.details).contains("35 more details"), "{}", text(&said.details));
        assert!(text(&said.details).chars().count() < 1_000);
    }

    #[test]
    fn what_is_put_in_is_never_read_as_a_part_of_the_message() {
        for name in ["{ $by }", "\u{E000}", "\u{E002}\u{E001}", "{\"x\"}", "⟦"] {
            let body = format!(
                r#"{{"GroupId":"g","Operator_Account":{0},"NewOwner_Account":{0}}}"#,
                serde_json::to_string(name).unwrap_or_default()
            );
            let said = sentence(
                Language::English,
                &line("Group.CallbackAfterChangeGroupOwner", &body, "applied"),
                Scene::OfApp,
            );
            assert_eq!(plain(&said.main), format!("{name} made {name} the owner of Owls"));
        }
    }

    #[test]
    fn an_operator_who_is_the_one_who_left_did_nothing_to_him() {
        let body = r#"{"GroupId":"g","ExitType":"Kicked","Operator_Account":"a","ExitMemberList":[{"Member_Account":"a"}]}"#;
        let said = sentence(
            Language::English,
            &line("Group.CallbackAfterMemberExit", body, "applied"),
            Scene::OfGroup,
        );
        assert_eq!(plain(&said.main), "a was removed");
    }

    #[test]
    fn what_is_parked_or_foreign_says_so() {
        let said = |outcome: &str, command: &str| {
            plain(&sentence(Language::English, &line(command, "{}", outcome), Scene::OfApp).main)
        };
        assert_eq!(
            said("parked", "Group.CallbackAfterFoo"),
            "Not understood: Group.CallbackAfterFoo about Owls"
        );
        assert!(said("applied", "Group.CallbackAfterFoo").contains("written by another version"));
    }
}
