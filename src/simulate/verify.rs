//! Reads the mirror back and compares it with the fold of what was sent.
//!
//! It compares by the read API, group by group, and by SQL row by row where a database is given. A group with a callback
//! that was not answered with OK is left out, because that callback may or may not have been committed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, SecondsFormat};
use reqwest::Client;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::demo::demo_begin_of;
use super::demo_clubs::DEMO_FIRST_GROUP;
use super::plan::Plan;
use super::sender::Sent;
use crate::callback::{AVCHATROOM, Decoded, Received, decode};
use crate::mirror::{
    self, GroupKey, GroupState, MemberState, Rows, Status, Transition, are_members_known, group_state,
    member_state,
};
use crate::model::{FieldKey, Millis, SdkAppId, UserId};
use crate::store::{Database, lines};

/// How many members one request reads: the greatest `limit` of the API.
const PAGE_ITEMS: usize = 500;

/// How long the spool may not become emptier before the comparison is abandoned. Longer than a restart of PostgreSQL.
const STANDSTILL_MAX: Duration = Duration::from_secs(120);

/// The pause between two requests for the depth of the spool.
const SPOOL_PAUSE: Duration = Duration::from_millis(200);

/// How many differences have a line; the rest is counted.
const LINES_MAX: usize = 50;

/// What was compared, and what differs.
#[derive(Debug, Default)]
pub struct Findings {
    /// Groups compared by the API.
    pub groups: u64,
    /// Memberships compared by the API, past ones included.
    pub members: u64,
    /// Rows compared by SQL; `None` without a database.
    pub rows: Option<u64>,
    /// Groups left out, because a callback of theirs was not answered with OK.
    pub uncertain: u64,
    /// How many groups, memberships and rows differ.
    pub differences: u64,
    /// One line each, [`LINES_MAX`] at most.
    pub lines: Vec<String>,
}

impl Findings {
    fn differs(&mut self, line: String) {
        self.differences += 1;
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        }
    }
}

/// Compares; `progress` is called for each group.
///
/// # Errors
/// The mirror does not answer, or refuses the token.
pub async fn verify(
    plan: &Plan,
    sent: &Sent,
    (api_url, api_token): (&str, Option<&str>),
    database: Option<&Database>,
    progress: impl Fn(),
) -> anyhow::Result<Findings> {
    let (rows, uncertain) = fold(plan, sent);
    let mut findings = Findings { uncertain, ..Findings::default() };
    let client = Client::builder().no_proxy().build().context("cannot make an HTTP client")?;
    let reader = Reader { client, url: api_url.trim_end_matches('/'), token: api_token, app: plan.app };
    reader.caught_up().await?;
    let members = by_group(&rows);
    for (key, row) in &rows.groups {
        let empty = BTreeMap::new();
        let of_group = members.get(key).unwrap_or(&empty);
        let state = group_state(row, row.owner.value.as_ref().and_then(|owner| of_group.get(owner).copied()));
        let states: BTreeMap<&UserId, MemberState> = of_group
            .iter()
            .filter_map(|(user, member)| {
                Some((*user, member_state(row, state.owner.as_ref(), user, member)?))
            })
            .collect();
        let id = percent_encoded(key.group.as_str());
        let shown = reader.get(&format!("/v1/groups/{id}?sdk_app_id={}", plan.app)).await?;
        let wanted = group_json(key, &state, &states, &rows);
        if !is_same_group(&shown, &wanted) {
            findings.differs(format!(
                "group {:?}: the mirror shows {shown}, what was sent gives {wanted}",
                key.group.as_str()
            ));
        }
        let shown = reader.members(&id).await?;
        let wanted: Vec<Value> = states.iter().map(|(user, state)| member_json(user, state)).collect();
        for (shown, wanted) in pair(&shown, &wanted) {
            let is_same = matches!((shown, wanted), (Some(shown), Some(wanted)) if is_same(shown, wanted));
            if !is_same {
                findings.differs(format!(
                    "member of {:?}: the mirror shows {shown:?}, what was sent gives {wanted:?}",
                    key.group.as_str()
                ));
            }
        }
        findings.groups += 1;
        findings.members += states.len() as u64;
        progress();
    }
    if let Some(database) = database {
        compare_rows(plan, &rows, database, &mut findings).await?;
    }
    Ok(findings)
}

/// A mirror that does not know all members of a group answers null for their number; those of audio-video rooms it knows
/// only where that is set, which a sender cannot see.
fn is_same_group(shown: &Value, wanted: &Value) -> bool {
    let mut wanted = wanted.clone();
    if wanted["type"] == AVCHATROOM && shown["member_count"].is_null() {
        wanted["member_count"] = Value::Null;
    }
    is_same(shown, &wanted)
}

/// Where the mirror has the demo world already: the beginning of its first day.
///
/// # Errors
/// The mirror does not answer, or refuses the token.
pub async fn known_demo(
    app: SdkAppId,
    (api_url, api_token): (&str, Option<&str>),
) -> anyhow::Result<Option<Millis>> {
    let client = Client::builder().no_proxy().build().context("cannot make an HTTP client")?;
    let reader = Reader { client, url: api_url.trim_end_matches('/'), token: api_token, app };
    let id = percent_encoded(DEMO_FIRST_GROUP);
    let group = reader.get(&format!("/v1/groups/{id}?sdk_app_id={app}")).await?;
    let created = group["created_at"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    Ok(created.and_then(|created| demo_begin_of(Millis::new(created.timestamp_millis()))))
}

/// Compares what callbacks say: what only a read of Tencent's REST API says is shown beside it.
fn is_same(shown: &Value, wanted: &Value) -> bool {
    wanted.as_object().is_some_and(|wanted| wanted.iter().all(|(name, value)| shown.get(name) == Some(value)))
}

/// The fold of what was answered with OK, without the groups that are uncertain; and their number.
fn fold(plan: &Plan, sent: &Sent) -> (Rows, u64) {
    let mut rows = Rows::default();
    let mut uncertain = std::collections::BTreeSet::new();
    for (body, ok) in &sent.bodies {
        // A guard against event times in the future, which this sender does not send.
        let received_at = Millis::new(i64::MAX / 1000);
        let received = Received::bare(plan.app, received_at, body.as_bytes().to_vec());
        // What is out of scope claims nothing.
        let Decoded::Kept(callback) = decode(received) else { continue };
        let facts = mirror::facts(&callback);
        if let (false, Some(fact)) = (*ok, facts.first()) {
            uncertain.insert(fact.group.clone());
        }
        facts.into_iter().for_each(|fact| rows.apply(fact));
    }
    let keep = |key: &GroupKey| !uncertain.contains(key);
    rows.groups.retain(|key, _| keep(key));
    rows.members.retain(|(key, _), _| keep(key));
    rows.user_defined_fields.retain(|(key, _), _| keep(key));
    rows.attributes.retain(|(key, _), _| keep(key));
    rows.topics.retain(|(key, _), _| keep(key));
    (rows, uncertain.len() as u64)
}

type Members<'a> = BTreeMap<&'a UserId, &'a mirror::MemberRow>;

fn by_group(rows: &Rows) -> BTreeMap<&GroupKey, Members<'_>> {
    let mut groups: BTreeMap<&GroupKey, Members<'_>> = BTreeMap::new();
    for ((key, user), member) in &rows.members {
        groups.entry(key).or_default().insert(user, member);
    }
    groups
}

async fn compare_rows(
    plan: &Plan,
    rows: &Rows,
    database: &Database,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut snapshot = database.snapshot().await?;
    let wanted = lines::of_rows(rows);
    let mut held = lines::Lines::new();
    for begin in [plan.run.clone(), format!("@TGS#_{}", plan.run)] {
        let end = format!("{begin}\u{10ffff}");
        let app = plan.app.get();
        held.extend(lines::of_tables(snapshot.conn(), ((app, &begin), (app, &end))).await?);
    }
    findings.rows = Some(wanted.len() as u64);
    for (key, values) in &wanted {
        if held.get(key) != Some(values) {
            findings.differs(format!(
                "row {key:?}: the table has {:?}, what was sent gives {values:?}",
                held.get(key)
            ));
        }
    }
    Ok(())
}

fn pair<'a>(shown: &'a [Value], wanted: &'a [Value]) -> Vec<(Option<&'a Value>, Option<&'a Value>)> {
    (0..shown.len().max(wanted.len())).map(|at| (shown.get(at), wanted.get(at))).collect()
}

/// The internal listener of the mirror.
struct Reader<'a> {
    client: Client,
    url: &'a str,
    token: Option<&'a str>,
    app: SdkAppId,
}

impl Reader<'_> {
    /// Waits until the spool is empty: a callback in it was answered with OK and is not in the tables yet.
    async fn caught_up(&self) -> anyhow::Result<()> {
        let (mut least, mut moved) = (u64::MAX, Instant::now());
        loop {
            let answer = self.client.get(format!("{}/readyz", self.url)).send().await;
            let answer = answer.with_context(|| format!("the read API does not answer at {}", self.url))?;
            // The body is the same with 503.
            let readiness: Value = answer.json().await.context("/readyz is not that of a mirror")?;
            let depth = readiness["spool"]["depth"].as_u64().context("/readyz has no depth of the spool")?;
            if depth == 0 && readiness["database"] == "ok" {
                return Ok(());
            }
            if depth < least {
                (least, moved) = (depth, Instant::now());
            }
            if moved.elapsed() > STANDSTILL_MAX {
                let (secs, database) = (STANDSTILL_MAX.as_secs(), &readiness["database"]);
                bail!("for {secs} s the spool has not become emptier than {least}; database: {database}");
            }
            sleep(SPOOL_PAUSE).await;
        }
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        let answer =
            request.send().await.with_context(|| format!("the read API does not answer at {}", self.url))?;
        let status = answer.status();
        if status.is_success() || status.as_u16() == 404 {
            return Ok(answer.json().await?);
        }
        bail!("the read API answers {status} to {path}: {}", answer.text().await.unwrap_or_default())
    }

    /// All memberships of a group, past ones included, by user.
    async fn members(&self, id: &str) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        let list = format!("/v1/groups/{id}/members?sdk_app_id={}&status=all&limit={PAGE_ITEMS}", self.app);
        loop {
            let page = self.get(&format!("{list}{cursor}")).await?;
            all.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }
}

fn percent_encoded(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20")
}

fn time(millis: Option<Millis>) -> Option<String> {
    let at = DateTime::from_timestamp_millis(millis?.get())?;
    Some(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn group_json(
    key: &GroupKey,
    state: &GroupState,
    members: &BTreeMap<&UserId, MemberState>,
    rows: &Rows,
) -> Value {
    let row = &rows.groups[key];
    let from = || (key.clone(), FieldKey::default())..;
    let fields = rows.user_defined_fields.range(from()).take_while(|((of, _), _)| of == key);
    let fields: Map<String, Value> = fields
        .filter_map(|((_, field), value)| {
            Some((field.as_str().to_owned(), json!(row.user_defined_field(value)?)))
        })
        .collect();
    let attributes = rows.attributes.range(from()).take_while(|((of, _), _)| of == key);
    let attributes: Map<String, Value> = attributes
        .filter_map(|((_, field), value)| Some((field.as_str().to_owned(), json!(row.attribute(value)?))))
        .collect();
    let are_known = are_members_known(state.group_type.as_deref(), state.has_all_members, true);
    let is_counted = are_known || state.status == Status::Destroyed;
    json!({
        "sdk_app_id": key.app.get(), "group_id": key.group.as_str(), "status": state.status.as_str(),
        "type": state.group_type, "name": state.name, "introduction": state.introduction,
        "notification": state.notification, "face_url": state.face_url,
        "owner": state.owner.as_ref().map(UserId::as_str), "created_by": state.created_by.as_ref().map(UserId::as_str),
        "member_count": is_counted.then(|| members.values().filter(|member| member.present).count()),
        "user_defined_fields": fields, "attributes": attributes, "created_at": time(state.created_at),
        "updated_at": time(Some(state.updated_at)), "destroyed_at": time(state.destroyed_at),
    })
}

fn member_json(user: &UserId, state: &MemberState) -> Value {
    let by = |transition: &Transition| transition.by.as_ref().map(|user| user.as_str().to_owned());
    json!({
        "user_id": user.as_str(), "role": state.role, "name_card": state.name_card,
        "status": if state.present { "member" } else { "left" }, "joined_at": time(state.joined_at),
        "join_type": state.join.how, "joined_by": by(&state.join), "left_at": time(state.left_at),
        "exit_type": state.exit.how, "left_by": by(&state.exit),
    })
}
