//! A life that a test plays: a fake Tencent with random quirks, a mirror, callbacks that are lost, repeated and reordered on
//! their way, and passes beside it all.
//!
//! Each life has the thread of its runtime, and on it a clock of its own that nothing but the life moves: while Tencent is
//! asked nothing during a pass, time passes in steps, so that what is due in a minute is not waited for.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use group_mirror::callback::signature::Token;
use group_mirror::callback::{Decoded, Received, decode};
use group_mirror::clock;
use group_mirror::fake::{ADMIN, ExistingGroups, Fake, FakeSettings, Knobs, LifePlan};
use group_mirror::ingest;
use group_mirror::model::{FieldKey, Millis, SdkAppId};
use group_mirror::reconcile::{AppSource, Engine, PassCounts, PassEnd, PassKind, PassSettings, ReadSpare};
use group_mirror::replay::{self, Mode};
use group_mirror::store::Database;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::usersig::SecretKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::moments::Late;
use crate::support::postgres::TestDatabase;
use crate::support::{APP, OK, Service, TOKEN, settings};
use crate::tencent::fake::client_settings;
use crate::tencent::life::differences_in;
use crate::tencent::scripted::KEY;

thread_local! {
    /// Tencent's time in the life that this thread plays, which is that of the mirror as well.
    static NOW: Cell<i64> = const { Cell::new(0) };
}

pub(crate) fn now() -> Millis {
    Millis::new(NOW.get())
}

pub(crate) fn pass_by(ms: i64) {
    NOW.set(NOW.get() + ms);
}

/// One life of so many delivers its callbacks to a real service.
const SERVED: u64 = 8;

/// While Tencent is asked nothing, its time passes in such steps.
const IDLE_STEP_MS: i64 = 5_000;
const IDLE: Duration = Duration::from_millis(15);

/// The longest pass: a life that hangs fails.
const PASS_MAX: Duration = Duration::from_secs(120);

/// How often a callback is tried whose group a read holds locked.
const TRIES_MAX: u32 = 100;

fn of<T: Clone>(chance: &mut fastrand::Rng, values: &[T]) -> T {
    values[chance.usize(0..values.len())].clone()
}

/// What goes wrong between Tencent and the mirror, beside the quirks of the fake.
#[derive(Debug, Clone, Copy)]
struct Faults {
    lost: f64,
    doubled: f64,
    /// How many callbacks wait, among which the next one is drawn.
    waiting: usize,
}

/// Knobs of everything that Tencent's pages leave open, of λ and ε.
fn knobs(chance: &mut fastrand::Rng, is_served: bool) -> Value {
    let mut share = |share: f64| if chance.bool() { 0.0 } else { share };
    let (bad, cut, slow, internal, silent) = (share(0.03), share(0.02), share(0.02), share(0.03), share(0.3));
    let switches = [
        "Group.CallbackAfterNewMemberJoin",
        "Group.CallbackAfterMemberExit",
        "Group.CallbackAfterGroupDestroyed",
        "Group.CallbackAfterCreateGroup",
        "Group.CallbackAfterMemberFieldChanged",
        "Group.CallbackAfterGroupAttrChanged",
        "Group.CallbackAfterChangeGroupOwner",
    ];
    let mut off: Vec<&str> = if chance.u8(0..3) == 0 { vec![of(chance, &switches)] } else { Vec::new() };
    // A topic counts as of its receipt, and the real service has the real clock, which is not that of the life.
    if is_served {
        off.extend([
            "Group.CallbackAfterCreateTopic",
            "Group.CallbackAfterTopicDestroyed",
            "Group.CallbackAfterTopicInfoChanged",
        ]);
    }
    let times: &[&str] =
        if is_served { &["number", "text", "mixed"] } else { &["number", "mixed", "absent"] };
    json!({
        "rate_factor": 10_000, "keep_history": true, "silent": silent,
        "spelling": of(chance, &["new", "old"]), "error_info": chance.bool(), "extra_keys": chance.bool(),
        "answer_bytes_max": of(chance, &[1 << 20, 1 << 20, 2_500, 1_200]),
        "http_502": bad, "cut": cut, "slow": slow, "slow_ms": 1, "internal_error": internal,
        "date": chance.u8(0..5) > 0, "date_skew_ms": chance.i64(-3_000..=3_000),
        "lag_ms": of(chance, &[0, 0, 2_000, 8_000]), "linger_ms": of(chance, &[0, 20_000]),
        "next_absent": chance.bool(), "info_seq": chance.bool(), "shuffled": chance.bool(),
        "packed_members_max": of(chance, &[0, 0, 2, 4]),
        "large_limit": of(chance, &["served", "cut", "cut", "refused"]), "cut_rows": chance.u64(2..6),
        "list_order": of(chance, &["join", "account", "account"]), "role_blank": chance.bool(),
        "cursor_repeats": chance.u64(0..5), "community_offset_refused": chance.bool(),
        "no_attributes": of(chance, &["list", "null", "absent"]),
        "no_topics": of(chance, &["list", "list", "null"]), "topics_for_members_only": chance.bool(),
        "notices": chance.bool(), "skew_ms": of(chance, &[0, 0, 1_000, 3_000]),
        "event_time": of(chance, times), "owner_listed": chance.bool(), "modified_account": chance.bool(),
        "community_create_late_ms": 0, "callbacks_off": off,
    })
}

/// Takes every callback that the fake sends, for the life to deliver.
async fn recorder() -> (String, Arc<Mutex<Vec<Bytes>>>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    let kept = Arc::clone(&taken);
    let take = move |body: Bytes| async move {
        kept.lock().unwrap().push(body);
        OK
    };
    let router = Router::new().route("/callback", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, taken)
}

/// The life.
pub(crate) struct Life {
    pub fake: Fake,
    pub knobs: Value,
    sent: Arc<Mutex<Vec<Bytes>>>,
    /// Callbacks that are neither delivered nor lost.
    waiting: Vec<Bytes>,
    faults: Faults,
    chance: fastrand::Rng,
    pub database: TestDatabase,
    pub engine: Engine,
    pub source: AppSource,
    pub service: Option<Service>,
    pub late: Late,
    /// A pass that has not come to its end.
    unfinished: Option<PassKind>,
    /// Passes that ended, passes that did not, callbacks that were delivered.
    pub counts: [usize; 3],
}

fn key(name: &str) -> FieldKey {
    FieldKey::parse(name).unwrap()
}

impl Life {
    pub(crate) async fn start(seed: u64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let is_served = seed.is_multiple_of(SERVED);
        let knobs = knobs(&mut chance, is_served);
        Self::of(seed, chance, &knobs, is_served).await
    }

    /// A life with these knobs in which nothing goes wrong on the way of callbacks; a test says when they are delivered.
    pub(crate) async fn silent(mut knobs: Value) -> Self {
        let usual = serde_json::to_value(Knobs::default()).unwrap();
        for name in ["lag_ms", "date_skew_ms", "skew_ms"] {
            knobs[name] = usual[name].clone();
        }
        knobs["rate_factor"] = json!(10_000);
        Self::of(1, fastrand::Rng::with_seed(1), &knobs, false).await
    }

    async fn of(seed: u64, mut chance: fastrand::Rng, knobs: &Value, is_served: bool) -> Self {
        NOW.set(clock::now().get());
        let number = |name: &str| knobs[name].as_i64().unwrap();
        let ahead_ms = number("date_skew_ms").max(0);
        let late = Late { lag_ms: number("lag_ms"), ahead_ms };
        // G is λ + ε, and no millisecond more.
        let spare = ReadSpare { ms: late.lag_ms + ahead_ms + number("skew_ms") };
        let (url, sent) = recorder().await;
        let app = SdkAppId::parse(APP).unwrap();
        let fake = Fake::start(FakeSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            app,
            admins: vec![ADMIN.to_owned()],
            secret_key: SecretKey::new(KEY.to_owned()),
            callback_url: Some(url),
            token: Some(Token::new(TOKEN.to_owned())),
            knobs: Knobs::default().with(knobs).unwrap(),
            existing: ExistingGroups::default(),
            life: LifePlan { groups: chance.u32(3..9), users: chance.u32(6..16), seed },
            now,
        })
        .await
        .unwrap();
        let database = TestDatabase::create().await;
        let passes = PassSettings {
            rolling: spare,
            follow_up: spare,
            gone_distance: Duration::from_millis(1),
            all_gone_min: 1_000,
            group_fields: vec![key("region"), key("tier")],
            member_fields: vec![key("level")],
            ..PassSettings::default()
        };
        let engine = Engine::new(Database::new(&database.url).unwrap(), passes, now, "a life");
        let mut client = client_settings(&fake);
        client.now = now;
        let source = AppSource { app, client: Arc::new(TencentClient::new(client).unwrap()) };
        let service = match is_served {
            true => Some(Service::start(&settings(&database.url)).await.unwrap()),
            false => None,
        };
        let mut share = |share: f64| if chance.u8(0..3) == 0 { 0.0 } else { share };
        let (lost, doubled) = (share(0.3), share(0.2));
        let faults = Faults { lost, doubled, waiting: of(&mut chance, &[1, 4, 20]) };
        let (waiting, counts) = (Vec::new(), [0; 3]);
        Self {
            fake,
            knobs: knobs.clone(),
            sent,
            waiting,
            faults,
            chance,
            database,
            engine,
            source,
            service,
            late,
            unfinished: None,
            counts,
        }
    }

    /// A change at Tencent, some of whose callbacks are lost and some of which come twice.
    async fn change(&mut self) {
        pass_by(self.chance.i64(1..1_500));
        self.fake.live_once().await;
        self.fake.delivered().await;
        for body in std::mem::take(&mut *self.sent.lock().unwrap()) {
            if self.chance.f64() < self.faults.doubled {
                self.waiting.push(body.clone());
            }
            if self.chance.f64() >= self.faults.lost {
                self.waiting.push(body);
            }
        }
    }

    /// Delivers one of the callbacks that wait, whichever.
    async fn deliver(&mut self) {
        let body = self.waiting.swap_remove(self.chance.usize(0..self.waiting.len()));
        self.counts[2] += 1;
        if let Some(service) = &self.service {
            let command: Value = serde_json::from_slice(&body).unwrap();
            let answer = service.post(command["CallbackCommand"].as_str().unwrap(), body).await;
            assert_eq!(answer.text().await.unwrap(), OK);
            return;
        }
        let received = Received::bare(self.source.app, now(), body.to_vec());
        let Decoded::Kept(callback) = decode(received) else { panic!("{body:?}") };
        // As the listener does: no list exists to reconcile them with.
        if !callback.is_avchatroom_membership() {
            // Where a read holds the group for longer than a callback waits, the service would spool it and try again.
            let callbacks = [*callback];
            let mut tries = 0;
            loop {
                let outcomes = ingest::commit(&self.engine.database, &callbacks).await;
                if outcomes.iter().all(Result::is_ok) {
                    break;
                }
                tries += 1;
                assert!(tries < TRIES_MAX, "{outcomes:?}");
            }
        }
    }

    /// Delivers what waits and what the fake has sent since.
    pub(crate) async fn deliver_all(&mut self) {
        self.fake.delivered().await;
        self.waiting.append(&mut self.sent.lock().unwrap());
        while !self.waiting.is_empty() {
            self.deliver().await;
        }
    }

    /// Something happens.
    async fn something(&mut self) {
        if self.waiting.len() >= self.faults.waiting || (!self.waiting.is_empty() && self.chance.bool()) {
            self.deliver().await;
        } else {
            self.change().await;
        }
    }

    fn asked(&self) -> u64 {
        self.fake.reads().values().sum()
    }

    /// A pass, beside which so much happens, each after some more questions; it may be stopped in the middle.
    pub(crate) async fn pass(
        &mut self,
        kind: PassKind,
        mut changes: u32,
        is_stopped: bool,
    ) -> Result<(), PassEnd> {
        let (stop, counts) = (CancellationToken::new(), Arc::new(PassCounts::default()));
        let (engine, source, held) = (self.engine.clone(), self.source.clone(), stop.clone());
        let mut passing = tokio::spawn(async move { engine.once(&[source], kind, &held, &counts).await });
        let (mut asked, began) = (self.asked(), std::time::Instant::now());
        let mut next = self.chance.u64(0..4);
        loop {
            assert!(began.elapsed() < PASS_MAX, "a pass does not end");
            let idle = tokio::time::timeout(IDLE, async {
                while !passing.is_finished() && (changes == 0 || self.asked() < asked + next) {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            let is_idle = idle.await.is_err();
            if passing.is_finished() {
                break;
            }
            if is_idle && self.asked() == asked {
                pass_by(IDLE_STEP_MS);
            }
            if changes > 0 && (!is_idle || self.chance.u8(0..4) == 0) {
                self.something().await;
                changes -= 1;
                if changes == 0 && is_stopped {
                    stop.cancel();
                }
            }
            (asked, next) = (self.asked(), self.chance.u64(1..4));
        }
        let ended = (&mut passing).await.unwrap();
        self.source.client.resume();
        self.unfinished = ended.is_err().then_some(kind);
        self.counts[usize::from(ended.is_err())] += 1;
        ended
    }

    /// Changes, and passes among them.
    pub(crate) async fn live(&mut self) {
        for _ in 0..self.chance.u32(20..90) {
            self.something().await;
        }
        for _ in 0..self.chance.u32(1..4) {
            let kind = of(&mut self.chance, &[PassKind::Rolling, PassKind::Backfill, PassKind::Reconcile]);
            let (changes, is_stopped) = (self.chance.u32(0..30), self.chance.u8(0..4) == 0);
            // It may stop because nothing is answered; what happened until then is looked at all the same.
            let _ = self.pass(kind, changes, is_stopped).await;
            for _ in 0..self.chance.u32(0..50) {
                self.something().await;
            }
            let pause = of(&mut self.chance, &[0, 2_000, 30_000]);
            pass_by(pause);
        }
    }

    async fn ledger_rows(&self) -> i64 {
        let mut conn = self.database.connect().await;
        sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap()
    }

    /// Where the mirror is not what the fake is.
    pub(crate) async fn differences(&self) -> Vec<String> {
        let mut conn = self.database.connect().await;
        let mut lines = differences_in(&mut conn, &self.fake, true).await;
        let state = self.fake.state(None);
        let rows: Vec<(String, Value)> = sqlx::query_as(SILENT).fetch_all(&mut conn).await.unwrap();
        for (id, shown) in rows {
            let wanted = silent(&state[&id]);
            if shown != wanted {
                lines.push(format!("{id}: the mirror shows {shown}, the fake is {wanted}"));
            }
        }
        lines
    }

    /// Nothing more happens, every callback that was not lost arrives, and Tencent answers every question.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        // Nor is there an answer whose form no page describes: topics that such a one leaves out stay.
        let quiet = json!({
            "http_502": 0, "cut": 0, "slow": 0, "internal_error": 0, "answer_bytes_max": 1 << 20, "no_topics": "list",
        });
        self.fake.set_knobs(&quiet).unwrap();
        self.deliver_all().await;
        if let Some(service) = &self.service {
            service.until(|health| health["spool"]["depth"] == 0).await;
        }
        pass_by(200_000);
        let failed = |end: PassEnd| end.to_string();
        // What was begun before counts as of then.
        if let Some(kind) = self.unfinished {
            self.pass(kind, 0, false).await.map_err(failed)?;
        }
        self.pass(PassKind::Reconcile, 0, false).await.map_err(failed)?;
        let differences = self.differences().await;
        if !differences.is_empty() {
            return Err(format!("after the life:\n  {}", differences.join("\n  ")));
        }
        let rows = self.ledger_rows().await;
        self.pass(PassKind::Reconcile, 0, false).await.map_err(failed)?;
        let more = self.ledger_rows().await - rows;
        if more > 0 {
            return Err(format!("a second pass wrote {more} entries"));
        }
        let report = replay::replay(&self.engine.database, Mode::Verify, |_| {}).await.unwrap();
        if report.differences > 0 {
            return Err(format!("the ledger does not fold to the tables: {:?}", report.lines));
        }
        Ok(())
    }
}

/// What no callback says, of groups that exist.
const SILENT: &str = "
SELECT g.group_id, jsonb_build_object(
    'apply', g.apply_join_option, 'invite', g.invite_join_option, 'mute_all', g.mute_all, 'max', g.max_member_count,
    'members', COALESCE((SELECT jsonb_object_agg(m.user_id, jsonb_build_object(
        'mute', COALESCE(extract(epoch FROM m.mute_until)::bigint, 0), 'fields', COALESCE(m.custom_fields::jsonb, '{}')))
                           FROM group_member_states m
                          WHERE m.group_id = g.group_id AND m.present AND g.type <> 'AVChatRoom'), '{}'))
  FROM group_states g WHERE g.status = 'active'";

/// The same of a group of the fake; an audio-video room has neither member limit, nor invitations, nor a list.
fn silent(group: &Value) -> Value {
    let is_room = group["type"] == "AVChatRoom";
    let unless_room = |value: &Value| if is_room { Value::Null } else { value.clone() };
    let members = group["members"].as_object().into_iter().flatten().filter(|_| !is_room);
    let members = members.map(|(user, member)| {
        (user.clone(), json!({ "mute": member["mute_until"], "fields": member["fields"] }))
    });
    json!({
        "apply": group["apply_join_option"], "invite": unless_room(&group["invite_join_option"]),
        "mute_all": group["mute_all"], "max": unless_room(&group["max_members"]),
        "members": members.collect::<serde_json::Map<_, _>>(),
    })
}
