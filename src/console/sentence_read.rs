//! An answer of Tencent's REST API as a sentence: what was read, and what it says that a reader looks for.
//!
//! Which of the five answers it is follows from its command in the ledger and, of a group that does not exist, from its
//! facts. A list of members names up to 5,000, so it is counted, and those alone are named whom the mirror had shown and the
//! list leaves out. Pure.

use super::sentence::{SentencePart, Slot};
use super::sentence_writer::{Sentence, SentenceWriter, people, text_key};
use crate::mirror::{FactKind, GroupBarrier, TopicBarrier};
use crate::model::UserId;

/// The sentence of a snapshot.
pub(super) fn read_sentence(writer: &SentenceWriter<'_>) -> Sentence {
    let facts = &writer.line.facts;
    let is_gone = facts.iter().any(|fact| matches!(fact, FactKind::Barrier(GroupBarrier::GoneStamp)));
    let key = match writer.line.command.as_str() {
        "get_group_info" if is_gone => "read-gone",
        "get_group_info" => "read-profile",
        "get_group_member_info" => "read-members",
        "get_group_attr" => "read-attributes",
        "get_topic" => "read-topics",
        _ => return foreign(writer),
    };
    let mut said = writer.main(key, Vec::new());
    said.details = match key {
        "read-members" => members(writer),
        "read-topics" => topics(writer),
        _ => facts.iter().filter_map(|fact| detail(writer, fact)).collect(),
    };
    said
}

fn foreign(writer: &SentenceWriter<'_>) -> Sentence {
    let command = SentencePart::value(&writer.line.command, writer.language);
    writer.main("event-foreign", vec![("command", Slot::One(command))])
}

fn detail(writer: &SentenceWriter<'_>, fact: &FactKind) -> Option<Vec<SentencePart>> {
    match fact {
        FactKind::Text(text, value) => Some(writer.value(text_key(*text), value)),
        FactKind::Owner(Some(owner)) => {
            Some(writer.detail("detail-owner", &[("people", people(std::slice::from_ref(owner)))]))
        }
        FactKind::UserDefinedField(key, value) => Some(writer.keyed("detail-field", key.as_str(), value)),
        FactKind::Attribute(key, Some(value)) => Some(writer.keyed("detail-attribute", key.as_str(), value)),
        FactKind::Barrier(GroupBarrier::AttributesBarrier) => {
            Some(writer.detail("detail-attributes-only", &[]))
        }
        _ => None,
    }
}

fn members(writer: &SentenceWriter<'_>) -> Vec<Vec<SentencePart>> {
    let facts = &writer.line.facts;
    let listed = facts.iter().filter(|fact| matches!(fact, FactKind::Listed(..))).count();
    let missing: Vec<UserId> = facts.iter().filter_map(missing).cloned().collect();
    let mut details = vec![writer.detail("detail-listed", &[("count", Slot::Count(listed))])];
    if !missing.is_empty() {
        details.push(writer.detail("detail-missing", &[("people", people(&missing))]));
    }
    details
}

fn missing(fact: &FactKind) -> Option<&UserId> {
    match fact {
        FactKind::Missing(user) => Some(user),
        _ => None,
    }
}

fn topics(writer: &SentenceWriter<'_>) -> Vec<Vec<SentencePart>> {
    let mut topics: Vec<&str> = writer.line.facts.iter().filter_map(topic).collect();
    topics.dedup();
    vec![writer.detail("detail-topics", &[("count", Slot::Count(topics.len()))])]
}

fn topic(fact: &FactKind) -> Option<&str> {
    match fact {
        FactKind::TopicBarrier(topic, barrier) if *barrier == TopicBarrier::ReadStamp => Some(topic.as_str()),
        _ => None,
    }
}
