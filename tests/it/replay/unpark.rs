//! What was parked or read in part is tried again: after an update that reads more, for one cause, and once a time has
//! come. `--verify` lists what this version can read apart from differences.

use group_mirror::callback::{Decoded, ReasonCause, Received, decode};
use group_mirror::ingest::commit;
use group_mirror::mirror::People;
use group_mirror::model::{EVENT_TIME_AHEAD_MAX_MS, Millis, SdkAppId};
use group_mirror::replay::{Mode, Report, Retry, Unparked, replay, unpark, verdict};
use group_mirror::store::ledger::{Reread, Rewritten, drop_parked};
use group_mirror::store::{Database, ledger, ledger_walk};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::retention::partitions::{waits_for_the_ledger, without_partitions};
use crate::support::{APP, App, eventually};

const T0: i64 = 1_767_225_600_000;

fn body(command: &str, ms: i64, more: &Value) -> Value {
    let mut body = json!({ "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": "g", "EventTime": T0 + ms });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn retry(app: &App, cause: Option<ReasonCause>, now: i64) -> Unparked {
    let database = Database::new(&app.database.url).unwrap();
    let counts = unpark(&database, Retry { cause, now: Millis::new(now) }, |_| {}).await.unwrap();
    database.close().await;
    counts
}

async fn verify(app: &App) -> Report {
    let database = Database::new(&app.database.url).unwrap();
    let report = replay(&database, Mode::Verify, |_| {}).await.unwrap();
    database.close().await;
    report
}

async fn execute(app: &App, statement: String) {
    app.connect().await.execute(AssertSqlSafe(statement)).await.unwrap();
}

#[tokio::test]
async fn what_an_older_version_parked_or_skipped_is_listed_by_verify_and_applied_by_parked() {
    let app = App::start().await;
    app.service.taken(&body("CreateGroup", 0, &json!({ "Owner_Account": "ana", "Name": "G" }))).await;
    app.service
        .taken(&body(
            "MemberFieldChanged",
            1,
            &json!({ "Member_Account": "bo", "NameCard": "B", "Role": "Admin" }),
        ))
        .await;
    app.service
        .taken(&body("NewMemberJoin", 2, &json!({ "NewMemberList": [{ "Member_Account": "cy" }] })))
        .await;
    assert_eq!(verify(&app).await.readable, 0);
    // As a version that could not read a role, and no join at all, would have left it.
    execute(
        &app,
        "UPDATE ledger SET outcome = 'partial', reason = 'skipped: a role', causes = '{unknown_role}'
                    WHERE command = 'Group.CallbackAfterMemberFieldChanged'"
            .to_owned(),
    )
    .await;
    execute(&app, "UPDATE group_members SET role = DEFAULT, role_stamp = '' WHERE user_id = 'bo'".to_owned())
        .await;
    execute(
        &app,
        "UPDATE ledger SET outcome = 'parked', reason = 'then', causes = '{wrong_type}'
                    WHERE command = 'Group.CallbackAfterNewMemberJoin'"
            .to_owned(),
    )
    .await;
    execute(&app, "DELETE FROM group_members WHERE user_id = 'cy'".to_owned()).await;
    let report = verify(&app).await;
    assert_eq!(
        (report.differences, &report.lines),
        (0, &Vec::new()),
        "what can be read further is no difference"
    );
    assert_eq!(report.readable, 2, "{:?}", report.readable_lines);
    assert!(
        report.readable_lines.iter().all(|line| line.ends_with("is readable by this version")),
        "{report:?}"
    );
    let counts = retry(&app, Some(ReasonCause::UnknownRole), T0).await;
    assert_eq!(counts, Unparked { applied: 1, ..Unparked::default() });
    let members = app.service.read("/v1/groups/g/members").await;
    let shown: Vec<_> = members["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| (member["user_id"].clone(), member["role"].clone()))
        .collect();
    assert_eq!(shown, [(json!("ana"), json!("Owner")), (json!("bo"), json!("Admin"))], "of one cause only");
    assert_eq!(retry(&app, None, T0).await, Unparked { applied: 1, ..Unparked::default() });
    assert_eq!(app.service.read("/v1/groups/g").await["member_count"], 3);
    let report = verify(&app).await;
    assert_eq!((report.differences, report.readable), (0, 0), "{report:?}");
    let entries = app.service.read("/v1/groups/g/history?outcome=applied").await;
    assert_eq!(entries["items"].as_array().unwrap().len(), 3);
    app.stop().await;
}

#[tokio::test]
async fn what_is_still_read_in_part_stays_as_it_is() {
    let app = App::start().await;
    let change =
        body("MemberFieldChanged", 1, &json!({ "Member_Account": "bo", "NameCard": "B", "Role": "Owner" }));
    let answer: Value = app.service.post_with("", change.to_string()).await.json().await.unwrap();
    assert!(answer["ErrorInfo"].as_str().unwrap().starts_with("partial: "));
    let cursor = app.service.read("/v1/changes").await["items"][0]["cursor"].clone();
    assert_eq!(retry(&app, None, T0).await, Unparked { unchanged: 1, ..Unparked::default() });
    assert_eq!(
        app.service.read("/v1/changes").await["items"][0]["cursor"],
        cursor,
        "followers see nothing new"
    );
    assert_eq!(verify(&app).await.readable, 0);
    app.stop().await;
}

fn received(body: &Value, at: i64, request: &str) -> group_mirror::callback::Callback {
    let received = Received {
        request_id: Some(request.to_owned()),
        ..Received::bare(SdkAppId::parse(APP).unwrap(), Millis::new(at), body.to_string().into_bytes())
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope") };
    *callback
}

#[tokio::test]
async fn a_future_that_has_come_is_applied_and_one_that_came_again_meanwhile_is_a_duplicate() {
    let app = App::start().await;
    let database = Database::new(&app.database.url).unwrap();
    // The clock of the host stood two days behind.
    let behind = T0 - 2 * EVENT_TIME_AHEAD_MAX_MS;
    let create = body("CreateGroup", 0, &json!({ "Owner_Account": "ana" }));
    let join = body("NewMemberJoin", 1, &json!({ "NewMemberList": [{ "Member_Account": "bo" }] }));
    for (callback, parked) in [
        (received(&create, behind, "r1"), true),
        (received(&join, behind + 1, "r2"), true),
        (received(&join, T0 + 5, "r3"), false),
    ] {
        assert_eq!(callback.event.is_err(), parked);
        assert_eq!(callback.causes(), if parked { vec![ReasonCause::FutureTime] } else { vec![] });
        commit(&database, &[callback]).await.remove(0).unwrap();
    }
    database.close().await;
    assert_eq!(verify(&app).await.readable, 0, "it waits for its time, not for another version");
    assert_eq!(retry(&app, None, behind).await, Unparked { unchanged: 2, ..Unparked::default() });
    let counts = retry(&app, Some(ReasonCause::FutureTime), T0 + 10).await;
    assert_eq!(counts, Unparked { applied: 1, duplicates: 1, ..Unparked::default() });
    let report = verify(&app).await;
    assert_eq!((report.differences, report.readable), (0, 0), "{report:?}");
    let group = app.service.read("/v1/groups/g").await;
    assert_eq!(
        (&group["member_count"], &group["created_at"]),
        (&json!(2), &json!("2026-01-01T00:00:00.000Z"))
    );
    // A repeat of what was applied late is known.
    let database = Database::new(&app.database.url).unwrap();
    let again = commit(&database, &[received(&create, T0 + 20, "r1")]).await.remove(0).unwrap();
    assert_eq!(again.label(), "duplicate");
    database.close().await;
    app.stop().await;
}

/// True while the statement of another session waits for a lock for longer than a batch may.
const WAITS_LONG: &str = "
SELECT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock' AND now() - query_start > '2.5 s')";

#[tokio::test]
async fn a_locked_row_delays_a_run_and_does_not_end_it() {
    let app = App::start().await;
    for group in ["a", "b"] {
        let mut create = body("CreateGroup", 0, &json!({ "Owner_Account": "ana" }));
        create["GroupId"] = json!(group);
        app.service.taken(&create).await;
    }
    // As a version that could read neither owner would have left them.
    let statement =
        "UPDATE ledger SET outcome = 'partial', reason = 'skipped: an owner', causes = '{bad_id}'";
    execute(&app, statement.to_owned()).await;
    let mut holder = app.connect().await;
    holder.execute("BEGIN; SELECT FROM groups WHERE group_id = 'a' FOR UPDATE").await.unwrap();
    let mut watcher = app.connect().await;
    let releasing = async {
        let waited = async {
            loop {
                if sqlx::query_scalar(WAITS_LONG).fetch_one(&mut watcher).await.unwrap() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, waited).await.unwrap();
        holder.execute("COMMIT").await.unwrap();
    };
    let (counts, ()) = tokio::join!(retry(&app, None, T0), releasing);
    assert_eq!(counts, Unparked { applied: 2, ..Unparked::default() });
    assert_eq!(verify(&app).await.differences, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_moves_to_another_partition_while_it_is_tried_again_is_applied_there() {
    let test = without_partitions().await;
    let database = Database::new(&test.url).unwrap();
    let mut conn = test.connect().await;
    let now = "SELECT floor(extract(epoch FROM now()) * 1000)::bigint";
    let now: i64 = sqlx::query_scalar(now).fetch_one(&mut conn).await.unwrap();
    let come = now + 2 * EVENT_TIME_AHEAD_MAX_MS;
    let create = body("CreateGroup", come - T0, &json!({ "Owner_Account": "ana" }));
    let join =
        body("NewMemberJoin", come - T0 + 1, &json!({ "NewMemberList": [{ "Member_Account": "bo" }] }));
    for (callback, request) in [(&create, "r1"), (&join, "r2")] {
        commit(&database, &[received(callback, now, request)]).await.remove(0).unwrap();
    }
    // The past; once the first entry is applied, this week, uncommitted until the second one waits for it.
    conn.execute("SELECT ledger_partition_step()").await.unwrap();
    let (moved, moving) = tokio::sync::oneshot::channel();
    let mover = std::sync::Mutex::new(Some((test.connect().await, moved)));
    let begin_to_move = |_| {
        let Some((mut mover, moved)) = mover.lock().unwrap().take() else { return };
        let beginning = async {
            mover.execute("BEGIN; SELECT ledger_partition_step()").await.unwrap();
            moved.send(mover).unwrap();
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(beginning));
    };
    let commit_moves = async {
        let mut mover = moving.await.unwrap();
        assert!(eventually(async || waits_for_the_ledger(&test).await).await);
        mover.execute("COMMIT").await.unwrap();
    };
    let retry = Retry { cause: None, now: Millis::new(come) };
    let (counts, ()) = tokio::join!(unpark(&database, retry, begin_to_move), commit_moves);
    assert_eq!(counts.unwrap(), Unparked { applied: 2, ..Unparked::default() });
    database.close().await;
}

#[tokio::test]
async fn a_parked_entry_is_dropped_only_beside_another_one_that_says_the_same() {
    let app = App::start().await;
    let database = Database::new(&app.database.url).unwrap();
    let behind = T0 - 2 * EVENT_TIME_AHEAD_MAX_MS;
    let join = body("NewMemberJoin", 1, &json!({ "NewMemberList": [{ "Member_Account": "bo" }] }));
    commit(&database, &[received(&join, behind, "r1")]).await.remove(0).unwrap();
    let mut conn = app.connect().await;
    let row = ledger_walk::unread(&mut conn, None, 10).await.unwrap().remove(0).row;
    let callback = received(&join, T0, "r1");
    let people = People::default();
    let now = Reread {
        command: &callback.command,
        group: callback.group.as_ref(),
        time: callback.time,
        event_time: callback.event_time,
        digest: callback.digest,
        verdict: verdict(&callback),
        people_before: &people,
        people: &people,
    };
    assert!(!drop_parked(&mut conn, &row, &now).await.unwrap(), "no other entry says it");
    let mut elsewhere = row.clone();
    elsewhere.time_ms += 1;
    assert_eq!(ledger::unpark(&mut conn, &elsewhere, &now).await.unwrap(), Rewritten::NotThere);
    commit(&database, &[received(&join, T0, "r2")]).await.remove(0).unwrap();
    conn.execute("BEGIN").await.unwrap();
    assert_eq!(ledger::unpark(&mut conn, &row, &now).await.unwrap(), Rewritten::SaidAlready);
    conn.execute("COMMIT").await.unwrap();
    assert!(!drop_parked(&mut conn, &elsewhere, &now).await.unwrap());
    assert!(drop_parked(&mut conn, &row, &now).await.unwrap());
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(left, 1);
    database.close().await;
    app.stop().await;
}

/// Aim: the entry is written anew under its group, without a loss of what it holds. Method: as an older program would have left it,
/// which could not read the group.
#[tokio::test]
async fn an_entry_whose_group_becomes_known_moves_into_it_with_all_that_it_holds() {
    const HELD: &str = "SELECT (to_jsonb(l) - ARRAY['group_id', 'time_ms', 'digest', 'outcome', 'reason', 'causes', 'operator',
                                      'user_id', 'users', 'user_count', 'position'])::text, l.position FROM ledger l";
    let app = App::start().await;
    let database = Database::new(&app.database.url).unwrap();
    let behind = T0 - 2 * EVENT_TIME_AHEAD_MAX_MS;
    let join = body("NewMemberJoin", 1, &json!({ "NewMemberList": [{ "Member_Account": "bo" }] }));
    commit(&database, &[received(&join, behind, "r1")]).await.remove(0).unwrap();
    let mut conn = app.connect().await;
    let older = "UPDATE ledger SET group_id = '', client_ip = '10.0.0.9', platform = 2, query = 'a=b', content_type = 'json',
                 odd_values = jsonb_build_object('client_ip', 'a b')";
    conn.execute(older).await.unwrap();
    conn.execute("UPDATE ledger_people SET group_id = ''").await.unwrap();
    let before: (String, i64) = sqlx::query_as(HELD).fetch_one(&mut conn).await.unwrap();
    let retry = Retry { cause: None, now: Millis::new(T0) };
    let counts = unpark(&database, retry, |_| {}).await.unwrap();
    assert_eq!(counts, Unparked { applied: 1, ..Unparked::default() });
    let after: (String, i64) = sqlx::query_as(HELD).fetch_one(&mut conn).await.unwrap();
    assert_eq!(after.0, before.0);
    assert!(after.1 > before.1, "it stands at the end of the feed");
    let left: Vec<String> =
        sqlx::query_scalar("SELECT group_id FROM ledger").fetch_all(&mut conn).await.unwrap();
    assert_eq!(left, [join["GroupId"].as_str().unwrap()]);
    assert_eq!(replay(&database, Mode::Verify, |_| {}).await.unwrap().lines, Vec::<String>::new());
    database.close().await;
    app.stop().await;
}
