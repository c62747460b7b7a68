//! Before-callbacks: what the receiver is asked before a group or topic is created or members are added, and what its
//! answer means.
//!
//! 0 lets the action pass, 1 refuses it with 10016, 10100 to 10200 refuse it with that code and text;
//! `RefusedMembers_Account` keeps some out. Without an answer in two seconds the action passes or is blocked, as set.

use serde_json::{Value, json};

use super::code::{AskedBody, FakeCode};
use super::state::GroupKind;
use super::world::{Actor, World};

/// The question before a command; `None` where none is asked.
pub(super) fn question(
    world: &mut World,
    command: &str,
    body: AskedBody<'_>,
    actor: Actor<'_>,
) -> Option<(&'static str, Value)> {
    if !world.knobs.before_callbacks {
        return None;
    }
    let text = |key: &str| body.optional_text(key).ok().flatten().unwrap_or_default();
    let members = body.optional_list("MemberList").ok().flatten().unwrap_or_default();
    let named: Value =
        members.iter().map(|member| json!({ "Member_Account": member["Member_Account"] })).collect();
    let (name, mut asked) = match command {
        "create_group" => {
            let kind = GroupKind::parse(text("Type")).ok()?.on_the_wire();
            let asked = json!({ "Type": kind, "Name": text("Name"), "MemberList": named,
                                "Owner_Account": text("Owner_Account") });
            ("Group.CallbackBeforeCreateGroup", asked)
        }
        "add_group_member" => {
            let kind = world.group(text("GroupId")).ok()?.kind.on_the_wire();
            let asked = json!({ "Type": kind, "GroupId": text("GroupId"), "DestinationMembers": named });
            ("Group.CallbackBeforeInviteJoinGroup", asked)
        }
        "create_topic" => {
            ("Group.CallbackBeforeCreateTopic", json!({ "Type": "Community", "Name": text("TopicName") }))
        }
        _ => return None,
    };
    if world.knobs.callbacks_off.iter().any(|off| off == name) {
        return None;
    }
    asked["CallbackCommand"] = json!(name);
    asked["Operator_Account"] = json!(actor.account);
    let now = world.clock.now_ms();
    if command != "create_topic"
        && let Some(time) = world.event_time(now)
    {
        asked["EventTime"] = time;
    }
    Some((name, asked))
}

/// The accounts that are refused, where the action may go on.
pub(super) fn verdict(answer: Option<&Value>, blocks: bool) -> Result<Vec<String>, FakeCode> {
    let refused = || FakeCode::new(10016, "rejected by the app");
    let Some(answer) = answer else {
        return if blocks { Err(refused()) } else { Ok(Vec::new()) };
    };
    match answer["ErrorCode"].as_i64() {
        Some(0) => {
            let kept_out = answer["RefusedMembers_Account"].as_array().map(Vec::as_slice).unwrap_or_default();
            Ok(kept_out.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Some(code @ 10100..=10200) => {
            Err(FakeCode::new(code, answer["ErrorInfo"].as_str().unwrap_or_default()))
        }
        _ => Err(refused()),
    }
}
