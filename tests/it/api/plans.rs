//! Each filter and each order of the list of groups has an index that serves it, once there are many of them.

use group_mirror::mirror::Status;
use group_mirror::model::{FieldKey, GroupId, SdkAppId, UserId};
use group_mirror::store::groups::{self, GroupCursorKey, GroupFilter, GroupOrder};
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

fn no_filter() -> GroupFilter {
    GroupFilter {
        app: SdkAppId::parse("1400000001").unwrap(),
        group: None,
        group_type: None,
        owner: None,
        member: None,
        name_part: None,
        status: Some(Status::Active),
        user_defined_fields: Vec::new(),
        created_after: None,
        created_before: None,
    }
}

async fn assert_served(
    conn: &mut PgConnection,
    what: &str,
    index: &str,
    order: GroupOrder,
    filter: &GroupFilter,
) {
    let key = GroupCursorKey {
        created_at: Some("2026-01-02T00:00:00Z".parse().unwrap()),
        group_id: "@TGS#7".to_owned(),
    };
    for after in [None, Some(&key)] {
        let plan = groups::plan(conn, filter, order, after, 51).await.unwrap();
        assert!(plan.contains(index), "{what}, {order:?}, {after:?}: {plan}");
        for table in ["groups", "group_members", "group_user_defined_fields"] {
            let all = format!("Seq Scan on {table} ");
            assert!(!plan.contains(&all), "{what}, {order:?}, {after:?}: {plan}");
        }
    }
}

#[tokio::test]
async fn every_filter_and_every_order_is_served_by_an_index() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let fill = FILL.replace("GROUPS)", &format!("{})", group_count())).replace("MEMBERS)", "1000)");
    conn.execute(AssertSqlSafe(fill)).await.unwrap();
    // A setting of reading sessions; see `store/pools.rs`.
    conn.execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
    let user = |id| Some(UserId::parse(id).unwrap());
    let field = |key, value: &str| vec![(FieldKey::parse(key).unwrap(), value.to_owned())];
    for (order, index) in [
        (GroupOrder::Newest, "groups_newest_idx"),
        (GroupOrder::Oldest, "groups_newest_idx"),
        (GroupOrder::Id, "groups_pkey"),
    ] {
        let conn = &mut conn;
        let all = no_filter();
        assert_served(conn, "all", index, order, &all).await;
        let common = GroupFilter { group_type: Some("Work".into()), ..no_filter() };
        assert_served(conn, "a common type", index, order, &common).await;
        let common = GroupFilter { user_defined_fields: field("region", "north"), ..no_filter() };
        assert_served(conn, "a common field", index, order, &common).await;
        let common = GroupFilter { name_part: Some("walkers".into()), ..no_filter() };
        assert_served(conn, "a common part of a name", index, order, &common).await;
        let rare = GroupFilter { group_type: Some("Community".into()), ..no_filter() };
        assert_served(conn, "a rare type", "groups_type_idx", order, &rare).await;
        let rare = GroupFilter { user_defined_fields: field("case", "case-7"), ..no_filter() };
        assert_served(conn, "a rare field", "group_user_defined_fields_value_idx", order, &rare).await;
        let owned = GroupFilter { owner: user("owner-7"), ..no_filter() };
        assert_served(conn, "owner", "groups_owner_idx", order, &owned).await;
        let joined = GroupFilter { member: user("user-7"), ..no_filter() };
        assert_served(conn, "member", "group_members_user_idx", order, &joined).await;
        let one = GroupFilter { group: Some(GroupId::parse("@TGS#1").unwrap()), ..no_filter() };
        assert_served(conn, "group_id", "groups_pkey", order, &one).await;
    }
    for order in [GroupOrder::Newest, GroupOrder::Oldest] {
        for status in [Status::Destroyed, Status::Unseen] {
            let some = GroupFilter { status: Some(status), ..no_filter() };
            assert_served(&mut conn, status.as_str(), "groups_status_idx", order, &some).await;
        }
        let narrow = GroupFilter {
            created_after: Some("2026-01-01T10:00:00Z".parse().unwrap()),
            created_before: Some("2026-01-01T10:10:00Z".parse().unwrap()),
            ..no_filter()
        };
        assert_served(&mut conn, "created_…", "groups_newest_idx", order, &narrow).await;
    }
}

#[tokio::test]
async fn a_rare_part_of_a_name_is_served_by_an_index_where_the_database_has_pg_trgm() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let available: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    let fill = FILL.replace("GROUPS)", "20000)").replace("MEMBERS)", "1)");
    conn.execute(AssertSqlSafe(fill)).await.unwrap();
    let rare = GroupFilter { name_part: Some("9e3779b1".into()), ..no_filter() };
    if available {
        // As the README says.
        conn.execute("CREATE EXTENSION pg_trgm").await.unwrap();
        conn.execute("CREATE INDEX groups_name_idx ON groups USING gin (name gin_trgm_ops)").await.unwrap();
        assert_served(&mut conn, "name", "groups_name_idx", GroupOrder::Newest, &rare).await;
    }
    let found = groups::list(&mut conn, &rare, GroupOrder::Newest, None, 51, false).await.unwrap();
    assert!(!found.is_empty() && found.len() < 51, "{}", found.len());
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
