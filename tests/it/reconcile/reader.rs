//! Readers of a fake and of a scripted server, and what a test knows of a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use group_mirror::fake::Fake;
use group_mirror::model::{FieldKey, GroupId, SdkAppId, UserId};
use group_mirror::reconcile::{
    AskedFields, AskedGroup, GroupReader, GroupReading, ListReading, ListRows, ReadHalt, ReadSpare, Witnesses,
};
use group_mirror::tencent::client::TencentClient;
use tokio_util::sync::CancellationToken;

use crate::support::APP;
use crate::tencent::fake::client_settings;
use crate::tencent::scripted;

pub(crate) const SPARE: ReadSpare = ReadSpare::FOLLOW_UP;

pub(crate) fn id(text: &str) -> GroupId {
    GroupId::parse(text).unwrap()
}

pub(crate) fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn reader(client: TencentClient, fields: AskedFields) -> GroupReader {
    let app = SdkAppId::parse(APP).unwrap();
    GroupReader::new(Arc::new(client), app, fields, CancellationToken::new())
}

/// All fields that the fake's life knows.
pub(crate) fn fields() -> AskedFields {
    let keys = |names: &[&str]| names.iter().map(|name| FieldKey::parse(name).unwrap()).collect();
    AskedFields { group: keys(&["region", "tier"]), members: keys(&["level"]) }
}

pub(crate) fn reader_of(fake: &Fake) -> GroupReader {
    reader(TencentClient::new(client_settings(fake)).unwrap(), fields())
}

pub(crate) fn scripted_reader(url: &str) -> GroupReader {
    reader(scripted::client(url), AskedFields::default())
}

pub(crate) fn asked(group: &str, members: bool, expected: Option<u64>) -> AskedGroup {
    AskedGroup { group: id(group), members, expected }
}

/// Reads one group, with its members.
pub(crate) async fn one(reader: &GroupReader, group: &str) -> Result<GroupReading, ReadHalt> {
    let mut readings = reader.groups(&[asked(group, true, None)], SPARE).await?;
    assert_eq!(readings.len(), 1, "one answer for one question");
    Ok(readings.remove(0))
}

/// What a profile shows of a group, for a list of its members.
pub(crate) async fn witnesses(reader: &GroupReader, group: &str) -> Witnesses {
    let readings = reader.groups(&[asked(group, false, None)], SPARE).await.unwrap();
    readings.into_iter().next().unwrap().witnesses.unwrap()
}

/// Reads the list of a group by itself.
pub(crate) async fn list(reader: &GroupReader, group: &str) -> ListReading {
    let witnesses = witnesses(reader, group).await;
    reader.members(&witnesses, SPARE).await.unwrap()
}

pub(crate) fn users(rows: &ListRows) -> BTreeSet<String> {
    rows.all().into_iter().map(|member| member.user.as_str().to_owned()).collect()
}
