//! Generated requests against a model: what a list shows is what a person would pick out of everything by hand.
//!
//! The model knows no SQL: it filters, sorts and cuts in memory. `DIFFERENCES_REQUESTS` sets how many requests are compared
//! (150 otherwise), `DIFFERENCES_SEED` which.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use form_urlencoded::Serializer;
use serde_json::{Value, json};

use crate::api::reads::created;
use crate::rules::laws::setting;
use crate::support::App;
use crate::support::api::{APP, Api, T0, after, told};
use crate::support::shown::escaped;

fn generator() -> fastrand::Rng {
    fastrand::Rng::with_seed(setting("DIFFERENCES_SEED", 5))
}

fn requests() -> u64 {
    setting("DIFFERENCES_REQUESTS", 150)
}

fn pick<'a, T: ?Sized>(chance: &mut fastrand::Rng, of: &[&'a T]) -> &'a T {
    of[chance.usize(..of.len())]
}

/// Nothing, more often than not.
fn maybe<'a, T: ?Sized>(chance: &mut fastrand::Rng, of: &[&'a T]) -> Option<&'a T> {
    (chance.u8(..4) == 0).then(|| pick(chance, of))
}

/// Nothing, nearly always: a request with many filters finds nothing.
fn seldom<'a, T: ?Sized>(chance: &mut fastrand::Rng, of: &[&'a T]) -> Option<&'a T> {
    (chance.u8(..8) == 0).then(|| pick(chance, of))
}

fn users(chance: &mut fastrand::Rng, of: &[&str]) -> Value {
    of.iter().filter(|_| chance.bool()).map(|user| json!({ "Member_Account": user })).collect()
}

fn query(pairs: &[(String, String)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn time(ms: i64, more: &str) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true);
    time.replace('Z', &format!("{more}Z"))
}

const NAMES: [&str; 20] = [
    "Alpha",
    "alpha beta",
    "100%",
    "a_b",
    r"a\b",
    "ÄÖÜ",
    "äöü x",
    "群聊",
    "",
    " ",
    "é",
    "e\u{301}",
    "\u{1F600} smile",
    "tab\tnew\nline",
    "'; drop table groups; --",
    "%%",
    "__",
    r"\\",
    "Прогулка",
    "ПРОГУЛКА 2",
];
const PARTS: [&str; 13] =
    ["a", "%", "_", r"\", "äö", "群", "'", "\n", "e", "прог", "ALPHA B", "tab\tNEW", "zz"];
const PREFIXES: [&str; 10] = ["a", "ALPHA", "äö", "100%", "a_", r"a\", "群", "%", " ", "zz"];
const FIELDS: [(&str, &str); 5] = [("k", "x"), ("k]", ""), ("[a", "y%"), ("ü", "z"), ("k", "")];

/// 300 groups that meet each other in names, times, owners, members and fields.
fn town(chance: &mut fastrand::Rng) -> Vec<Value> {
    let mut bodies = Vec::new();
    for number in 0..300 {
        let id = format!("{}{number}", pick(chance, &["@TGS#", "g/", "Ü", "a b", "%41", "+"]));
        let ms = [0, 1, 1_000, 2_000, chance.i64(0..10_000)][chance.usize(..5)];
        let group_type = pick(chance, &["Public", "Private", "ChatRoom", "Community", "AVChatRoom"]);
        if chance.u8(..5) < 4 {
            let fields: Value = FIELDS[..4]
                .iter()
                .filter(|_| chance.bool())
                .map(|(key, value)| json!({"Key": key, "Value": value}))
                .collect();
            let more = json!({"Owner_Account": pick(chance, &["ana", "bob", "c d"]), "Type": group_type,
                              "MemberList": users(chance, &["ana", "u1", "u2"]), "UserDefinedDataList": fields});
            bodies.push(created(&id, ms, pick(chance, &NAMES), more));
        }
        if chance.u8(..10) < 3 {
            let more = json!({"NewMemberList": users(chance, &["ana", "u1", "u3"]), "Type": group_type});
            bodies.push(after("NewMemberJoin", &id, ms + 5, more));
        }
        if chance.u8(..10) < 2 {
            bodies.push(after(
                "MemberExit",
                &id,
                ms + 7,
                json!({"ExitMemberList": users(chance, &["ana", "bob", "u1"])}),
            ));
        }
        if chance.u8(..10) < 2 {
            bodies.push(after("GroupDestroyed", &id, ms + 9, json!({})));
        }
        if chance.u8(..10) < 1 {
            bodies.push(after(
                "GroupInfoChanged",
                &format!("half{number}"),
                ms,
                json!({"Name": pick(chance, &NAMES)}),
            ));
        }
    }
    bodies
}

/// Every group as a lookup shows it, with its present members.
struct Known {
    group: Value,
    members: BTreeSet<String>,
}

impl Known {
    fn text(&self, name: &str) -> Option<&str> {
        self.group[name].as_str()
    }

    fn created_at(&self) -> Option<DateTime<Utc>> {
        self.text("created_at").map(|time| time.parse().unwrap())
    }
}

async fn everything(api: &Api) -> Vec<Known> {
    let ids = api.walk("/v1/groups?status=all&sort=group_id", 100, |group| &group["group_id"]).await;
    assert!(ids.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()));
    let mut known = Vec::new();
    for id in ids {
        let group = api.json(&format!("/v1/groups/{}", escaped(&id))).await;
        let path = format!("/v1/groups/{}/members?status=member", escaped(&id));
        let members = api.walk(&path, 100, |member| &member["user_id"]).await.into_iter().collect();
        known.push(Known { group, members });
    }
    known
}

/// A request, and which groups it means.
struct Wanted {
    pairs: Vec<(String, String)>,
    status: String,
    sort: String,
}

impl Wanted {
    fn generate(chance: &mut fastrand::Rng, all: &[Known]) -> Self {
        let status = pick(chance, &["active", "destroyed", "unseen", "all", "active"]).to_owned();
        let sort = pick(chance, &["-created_at", "created_at", "group_id"]).to_owned();
        let mut pairs = vec![("status".to_owned(), status.clone()), ("sort".to_owned(), sort.clone())];
        for (name, value) in [
            ("type", maybe(chance, &["Private", "Work", "Meeting", "Nope"])),
            ("type", seldom(chance, &["Community", "Private", "ChatRoom"])),
            ("prefix", seldom(chance, &PREFIXES)),
            (
                "updated_after",
                seldom(
                    chance,
                    &["2026-01-01T00:00:02.0085Z", "2026-01-01T00:00:00.005Z", "2025-01-01T00:00:00Z"],
                ),
            ),
            ("owner", maybe(chance, &["ana", "c d"])),
            ("member", maybe(chance, &["u1", "ana"])),
            ("name", maybe(chance, &PARTS)),
            ("created_after", maybe(chance, &["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.999999Z"])),
            ("created_before", maybe(chance, &["2026-01-01T00:00:02Z", "2026-01-01T00:00:01.000001Z"])),
        ] {
            pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        }
        if chance.u8(..8) == 0 {
            let ids = all.iter().filter(|_| chance.u8(..8) == 0).filter_map(|known| known.text("group_id"));
            let ids: Vec<&str> = ids.take(100).chain(["no such group"]).collect();
            pairs.extend(ids.into_iter().map(|id| ("group_id".to_owned(), id.to_owned())));
        }
        if chance.u8(..4) == 0 {
            let (key, value) = FIELDS[chance.usize(..FIELDS.len())];
            pairs.push((format!("field[{key}]"), value.to_owned()));
        }
        Self { pairs, status, sort }
    }

    /// The values of a parameter that may be repeated; any of them may be the right one.
    fn is_one_of(&self, name: &str, is_right: impl Fn(&str) -> bool) -> bool {
        self.pairs.iter().filter(|(found, _)| found == name).any(|(_, value)| is_right(value))
    }

    fn means(&self, known: &Known) -> bool {
        let time = |name: &str| known.text(name).map(|time| time.parse::<DateTime<Utc>>().unwrap());
        self.pairs.iter().all(|(name, value)| match name.as_str() {
            "status" => value == "all" || known.text("status") == Some(value),
            "type" => self.is_one_of("type", |value| {
                let present = match value {
                    "Private" => "Work",
                    "ChatRoom" => "Meeting",
                    other => other,
                };
                known.text("type") == Some(present)
            }),
            "group_id" => self.is_one_of("group_id", |value| known.text("group_id") == Some(value)),
            "prefix" => {
                known.text("name").is_some_and(|name| name.to_lowercase().starts_with(&value.to_lowercase()))
            }
            "updated_after" => {
                time("updated_at").is_some_and(|time| time > value.parse::<DateTime<Utc>>().unwrap())
            }
            "owner" => known.text("owner") == Some(value),
            "member" => known.members.contains(value),
            "name" => {
                known.text("name").is_some_and(|name| name.to_lowercase().contains(&value.to_lowercase()))
            }
            "created_after" => {
                known.created_at().is_some_and(|time| time > value.parse::<DateTime<Utc>>().unwrap())
            }
            "created_before" => {
                known.created_at().is_some_and(|time| time < value.parse::<DateTime<Utc>>().unwrap())
            }
            "sort" => true,
            field => {
                let key = &field["field[".len()..field.len() - 1];
                known.group["user_defined_fields"][key].as_str() == Some(value)
            }
        })
    }

    fn of<'a>(&self, all: &'a [Known]) -> Vec<&'a str> {
        let mut found: Vec<&Known> = all.iter().filter(|known| self.means(known)).collect();
        found.sort_by_key(|known| known.text("group_id"));
        match self.sort.as_str() {
            "created_at" => found.sort_by_key(|known| (known.created_at().is_none(), known.created_at())),
            "-created_at" => {
                found.sort_by_key(|known| (known.created_at().is_none(), Reverse(known.created_at())));
            }
            _ => {}
        }
        found.into_iter().filter_map(|known| known.text("group_id")).collect()
    }
}

#[tokio::test]
async fn any_combination_of_filters_and_orders_lists_what_the_model_picks_by_hand() {
    let mut chance = generator();
    let facts = town(&mut chance).iter().flat_map(|body| told(APP, body)).collect();
    let api = Api::start(facts, |settings| settings.mirror_avchatroom_members = Some("true".into())).await;
    let all = everything(&api).await;
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..requests() {
        let wanted = Wanted::generate(&mut chance, &all);
        let expected = wanted.of(&all);
        let limit = if expected.len() > 60 { 50 } else { [1, 2, 7, 50, 500][chance.usize(..5)] };
        let path = format!("/v1/groups?{}", query(&wanted.pairs));
        assert_eq!(
            api.walk(&path, limit, |group| &group["group_id"]).await,
            expected,
            "{path}&limit={limit}"
        );
        *shown.entry(wanted.status).or_default() += expected.len();
    }
    assert!(shown.values().all(|count| *count > 0), "the requests found nothing: {shown:?}");
    api.stop().await;
}

/// Entries of one group, most at a few equal times, some parked: what the history should show of each, newest first.
struct Entry {
    body: Value,
    parked: bool,
    named: BTreeSet<String>,
}

fn entries(chance: &mut fastrand::Rng) -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..90 {
        let user = pick(chance, &["ana", "bob", "chen", "dora"]).to_owned();
        let operator = pick(chance, &["ana", "root"]).to_owned();
        let ms = number / 9;
        let (body, parked, named) = match chance.u8(..4) {
            0 => {
                let more = json!({"ExitMemberList": [{"Member_Account": user}], "Operator_Account": operator, "N": number});
                (after("MemberExit", "g", ms, more), false, [user, operator].into())
            }
            1 => {
                let more = json!({"OldOwner_Account": user, "NewOwner_Account": "eve", "N": number});
                (after("ChangeGroupOwner", "g", ms, more), false, [user, "eve".to_owned()].into())
            }
            2 => (after("NewMemberJoin", "g", ms, json!({"NewMemberList": number})), true, BTreeSet::new()),
            _ => {
                let more = json!({"NewMemberList": [{"Member_Account": user}], "Operator_Account": operator, "N": number});
                (after("NewMemberJoin", "g", ms, more), false, [user, operator].into())
            }
        };
        entries.push(Entry { body, parked, named });
    }
    entries
}

/// The body of an item, be it shown as JSON or as text.
fn body_of(item: &Value) -> Value {
    let body = &item["body"];
    body.as_str().map_or_else(|| body.clone(), |text| serde_json::from_str(text).unwrap())
}

#[tokio::test]
async fn any_combination_of_filters_of_a_history_shows_what_the_model_picks_by_hand() {
    let mut chance = generator();
    let app = App::start().await;
    let mut entries = entries(&mut chance);
    for entry in &entries {
        let answer = app.service.post_with("", entry.body.to_string()).await;
        assert_eq!(answer.status(), 200);
    }
    app.service.until(|told| told["spool"]["depth"] == 0).await;
    // Ties are in the order of the digests, which the ledger alone knows.
    let whole = app.service.read("/v1/groups/g/history?with=body&limit=500").await;
    let place = |body: &Value| {
        whole["items"].as_array().unwrap().iter().position(|item| body_of(item) == *body).unwrap()
    };
    entries.sort_by_key(|entry| place(&entry.body));
    let times: Vec<i64> = entries.iter().map(|entry| entry.body["EventTime"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
    for _ in 0..requests() {
        let mut pairs: Vec<(String, String)> = vec![("with".into(), "body".into())];
        let user = maybe(&mut chance, &["ana", "chen", "root", "eve", "no-one"]);
        let outcome = maybe(&mut chance, &["applied", "parked"]);
        let command =
            maybe(&mut chance, &["Group.CallbackAfterNewMemberJoin", "Group.CallbackAfterMemberExit"]);
        let bound = |chance: &mut fastrand::Rng| {
            (chance.u8(..3) == 0).then(|| (T0 + chance.i64(0..11), chance.bool()))
        };
        let (later, earlier) = (bound(&mut chance), bound(&mut chance));
        pairs.extend(user.map(|user| ("user_id".into(), user.into())));
        pairs.extend(outcome.map(|outcome| ("outcome".into(), outcome.into())));
        pairs.extend(command.map(|command| ("command".into(), command.into())));
        let text = |(ms, finer): (i64, bool)| time(ms, if finer { "5" } else { "" });
        pairs.extend(later.map(|bound| ("after".into(), text(bound))));
        pairs.extend(earlier.map(|bound| ("before".into(), text(bound))));
        let means = |entry: &&Entry| {
            let at = entry.body["EventTime"].as_i64().unwrap();
            user.is_none_or(|user| entry.named.contains(user))
                && outcome.is_none_or(|outcome| (outcome == "parked") == entry.parked)
                && command.is_none_or(|command| entry.body["CallbackCommand"] == command)
                && later.is_none_or(|(ms, _)| at > ms)
                && earlier.is_none_or(|(ms, finer)| at < ms || (finer && at == ms))
        };
        let expected: Vec<&Value> = entries.iter().filter(means).map(|entry| &entry.body).collect();
        let limit = [1, 2, 7, 500][chance.usize(..4)];
        let path = format!("/v1/groups/g/history?{}&limit={limit}", query(&pairs));
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = app.service.read(&format!("{path}{next}")).await;
            seen.extend(page["items"].as_array().unwrap().iter().map(body_of));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            next = format!("&cursor={cursor}");
        }
        assert_eq!(seen.iter().collect::<Vec<_>>(), expected, "{path}");
    }
    app.stop().await;
}
