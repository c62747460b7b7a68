//! What the database reads for a list: of one that costs a page a page of an index, of one that costs its matches these and
//! no more, whatever stands around them and whatever the planner knows.
//!
//! Rows are counted, not milliseconds: `EXPLAIN ANALYZE` says how many each scan has visited.

use group_mirror::mirror::Status;
use group_mirror::model::{FieldKey, GroupId, SdkAppId, UserId};
use group_mirror::store::Database;
use group_mirror::store::group_list::{self, GroupCursorKey, GroupFilter, GroupOrder, ListCost};
use group_mirror::store::members::{self, LOOKED_THROUGH_MAX};
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, App};

/// Enough for the planner to choose as it does at a million. `PLANS_GROUPS` sets another number.
fn group_count() -> String {
    std::env::var("PLANS_GROUPS").unwrap_or_else(|_| "100000".into())
}

const FILL: &str = include_str!("../../../benches/fill.sql");

/// An app of many destroyed groups, all newer than its 60 active ones; `bot` has left most of a thousand of them and is
/// still a member of the destroyed rest, as far as its own rows say.
const GRAVEYARD: &str = r"
INSERT INTO groups (sdk_app_id, group_id, type, type_stamp, name, name_caseless, name_stamp, owner, owner_stamp, created_by,
                    created_stamp, create_barrier, destroyed_stamp, revival_barrier, alive_stamp, updated_stamp)
SELECT 7, 'g' || lpad((n * 7919 % 30011)::text, 6, '0'), 'Meeting', s, 'Call ' || n, 'call ' || n, s, 'o', s, 'o', s, '',
       CASE WHEN n > 60 THEN d ELSE '' END, CASE WHEN n > 60 THEN r ELSE '' END, s, GREATEST(s, CASE WHEN n > 60 THEN d ELSE '' END)
  FROM (SELECT n, int8send(1767225600000 + n * 997) || '\x010102030405060708' AS s,
               int8send(1767225600000 + n * 997 + 60000) || '\x090102030405060708' AS d,
               int8send(1767225600000 + n * 997 + 70000) || '\x000000000000000000' AS r
          FROM generate_series(1::bigint, 30000) n) g;
INSERT INTO group_members (sdk_app_id, group_id, user_id, join_stamp, leave_stamp, revival_barrier)
SELECT 7, 'g' || lpad((n * 7919 % 30011)::text, 6, '0'), 'bot', s,
       CASE WHEN n BETWEEN 61 AND 10000 THEN l ELSE '' END, CASE WHEN n BETWEEN 61 AND 10000 THEN r ELSE '' END
  FROM (SELECT n, int8send(1767225600000 + n * 997) || '\x010102030405060708' AS s,
               int8send(1767225600000 + n * 997 + 50000) || '\x040102030405060708' AS l,
               int8send(1767225600000 + n * 997 + 60000) || '\x000000000000000000' AS r
          FROM generate_series(1::bigint, 30000) n) g;
INSERT INTO group_members (sdk_app_id, group_id, user_id, join_stamp)
SELECT sdk_app_id, group_id, 'guest', created_stamp FROM groups WHERE sdk_app_id = 7 AND status = 'active';
INSERT INTO group_verifications (sdk_app_id, group_id, status, created_at, has_member_list, verified_at)
SELECT sdk_app_id, group_id, status, created_at, true, created_at + interval '1 h' FROM groups WHERE sdk_app_id = 7 AND group_id < 'g025000';
";

/// So that no statistics come by themselves in the middle of a test.
const NO_AUTOVACUUM: &str = "
ALTER TABLE groups SET (autovacuum_enabled = off); ALTER TABLE group_members SET (autovacuum_enabled = off);
ALTER TABLE group_user_defined_fields SET (autovacuum_enabled = off);
ALTER TABLE group_verifications SET (autovacuum_enabled = off)";

pub(crate) const COUNTED: &str = "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF";

const ORDERS: [GroupOrder; 5] = [
    GroupOrder::Newest,
    GroupOrder::Oldest,
    GroupOrder::Id,
    GroupOrder::VerifiedOldest,
    GroupOrder::VerifiedNewest,
];

pub(crate) fn app(number: &str) -> SdkAppId {
    SdkAppId::parse(number).unwrap()
}

fn no_filter() -> GroupFilter {
    GroupFilter {
        app: app("1400000001"),
        groups: Vec::new(),
        group_types: Vec::new(),
        owner: None,
        member: None,
        name_part: None,
        name_prefix: None,
        status: Some(Status::Active),
        user_defined_fields: Vec::new(),
        created_after: None,
        created_before: None,
        updated_after: None,
        verified_before: None,
    }
}

pub(crate) fn group(id: &str) -> GroupId {
    GroupId::parse(id).unwrap()
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn field(key: &str, value: &str) -> Vec<(FieldKey, String)> {
    vec![(FieldKey::parse(key).unwrap(), value.to_owned())]
}

/// The begin, a place in the middle of what was filled, and the place of a group without a time.
fn places(group_id: &str) -> [Option<GroupCursorKey>; 3] {
    let timed =
        GroupCursorKey { time: Some("2026-01-01T04:00:00Z".parse().unwrap()), group_id: group_id.to_owned() };
    let timeless = GroupCursorKey { time: None, ..timed.clone() };
    [None, Some(timed), Some(timeless)]
}

/// How many rows the scans of a plan have visited, those included that a filter removed.
pub(crate) fn visited(plan: &str) -> u64 {
    let number = |text: &str, after: &str| {
        let (_, rest) = text.split_once(after)?;
        let end = rest.find(|mark: char| !mark.is_ascii_digit() && mark != '.').unwrap_or(rest.len());
        rest[..end].parse::<f64>().ok()
    };
    let (mut total, mut loops) = (0.0, 1.0);
    for line in plan.lines() {
        if let Some(count) = number(line, "loops=") {
            loops = count;
        }
        let is_table = line.contains(" Scan ") && line.contains(" on ") && !line.contains("Subquery");
        if is_table && let Some(rows) = number(line, "rows=") {
            total += rows * loops;
        }
        if let Some(rows) = number(line, "Rows Removed by Filter: ").or(number(line, "by Index Recheck: ")) {
            total += rows * loops;
        }
    }
    let has_index = plan.contains(" Scan using ") || plan.contains(" Scan Backward using ");
    assert!(has_index, "no index is in {plan}");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
    let total = total as u64;
    total
}

pub(crate) async fn filled(statements: &[&str]) -> (TestDatabase, PgConnection) {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    // A setting of reading sessions; see `store/session.rs`.
    conn.execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
    for statement in statements {
        conn.execute(AssertSqlSafe((*statement).to_owned())).await.unwrap();
    }
    (database, conn)
}

fn fill(groups: &str, members: &str) -> String {
    FILL.replace("GROUPS)", &format!("{groups})")).replace("MEMBERS)", &format!("{members})"))
}

/// Aim: what is classed as a page is one, on the first request and with every cursor. Method: every combination of the
/// filters that such a list may have, on an app of 30,000 destroyed groups beside one of the usual mixture, without and
/// with statistics; the scans may visit a page for each of at most three statuses and three parts of the order.
#[tokio::test]
async fn a_list_that_costs_a_page_visits_a_page_beside_any_number_of_destroyed_groups() {
    let (_database, mut conn) = filled(&[NO_AUTOVACUUM, GRAVEYARD]).await;
    let times = ["2026-01-01T00:00:20Z", "2026-01-01T06:00:00Z"].map(|time| Some(time.parse().unwrap()));
    let mut lists = Vec::new();
    for order in ORDERS {
        for status in [Some(Status::Active), Some(Status::Destroyed), Some(Status::Unseen), None] {
            for (created_after, created_before, verified_before) in [
                (None, None, None),
                (times[0], None, None),
                (None, times[1], None),
                (times[0], times[1], None),
                (None, None, times[0]),
                (None, None, times[1]),
            ] {
                for groups in
                    [vec![], vec![group("g000007")], vec![group("g000008"), group("no"), group("g000009")]]
                {
                    for owner in [None, Some(user("o"))] {
                        for group_types in [vec![], vec!["Meeting".to_owned()]] {
                            let (app, owner) = (app("7"), owner.clone());
                            let base =
                                GroupFilter { app, groups: groups.clone(), owner, status, ..no_filter() };
                            let base = GroupFilter { group_types, verified_before, ..base };
                            let filter = GroupFilter { created_after, created_before, ..base };
                            // A page among the verified ones is one too; only behind them every group may be looked at.
                            let is_of_verified = order_is_by_verification(order)
                                && status == Some(Status::Destroyed)
                                && filter.group_types.is_empty()
                                && filter.owner.is_none()
                                && created_after.is_none()
                                && created_before.is_none()
                                // Nothing was verified before the first of these times.
                                && (verified_before.is_none() || verified_before == times[1]);
                            if filter.cost(order, false) == ListCost::Page || is_of_verified {
                                lists.push((order, filter));
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(lists.len() > 100, "{}", lists.len());
    for known in ["nothing", "everything"] {
        if known == "everything" {
            conn.execute(AssertSqlSafe(fill("20000", "100"))).await.unwrap();
        }
        for (order, filter) in &lists {
            let places = places("g007000");
            // The place of a group without a time lies behind the verified ones.
            let places = if order_is_by_verification(*order) { &places[..2] } else { &places[..] };
            for after in places {
                let plan = group_list::explain(&mut conn, COUNTED, filter, *order, after.as_ref(), 50)
                    .await
                    .unwrap();
                let rows = visited(&plan);
                assert!(rows < 900, "{known} is known; {filter:?} {order:?} {after:?}: {rows} rows: {plan}");
            }
        }
    }
}

fn order_is_by_verification(order: GroupOrder) -> bool {
    matches!(order, GroupOrder::VerifiedOldest | GroupOrder::VerifiedNewest)
}

async fn assert_served(
    conn: &mut PgConnection,
    what: &str,
    index: &str,
    order: GroupOrder,
    filter: &GroupFilter,
) {
    for after in &places("@TGS#7")[..2] {
        let plan = group_list::explain(conn, "COSTS OFF", filter, order, after.as_ref(), 50).await.unwrap();
        assert!(plan.contains(index), "{what}, {order:?}, {after:?}: {plan}");
        // Behind the verified groups the others are looked for as the planner likes.
        let tables: &[&str] = match order_is_by_verification(order) {
            true => &["group_verifications", "group_members"],
            false => &["groups", "group_members", "group_user_defined_fields"],
        };
        for table in tables {
            let all = format!("Seq Scan on {table} ");
            assert!(!plan.contains(&all), "{what}, {order:?}, {after:?}: {plan}");
        }
    }
}

#[tokio::test]
async fn every_filter_and_every_order_is_served_by_an_index() {
    let verified = "
INSERT INTO group_verifications (sdk_app_id, group_id, status, created_at, has_member_list, verified_at)
SELECT sdk_app_id, group_id, status, created_at, true, created_at + interval '1 h' FROM groups;
ANALYZE group_verifications";
    let (_database, mut conn) = filled(&[&fill(&group_count(), "1000"), verified]).await;
    for (order, index) in [
        (GroupOrder::Newest, "groups_time_idx"),
        (GroupOrder::Oldest, "groups_time_idx"),
        (GroupOrder::Id, "groups_id_idx"),
        (GroupOrder::VerifiedOldest, "group_verifications_time_idx"),
        (GroupOrder::VerifiedNewest, "group_verifications_time_idx"),
    ] {
        let conn = &mut conn;
        for status in [Some(Status::Active), Some(Status::Destroyed), Some(Status::Unseen), None] {
            let all = GroupFilter { status, ..no_filter() };
            assert_served(conn, "all", index, order, &all).await;
        }
        let stale =
            GroupFilter { verified_before: Some("2026-01-02T00:00:00Z".parse().unwrap()), ..no_filter() };
        if index == "group_verifications_time_idx" {
            assert_served(conn, "verified before", index, order, &stale).await;
            continue;
        }
        let common = GroupFilter { group_types: vec!["Work".into()], ..no_filter() };
        assert_served(conn, "a common type", index, order, &common).await;
        let common = GroupFilter { user_defined_fields: field("region", "north"), ..no_filter() };
        assert_served(conn, "a common field", index, order, &common).await;
        let common = GroupFilter { name_part: Some("walkers".into()), ..no_filter() };
        assert_served(conn, "a common part of a name", index, order, &common).await;
        let rare = GroupFilter { group_types: vec!["Community".into()], ..no_filter() };
        assert_served(conn, "a rare type", "groups_type_idx", order, &rare).await;
        let rare = GroupFilter { user_defined_fields: field("case", "case-7"), ..no_filter() };
        assert_served(conn, "a rare field", "group_user_defined_fields_value_idx", order, &rare).await;
        let common = GroupFilter { name_prefix: Some("river".into()), ..no_filter() };
        assert_served(conn, "a common prefix", index, order, &common).await;
        let rare = GroupFilter { name_prefix: Some("River walkers 9E3779B1".into()), ..no_filter() };
        assert_served(conn, "a rare prefix", "groups_prefix_idx", order, &rare).await;
        let several = vec!["Community".into(), "AVChatRoom".into()];
        let rare = GroupFilter { group_types: several, ..no_filter() };
        assert_served(conn, "rare types", "groups_type_idx", order, &rare).await;
        let common =
            GroupFilter { updated_after: Some("2026-01-01T00:00:00Z".parse().unwrap()), ..no_filter() };
        assert_served(conn, "much that has moved since", index, order, &common).await;
        let rare =
            GroupFilter { updated_after: Some("2026-01-02T03:40:00Z".parse().unwrap()), ..no_filter() };
        assert_served(conn, "little that has moved since", "groups_updated_idx", order, &rare).await;
        let owned = GroupFilter { owner: Some(user("owner-7")), ..no_filter() };
        assert_served(conn, "owner", "groups_owner_idx", order, &owned).await;
        let joined = GroupFilter { member: Some(user("user-7")), ..no_filter() };
        assert_served(conn, "member", "group_members_user_idx", order, &joined).await;
        let groups = (0..200).map(|number| group(&format!("@TGS#{number}"))).collect();
        for groups in [vec![group("@TGS#1")], groups] {
            let named = GroupFilter { groups, ..no_filter() };
            assert_served(conn, "group_id", "groups_pkey", order, &named).await;
        }
    }
}

/// One user in 5,000 groups, each with a field, and nothing known to the planner: what led it to read all groups once for
/// each of the user's. A list may visit each of the user's groups a few times.
#[tokio::test]
async fn a_list_by_member_or_owner_visits_the_matches_alone_before_there_are_statistics() {
    let many = "
INSERT INTO groups (sdk_app_id, group_id, type, type_stamp, name, name_caseless, name_stamp, owner, owner_stamp, created_stamp, alive_stamp, updated_stamp)
SELECT 1400000001, 'g' || n, 'Work', s, 'n' || n, 'n' || n, s, 'o', s, s, s, s
  FROM (SELECT n, int8send(1767225600000 + n * 997) || '\\x010102030405060708' AS s FROM generate_series(1::bigint, 5000) n) g;
INSERT INTO group_members (sdk_app_id, group_id, user_id, join_stamp)
SELECT 1400000001, 'g' || n, u, int8send(1767225600000 + n * 997) || '\\x010102030405060708'
  FROM generate_series(1::bigint, 5000) n, unnest(array['bot', 'u' || n, 'o']) u;
INSERT INTO group_user_defined_fields (sdk_app_id, group_id, key, value, value_stamp)
SELECT 1400000001, 'g' || n, 'region', 'north', int8send(1767225600000 + n * 997) || '\\x010102030405060708'
  FROM generate_series(1::bigint, 5000) n";
    let (_database, mut conn) = filled(&[NO_AUTOVACUUM, many]).await;
    let base = || GroupFilter { member: Some(user("bot")), ..no_filter() };
    for (what, filter) in [
        ("member", base()),
        ("owner", GroupFilter { member: None, owner: Some(user("o")), ..no_filter() }),
        ("member and owner", GroupFilter { owner: Some(user("o")), ..base() }),
        ("member and field", GroupFilter { user_defined_fields: field("region", "north"), ..base() }),
        ("member and a field of none", GroupFilter { user_defined_fields: field("region", "no"), ..base() }),
        ("member and type", GroupFilter { group_types: vec!["Work".into()], ..base() }),
        ("member and prefix", GroupFilter { name_prefix: Some("n4".into()), ..base() }),
        (
            "owner and what has moved since",
            GroupFilter {
                member: None,
                owner: Some(user("o")),
                updated_after: Some("2026-01-01T01:00:00Z".parse().unwrap()),
                ..no_filter()
            },
        ),
        ("member and name", GroupFilter { name_part: Some("n4".into()), ..base() }),
        ("member of every status", GroupFilter { status: None, ..base() }),
    ] {
        for order in ORDERS {
            for after in &places("g007000") {
                let plan = group_list::explain(&mut conn, COUNTED, &filter, order, after.as_ref(), 50)
                    .await
                    .unwrap();
                let rows = visited(&plan);
                assert!(rows <= 60_000, "{what}, {order:?}, {after:?}: {rows} rows: {plan}");
            }
        }
    }
}

#[tokio::test]
async fn memberships_of_a_user_are_read_without_those_that_ended_before() {
    let (_database, mut conn) = filled(&[NO_AUTOVACUUM, GRAVEYARD]).await;
    for known in ["nothing", "everything"] {
        if known == "everything" {
            conn.execute("ANALYZE").await.unwrap();
        }
        for (id, present, most) in [
            // Nothing but the rows of the page.
            ("guest", Some(true), 800),
            ("guest", Some(false), 800),
            ("guest", None, 800),
            ("bot", None, 25_000),
            // Only their groups show that memberships have ended, so these are looked at, but not all 20,000.
            ("bot", Some(true), 50_000),
            ("bot", Some(false), 50_000),
        ] {
            let user = user(id);
            let plan = members::explain_of_user(&mut conn, COUNTED, app("7"), &user, present).await.unwrap();
            let rows = visited(&plan);
            assert!(rows < most, "{known} is known; {id} {present:?}: {rows} rows: {plan}");
        }
    }
}

/// The mirror holds 20,060 memberships of the bot that its own rows do not show as ended, and 60 that have not.
#[tokio::test]
async fn a_walk_through_memberships_that_ended_with_their_groups_goes_on_over_short_pages() {
    let (database, _conn) = filled(&[GRAVEYARD, "ANALYZE"]).await;
    let pools = Database::new(&database.url).unwrap();
    let mut conn = pools.reader().acquire().await.unwrap();
    let bot = user("bot");
    for (present, expected) in [(Some(true), 60), (Some(false), 29_940), (None, 30_000)] {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page =
                members::of_user(&mut conn, app("7"), &bot, present, after.as_deref(), 500).await.unwrap();
            seen.extend(page.rows.iter().map(|row| row.group.group_id.clone()));
            pages += 1;
            assert!(pages < 100, "the walk does not end");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "each once, in order");
        assert_eq!(seen.len(), expected, "{present:?}");
        assert!(present != Some(true) || pages <= 1 + 20_060 / LOOKED_THROUGH_MAX, "{pages} pages");
    }
}

#[tokio::test]
async fn a_rare_part_of_a_name_is_served_by_an_index_where_the_database_has_pg_trgm() {
    let (database, mut conn) = filled(&[&fill("20000", "1")]).await;
    let available: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    let rare = GroupFilter { name_part: Some("9E3779B1".into()), ..no_filter() };
    if available {
        // As docs/deploy.md says.
        conn.execute("CREATE EXTENSION pg_trgm").await.unwrap();
        conn.execute("CREATE INDEX groups_name_idx ON groups USING gin (name_caseless gin_trgm_ops)")
            .await
            .unwrap();
        assert_served(&mut conn, "name", "groups_name_idx", GroupOrder::Newest, &rare).await;
    }
    let pools = Database::new(&database.url).unwrap();
    let mut reader = pools.reader().acquire().await.unwrap();
    let found = group_list::list(&mut reader, &rare, GroupOrder::Newest, None, 50, false).await.unwrap();
    assert!(!found.rows.is_empty() && !found.more, "{}", found.rows.len());
}

#[tokio::test]
async fn a_read_that_runs_out_of_its_time_says_so() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    conn.execute("BEGIN; LOCK TABLE group_members IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let url = app.service.api_url("/v1/groups?member=ana");
    let answer = app.service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("longer than the 5 s"), "{problem}");
    conn.execute("ROLLBACK").await.unwrap();
    app.stop().await;
}
