//! Lists have another form on a server with Citus. Both forms answer the same: a whole world is read from a service, page by page, and
//! again after the database claims to have the extension.

use std::collections::BTreeMap;

use group_mirror::model::{SdkAppId, UserId};
use group_mirror::store::sights::{Means, means};
use group_mirror::store::{Database, Dialect};
use serde_json::Value;
use sqlx::Executor as _;

use crate::support::demo::Demo;
use crate::support::{APP, Service, settings};

/// The extension, as far as this program looks for it, with no table cut.
const CLAIM: &str = "
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (4000000001, 'citus', 10, 'pg_catalog'::regnamespace, false, '0');
CREATE TABLE pg_dist_shard (logicalrelid regclass, shardminvalue text, shardmaxvalue text)";

/// Each second group is verified, two at a time.
const VERIFIED: &str = "
INSERT INTO group_verifications (sdk_app_id, group_id, created_at, status, has_member_list, verified_at)
SELECT sdk_app_id, group_id, created_at, status, type IS DISTINCT FROM 'AVChatRoom', timestamptz '2026-01-01' + number / 4 * interval '1 hour'
  FROM (SELECT *, row_number() OVER (ORDER BY group_id) AS number FROM groups) g
 WHERE number % 2 = 0";

/// Every filter of groups, alone and with others.
fn group_filters(groups: &[String], times: [&str; 2]) -> Vec<String> {
    let [early, late] = times;
    let mut filters: Vec<String> = [
        "",
        "status=active",
        "status=destroyed",
        "type=Public",
        "type=Public&type=Work",
        "owner=ana_77",
        "owner=no.one",
        "member=boris-2",
        "member=boris-2&type=Public",
        "owner=ana_77&member=ana_77",
        "name=club",
        "prefix=night",
        "field[tier]=3",
        "member=ana_77&field[tier]=3",
        "owner=ana_77&name=club",
        "member=boris-2&status=all",
    ]
    .map(str::to_owned)
    .to_vec();
    let some: Vec<String> = groups.iter().step_by(2).map(|group| format!("group_id={group}")).collect();
    filters.push(some.join("&"));
    for time in [early, late] {
        filters.extend([
            format!("created_after={time}"),
            format!("created_before={time}&status=all"),
            format!("updated_after={time}"),
            format!("verified_before={time}"),
            format!("verified_before={time}&owner=ana_77"),
            format!("updated_after={time}&member=boris-2"),
        ]);
    }
    filters
}

/// Every page of a list, three items at a time.
async fn pages(service: &Service, path: &str) -> Vec<Value> {
    let (mut pages, mut next) = (Vec::new(), String::new());
    loop {
        let separator = if path.contains('?') { "&" } else { "?" };
        let page = service.read(&format!("{path}{separator}limit=3{next}")).await;
        let cursor = page["next_cursor"].as_str().map(str::to_owned);
        // The feed goes on without end.
        let cursor = cursor.filter(|_| !page["items"].as_array().unwrap().is_empty());
        pages.push(page);
        assert!(pages.len() < 1_000, "{path} does not end");
        match cursor {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => return pages,
        }
    }
}

/// What a service answers to each list.
async fn answers(service: &Service, lists: &[String]) -> BTreeMap<String, Vec<Value>> {
    let mut answers = BTreeMap::new();
    for path in lists {
        answers.insert(path.clone(), pages(service, path).await);
    }
    answers
}

/// With what two persons acted, which the console shows, and the dialect in which lists and lookups are asked.
async fn acted(url: &str) -> ([Dialect; 2], Vec<Vec<Means>>) {
    let pools = Database::new(url).unwrap();
    let (mut lookup, list) =
        (pools.lookup().acquire().await.unwrap(), pools.reader().acquire().await.unwrap());
    let (dialects, mut found) = ([lookup.dialect(), list.dialect()], Vec::new());
    for user in ["ana_77", "boris-2"] {
        let (app, user) = (SdkAppId::parse(APP).unwrap(), UserId::parse(user).unwrap());
        found.push(means(&mut lookup, app, &user).await.unwrap());
    }
    drop((lookup, list));
    pools.close().await;
    (dialects, found)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_answers_the_same_in_the_forms_that_citus_takes() {
    let demo = Demo::with(|_| {}).await;
    let (early, late) = (demo.at(3, 0, 0), demo.at(10, 0, 0));
    let all = pages(&demo.app.service, "/v1/groups?status=all").await;
    let groups: Vec<String> = all
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|group| group["group_id"].as_str().unwrap().replace('#', "%23").replace('@', "%40"))
        .collect();
    assert!(groups.len() > 6, "{groups:?}");

    let mut conn = demo.app.connect().await;
    let verified = conn.execute(VERIFIED).await.unwrap().rows_affected();
    assert!(verified > 3, "{verified}");

    let mut lists = Vec::new();
    for filter in group_filters(&groups, [&early, &late]) {
        for sort in ["-created_at", "created_at", "group_id", "verified_at", "-verified_at"] {
            lists.push(format!("/v1/groups?sort={sort}&{filter}"));
        }
        lists.push(format!("/v1/groups?with=member_count&{filter}"));
    }
    for user in ["ana_77", "boris-2", "mei_lin", "no.one"] {
        for status in ["", "?status=left", "?status=all"] {
            lists.push(format!("/v1/users/{user}/groups{status}"));
        }
        for filter in ["", "?part=operator", "?command=Group.CallbackAfterNewMemberJoin", "?outcome=applied"]
        {
            lists.push(format!("/v1/users/{user}/history{filter}"));
        }
    }
    lists.extend(["/v1/history", "/v1/parked", "/v1/changes"].map(str::to_owned));
    let plain = answers(&demo.app.service, &lists).await;
    let shown: usize = plain.values().flatten().map(|page| page["items"].as_array().unwrap().len()).sum();
    assert!(shown > 1_000, "{shown} items");

    let (dialects, acts) = acted(&demo.app.database.url).await;
    assert_eq!(dialects, [Dialect::Plain; 2]);
    assert!(acts.iter().all(|of_one| !of_one.is_empty()), "{acts:?}");

    demo.app.database.connect().await.execute(CLAIM).await.unwrap();
    let other = Service::start(&settings(&demo.app.database.url)).await.unwrap();
    assert_eq!(acted(&demo.app.database.url).await, ([Dialect::Citus; 2], acts));
    let citus = answers(&other, &lists).await;
    for (path, plain) in plain {
        assert_eq!(citus[&path], plain, "{path}");
    }
    other.stop().await;
    demo.app.stop().await;
}
