//! The laws of reading at every moment of a life: the ledger is folded transaction by transaction, once with everything and once with
//! the callbacks alone. Where the two differ, a read has to justify it: one that counts as of a time after the newest
//! callback about that value, and that showed a state which Tencent had between S − λ and the commit of the read.
//!
//! So no callback newer than σ is undone, no one who was a member during the whole read is gone because of a page, and no
//! group that was there during the whole read is shown as destroyed. The tables are the fold of the ledger, which the
//! verification at the end of each life proves, so the moments of the ledger are the moments of the mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use group_mirror::callback::{Callback, Decoded, ProfileText, Received, decode};
use group_mirror::fake::Fake;
use group_mirror::mirror::{
    self, Fact, FactKind, GroupBarrier, GroupKey, ReadKind, Rows, Snapshot, TopicBarrier, group_key,
};
use group_mirror::model::{Digest, FieldKey, GroupId, Millis, Rank, SdkAppId, Stamp, TopicId, UserId};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use crate::support::APP;
use crate::support::shown::pure;

/// What is shown of a group, each value under its name; what is not there is null.
type Shown = BTreeMap<String, Value>;

const TEXTS: [(&str, &str, ProfileText); 4] = [
    ("name", "Name", ProfileText::Name),
    ("introduction", "Introduction", ProfileText::Introduction),
    ("notification", "Notification", ProfileText::Notification),
    ("face_url", "FaceUrl", ProfileText::FaceUrl),
];

/// An empty text is none.
fn put(into: &mut Shown, key: String, value: &Value) {
    if !value.is_null() && value != "" {
        into.insert(key, value.clone());
    }
}

/// A group of the fake, or none.
pub(crate) fn of_fake(group: &Value) -> Shown {
    let mut shown = Shown::new();
    if group.is_null() {
        return shown;
    }
    put(&mut shown, "status".to_owned(), &json!("active"));
    for (name, spelling, _) in TEXTS {
        put(&mut shown, name.to_owned(), &group["texts"][spelling]);
    }
    put(&mut shown, "owner".to_owned(), &group["owner"]);
    for (kind, of) in [("field", "fields"), ("attribute", "attributes")] {
        for (key, value) in group[of].as_object().unwrap() {
            shown.insert(format!("{kind} {key}"), value.clone());
        }
    }
    if group["type"] != "AVChatRoom" {
        for (user, member) in group["members"].as_object().unwrap() {
            put(&mut shown, format!("member {user}"), &json!(true));
            put(&mut shown, format!("role {user}"), &member["role"]);
            put(&mut shown, format!("card {user}"), &member["name_card"]);
        }
    }
    for (id, topic) in group["topics"].as_object().unwrap() {
        put(&mut shown, format!("topic {id}"), &json!(true));
        put(&mut shown, format!("topicname {id}"), &topic["Name"]);
    }
    shown
}

/// What rows would show of a group that is there: a read of its profile undoes every end.
fn of_living(rows: &Rows, group: &GroupKey) -> Shown {
    let mut living = rows.clone();
    let stamp = Stamp::new(Millis::new(i64::MAX), Rank::Read, &Digest::of("", &[]));
    let kind = FactKind::Barrier(GroupBarrier::ReadStamp);
    living.apply(Fact { group: group.clone(), stamp, kind });
    of_rows(&living, group)
}

/// What rows show of a group.
fn of_rows(rows: &Rows, key: &GroupKey) -> Shown {
    let mut shown = Shown::new();
    let Some(group) = pure(rows).remove(key.group.as_str()) else { return shown };
    if group["status"] == "destroyed" {
        return shown;
    }
    put(&mut shown, "status".to_owned(), &json!("active"));
    for (name, _, _) in TEXTS {
        put(&mut shown, name.to_owned(), &group[name]);
    }
    // Who was said to be the owner; that a Work group has none where that one has left follows from two statements.
    let row = &rows.groups[key];
    let owner = row.owner.value.as_ref().filter(|_| row.owner.stamp >= row.life_barrier());
    put(&mut shown, "owner".to_owned(), &json!(owner.map(UserId::as_str)));
    for (kind, of) in [("field", "user_defined_fields"), ("attribute", "attributes")] {
        for (key, value) in group[of].as_object().unwrap() {
            shown.insert(format!("{kind} {key}"), value.clone());
        }
    }
    for member in group["members"].as_array().unwrap().iter().filter(|member| member["status"] == "member") {
        let user = member["user_id"].as_str().unwrap();
        put(&mut shown, format!("member {user}"), &json!(true));
        put(&mut shown, format!("role {user}"), &member["role"]);
        put(&mut shown, format!("card {user}"), &member["name_card"]);
    }
    for topic in group["topics"].as_array().unwrap().iter().filter(|topic| topic["status"] == "active") {
        let id = topic["topic_id"].as_str().unwrap();
        put(&mut shown, format!("topic {id}"), &json!(true));
        put(&mut shown, format!("topicname {id}"), &topic["name"]);
    }
    shown
}

/// The newest callback that says what is shown under a name, or that it is not there; rows of callbacks alone.
fn newest_callback(rows: &Rows, key: &GroupKey, name: &str, value: &Value) -> Stamp {
    let Some(group) = rows.groups.get(key) else { return Stamp::ZERO };
    let is_shown = !value.is_null();
    let life = group.life_barrier();
    let (kind, of) = name.split_once(' ').unwrap_or((name, ""));
    let user = || UserId::parse(of).unwrap();
    let member = || rows.members.get(&(key.clone(), user())).cloned().unwrap_or_default();
    let topic = || rows.topics.get(&(key.clone(), TopicId::parse(of).unwrap())).cloned().unwrap_or_default();
    let field = || (key.clone(), FieldKey::parse(of).unwrap());
    let or_life = |stamp: Stamp| if is_shown { stamp } else { stamp.max(life) };
    match kind {
        "status" if is_shown => group.created.stamp.max(group.barrier(GroupBarrier::AliveStamp)),
        "status" => group.barrier(GroupBarrier::DestroyedStamp),
        "owner" => or_life(group.owner.stamp),
        "field" => or_life(rows.user_defined_fields.get(&field()).map_or(Stamp::ZERO, |field| field.stamp)),
        "attribute" => {
            let stamp = rows.attributes.get(&field()).map_or(Stamp::ZERO, |field| field.stamp);
            or_life(stamp.max(group.barrier(GroupBarrier::AttributesBarrier)))
        }
        "member" if is_shown => member().join.stamp.max(member().confirmed),
        "member" => member().leave.stamp.max(life),
        "role" => member().role.stamp.max(member().leave.stamp).max(life),
        "card" => member().name_card.stamp.max(member().leave.stamp).max(life),
        "topic" if is_shown => topic().created.stamp.max(topic().barrier(TopicBarrier::AliveStamp)),
        "topic" => topic().barrier(TopicBarrier::DestroyedStamp).max(life),
        "topicname" => or_life(topic().text(ProfileText::Name).stamp),
        text => {
            let (_, _, text) = TEXTS.into_iter().find(|(name, _, _)| *name == text).unwrap();
            or_life(group.text(text).stamp)
        }
    }
}

/// Whether a read of this kind speaks of what stands under a name.
fn speaks_of(kind: ReadKind, name: &str) -> bool {
    match (kind, name.split(' ').next().unwrap()) {
        // A list of a group of which nothing else is known shows that there is one.
        (ReadKind::Gone, _)
        | (_, "status")
        | (ReadKind::Members, "member" | "role" | "card" | "owner")
        | (ReadKind::Attributes, "attribute")
        | (ReadKind::Topics, "topic" | "topicname") => true,
        (ReadKind::Profile, name) => {
            !matches!(name, "member" | "role" | "card" | "attribute" | "topic" | "topicname")
        }
        _ => false,
    }
}

/// A read of a group, with every state that it may have shown.
struct Read {
    kind: ReadKind,
    sigma: Millis,
    /// What happened before belongs to an earlier life of the id, by its `CreateTime`.
    began: Option<Millis>,
    states: Vec<Rc<Shown>>,
}

/// How long before its create a group may have been changed: `CreateTime` and the times of callbacks come from two clocks.
const CREATE_SPARE_MS: i64 = 10_000;

impl Read {
    fn justifies(&self, name: &str, value: &Value, callback: Stamp) -> bool {
        // Of one millisecond a callback is newer than a read.
        let is_newer = self.sigma > callback.time() || callback.is_zero();
        let shows = |state: &Shown| {
            let is = state.get(name).unwrap_or(&Value::Null);
            match self.kind {
                ReadKind::Gone => state.is_empty() && value.is_null(),
                // Who was no member begins as an ordinary one, and so does who was the owner.
                ReadKind::Members if value == "Member" => is != "Admin",
                _ => !state.is_empty() && is == value,
            }
        };
        let is_of_life_before = value.is_null()
            && name != "status"
            && self.began.is_some_and(|began| callback.time() < began)
            && self.states.iter().any(|state| !state.is_empty());
        is_of_life_before
            || speaks_of(self.kind, name) && is_newer && self.states.iter().any(|state| shows(state))
    }
}

impl Read {
    /// What it may have said, in words.
    fn said_of(&self, name: &str) -> Option<String> {
        let mut values: Vec<&Value> =
            self.states.iter().map(|state| state.get(name).unwrap_or(&Value::Null)).collect();
        values.dedup();
        let (kind, sigma) = (self.kind, self.sigma.get());
        speaks_of(kind, name).then(|| format!("{kind:?} as of {sigma} may say {values:?}"))
    }
}

/// A state of a group.
struct PastState {
    /// Since when it is the true one.
    at: i64,
    /// What the clock showed when it became so: a read may show it from then on. Of several changes in one millisecond the
    /// later ones have a true time of their own, which lies ahead of the clock.
    clock: i64,
    shown: Rc<Shown>,
}

/// The states of a group in their order.
type Timeline = Vec<PastState>;

/// Every state of every group.
fn timelines(fake: &Fake) -> BTreeMap<String, Timeline> {
    let mut all = BTreeMap::<String, Timeline>::new();
    for change in fake.log().as_array().unwrap() {
        let time = |name: &str| change[name].as_i64().unwrap();
        let (at, clock, id) = (time("at"), time("clock"), change["group_id"].as_str().unwrap());
        let shown = Rc::new(of_fake(&fake.state(Some(at))[id]));
        let none = || vec![PastState { at: i64::MIN, clock: i64::MIN, shown: Rc::default() }];
        all.entry(id.to_owned()).or_insert_with(none).push(PastState { at, clock, shown });
    }
    all
}

/// The states between two times.
fn between(line: &Timeline, (from, to): (i64, i64)) -> Vec<Rc<Shown>> {
    let first = line.partition_point(|state| state.at <= from).saturating_sub(1);
    let states = line[first..].iter().take_while(|state| state.clock <= to);
    states.map(|state| Rc::clone(&state.shown)).collect()
}

/// An entry of the ledger.
struct Entry {
    /// Its transaction: what is in one becomes visible together.
    tx: String,
    group: GroupKey,
    received_at: Millis,
    says: Says,
}

enum Says {
    Callback(Box<Callback>),
    Read(Box<Snapshot>, Digest),
}

type EntryRow = (String, String, String, Vec<u8>, i64, i64, String, Option<String>, Vec<u8>);

const ENTRIES: &str = "
SELECT xmin::text, source, group_id, digest, time_ms, (extract(epoch FROM received_at) * 1000)::bigint, command,
       ledger_request_id(request_id, odd_values), body
  FROM ledger l ORDER BY (SELECT min(position) FROM ledger t WHERE t.xmin::text = l.xmin::text), position";

async fn entries(conn: &mut PgConnection) -> Vec<Entry> {
    let rows: Vec<EntryRow> = sqlx::query_as(ENTRIES).fetch_all(conn).await.unwrap();
    let app = SdkAppId::parse(APP).unwrap();
    let entry = |(tx, source, group, digest, time, received, command, request_id, body): EntryRow| {
        let group = group_key(app, GroupId::parse(&group).unwrap());
        let (digest, received_at) = (Digest::from_bytes(&digest).unwrap(), Millis::new(received));
        if source == "rest" {
            let snapshot = Snapshot::of_body(group.clone(), &body).unwrap();
            return Entry { tx, group, received_at, says: Says::Read(Box::new(snapshot), digest) };
        }
        let received =
            Received { query_command: Some(command), request_id, ..Received::bare(app, received_at, body) };
        let Decoded::Kept(mut callback) = decode(received) else {
            panic!("what is in the ledger is in scope")
        };
        (callback.digest, callback.time) = (digest, Millis::new(time));
        Entry { tx, group, received_at, says: Says::Callback(callback) }
    };
    rows.into_iter().map(entry).collect()
}

/// How far the state that a read shows may lie before its S.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Late {
    /// λ, in milliseconds.
    pub lag_ms: i64,
    /// How far `Date` may be ahead of the true time, in milliseconds.
    pub ahead_ms: i64,
}

/// Both folds of a group.
#[derive(Default)]
struct Moment {
    callbacks: Rows,
    all: Rows,
    reads: Vec<Read>,
    /// Every entry so far, in words.
    said: Vec<String>,
}

impl Moment {
    /// What the mirror shows and nothing justifies: the name, and the finding in words.
    fn broken(&self, group: &GroupKey) -> Vec<(String, String)> {
        let mirror = of_rows(&self.all, group);
        // Whether the group is there, a read may say; what callbacks say of it counts then all the same.
        let mut alone = of_living(&self.callbacks, group);
        alone.remove("status");
        alone.extend(of_rows(&self.callbacks, group).remove_entry("status"));
        let mut broken = Vec::new();
        for name in alone.keys().chain(mirror.keys()) {
            let value = |of: &Shown| of.get(name).cloned().unwrap_or_default();
            let (by_callbacks, shown) = (value(&alone), value(&mirror));
            let (kind, of) = name.split_once(' ').unwrap_or((name, ""));
            let is_there = |of_whom: &str| mirror.contains_key(of_whom) && alone.contains_key(of_whom);
            let is_looked_at = match kind {
                // Nothing is shown of a group that is not there, nor of those who are not members.
                "status" => true,
                "role" => is_there(&format!("member {of}")) && by_callbacks != "Owner" && shown != "Owner",
                "card" => is_there(&format!("member {of}")),
                "topicname" => is_there(&format!("topic {of}")),
                _ => mirror.contains_key("status"),
            };
            let callback = newest_callback(&self.callbacks, group, name, &by_callbacks);
            let is_justified =
                by_callbacks == shown || self.reads.iter().any(|read| read.justifies(name, &shown, callback));
            if is_looked_at && !is_justified {
                let by = callback.time().get();
                let reads: Vec<String> = self.reads.iter().filter_map(|read| read.said_of(name)).collect();
                let reads = reads.join("; ");
                let why = format!("{name} is {shown}; callbacks say {by_callbacks} as of {by}; {reads}");
                broken.push((name.clone(), why));
            }
        }
        broken
    }
}

impl Moment {
    /// Takes an entry of a transaction in.
    fn take(&mut self, (number, entry): (usize, &Entry), line: Option<&Timeline>, late: Late) {
        let what = match &entry.says {
            Says::Callback(callback) => {
                for fact in mirror::facts(callback) {
                    self.callbacks.apply(fact.clone());
                    self.all.apply(fact);
                }
                let body = String::from_utf8_lossy(&callback.received.body);
                format!("callback as of {}: {body}", callback.time.get())
            }
            Says::Read(snapshot, digest) => {
                let (kind, time, mut began) = (snapshot.kind, snapshot.time, None);
                for fact in snapshot.facts(digest).unwrap() {
                    if let FactKind::Began(at) = fact.kind {
                        began = Some(Millis::new(at.get().min(time.sigma.get()) - CREATE_SPARE_MS));
                    }
                    self.all.apply(fact);
                }
                let window = (time.sent.get() - late.lag_ms - late.ahead_ms, entry.received_at.get());
                let states = line.map(|line| between(line, window)).unwrap_or_default();
                self.reads.push(Read { kind, sigma: time.sigma, began, states });
                format!("read {}", String::from_utf8_lossy(&snapshot.body()))
            }
        };
        self.said.push(format!("transaction {number}, received {}: {what}", entry.received_at.get()));
    }
}

/// What a group of the fake was under a name, whenever that changed.
fn course(line: Option<&Timeline>, name: &str) -> String {
    let mut course: Vec<(i64, &Value)> = Vec::new();
    for state in line.into_iter().flatten() {
        let value = state.shown.get(name).unwrap_or(&Value::Null);
        if course.last().is_none_or(|(_, before)| *before != value) {
            course.push((state.at, value));
        }
    }
    format!("{name} of the fake, by the times since when: {course:?}")
}

/// Folds the ledger transaction by transaction; answers the first moment at which the mirror shows what nothing justifies, or
/// how many values were shown otherwise than callbacks alone would have it.
pub(crate) async fn first_broken(conn: &mut PgConnection, fake: &Fake, late: Late) -> Result<usize, String> {
    let (timelines, mut moments, mut differing) = (timelines(fake), BTreeMap::<GroupKey, Moment>::new(), 0);
    for (number, tx) in entries(conn).await.chunk_by(|one, next| one.tx == next.tx).enumerate() {
        for entry in tx {
            let moment = moments.entry(entry.group.clone()).or_default();
            moment.take((number, entry), timelines.get(entry.group.group.as_str()), late);
        }
        for key in tx.iter().map(|entry| &entry.group).collect::<BTreeSet<_>>() {
            let (moment, group) = (&moments[key], key.group.as_str());
            let broken = moment.broken(key);
            if !broken.is_empty() {
                let line = timelines.get(group);
                let courses = broken.iter().map(|(name, _)| course(line, name));
                let lines: Vec<String> = broken.iter().map(|(_, why)| why.clone()).chain(courses).collect();
                let (lines, said) = (lines.join("\n  "), moment.said.join("\n  "));
                return Err(format!("transaction {number} of {group:?}, {late:?}:\n  {lines}\n  {said}"));
            }
            let (alone, mirror) = (of_rows(&moment.callbacks, key), of_rows(&moment.all, key));
            differing += mirror.iter().filter(|(name, value)| alone.get(*name) != Some(value)).count();
        }
    }
    Ok(differing)
}
