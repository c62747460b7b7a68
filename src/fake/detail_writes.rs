//! Writes on what hangs on a group: its attributes and the topics of a community.
//!
//! The callbacks of topics have no `EventTime`, and the one of a changed topic does not name the topic. A change of
//! mute-all or of the custom string of a topic fires none, nor does an import.

use serde_json::{Map, Value, json};

use super::code::{AskedBody, FakeCode};
use super::group_writes::{FakeAnswer, object};
use super::state::{FakeTopic, GroupKind, TEXTS};
use super::world::{Actor, World};

/// Attributes of one group.
const ATTRIBUTES_MAX: usize = 16;

/// Topics of one community.
const TOPICS_MAX: usize = 200;

/// How the attributes change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttributeWrite {
    Set,
    Modify,
    Delete,
    Clear,
}

impl AttributeWrite {
    fn command(self) -> &'static str {
        match self {
            Self::Set => "set_group_attr",
            Self::Modify => "modify_group_attr",
            Self::Delete => "delete_group_attr",
            Self::Clear => "clear_group_attr",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Modify => "modify",
            Self::Delete => "delete",
            Self::Clear => "clear",
        }
    }
}

pub(super) fn write_attributes(
    world: &mut World,
    body: AskedBody<'_>,
    actor: Actor<'_>,
    write: AttributeWrite,
) -> FakeAnswer {
    let id = body.text("GroupId")?;
    let pairs = body.pairs("GroupAttr", "key", "value")?;
    let group = world.group(id)?;
    if write == AttributeWrite::Clear && group.kind == GroupKind::Community {
        return Err(FakeCode::not_for_type());
    }
    if pairs.is_empty() && matches!(write, AttributeWrite::Modify | AttributeWrite::Delete) {
        return Err(FakeCode::bad("GroupAttr is missing"));
    }
    let mut attributes = group.attributes.clone();
    match write {
        AttributeWrite::Set => attributes = pairs.iter().cloned().collect(),
        AttributeWrite::Modify => attributes.extend(pairs.iter().cloned()),
        AttributeWrite::Delete => attributes.retain(|key, _| !pairs.iter().any(|(named, _)| named == key)),
        AttributeWrite::Clear => attributes.clear(),
    }
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(FakeCode::new(10045, "too many attributes"));
    }
    let now = world.begin_change(write.command(), id);
    let group = world.changing(id)?;
    group.attributes = attributes;
    let named: Value = match write {
        AttributeWrite::Clear => json!([]),
        AttributeWrite::Delete => pairs.iter().map(|(key, _)| json!({ "key": key, "value": "" })).collect(),
        _ => pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect(),
    };
    let content = object(json!({
        "Type": group.kind.on_the_wire(), "OptionType": write.option(), "GroupAttr": named,
    }));
    world.call_back("Group.CallbackAfterGroupAttrChanged", (id, Some(actor)), content, Some(now));
    Ok(Map::new())
}

/// The texts of a topic that a body names, by their names in callbacks: the REST API says `TopicName` for the name.
fn topic_texts(body: AskedBody<'_>) -> Result<Vec<(&'static str, String)>, FakeCode> {
    let mut texts = Vec::new();
    for name in TEXTS {
        let key = if name == "Name" { "TopicName" } else { name };
        texts.extend(body.optional_text(key)?.map(|text| (name, text.to_owned())));
    }
    Ok(texts)
}

fn community(world: &World, body: AskedBody<'_>) -> Result<String, FakeCode> {
    let id = body.text("GroupId")?;
    let group = world.group(id)?;
    if group.kind == GroupKind::Community { Ok(id.to_owned()) } else { Err(FakeCode::not_for_type()) }
}

/// `create_topic`, or `import_topic`, which fires no callback.
pub(super) fn create_topic(
    world: &mut World,
    body: AskedBody<'_>,
    actor: Actor<'_>,
    is_import: bool,
) -> FakeAnswer {
    let id = community(world, body)?;
    body.text("TopicName")?;
    let (texts, custom) = (topic_texts(body)?, body.optional_text("CustomString")?.unwrap_or_default());
    let prefix = format!("{id}@TOPIC#_");
    let topic_id = match body.optional_text("TopicId")? {
        None | Some("") => world.new_id(&format!("{prefix}@TOPIC#c")),
        Some(asked) if asked.starts_with(&prefix) => asked.to_owned(),
        Some(_) => return Err(FakeCode::bad("TopicId does not begin with its group")),
    };
    let group = world.group(&id)?;
    if group.topics.contains_key(&topic_id) {
        return Err(FakeCode::new(10021, "topic id has been used"));
    }
    if group.topics.len() >= TOPICS_MAX {
        return Err(FakeCode::bad("too many topics"));
    }
    let now = world.begin_change(if is_import { "import_topic" } else { "create_topic" }, &id);
    let group = world.changing(&id)?;
    let mut topic = FakeTopic { custom: custom.to_owned(), create_secs: now / 1000, ..FakeTopic::default() };
    topic.texts = TEXTS.map(|name| (name, String::new())).into();
    topic.texts.extend(texts);
    let content = object(json!({
        "Type": "Community", "TopicId": topic_id, "Owner_Account": group.owner, "Name": topic.texts["Name"],
    }));
    group.topics.insert(topic_id.clone(), topic);
    if !is_import {
        world.call_back("Group.CallbackAfterCreateTopic", (&id, Some(actor)), content, None);
    }
    Ok(object(json!({ "TopicId": topic_id })))
}

pub(super) fn modify_topic(world: &mut World, body: AskedBody<'_>, actor: Actor<'_>) -> FakeAnswer {
    let id = community(world, body)?;
    let topic_id = body.text("TopicId")?;
    let (texts, custom) = (topic_texts(body)?, body.optional_text("CustomString")?);
    let mute_all = body.optional_text("MuteAllMember")?;
    if !world.group(&id)?.topics.contains_key(topic_id) {
        return Err(FakeCode::new(110_003, "topic has been deleted"));
    }
    world.begin_change("modify_topic", &id);
    let mut content = object(json!({ "Type": "Community" }));
    if let Some(topic) = world.changing(&id)?.topics.get_mut(topic_id) {
        for (name, text) in texts {
            if topic.texts.insert(name, text.clone()).as_ref() != Some(&text) {
                content.insert(name.to_owned(), json!(text));
            }
        }
        if let Some(custom) = custom {
            custom.clone_into(&mut topic.custom);
        }
        topic.mute_all = mute_all.map_or(topic.mute_all, |mute_all| mute_all == "On");
    }
    if content.len() > 1 {
        world.call_back("Group.CallbackAfterTopicInfoChanged", (&id, Some(actor)), content, None);
    }
    Ok(Map::new())
}

pub(super) fn destroy_topic(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let id = community(world, body)?;
    let named = body.texts("TopicIdList", TOPICS_MAX, 10004)?;
    world.begin_change("destroy_topic", &id);
    let group = world.changing(&id)?;
    let (mut gone, mut results) = (Vec::new(), Vec::new());
    for topic in named {
        let (code, info) =
            if group.topics.remove(topic).is_some() { (0, "ok") } else { (110_002, "topic does not exist") };
        if code == 0 {
            gone.push(topic);
        }
        results.push(json!({ "ErrorCode": code, "ErrorInfo": info, "TopicId": topic }));
    }
    if !gone.is_empty() {
        let content = object(json!({ "Type": "Community", "TopicIdList": gone }));
        world.call_back("Group.CallbackAfterTopicDestroyed", (&id, None), content, None);
    }
    Ok(object(json!({ "DestroyResultItem": results })))
}
