//! A backfill that is killed again and again, as a process: where it goes on, and what it asks for twice.

use group_mirror::fake::ExistingGroups;
use serde_json::json;

use super::passes::unlimited;
use crate::support::eventually;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::tencent::fake::{GROUPS, done, fake_with};
use crate::tencent::life::differences_in;
use crate::tencent::scripted::KEY;

const KILLS: u64 = 20;

/// Calls of one command about single groups that may be on their way at a kill, or wait for their commit.
const ON_THEIR_WAY_MAX: u64 = 32;

/// Reads of one run before it is killed: more than may be on their way, so that going on differs from beginning anew.
const READS_OF_A_RUN: u64 = 100;

/// Aim: "kill -9 in the middle of backfill, 20 times: the end state is right and no page is read twice beyond the last one".
/// Method: groups of every type and a community of twenty pages; the command is killed whenever the fake has answered some
/// more reads, until it has been killed twenty times; then it may end. What was asked for is counted at the fake.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_killed_twenty_times_goes_on_and_reads_no_page_twice_but_those_on_their_way() {
    let existing = ExistingGroups { groups: 2_400, members: 4 };
    let knobs = unlimited(&json!({ "rate_factor": 1.0, "keep_history": false }));
    let fake = fake_with(&knobs, None, 1, existing).await;
    let large = json!({ "Type": "Community", "GroupId": "@TGS#_large", "Name": "Large" });
    done(&fake, GROUPS, "create_group", large).await;
    for page in 0..10 {
        let members: Vec<_> =
            (0..200).map(|n| json!({ "Member_Account": format!("user {page} {n}") })).collect();
        let import = json!({ "GroupId": "@TGS#_large", "MemberList": members });
        done(&fake, GROUPS, "import_group_member", import).await;
    }
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let backfill = || {
        let mut command = place.command_on(&database.url, &["backfill"]);
        command.env("TENCENT_API_URL", format!("http://{}", fake.addr));
        command.env("TENCENT_SECRET_KEY", KEY).env("TENCENT_RATE_SHARE", "1");
        Process::start(command)
    };
    let reads = || fake.reads().values().sum::<u64>();
    for _ in 0..KILLS {
        let before = reads();
        let process = backfill();
        let some = eventually(async || reads() > before + READS_OF_A_RUN).await;
        drop(process);
        assert!(some, "the backfill goes on");
        let mut conn = database.connect().await;
        let ended = "UPDATE reconcile_lease SET held_until = '-infinity', is_command = false";
        sqlx::query(ended).execute(&mut conn).await.unwrap();
    }
    let mut process = backfill();
    process.until_ended().await;
    assert!(process.wait().unwrap().success(), "{}", process.log());
    let differences = differences_in(&mut database.connect().await, &fake, true).await;
    assert_eq!(differences.len(), 0, "{:?}", &differences[..differences.len().min(3)]);
    let counts = fake.reads();
    assert!(counts["get_group_attr"] <= 2_401 + KILLS * ON_THEIR_WAY_MAX, "{counts:?}");
    // One more is a page of the large list.
    let pages = 480 + 21;
    assert!(counts["get_group_member_info"] <= pages + KILLS * (ON_THEIR_WAY_MAX + 1), "{counts:?}");
}
