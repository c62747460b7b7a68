//! Random lives of a fake whose knobs are drawn at random, read while they go on. Whatever is read has to be true at some
//! moment between the earliest state that a read may show and its end, and no one who stayed may be left out.

use std::collections::{BTreeMap, BTreeSet};

use group_mirror::clock;
use group_mirror::fake::Fake;
use group_mirror::mirror::{ReadTime, Snapshot, group_key};
use group_mirror::model::{SdkAppId, UserId};
use group_mirror::reconcile::{
    AskedGroup, DetailState, GroupReader, GroupReading, GroupVerdict, ListProgress, ListReading, ListState,
    ListStep, MembersRead, Witnesses,
};
use group_mirror::tencent::details::{AttributesAnswer, TopicsAnswer};
use group_mirror::tencent::groups::GroupInfos;
use group_mirror::tencent::members::{ListedMember, MemberPage};
use serde_json::{Value, json};

use super::reader::{SPARE, asked, id, reader_of, user};
use crate::support::APP;
use crate::tencent::fake::{GROUPS, fake};

/// How late a read may be at most, in milliseconds: less than what σ allows for.
const LAG_MAX_MS: i64 = 8_000;

struct Life {
    fake: Fake,
    reader: GroupReader,
    chance: fastrand::Rng,
    clock_ms: i64,
    lag_ms: i64,
    seed: u64,
    /// What was read with success: complete lists, profiles, groups that are no more, details.
    read: [u32; 4],
}

fn of<T: Clone>(chance: &mut fastrand::Rng, values: &[T]) -> T {
    values[chance.usize(0..values.len())].clone()
}

/// Knobs of everything that Tencent's pages leave open and that a read can show.
fn knobs(chance: &mut fastrand::Rng) -> Value {
    let mut share = |share: f64| if chance.bool() { 0.0 } else { share };
    let (bad, cut, slow, internal) = (share(0.05), share(0.03), share(0.03), share(0.05));
    json!({
        "rate_factor": 10_000, "keep_history": true, "silent": 0.3,
        "spelling": of(chance, &["new", "old"]), "error_info": chance.bool(), "extra_keys": chance.bool(),
        "answer_bytes_max": of(chance, &[1 << 20, 1 << 20, 2_500, 1_200]),
        "http_502": bad, "cut": cut, "slow": slow, "slow_ms": 1, "internal_error": internal,
        "date": chance.u8(0..5) > 0, "date_skew_ms": chance.i64(-3_000..=3_000),
        "lag_ms": of(chance, &[0, 0, LAG_MAX_MS, LAG_MAX_MS]), "linger_ms": of(chance, &[0, 20_000]),
        "next_absent": chance.bool(), "info_seq": chance.bool(), "shuffled": chance.bool(),
        "packed_members_max": of(chance, &[0, 0, 2, 4]), "large_limit": of(chance, &["served", "cut", "cut", "refused"]),
        "cut_rows": chance.u64(2..6), "list_order": of(chance, &["join", "account", "account"]), "role_blank": chance.bool(),
        "cursor_repeats": chance.u64(0..5), "community_offset_refused": chance.bool(),
        "no_attributes": of(chance, &["list", "null", "absent"]), "no_topics": of(chance, &["list", "list", "null"]),
        "topics_for_members_only": chance.bool(), "notices": chance.bool(),
    })
}

impl Life {
    async fn start(seed: u64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let knobs = knobs(&mut chance);
        let fake = fake(&knobs, None, seed).await;
        let (reader, lag_ms) = (reader_of(&fake), knobs["lag_ms"].as_i64().unwrap());
        let clock_ms = clock::now().get();
        let mut life = Self { fake, reader, chance, clock_ms, lag_ms, seed, read: [0; 4] };
        life.pass(0);
        for _ in 0..60 {
            life.fake.live_once().await;
            life.pass(700);
        }
        life
    }

    fn pass(&mut self, ms: i64) {
        self.clock_ms += ms;
        self.fake.freeze(Some(self.clock_ms));
    }

    /// The true time, at which a read shows the present.
    fn now(&self) -> i64 {
        let log = self.fake.log();
        let last = log.as_array().unwrap().last().map_or(0, |change| change["at"].as_i64().unwrap());
        self.clock_ms.max(last)
    }

    /// The states of a group that reads since a moment could show; `null` where there was no group.
    fn states(&self, group: &str, since: i64) -> Vec<Value> {
        let (from, to) = (since - self.lag_ms, self.now());
        let log = self.fake.log();
        let times = log.as_array().unwrap().iter().map(|change| change["at"].as_i64().unwrap());
        let times = std::iter::once(from).chain(times.filter(|at| (from..=to).contains(at)));
        times.map(|at| self.fake.state(Some(at))[group].clone()).collect()
    }

    /// Something happens to a group, or elsewhere.
    async fn something(&mut self, group: &str) {
        self.pass(self.chance.clone().i64(0..1_500));
        let name = format!("user_{}", self.chance.u32(0..20));
        let (command, body) = match self.chance.u8(0..4) {
            0 => {
                ("add_group_member", json!({ "GroupId": group, "MemberList": [{ "Member_Account": name }] }))
            }
            1 => ("delete_group_member", json!({ "GroupId": group, "MemberToDel_Account": [name] })),
            2 => {
                let body = json!({ "GroupId": group, "Member_Account": name, "NameCard": name });
                ("modify_group_member_info", body)
            }
            _ => {
                self.fake.live_once().await;
                return;
            }
        };
        self.fake.command(GROUPS, command, &body).await;
    }

    fn groups(&self) -> Vec<String> {
        let (state, log) = (self.fake.state(None), self.fake.log());
        let ended =
            log.as_array().unwrap().iter().map(|change| change["group_id"].as_str().unwrap().to_owned());
        let all: BTreeSet<String> = state.as_object().unwrap().keys().cloned().chain(ended).collect();
        all.into_iter().filter(|name| !name.is_empty()).collect()
    }

    fn check_time(&self, time: ReadTime, since: i64, states: &[Value]) {
        let created =
            |state: &Value| state["create_time"].as_i64().is_some_and(|at| at * 1000 == time.sigma.get());
        let is_safe = time.sigma.get() <= since - self.lag_ms || states.iter().any(created);
        assert!(is_safe, "seed {}: σ {} is after what a read may show", self.seed, time.sigma.get());
    }
}

/// The users who were members in all states.
fn stayed(states: &[Value]) -> BTreeSet<String> {
    let members = |state: &Value| -> BTreeSet<String> {
        state["members"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let mut all = states.iter().map(members);
    let first = all.next().unwrap_or_default();
    all.fold(first, |stayed, members| stayed.intersection(&members).cloned().collect())
}

/// True where a row shows a member as a state has it.
fn is_shown(row: &ListedMember, state: &Value) -> bool {
    let member = &state["members"][row.user.as_str()];
    let level = row.custom_fields.as_ref().and_then(|fields| fields.first()).map(|(_, value)| value.as_str());
    !member.is_null()
        && row.role.as_deref() == member["role"].as_str()
        && row.join_secs == member["join_time"].as_i64()
        && row.mute_until_secs == member["mute_until"].as_i64()
        && row.name_card.as_deref() == member["name_card"].as_str()
        && level == member["fields"]["level"].as_str()
}

impl Life {
    /// Everybody who ever was a member, as a mirror might show them.
    fn mirror(&self, states: &[Value]) -> Vec<UserId> {
        let names = states.iter().flat_map(|state| state["members"].as_object().into_iter().flatten());
        let mut names: BTreeSet<String> = names.map(|(name, _)| name.clone()).collect();
        names.insert("stranger".to_owned());
        names.iter().map(|name| user(name)).collect()
    }

    async fn check_list(&mut self, group: &str, list: ListReading, since: i64) {
        let (seed, before) = (self.seed, self.states(group, since));
        self.check_time(list.time, since, &before);
        let left_out = |list: &ListReading, states: &[Value]| -> Vec<String> {
            if !list.is_complete() {
                return Vec::new();
            }
            stayed(states).into_iter().filter(|name| !list.rows.contains(&user(name))).collect()
        };
        if self.lag_ms == 0 {
            let lost = left_out(&list, &before);
            assert!(lost.is_empty(), "seed {seed}: {group} has {lost:?} all the time, the list has not");
        }
        if self.chance.bool() {
            self.something(group).await;
        }
        let mirror = self.mirror(&before);
        let list = self.reader.confirmed(list, &mirror).await.unwrap();
        let states = self.states(group, since);
        let lost = left_out(&list, &states);
        assert!(lost.is_empty(), "seed {seed}: {group} has {lost:?} all the time, and they would be gone");
        for row in list.rows.all() {
            let is_true = states.iter().any(|state| is_shown(&row, state));
            assert!(is_true, "seed {seed}: {group} never had {row:?}");
        }
        self.read[0] += u32::from(list.state == ListState::Complete);
        let snapshots: Vec<Snapshot> = list.batches().flatten().collect();
        let listed: usize =
            snapshots.iter().map(|it| MemberPage::read(&it.answer).unwrap().members.len()).sum();
        let enters = matches!(list.state, ListState::Complete | ListState::Incomplete(_));
        assert_eq!(listed, if enters { list.rows.len() } else { 0 }, "seed {seed}: {:?}", list.state);
        assert!(snapshots.iter().all(|it| it.is_complete == list.is_complete()));
    }

    async fn read_list(&mut self, group: &str) {
        for _ in 0..self.chance.usize(0..4) {
            self.something(group).await;
        }
        let mut since = self.now();
        let witnesses = Witnesses::unknown(group_key(SdkAppId::parse(APP).unwrap(), id(group)));
        let mut progress = ListProgress::new(&witnesses, SPARE);
        let list = loop {
            match self.reader.next_page(&mut progress).await.unwrap() {
                ListStep::Done(list) => break list,
                ListStep::Page { mark, .. } => {
                    for _ in 0..self.chance.usize(0..3) {
                        self.something(group).await;
                    }
                    // Nothing was read yet: the first page is still to come.
                    since = if mark.is_none() { self.now() } else { since };
                }
            }
        };
        self.check_list(group, list, since).await;
    }

    async fn read_groups(&mut self) {
        let asked: Vec<AskedGroup> = self.groups().iter().map(|name| asked(name, true, Some(20))).collect();
        let since = self.now();
        let readings = self.reader.groups(&asked, SPARE).await.unwrap();
        assert_eq!(readings.len(), asked.len());
        for reading in readings {
            let group = reading.group.group.as_str().to_owned();
            self.check_profile(&reading, since);
            if let MembersRead::Whole(list) = reading.members {
                self.check_list(&group, list, since).await;
            }
        }
    }

    fn check_profile(&mut self, reading: &GroupReading, since: i64) {
        let (seed, group) = (self.seed, reading.group.group.as_str());
        let states = self.states(group, since);
        match reading.verdict {
            GroupVerdict::Alive => {
                self.check_time(reading.time.unwrap(), since, &states);
                let answer = GroupInfos::read(&reading.profile.as_ref().unwrap().answer).unwrap();
                let info = answer.elements[0].info.as_ref().unwrap();
                let is_true = states.iter().any(|state| {
                    let texts = &state["texts"];
                    let fields: BTreeMap<&str, &str> = info
                        .custom_fields
                        .iter()
                        .flatten()
                        .map(|(key, value)| (key.as_str(), value.as_str()))
                        .collect();
                    let owner = info.owner.as_ref().unwrap().as_ref().map_or("", UserId::as_str);
                    info.name.as_deref() == texts["Name"].as_str()
                        && info.introduction.as_deref() == texts["Introduction"].as_str()
                        && info.notification.as_deref() == texts["Notification"].as_str()
                        && info.face_url.as_deref() == texts["FaceUrl"].as_str()
                        && Some(owner) == state["owner"].as_str()
                        && info.mute_all == state["mute_all"].as_bool()
                        && info.apply_join_option.as_deref() == state["apply_join_option"].as_str()
                        && json!(fields) == state["fields"]
                });
                assert!(is_true, "seed {seed}: {group} never was {info:?}");
                self.read[1] += 1;
            }
            GroupVerdict::GoneCandidate(_) => {
                assert!(states.iter().any(Value::is_null), "seed {seed}: {group} was there all the time");
                self.read[2] += 1;
            }
            GroupVerdict::Unknown(_) => {}
            GroupVerdict::Unsupported => panic!("seed {seed}: {group} is a group like any other"),
        }
    }

    async fn read_details(&mut self, group: &str) {
        let since = self.now();
        let attributes = self.reader.attributes(&id(group), SPARE).await.unwrap();
        let states = self.states(group, since);
        if attributes.state == DetailState::Read {
            let read = AttributesAnswer::read(&attributes.snapshots[0].answer).unwrap();
            let read: BTreeMap<&str, &str> =
                read.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert!(
                states.iter().any(|state| state["attributes"] == json!(read)),
                "seed {}: {group}",
                self.seed
            );
            self.read[3] += 1;
        }
        let owner = states[0]["owner"].as_str().filter(|owner| !owner.is_empty()).map(user);
        let since = self.now();
        let topics = self.reader.topics(&id(group), owner.as_slice(), SPARE).await.unwrap();
        let states = self.states(group, since);
        if topics.state == DetailState::Read {
            let read = TopicsAnswer::read(&topics.snapshots[0].answer).unwrap();
            let read: BTreeMap<&str, Option<&str>> = read
                .topics
                .iter()
                .map(|topic| (topic.topic.as_str(), topic.info.as_ref().unwrap().name.as_deref()))
                .collect();
            let is_true = states.iter().any(|state| {
                let topics = state["topics"].as_object().into_iter().flatten();
                let topics: BTreeMap<&str, Option<&str>> =
                    topics.map(|(name, topic)| (name.as_str(), topic["Name"].as_str())).collect();
                !state.is_null() && topics == read
            });
            assert!(is_true, "seed {}: {group} never had {read:?}", self.seed);
            self.read[3] += 1;
        }
    }
}

async fn life(seed: u64) -> [u32; 4] {
    let mut life = Life::start(seed).await;
    for _ in 0..4 {
        let groups = life.groups();
        for _ in 0..5 {
            let group = of(&mut life.chance, &groups);
            life.read_list(&group).await;
        }
        let group = of(&mut life.chance, &groups);
        life.read_details(&group).await;
        life.read_groups().await;
        for _ in 0..5 {
            life.something(&group).await;
        }
        let pause = of(&mut life.chance, &[0, 2_000, 30_000]);
        life.pass(pause);
    }
    life.read
}

#[tokio::test]
async fn whatever_is_read_of_a_life_was_true_and_no_one_who_stayed_is_left_out() {
    let number =
        |name: &str, usual: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(usual);
    let (first, count) = (number("LIVES_SEED", 1), number("LIVES", 20));
    let mut read = [0; 4];
    for seed in first..first + count {
        for (sum, more) in read.iter_mut().zip(life(seed).await) {
            *sum += more;
        }
    }
    let least = u32::try_from(count).unwrap() * 2;
    assert!(read.iter().all(|number| *number >= least), "complete lists, profiles, ends, details: {read:?}");
}
