//! Gaps and the age of verification in `/v1/stats`: what a gap may have touched, how much of it is verified again, and when
//! it is closed.

use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::gaps::{self, GAPS_KEPT_MAX, NotedGap};
use group_mirror::store::verifications;
use serde_json::{Value, json};

use crate::api::freshness::{list, profile, take};
use crate::api::reads::created;
use crate::support::api::{APP, Api, T0, after};
use crate::support::eventually;
use crate::support::postgres::TestDatabase;

fn app() -> SdkAppId {
    SdkAppId::parse(APP).unwrap()
}

fn gap(cause: &str, first_ms: i64, last_ms: i64, callbacks: u64) -> NotedGap<'_> {
    NotedGap { first_at: Millis::new(T0 + first_ms), last_at: Millis::new(T0 + last_ms), callbacks, cause }
}

async fn note(api: &Api, noted: &[NotedGap<'_>]) {
    gaps::note(&mut api.connect().await, &[app()], noted).await.unwrap();
}

/// Reads profile and members as of a moment.
async fn verify(api: &Api, group: &str, ms: i64) {
    let members = json!([{ "Member_Account": "ana", "Role": "Owner" }]);
    take(api, &[profile(group, ms, &json!({})), list(group, ms, &members)]).await;
}

/// Cause, groups, verified groups, and whether it is closed, of every gap, newest first.
async fn shown(api: &Api) -> Vec<(String, Value, Value, bool)> {
    let stats = api.json("/v1/stats").await;
    let gaps = stats["gaps"].as_array().unwrap();
    gaps.iter()
        .map(|gap| {
            let cause = gap["cause"].as_str().unwrap().to_owned();
            (cause, gap["groups"].clone(), gap["verified"].clone(), gap["closed_at"].is_string())
        })
        .collect()
}

async fn until(api: &Api, expected: &[(&str, Value, Value, bool)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(cause, groups, verified, closed)| {
            ((*cause).to_owned(), groups.clone(), verified.clone(), *closed)
        })
        .collect();
    let came = eventually(async || shown(api).await == expected).await;
    assert!(came, "{:?}, not {expected:?}", shown(api).await);
}

#[tokio::test]
async fn a_gap_is_closed_when_all_that_it_may_have_touched_is_verified_and_the_ids_were_read() {
    let owned = || json!({"Owner_Account": "ana"});
    let bodies = [
        created("a", 0, "a", owned()),
        created("b", 10_000, "b", owned()),
        created("ended", 10_000, "ended", owned()),
        after("GroupDestroyed", "ended", 15_000, json!({})),
        // Its create came after the end: it was not in the gap, and is not waited for.
        created("later", 200_000, "later", owned()),
    ];
    let api = Api::of(&bodies).await;
    note(&api, &[gap("spool_full", 20_000, 30_000, 7)]).await;
    let (two, none) = (json!(2), Value::Null);
    until(&api, &[("spool_full", two.clone(), json!(0), false)]).await;
    // Clocks may be a minute apart: a read as of less than that after the end proves nothing.
    verify(&api, "a", 80_000).await;
    verify(&api, "b", 100_000).await;
    until(&api, &[("spool_full", two.clone(), json!(1), false)]).await;
    verify(&api, "a", 100_000).await;
    until(&api, &[("spool_full", two.clone(), two.clone(), false)]).await;
    let mut conn = api.connect().await;
    let pass = async |conn: &mut sqlx::PgConnection, ms: i64| {
        let at = Millis::new(T0 + ms);
        verifications::note_id_list_pass(conn, app(), at, at).await.unwrap();
    };
    // One that began before the end may have read past a group that was created in the gap.
    pass(&mut conn, 25_000).await;
    assert!(gaps::close(&mut conn).await.unwrap().is_empty());
    assert_eq!(gaps::open_gap_end(&mut conn, app()).await.unwrap(), Some(Millis::new(T0 + 90_000)));
    pass(&mut conn, 95_000).await;
    until(&api, &[("spool_full", none.clone(), none.clone(), true)]).await;
    assert_eq!(gaps::open_gap_end(&mut conn, app()).await.unwrap(), None);
    // The same gap noted again is not opened; one that goes on is, and one that begins later is another.
    note(&api, &[gap("spool_full", 20_000, 30_000, 7)]).await;
    until(&api, &[("spool_full", none.clone(), none, true)]).await;
    note(&api, &[gap("spool_full", 20_000, 60_000, 9), gap("budget", 150_000, 160_000, 1)]).await;
    let open = |cause, groups: i64| (cause, json!(groups), json!(0), false);
    until(&api, &[open("budget", 3), open("spool_full", 2)]).await;
    api.stop().await;
}

#[tokio::test]
async fn a_bounded_number_of_gaps_is_kept_of_each_app_the_open_ones_first() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let apps = [app(), SdkAppId::parse("7").unwrap()];
    let kept = async |conn: &mut sqlx::PgConnection| -> Vec<(i64, i64, i64)> {
        let count = "SELECT sdk_app_id, count(*), count(*) FILTER (WHERE closed_at IS NULL) FROM gaps GROUP BY 1 ORDER BY 1";
        sqlx::query_as(count).fetch_all(conn).await.unwrap()
    };
    let many: Vec<NotedGap<'_>> =
        (0..GAPS_KEPT_MAX - 10).map(|n| gap("spool_full", n * 10, n * 10 + 5, 1)).collect();
    gaps::note(&mut conn, &apps, &many).await.unwrap();
    sqlx::query("UPDATE gaps SET closed_at = now()").execute(&mut conn).await.unwrap();
    let older: Vec<NotedGap<'_>> = (0..50).map(|n| gap("budget", n - 1_000, n - 1_000, 1)).collect();
    gaps::note(&mut conn, &apps, &older).await.unwrap();
    assert_eq!(kept(&mut conn).await, [(7, GAPS_KEPT_MAX, 50), (1_400_000_001, GAPS_KEPT_MAX, 50)]);
}

#[tokio::test]
async fn stats_say_how_old_verification_is_and_what_reads_have_repaired() {
    let owned = || json!({"Owner_Account": "ana"});
    let bodies: Vec<Value> = ["a", "b", "c"].map(|id| created(id, 0, id, owned())).into();
    let api = Api::of(&bodies).await;
    let before = api.json("/v1/stats").await["verification"].clone();
    let zero = |class: &str| before["drift"][class]["by_kind"].as_object().unwrap().values().all(|n| *n == 0);
    assert!(["repaired", "silent", "found"].iter().all(|class| zero(class)), "{before}");
    assert!(before["drift"]["repaired"]["by_kind"].as_object().unwrap().len() >= 16, "{before}");
    assert_eq!(
        json!([before["never_verified"], before["outstanding"], before["oldest_verified_at"]]),
        json!([3, 3, null])
    );
    verify(&api, "a", 20_000).await;
    verify(&api, "b", 30_000).await;
    let members = json!([{ "Member_Account": "ana", "Role": "Owner" }, { "Member_Account": "boris", "Role": "Member" }]);
    take(&api, &[list("b", 40_000, &members), profile("c", 10_000, &json!({ "MuteAllMember": "On" }))]).await;
    let counted = async || api.json("/v1/stats").await["verification"]["never_verified"] == 1;
    assert!(eventually(counted).await);
    let stats = api.json("/v1/stats").await["verification"].clone();
    let times = ["oldest_verified_at", "oldest_members_verified_at", "p999_verified_at", "id_list_at"];
    assert_eq!(
        json!(times.map(|name| stats[name].clone())),
        json!(["2026-01-01T00:00:10.000Z", "2026-01-01T00:00:20.000Z", "2026-01-01T00:00:20.000Z", null])
    );
    let drift = &stats["drift"];
    assert_eq!(
        json!([drift["repaired"]["total"], drift["repaired"]["by_kind"]["member_found"]]),
        json!([1, 1]),
        "{drift}"
    );
    assert_eq!(drift["found"]["total"], 0);
    assert_eq!(drift["silent"]["by_kind"]["silent"], 1);
    assert_eq!(stats["outstanding"], 3, "these reads are as of a day long ago");
    api.stop().await;
}
