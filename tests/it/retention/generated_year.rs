//! Four hundred days of a platform, generated. A callback follows from the seed and its number alone, so that it can be made
//! again, late, or in another order, and millions of them take no memory.

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::mirror::{ReadKind, ReadTime, Snapshot, group_key};
use group_mirror::model::{GroupId, Millis, SdkAppId};
use serde_json::{Value, json};

use crate::rules::laws::setting;
use crate::support::histories::BASE_MS;
use crate::support::mutate::Chance;
use crate::support::{APP, reads};

pub(super) const DAYS: i64 = 400;
pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// When the last day has ended.
pub(super) const END_MS: i64 = BASE_MS + DAYS * DAY_MS;

/// In how many parts that arrive one after the other comes what is so late that the year is over.
pub(super) const LATE_PARTS: usize = 4;

/// How late what arrives within the year is at most.
const DELAY_MS_MAX: usize = 30 * 24 * 60 * 60 * 1000;

/// A callback by its number, and when it is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub number: u64,
    pub received_ms: i64,
}

/// The generator.
#[derive(Debug, Clone, Copy)]
pub(super) struct GeneratedYear {
    seed: u64,
    pub callbacks: u64,
    pub groups: u64,
    users: u64,
}

impl GeneratedYear {
    /// `YEAR_ROWS` callbacks by `YEAR_SEED`.
    pub(super) fn by_settings() -> Self {
        let callbacks = setting("YEAR_ROWS", 2_000);
        Self {
            seed: setting("YEAR_SEED", 1),
            callbacks,
            groups: callbacks / 500 + 10,
            users: callbacks / 20 + 50,
        }
    }

    fn chance(&self, purpose: u64, number: u64) -> Chance {
        let mut of_seed = Chance::new(self.seed ^ (purpose << 56));
        Chance::new(of_seed.next() ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// When it happened. Neighbours come in another order now and then.
    fn time_ms(&self, number: u64) -> i64 {
        let all = i128::from(DAYS * DAY_MS);
        let begun = i64::try_from(all * i128::from(number) / i128::from(self.callbacks)).unwrap();
        let jitter = self.chance(1, number).below(20_000);
        BASE_MS + (begun + i64::try_from(jitter).unwrap()).min(DAYS * DAY_MS - 1)
    }

    /// When it is received, or the part of those that are received after the year.
    fn received(&self, number: u64) -> Result<i64, usize> {
        let mut chance = self.chance(2, number);
        let delay = match chance.below(50) {
            0 => return Err(chance.below(LATE_PARTS)),
            1 => chance.below(DELAY_MS_MAX),
            _ => chance.below(5_000),
        };
        Ok((self.time_ms(number) + i64::try_from(delay).unwrap()).min(END_MS - 1))
    }

    /// What is received in these days, nearly in the order of receipt.
    pub(super) fn of_days(&self, days: std::ops::Range<i64>) -> Vec<Arrival> {
        let number = |day: i64| {
            u64::try_from(i128::from(day.clamp(0, DAYS)) * i128::from(self.callbacks) / i128::from(DAYS))
                .unwrap()
        };
        let from_ms = BASE_MS + days.start * DAY_MS;
        let to_ms = BASE_MS + days.end * DAY_MS;
        let numbers = number(days.start - 32)..number(days.end + 1);
        let all = numbers.filter_map(|number| {
            let received_ms = self.received(number).ok()?;
            (from_ms..to_ms).contains(&received_ms).then_some(Arrival { number, received_ms })
        });
        let mut all: Vec<Arrival> = all.collect();
        all.sort_unstable_by_key(|arrival| (arrival.received_ms, arrival.number));
        for neighbours in all.chunks_mut(500) {
            for at in (1..neighbours.len()).rev() {
                neighbours.swap(at, self.chance(3, neighbours[at].number).below(at + 1));
            }
        }
        all
    }

    /// One part of what is received after the year.
    pub(super) fn late(&self, part: usize) -> Vec<Arrival> {
        let all = (0..self.callbacks).filter(|number| self.received(*number) == Err(part));
        let received_ms = END_MS + i64::try_from(part).unwrap() * DAY_MS;
        all.map(|number| Arrival { number, received_ms }).collect()
    }

    /// A hundredth of everything that came within the year, again.
    pub(super) fn repeats(&self, rest: u64) -> Vec<Arrival> {
        let all = (0..self.callbacks).filter(|number| number % 100 == rest);
        all.filter_map(|number| {
            let first = self.received(number).ok()?;
            // What is known by its receipt alone is a repeat only where it waited somewhere with its receipt.
            let is_known_otherwise = !matches!(self.kind(number), Kind::Timeless | Kind::NoJson);
            Some(Arrival { number, received_ms: if is_known_otherwise { END_MS } else { first } })
        })
        .collect()
    }

    /// Some callbacks that only their `RequestID` tells apart, as another replica received them: a second earlier.
    pub(super) fn earlier(&self) -> Vec<Arrival> {
        let all = (0..self.callbacks).filter(|number| self.kind(*number) == Kind::TimelessRequest);
        all.step_by(20)
            .filter_map(|number| {
                let received_ms = self.received(number).ok()? - 1_000;
                Some(Arrival { number, received_ms })
            })
            .collect()
    }

    fn kind(&self, number: u64) -> Kind {
        match self.chance(4, number).below(1_000) {
            0..430 => Kind::Join,
            430..720 => Kind::Exit,
            720..800 => Kind::Member,
            800..850 => Kind::Profile,
            850..890 => Kind::Attributes,
            890..920 => Kind::Owner,
            920..950 => Kind::Create,
            950..955 => Kind::Destroy,
            955..975 => Kind::Topic,
            975..985 => Kind::TimelessRequest,
            985..990 => Kind::Timeless,
            990..997 => Kind::Partial,
            997..999 => Kind::NoGroup,
            _ => Kind::NoJson,
        }
    }

    /// Few groups have many of the callbacks.
    fn group(&self, number: u64) -> u64 {
        let one = u128::from(self.chance(5, number).next() >> 32);
        u64::try_from((u128::from(self.groups) * one * one * one) >> 96).unwrap()
    }

    fn group_id(group: u64) -> String {
        format!("@TGS#year{group:06}")
    }

    /// How many users a group has to do with.
    fn pool(&self, group: u64) -> u64 {
        (self.groups * 20 / (group + 1)).clamp(5, 3_000)
    }

    /// One of the users of a group.
    pub(super) fn user(&self, group: u64, of_pool: u64) -> String {
        format!("user-{}", self.chance(6, group << 24 | of_pool).next() % self.users)
    }

    /// A callback.
    pub(super) fn callback(&self, arrival: Arrival) -> Callback {
        let kind = self.kind(arrival.number);
        let body = match kind {
            Kind::NoJson => format!("no json, number {}", arrival.number),
            _ => self.body(arrival.number, kind).to_string(),
        };
        let app = SdkAppId::parse(APP).unwrap();
        let received = Received {
            request_id: (kind == Kind::TimelessRequest).then(|| format!("r{}", arrival.number)),
            query_command: (kind == Kind::NoJson).then(|| "Group.CallbackAfterGroupInfoChanged".to_owned()),
            ..Received::bare(app, Millis::new(arrival.received_ms), body.into_bytes())
        };
        let Decoded::Kept(callback) = decode(received) else { panic!("out of scope: {arrival:?}") };
        assert_eq!(callback.event.is_err(), matches!(kind, Kind::NoGroup | Kind::NoJson), "{arrival:?}");
        assert_eq!(callback.skipped.is_empty(), kind != Kind::Partial, "{arrival:?}");
        *callback
    }

    fn body(&self, number: u64, kind: Kind) -> Value {
        let (group, mut chance) = (self.group(number), self.chance(7, number));
        let id = Self::group_id(group);
        let pool = usize::try_from(self.pool(group)).unwrap();
        let mut user = || self.user(group, chance.below(pool) as u64);
        let (one, other, operator) = (user(), user(), user());
        let accounts = |users: &[&String]| -> Value {
            users.iter().map(|user| json!({ "Member_Account": user })).collect()
        };
        let (text, roll) = (format!("text {}", chance.below(1_000)), chance.below(4));
        let list = if roll == 0 { accounts(&[&one, &other]) } else { accounts(&[&one]) };
        let topic = format!("{id}@TOPIC#_t{}", chance.below(3));
        let (command, content) = match kind {
            Kind::Join => ("NewMemberJoin", json!({ "JoinType": "Apply", "NewMemberList": list })),
            Kind::Exit => ("MemberExit", json!({ "ExitType": "Quit", "ExitMemberList": list })),
            Kind::Member => {
                let role = ["Admin", "Member"][roll % 2];
                ("MemberFieldChanged", json!({ "Member_Account": one, "Role": role, "NameCard": text }))
            }
            Kind::Attributes => {
                let option = ["set", "modify", "delete", "clear"][roll];
                let pairs = json!([{ "key": format!("seat_{}", chance.below(4)), "value": text }]);
                ("GroupAttrChanged", json!({ "OptionType": option, "GroupAttr": pairs }))
            }
            Kind::Owner => {
                ("ChangeGroupOwner", json!({ "OldOwner_Account": one, "NewOwner_Account": other }))
            }
            Kind::Create => {
                let fields = json!([{ "Key": "tier", "Value": text }]);
                let more = json!({ "Name": text, "Owner_Account": one, "MemberList": list, "UserDefinedDataList": fields });
                ("CreateGroup", more)
            }
            Kind::Destroy => ("GroupDestroyed", json!({ "MemberList": list, "Name": text })),
            Kind::Topic if roll == 0 => ("TopicDestroyed", json!({ "TopicIdList": [topic] })),
            Kind::Topic => ("CreateTopic", json!({ "TopicId": topic, "Name": text })),
            _ => ("GroupInfoChanged", json!({ "Name": text, "Introduction": "one" })),
        };
        let kind_of_group =
            ["Public", "Work", "Community", "ChatRoom", "Private"][usize::try_from(group % 5).unwrap()];
        let mut body = json!({
            "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": id, "Type": kind_of_group,
            "Operator_Account": operator, "EventTime": self.time_ms(number),
        });
        let fields = body.as_object_mut().unwrap();
        fields.extend(content.as_object().unwrap().clone());
        match kind {
            Kind::TimelessRequest | Kind::Timeless => drop(fields.remove("EventTime")),
            Kind::NoGroup => drop(fields.remove("GroupId")),
            Kind::Partial => fields["Operator_Account"] = json!([operator]),
            _ => {}
        }
        body
    }

    /// What a read of a group shows at a moment: its profile, and most of its users.
    pub(super) fn reads(&self, group: u64, round: u64, at_ms: i64) -> Vec<Snapshot> {
        let id = Self::group_id(group);
        let mut chance = self.chance(8, group << 24 | round);
        let element = json!({
            "GroupId": id, "ErrorCode": 0, "Type": "Public", "Name": format!("text {}", chance.below(9)),
            "Owner_Account": self.user(group, 0), "CreateTime": BASE_MS / 1_000,
        });
        let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupInfo": [element] });
        let time = ReadTime { sigma: Millis::new(at_ms), sent: Millis::new(at_ms), spare_ms: 0 };
        let profile = Snapshot {
            group: group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse(&id).unwrap()),
            time,
            kind: ReadKind::Profile,
            is_complete: true,
            range: None,
            missing: Vec::new(),
            answer: answer.to_string().into_bytes(),
        };
        let mut users: Vec<String> =
            (0..self.pool(group)).filter(|_| chance.below(8) > 0).map(|at| self.user(group, at)).collect();
        users.sort_unstable();
        users.dedup();
        std::iter::once(profile).chain(reads::lists(&id, &users, at_ms)).collect()
    }
}

/// What a callback is about, by how it can be read and known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Join,
    Exit,
    Member,
    Profile,
    Attributes,
    Owner,
    Create,
    Destroy,
    Topic,
    /// Without event time, known by its `RequestID`.
    TimelessRequest,
    /// Without event time, known by nothing but its receipt.
    Timeless,
    /// One field is ill-typed.
    Partial,
    NoGroup,
    NoJson,
}
