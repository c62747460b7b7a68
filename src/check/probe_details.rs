//! Attributes, topics and mutes: forms of nothing, spelling, who may ask, and the codes of reads that a type does not have.
//!
//! Few groups are asked: a form is the same for all of them, as far as is known, and each answer says how many there were.

use serde_json::Value;

use super::probing::{
    AVCHATROOM, Asked, COMMUNITY, LISTED, NOT_KNOWN, Probe, ProbeQuestion, SampledGroup, WORK, empty_form,
    json, tallied,
};
use crate::tencent::CallError;
use crate::tencent::commands::PageBegin;

/// Groups that each question is asked of.
const GROUPS: usize = 5;

/// Asks all of it.
pub(super) async fn ask(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    attributes(probe, sample).await?;
    muted(probe, sample).await?;
    topics(probe, sample).await?;
    unsupported(probe, sample).await
}

async fn attributes(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    let (mut forms, mut asked) = (Vec::new(), 0);
    for group in sample.iter().filter(|group| group.is_of(&LISTED)).take(GROUPS) {
        asked += 1;
        let called = probe.client.attributes(&group.group, probe.stop).await;
        match probe.took(called)? {
            Asked::Answer(reply) => forms.push(empty_form(&json(&reply.bytes), "GroupAttrAry").to_owned()),
            Asked::Code(code) => forms.push(format!("code {code}")),
        }
    }
    let answer = tallied(forms.iter().map(String::as_str));
    probe.answer(ProbeQuestion::EmptyAttributes, answer, format!("{asked} groups"));
    Ok(())
}

async fn muted(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    let (mut forms, mut asked) = (Vec::new(), 0);
    let wanted = sample.iter().filter(|group| group.is_of(&LISTED) && !group.is_of(&WORK));
    for group in wanted.take(GROUPS) {
        asked += 1;
        let called = probe.client.muted(&group.group, probe.stop).await;
        match probe.took(called) {
            Ok(Asked::Answer(reply)) => forms.push(muted_form(&json(&reply.bytes)).to_owned()),
            Ok(Asked::Code(code)) => forms.push(format!("code {code}")),
            // A list under neither name, or none where it would be empty, is what is asked for here.
            Err(CallError::Unreadable { .. }) => forms.push("neither".to_owned()),
            Err(error) => return Err(error),
        }
    }
    let answer = tallied(forms.iter().map(String::as_str));
    probe.answer(ProbeQuestion::MutedListSpelling, answer, format!("{asked} groups"));
    Ok(())
}

fn muted_form(answer: &Value) -> &'static str {
    match (answer.get("MutedAccountList").is_some(), answer.get("ShuttedUinList").is_some()) {
        (true, false) => "MutedAccountList",
        (false, true) => "ShuttedUinList",
        (true, true) => "both",
        (false, false) => "neither",
    }
}

/// Asks as the administrator, who is a member of few groups, and counts what comes.
async fn topics(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    let admin = probe.admin;
    let (mut as_admin, mut as_owner, mut empty, mut asked) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for group in sample.iter().filter(|group| group.is_of(&COMMUNITY)).take(GROUPS) {
        asked += 1;
        let called = probe.client.topics(&group.group, admin, &[], probe.stop).await;
        as_admin.push(topics_form(probe, called, &mut empty)?);
        let Some(Some(owner)) = &group.info.owner else { continue };
        let called = probe.client.topics(&group.group, owner, &[], probe.stop).await;
        as_owner.push(topics_form(probe, called, &mut empty)?);
    }
    let read_from = format!("{asked} communities");
    let answer = if asked == 0 {
        NOT_KNOWN.to_owned()
    } else {
        let of = |forms: &[String]| tallied(forms.iter().map(String::as_str));
        format!("as administrator: {}; as owner: {}", of(&as_admin), of(&as_owner))
    };
    probe.answer(ProbeQuestion::TopicsFromAdmin, answer, read_from.clone());
    probe.answer(ProbeQuestion::EmptyTopics, tallied(empty.iter().copied()), read_from);
    Ok(())
}

/// What an answer of `get_topic` is; the form of one without topics goes to `empty`.
fn topics_form<T>(
    probe: &mut Probe<'_>,
    called: Result<crate::tencent::Reply<T>, CallError>,
    empty: &mut Vec<&'static str>,
) -> Result<String, CallError> {
    match probe.took(called) {
        Ok(Asked::Answer(reply)) => {
            let form = empty_form(&json(&reply.bytes), "TopicAndSelfInfo");
            if form == "empty list" {
                empty.push(form);
            }
            Ok("answered".to_owned())
        }
        Ok(Asked::Code(code)) => Ok(format!("code {code}")),
        // The client takes only an empty list for none.
        Err(CallError::Unreadable { .. }) => {
            empty.push("null or absent");
            Ok("answered".to_owned())
        }
        Err(error) => Err(error),
    }
}

/// Reads that the pages do not give to a type, one call each.
async fn unsupported(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    fn first<'s>(sample: &'s [SampledGroup], types: &[&str]) -> Option<&'s SampledGroup> {
        sample.iter().find(|group| group.is_of(types))
    }
    fn shown<T>(what: &str, asked: &Asked<T>) -> String {
        match asked {
            Asked::Answer(_) => format!("{what}: answered"),
            Asked::Code(code) => format!("{what}: {code}"),
        }
    }
    let mut codes = Vec::new();
    if let Some(room) = first(sample, &AVCHATROOM) {
        let begin = PageBegin::Offset(0);
        let called = probe.client.members(&room.group, &begin, 100, &[], probe.stop).await;
        codes.push(shown("members of an audio-video room", &probe.took(called)?));
    }
    if let Some(work) = first(sample, &WORK) {
        let called = probe.client.muted(&work.group, probe.stop).await;
        codes.push(shown("muted list of a Work group", &probe.took(called)?));
    }
    if let Some(other) = first(sample, &LISTED) {
        let admin = probe.admin;
        let called = probe.client.topics(&other.group, admin, &[], probe.stop).await;
        codes.push(shown("topics of a group that is no community", &probe.took(called)?));
    }
    let answer = if codes.is_empty() { NOT_KNOWN.to_owned() } else { codes.join("; ") };
    probe.answer(ProbeQuestion::UnsupportedCodes, answer, format!("{} calls", codes.len()));
    Ok(())
}
