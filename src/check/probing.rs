//! A probe that runs: the questions and their answers, and what every call shows beside its own question.
//!
//! Answers are counts and forms, because they are pasted into issues: nothing that a call brought goes into one as it
//! came. Codes that are about the question are answers as well; any other failure ends the probe.

use serde::Serialize;
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};
use tokio_util::sync::CancellationToken;

use super::line::secs_shown;
use crate::model::{GroupId, UserId};
use crate::tencent::client::TencentClient;
use crate::tencent::codes::CodeClass;
use crate::tencent::groups::GroupInfo;
use crate::tencent::{CallError, Reply};

/// How many answers one probe asks for at most.
pub const CALLS_MAX: usize = 45;

/// What is not known of Tencent. The labels never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProbeQuestion {
    /// `TotalCount` against the ids on all pages.
    IdListTotal,
    /// Size of `Next`, and what stands at the end.
    IdListNext,
    /// Whether ids are ordered, and alike in two answers.
    IdListOrder,
    /// Whether elements of `get_group_info` keep the order asked for.
    ElementOrder,
    /// Whether `InfoSeq` comes when asked for.
    InfoSeq,
    /// `MuteAllMember` or `ShutUpAllMember`.
    MuteAllSpelling,
    /// Fields of an audio-video room.
    AvchatroomFields,
    /// Whether `MemberList` of a profile is whole.
    PackedMembers,
    /// `LastInfoTime` against the newest `JoinTime`.
    LastInfoTime,
    /// By join, by account, or neither.
    MemberOrder,
    /// `MemberNum` against distinct rows.
    MemberNum,
    /// A `Limit` above 200.
    LargeLimit,
    /// `MuteUntil` or `ShutUpUntil`.
    MuteUntilSpelling,
    /// Whether `Role` has a blank at its end.
    RoleBlank,
    /// Whether pages of a community repeat members.
    CommunityPages,
    /// `MutedAccountList` or `ShuttedUinList`.
    MutedListSpelling,
    /// What a group without attributes answers.
    EmptyAttributes,
    /// What a community without topics answers.
    EmptyTopics,
    /// Whether `get_topic` answers an administrator who is no member.
    TopicsFromAdmin,
    /// The codes of reads that a type of group does not have.
    UnsupportedCodes,
    /// `ErrorInfo` of a success.
    ErrorInfo,
    /// Whether answers have a `Date`, and its distance.
    DateHeader,
    /// The `Content-Type` of answers.
    ContentType,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeAnswer {
    /// What was asked.
    pub question: ProbeQuestion,
    /// Counts and forms.
    pub answer: String,
    /// How much it was read from, such as `12 groups`.
    pub read_from: String,
}

impl std::fmt::Display for ProbeAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let question: &str = self.question.into();
        write!(f, "probe    {question}: {} [read from {}]", self.answer, self.read_from)
    }
}

/// A group of the sample with what its profile says.
#[derive(Debug, Clone)]
pub(super) struct SampledGroup {
    pub(super) group: GroupId,
    pub(super) info: GroupInfo,
}

impl SampledGroup {
    /// Under the names of today; those on the wire are `Private` and `ChatRoom`.
    pub(super) fn is_of(&self, types: &[&str]) -> bool {
        self.info.group_type.as_deref().is_some_and(|group_type| types.contains(&group_type))
    }

    pub(super) fn members(&self) -> u64 {
        self.info.member_num.unwrap_or(0)
    }
}

/// The types of groups on the wire, old names and new.
pub(super) const AVCHATROOM: [&str; 1] = ["AVChatRoom"];
pub(super) const COMMUNITY: [&str; 1] = ["Community"];
pub(super) const WORK: [&str; 2] = ["Private", "Work"];
pub(super) const LISTED: [&str; 5] = ["Private", "Work", "Public", "ChatRoom", "Meeting"];

/// What one call brought: an answer, or a code that is an answer as well.
pub(super) enum Asked<T> {
    Answer(Reply<T>),
    Code(i64),
}

/// A probe that runs: the client, and what all answers have shown so far.
pub(super) struct Probe<'a> {
    pub(super) client: &'a TencentClient,
    pub(super) admin: &'a UserId,
    pub(super) stop: &'a CancellationToken,
    answers: Vec<ProbeAnswer>,
    /// One per answer.
    dates: Vec<Option<i64>>,
    content_types: Vec<String>,
    error_infos: Vec<&'static str>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(client: &'a TencentClient, admin: &'a UserId, stop: &'a CancellationToken) -> Self {
        Self {
            client,
            admin,
            stop,
            answers: Vec::new(),
            dates: Vec::new(),
            content_types: Vec::new(),
            error_infos: Vec::new(),
        }
    }

    /// The answers in the order of the questions, with those that all calls gave.
    pub(super) fn finish(mut self) -> Vec<ProbeAnswer> {
        assert!(self.dates.len() <= CALLS_MAX, "each question keeps its number of calls");
        self.answer_of_heads();
        self.answers.sort_by_key(|answer| answer.question);
        assert_eq!(self.answers.len(), ProbeQuestion::VARIANTS.len(), "each question has one answer");
        self.answers
    }

    pub(super) fn answer(
        &mut self,
        question: ProbeQuestion,
        answer: impl Into<String>,
        read_from: impl Into<String>,
    ) {
        self.answers.push(ProbeAnswer { question, answer: answer.into(), read_from: read_from.into() });
    }

    /// What a call brought, with what its head and envelope show.
    ///
    /// # Errors
    /// No answer, or a code that is not about the question.
    pub(super) fn took<T>(&mut self, called: Result<Reply<T>, CallError>) -> Result<Asked<T>, CallError> {
        match called {
            Ok(reply) => {
                self.note_head();
                self.error_infos.push(error_info_form(&reply.bytes));
                Ok(Asked::Answer(reply))
            }
            Err(CallError::Code {
                code,
                class:
                    CodeClass::Gone
                    | CodeClass::TopicGone
                    | CodeClass::Unsupported
                    | CodeClass::TooMuch
                    | CodeClass::Bug
                    | CodeClass::Refused,
                ..
            }) => {
                self.note_head();
                Ok(Asked::Code(code.code))
            }
            Err(error) => Err(error),
        }
    }

    fn note_head(&mut self) {
        let Some((head, came_at)) = self.client.last_head() else { return };
        let took = i64::try_from(head.took.as_millis()).unwrap_or(i64::MAX);
        self.dates.push(head.date.map(|date| date.get() + 500 - (came_at.get() - took / 2)));
        self.content_types.push(head.content_type.unwrap_or_else(|| "none".to_owned()));
    }

    fn answer_of_heads(&mut self) {
        let read_from = format!("{} answers", self.dates.len());
        let known: Vec<i64> = self.dates.iter().filter_map(|date| *date).collect();
        let distances = match (known.iter().min(), known.iter().max()) {
            (Some(least), Some(most)) => {
                let signed = |ms: i64| format!("{}{}", if ms < 0 { "-" } else { "+" }, secs_shown(ms));
                format!(
                    "on {} of {}, {} to {} against this host's clock (whole seconds, +0.5 s added)",
                    known.len(),
                    self.dates.len(),
                    signed(*least),
                    signed(*most)
                )
            }
            _ => "on none".to_owned(),
        };
        self.answer(ProbeQuestion::DateHeader, distances, read_from.clone());
        let content_types = tallied(self.content_types.iter().map(String::as_str));
        self.answer(ProbeQuestion::ContentType, content_types, read_from);
        let (forms, successes) = (tallied(self.error_infos.iter().copied()), self.error_infos.len());
        self.answer(ProbeQuestion::ErrorInfo, forms, format!("{successes} successes"));
    }
}

/// An answer as JSON; what is not strictly JSON shows no forms.
pub(super) fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn error_info_form(bytes: &[u8]) -> &'static str {
    match json(bytes).get("ErrorInfo").map(|info| info.as_str().map(str::to_ascii_lowercase)) {
        None => "absent",
        Some(Some(text)) if text.is_empty() => "empty text",
        Some(Some(text)) if text == "ok" => "\"ok\"",
        Some(_) => "something else",
    }
}

/// The form of what stands under a key where there is nothing to list.
pub(super) fn empty_form(answer: &Value, key: &str) -> &'static str {
    match answer.get(key) {
        None => "absent",
        Some(Value::Null) => "null",
        Some(Value::Array(list)) if list.is_empty() => "empty list",
        Some(Value::Array(_)) => "list with entries",
        Some(_) => "something else",
    }
}

/// How often each of some forms came, the most frequent first.
pub(super) fn tallied<'f>(forms: impl Iterator<Item = &'f str>) -> String {
    let mut tallies: Vec<(&str, u32)> = Vec::new();
    for form in forms {
        match tallies.iter_mut().find(|(known, _)| *known == form) {
            Some((_, count)) => *count += 1,
            None => tallies.push((form, 1)),
        }
    }
    tallies.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown: Vec<String> = tallies.iter().map(|(form, count)| format!("{form} {count} times")).collect();
    if shown.is_empty() { NOT_KNOWN.to_owned() } else { shown.join(", ") }
}

/// What is answered where nothing was there to read.
pub(super) const NOT_KNOWN: &str = "not known";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{empty_form, error_info_form, tallied};

    #[test]
    fn forms_are_recognised_and_counted() {
        for (answer, form) in [
            (json!({}), "absent"),
            (json!({ "L": null }), "null"),
            (json!({ "L": [] }), "empty list"),
            (json!({ "L": [1] }), "list with entries"),
            (json!({ "L": "" }), "something else"),
        ] {
            assert_eq!(empty_form(&answer, "L"), form);
        }
        for (answer, form) in [
            (&b"{}"[..], "absent"),
            (br#"{"ErrorInfo":""}"#, "empty text"),
            (br#"{"ErrorInfo":"OK"}"#, "\"ok\""),
            (br#"{"ErrorInfo":"secret words"}"#, "something else"),
        ] {
            assert_eq!(error_info_form(answer), form);
        }
        assert_eq!(tallied(["a", "b", "b"].into_iter()), "b 2 times, a 1 times");
        assert_eq!(tallied(std::iter::empty()), "not known");
    }
}
