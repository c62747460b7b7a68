//! The world of the fake: its clock, its groups now and in the past, the log of all changes, the callbacks to send.
//!
//! Every change has a true time of its own, one millisecond behind the change before at least, so that their order is
//! known whatever their callbacks say. A read may show a past state: each change keeps the state before it for as long as
//! a read may be late, or permanently where history is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::code::FakeCode;
use super::knobs::{EventTimeForm, Knobs};
use super::state::FakeGroup;
use crate::model::SdkAppId;

/// How many changes the log keeps; older ones are dropped.
const LOG_CHANGES_MAX: usize = 100_000;

/// After so many changes the past of groups that change no more is cut as well.
const PAST_CUT_CHANGES: u64 = 1024;

/// The longest group id, in bytes.
const GROUP_ID_BYTES_MAX: usize = 48;

/// The clock of the fake: the real one with an offset, or a frozen one.
#[derive(Debug, Clone, Copy)]
pub(super) struct FakeClock {
    real: fn() -> crate::model::Millis,
    offset_ms: i64,
    frozen_ms: Option<i64>,
}

impl FakeClock {
    /// Stands still at this time, or is the real one again.
    pub(super) fn freeze(&mut self, at_ms: Option<i64>) {
        (self.frozen_ms, self.offset_ms) = (at_ms, 0);
    }

    /// Moves by so many milliseconds.
    pub(super) fn step(&mut self, by_ms: i64) {
        self.offset_ms = self.offset_ms.saturating_add(by_ms);
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.frozen_ms.unwrap_or_else(|| (self.real)().get()).saturating_add(self.offset_ms)
    }
}

/// A change by its true time.
#[derive(Debug, Clone)]
pub(super) struct LoggedChange {
    pub(super) at_ms: i64,
    /// What the clock showed: less where changes have come faster than one a millisecond.
    pub(super) clock_ms: i64,
    pub(super) command: &'static str,
    pub(super) group: String,
    /// The callbacks that it caused.
    pub(super) callbacks: Vec<&'static str>,
}

/// A callback to send.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) command: &'static str,
    pub(super) group: String,
    pub(super) body: Value,
    /// How long after the change it is sent.
    pub(super) late_ms: u64,
    pub(super) platform: &'static str,
}

/// Who acts: the account, and what with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Actor<'a> {
    pub(super) account: &'a str,
    pub(super) platform: &'static str,
}

/// The state before a change, with the time of that change; `None`: there was no such group.
type PastState = (i64, Option<Arc<FakeGroup>>);

/// The world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) app: SdkAppId,
    pub(super) knobs: Knobs,
    pub(super) chance: fastrand::Rng,
    pub(super) clock: FakeClock,
    pub(super) groups: BTreeMap<String, Arc<FakeGroup>>,
    past: BTreeMap<String, VecDeque<PastState>>,
    /// All ids in the order in which the list of ids shows them.
    by_hash: BTreeMap<u64, String>,
    /// Ends of groups whose id stays in the list for a while.
    ended: BTreeMap<String, i64>,
    pub(super) log: VecDeque<LoggedChange>,
    pub(super) outgoing: Vec<Outgoing>,
    last_change_ms: i64,
    changes: u64,
    ids_given: u64,
}

/// The place of an id in the list of ids: a number of 64 bits, never 0, half of them above 2⁶³.
fn hash(id: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Sha256::digest(id.as_bytes())[..8]);
    u64::from_be_bytes(bytes).max(1)
}

impl World {
    pub(super) fn new(app: SdkAppId, knobs: Knobs, seed: u64, real: fn() -> crate::model::Millis) -> Self {
        Self {
            app,
            knobs,
            chance: fastrand::Rng::with_seed(seed),
            clock: FakeClock { real, offset_ms: 0, frozen_ms: None },
            groups: BTreeMap::new(),
            past: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            ended: BTreeMap::new(),
            log: VecDeque::new(),
            outgoing: Vec::new(),
            last_change_ms: 0,
            changes: 0,
            ids_given: 0,
        }
    }

    /// The group of an id as it is now.
    pub(super) fn group(&self, id: &str) -> Result<&Arc<FakeGroup>, FakeCode> {
        if id.is_empty()
            || id.len() > GROUP_ID_BYTES_MAX
            || !id.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        {
            return Err(FakeCode::bad_group_id());
        }
        self.groups.get(id).ok_or_else(FakeCode::gone)
    }

    /// An id that Tencent gives.
    pub(super) fn new_id(&mut self, prefix: &str) -> String {
        self.ids_given += 1;
        format!("{prefix}{:08X}", hash(&format!("{prefix}{}", self.ids_given)) >> 32)
    }

    /// Begins a change of a group: keeps the state before it, logs it, and gives its true time.
    pub(super) fn begin_change(&mut self, command: &'static str, id: &str) -> i64 {
        let clock_ms = self.clock.now_ms();
        let now = clock_ms.max(self.last_change_ms + 1);
        self.last_change_ms = now;
        self.changes += 1;
        if self.knobs.lag_ms > 0 || self.knobs.keep_history {
            let before = self.groups.get(id).cloned();
            self.past.entry(id.to_owned()).or_default().push_back((now, before));
        }
        if !self.knobs.keep_history && self.changes.is_multiple_of(PAST_CUT_CHANGES) {
            let oldest = now - i64::from(self.knobs.lag_ms);
            self.past.retain(|_, past| {
                past.retain(|(until, _)| *until >= oldest);
                !past.is_empty()
            });
        }
        if self.log.len() >= LOG_CHANGES_MAX {
            self.log.pop_front();
        }
        let (group, callbacks) = (id.to_owned(), Vec::new());
        self.log.push_back(LoggedChange { at_ms: now, clock_ms, command, group, callbacks });
        now
    }

    /// The group for a change that has begun.
    pub(super) fn changing(&mut self, id: &str) -> Result<&mut FakeGroup, FakeCode> {
        self.groups.get_mut(id).map(Arc::make_mut).ok_or_else(FakeCode::gone)
    }

    pub(super) fn insert(&mut self, id: &str, group: FakeGroup) {
        self.groups.insert(id.to_owned(), Arc::new(group));
        self.by_hash.insert(hash(id), id.to_owned());
        self.ended.remove(id);
        assert!(self.by_hash.len() >= self.groups.len(), "every group stands in the list of ids");
    }

    pub(super) fn remove(&mut self, id: &str, now_ms: i64) {
        self.groups.remove(id);
        if self.knobs.linger_ms == 0 {
            self.by_hash.remove(&hash(id));
        } else {
            self.ended.insert(id.to_owned(), now_ms);
        }
    }

    /// A moment that a read shows: now, less a random part of the lag.
    pub(super) fn read_at(&mut self) -> i64 {
        let lag = self.knobs.lag_ms;
        let late = if lag == 0 { 0 } else { self.chance.u32(0..=lag) };
        // Changes may stand ahead of the clock by some milliseconds.
        self.clock.now_ms().max(self.last_change_ms) - i64::from(late)
    }

    /// A group as it was at a moment.
    pub(super) fn group_at(&self, id: &str, at_ms: i64) -> Option<&Arc<FakeGroup>> {
        let before = self.past.get(id).and_then(|past| past.iter().find(|(until, _)| *until > at_ms));
        before.map_or_else(|| self.groups.get(id), |(_, group)| group.as_ref())
    }

    /// A group as a read shows it: its profile, and its members, which may be of another moment of the same life.
    pub(super) fn shown(&mut self, id: &str) -> Result<(Arc<FakeGroup>, Arc<FakeGroup>), FakeCode> {
        if let Err(code) = self.group(id)
            && code != FakeCode::gone()
        {
            return Err(code);
        }
        let (profile_at, members_at) = (self.read_at(), self.read_at());
        let profile = self.group_at(id, profile_at).cloned().ok_or_else(FakeCode::gone)?;
        let members = self.group_at(id, members_at).filter(|members| members.create_ms == profile.create_ms);
        let members = members.cloned().unwrap_or_else(|| Arc::clone(&profile));
        Ok((profile, members))
    }

    /// Every id of which a state is known, now or in the past.
    pub(super) fn known_ids(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.groups.keys().chain(self.past.keys()).collect();
        all.into_iter().cloned().collect()
    }

    /// Takes ids whose time to linger is over out of the list.
    pub(super) fn drop_lingering(&mut self) {
        let (now, linger) = (self.clock.now_ms(), i64::from(self.knobs.linger_ms));
        let over: Vec<String> =
            self.ended.iter().filter(|(_, at)| **at + linger < now).map(|(id, _)| id.clone()).collect();
        for id in over {
            self.ended.remove(&id);
            self.by_hash.remove(&hash(&id));
        }
    }

    /// Ids of the list from a cursor on, in its order, each with the cursor that a page beginning there has.
    pub(super) fn listed_from(&self, next: u64) -> impl Iterator<Item = (u64, &String)> {
        self.by_hash.range(next..).map(|(hash, id)| (*hash, id))
    }

    pub(super) fn count_listed(&self) -> usize {
        self.by_hash.len()
    }

    /// Hands a callback to the delivery, unless its switch is off. The body gets command, group, type, operator and time.
    pub(super) fn call_back(
        &mut self,
        command: &'static str,
        (group, actor): (&str, Option<Actor<'_>>),
        mut content: Map<String, Value>,
        event_ms: Option<i64>,
    ) {
        if self.knobs.callbacks_off.iter().any(|off| off == command) {
            return;
        }
        content.insert("CallbackCommand".to_owned(), json!(command));
        content.insert("GroupId".to_owned(), json!(group));
        if let Some(actor) = actor {
            content.insert("Operator_Account".to_owned(), json!(actor.account));
        }
        if let Some(time) = event_ms.and_then(|at| self.event_time(at)) {
            content.insert("EventTime".to_owned(), time);
        }
        if let Some(change) = self.log.back_mut() {
            change.callbacks.push(command);
        }
        let platform = actor.map_or("RESTAPI", |actor| actor.platform);
        let body = Value::Object(content);
        self.outgoing.push(Outgoing { command, group: group.to_owned(), body, late_ms: 0, platform });
    }

    /// The last callback, if it is of this command, is sent later than the others.
    pub(super) fn send_last_late(&mut self, command: &str, late_ms: u64) {
        if let Some(outgoing) = self.outgoing.last_mut().filter(|outgoing| outgoing.command == command) {
            outgoing.late_ms = late_ms;
        }
    }

    pub(super) fn event_time(&mut self, true_ms: i64) -> Option<Value> {
        let skew = i64::from(self.knobs.skew_ms);
        let at = true_ms + if skew == 0 { 0 } else { self.chance.i64(-skew..=skew) };
        let form = match self.knobs.event_time {
            EventTimeForm::Mixed if self.chance.bool() => EventTimeForm::Text,
            EventTimeForm::Mixed => EventTimeForm::Number,
            form => form,
        };
        match form {
            EventTimeForm::Text => Some(json!(at.to_string())),
            EventTimeForm::Absent => None,
            EventTimeForm::Number | EventTimeForm::Mixed => Some(json!(at)),
        }
    }
}
