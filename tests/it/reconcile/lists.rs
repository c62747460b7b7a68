//! Lists of members while they move: what the plain rule loses and the anchored one keeps, what a large `Limit` leads to,
//! cursors, interruptions, and the last question before anyone is taken for gone.

use std::collections::BTreeSet;

use group_mirror::fake::{ExistingGroups, Fake};
use group_mirror::model::UserId;
use group_mirror::reconcile::{
    GroupReader, IncompleteWhy, ListProgress, ListReading, ListState, ListStep, Witnesses,
};
use group_mirror::tencent::commands::PageBegin;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::reader::{SPARE, id, list, reader_of, user, users, witnesses};
use crate::tencent::fake::{GROUPS, client, done, fake_with};

/// A public group and a community of those that existed before, with as many members.
const PUBLIC: &str = "existing 1";
const COMMUNITY: &str = "@TGS#_existing 4";

async fn fake_of(members: u32, knobs: Value) -> Fake {
    let mut all = json!({ "rate_factor": 10_000 });
    all.as_object_mut().unwrap().extend(knobs.as_object().unwrap().clone());
    fake_with(&all, None, 1, ExistingGroups { groups: 5, members }).await
}

async fn leaves(fake: &Fake, group: &str, user: &str) {
    let body = json!({ "GroupId": group, "MemberToDel_Account": [user] });
    done(fake, GROUPS, "delete_group_member", body).await;
}

async fn joins(fake: &Fake, group: &str, user: &str) {
    let body = json!({ "GroupId": group, "MemberList": [{ "Member_Account": user }] });
    done(fake, GROUPS, "add_group_member", body).await;
}

fn present(fake: &Fake, group: &str) -> BTreeSet<String> {
    fake.state(None)[group]["members"].as_object().unwrap().keys().cloned().collect()
}

fn ids(names: &BTreeSet<String>) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

/// Reads on to the end, with what happens between two pages.
async fn rest(reader: &GroupReader, list: &mut ListProgress) -> ListReading {
    loop {
        if let ListStep::Done(reading) = reader.next_page(list).await.unwrap() {
            return reading;
        }
    }
}

async fn first_page(reader: &GroupReader, group: &str) -> ListProgress {
    let mut list = ListProgress::new(&witnesses(reader, group).await, SPARE);
    let step = reader.next_page(&mut list).await.unwrap();
    assert!(matches!(step, ListStep::Page { .. }), "{step:?}");
    list
}

/// The plain rule, for comparison: pages one behind the other; whole where `MemberNum` of the first and of the last page and
/// the number of users are equal.
async fn by_the_plain_rule(fake: &Fake, mut between: impl AsyncFnMut()) -> (bool, BTreeSet<String>) {
    let (client, mut seen, mut counts, mut offset) = (client(fake), BTreeSet::new(), Vec::new(), 0);
    loop {
        let begin = PageBegin::Offset(offset);
        let stop = CancellationToken::new();
        let page = client.members(&id(PUBLIC), &begin, 6_000, &[], &stop).await.unwrap().answer;
        counts.push(page.member_num.unwrap());
        offset += page.members.len() as u64;
        seen.extend(page.members.iter().map(|member| member.user.as_str().to_owned()));
        if offset >= counts[0] {
            return (counts.iter().all(|count| *count == seen.len() as u64), seen);
        }
        between().await;
    }
}

#[tokio::test]
async fn the_plain_rule_takes_a_list_for_whole_that_lost_a_member_and_the_anchored_one_does_not() {
    // A to F with pages of three: B leaves and G joins behind the first page, and D is on neither.
    let knobs = json!({ "large_limit": "cut", "cut_rows": 3 });
    let fake = fake_of(6, knobs.clone()).await;
    let stays = present(&fake, PUBLIC);
    let (is_whole, seen) = by_the_plain_rule(&fake, async || {
        leaves(&fake, PUBLIC, "user_8").await;
        joins(&fake, PUBLIC, "new").await;
    })
    .await;
    assert!(is_whole, "6 = 6 = 6");
    assert!(stays.contains("user_10") && present(&fake, PUBLIC).contains("user_10"));
    assert!(!seen.contains("user_10"), "the plain rule loses who stayed: {seen:?}");

    let fake = fake_of(6, knobs).await;
    let reader = reader_of(&fake);
    let mut list = first_page(&reader, PUBLIC).await;
    leaves(&fake, PUBLIC, "user_8").await;
    joins(&fake, PUBLIC, "new").await;
    let reading = rest(&reader, &mut list).await;
    assert_eq!(reading.state, ListState::Complete);
    let mut all = present(&fake, PUBLIC);
    all.insert("user_8".to_owned());
    assert_eq!(
        users(&reading.rows),
        all,
        "who left is still listed, as of before, and no one else is missing"
    );
}

/// Some leave, as many join; who stayed of `stays` is left in it.
async fn moves(fake: &Fake, chance: &mut fastrand::Rng, stays: &mut BTreeSet<String>) {
    for _ in 0..chance.usize(0..3) {
        let name = format!("user_{}", 7 + chance.usize(1..24));
        leaves(fake, PUBLIC, &name).await;
        stays.remove(&name);
        let joiner = if chance.bool() { name } else { format!("a{}", chance.u16(..)) };
        joins(fake, PUBLIC, &joiner).await;
    }
}

#[tokio::test]
async fn the_plain_rule_loses_members_of_moving_lists_that_it_takes_for_whole() {
    let mut lost = 0;
    for seed in 0..30 {
        let fake = fake_of(24, json!({ "large_limit": "cut", "cut_rows": 4 })).await;
        let (mut chance, mut stays) = (fastrand::Rng::with_seed(seed), present(&fake, PUBLIC));
        let moving = async || moves(&fake, &mut chance, &mut stays).await;
        let (is_whole, seen) = by_the_plain_rule(&fake, moving).await;
        lost += u32::from(is_whole && !stays.is_subset(&seen));
    }
    assert!(lost > 0, "the test that follows would show nothing");
}

#[tokio::test]
async fn a_list_is_whole_in_either_order_whatever_moves_between_its_pages() {
    for order in ["join", "account"] {
        for seed in 0..30 {
            let fake = fake_of(24, json!({ "large_limit": "cut", "cut_rows": 4, "list_order": order })).await;
            let (reader, mut chance) = (reader_of(&fake), fastrand::Rng::with_seed(seed));
            let mut stays = present(&fake, PUBLIC);
            let mut list = first_page(&reader, PUBLIC).await;
            let reading = loop {
                moves(&fake, &mut chance, &mut stays).await;
                if let ListStep::Done(reading) = reader.next_page(&mut list).await.unwrap() {
                    break reading;
                }
            };
            assert_eq!(reading.state, ListState::Complete, "{order}, seed {seed}");
            let lost: Vec<&String> =
                stays.iter().filter(|name| !reading.rows.contains(&user(name))).collect();
            assert!(lost.is_empty(), "{order}, seed {seed}: {lost:?} stayed and are not listed");
        }
    }
}

#[tokio::test]
async fn one_call_reads_a_list_unless_a_large_limit_is_cut_or_refused() {
    for (large_limit, members, calls) in [
        ("served", 450, 1),
        ("cut", 450, 4),
        ("refused", 450, 7),
        ("cut", 200, 2),
        ("served", 400, 2),
        ("cut", 7, 1),
    ] {
        let fake = fake_of(members, json!({ "large_limit": large_limit })).await;
        let reader = reader_of(&fake);
        let reading = list(&reader, PUBLIC).await;
        assert_eq!(reading.state, ListState::Complete, "{large_limit} {members}");
        assert_eq!(users(&reading.rows), present(&fake, PUBLIC), "{large_limit} {members}");
        assert_eq!(reading.calls, calls, "{large_limit} {members}");
    }
    // A refused limit is not asked for again.
    let fake = fake_of(90, json!({ "large_limit": "refused" })).await;
    let reader = reader_of(&fake);
    assert_eq!(list(&reader, PUBLIC).await.calls, 2);
    assert_eq!(list(&reader, "existing 0").await.calls, 1);
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_is_asked_for_in_smaller_pages_down_to_two_rows() {
    let fake = fake_of(60, json!({ "answer_bytes_max": 1_500 })).await;
    let reader = reader_of(&fake);
    let reading = list(&reader, PUBLIC).await;
    assert_eq!((reading.state, users(&reading.rows)), (ListState::Complete, present(&fake, PUBLIC)));
    assert!(reading.calls > 5, "{}", reading.calls);
    let witnesses = witnesses(&reader, PUBLIC).await;
    fake.set_knobs(&json!({ "answer_bytes_max": 200 })).unwrap();
    let reading = reader.members(&witnesses, SPARE).await.unwrap();
    assert!(matches!(reading.state, ListState::Unknown(_)), "{:?}", reading.state);
    assert_eq!(reading.batches().count(), 0, "what is unknown enters nothing");
}

#[tokio::test]
async fn members_who_joined_after_sigma_anchor_no_page_but_are_listed() {
    let fake = fake_of(5, json!({ "large_limit": "cut", "cut_rows": 3 })).await;
    for number in 0..7 {
        joins(&fake, PUBLIC, &format!("new_{number}")).await;
    }
    let reader = reader_of(&fake);
    let reading = list(&reader, PUBLIC).await;
    assert_eq!((reading.state, users(&reading.rows)), (ListState::Complete, present(&fake, PUBLIC)));
}

#[tokio::test]
async fn a_list_that_moves_with_every_page_is_given_up_and_only_confirms() {
    let fake = fake_of(12, json!({ "large_limit": "cut", "cut_rows": 3 })).await;
    let reader = reader_of(&fake);
    let mut list = first_page(&reader, PUBLIC).await;
    let mut number = 0;
    let reading = loop {
        // All who were read leave, and as many join: no page begins with a known row.
        for name in present(&fake, PUBLIC).iter().filter(|name| *name != "user_7") {
            leaves(&fake, PUBLIC, name).await;
        }
        for _ in 0..12 {
            number += 1;
            joins(&fake, PUBLIC, &format!("u{number}")).await;
        }
        if let ListStep::Done(reading) = reader.next_page(&mut list).await.unwrap() {
            break reading;
        }
    };
    assert_eq!(reading.state, ListState::Incomplete(IncompleteWhy::Moved));
    let snapshots: Vec<_> = reading.batches().flatten().collect();
    assert!(!snapshots.is_empty() && snapshots.iter().all(|snapshot| !snapshot.is_complete));
}

#[tokio::test]
async fn a_community_is_the_union_of_its_pages_and_each_member_counts_once() {
    for repeats in [0, 3, 99] {
        let fake = fake_of(350, json!({ "cursor_repeats": repeats, "community_offset_refused": true })).await;
        let reader = reader_of(&fake);
        let reading = list(&reader, COMMUNITY).await;
        assert_eq!(reading.state, ListState::Complete, "{repeats}");
        assert_eq!(users(&reading.rows), present(&fake, COMMUNITY), "{repeats}");
        assert_eq!((reading.rows.len(), reading.member_num), (350, Some(350)), "{repeats}");
    }
}

#[tokio::test]
async fn all_pages_of_a_list_have_the_time_of_the_first() {
    let fake = fake_of(250, json!({})).await;
    let reader = reader_of(&fake);
    let mut list = first_page(&reader, COMMUNITY).await;
    fake.step(3_600_000);
    let reading = rest(&reader, &mut list).await;
    let later = self::list(&reader, COMMUNITY).await;
    assert!(later.time.sent.get() - reading.time.sent.get() > 3_000_000, "{reading:?}");
    assert_eq!(reading.time.sent.get() - reading.time.sigma.get(), SPARE.ms);
}

/// Reads on behind an interruption after so many pages, with what was kept.
async fn interrupted(fake: &Fake, group: &str, pages: usize) -> ListReading {
    let reader = reader_of(fake);
    let witnesses = witnesses(&reader, group).await;
    let (mut list, mut kept, mut mark) = (ListProgress::new(&witnesses, SPARE), Vec::new(), None);
    while kept.len() < pages {
        let ListStep::Page { mark: next, rows } = reader.next_page(&mut list).await.unwrap() else {
            panic!("the list is longer")
        };
        // Without a mark nothing was read yet.
        kept.extend(next.is_some().then_some(rows));
        mark = next;
    }
    drop(list);
    let stored = serde_json::to_string(&mark.unwrap()).unwrap();
    let mark = serde_json::from_str(&stored).unwrap();
    let key = witnesses.group.clone();
    let mut list = ListProgress::resume(key, mark, kept.iter().map(Vec::as_slice)).unwrap();
    let reader = reader_of(fake);
    rest(&reader, &mut list).await
}

#[tokio::test]
async fn a_list_goes_on_behind_an_interruption_and_no_page_is_read_twice() {
    for (group, knobs) in [(COMMUNITY, json!({})), (PUBLIC, json!({ "large_limit": "refused" }))] {
        let fake = fake_of(450, knobs).await;
        let whole = list(&reader_of(&fake), group).await;
        for pages in 1..4 {
            let reading = interrupted(&fake, group, pages).await;
            assert_eq!(reading.state, ListState::Complete, "{group}, {pages}");
            assert_eq!(users(&reading.rows), present(&fake, group), "{group}, {pages}");
            assert_eq!(reading.calls, whole.calls, "{group}, {pages}");
        }
    }
}

#[tokio::test]
async fn a_cursor_that_has_become_void_begins_the_list_again_once() {
    let fake = fake_of(250, json!({})).await;
    let reader = reader_of(&fake);
    let witnesses = witnesses(&reader, COMMUNITY).await;
    let mut list = ListProgress::new(&witnesses, SPARE);
    let ListStep::Page { mark, rows } = reader.next_page(&mut list).await.unwrap() else { panic!("a page") };
    let mut void = serde_json::to_value(mark.unwrap()).unwrap();
    void["place"] = json!({ "cursor": "of another day" });
    let mark = serde_json::from_value(void).unwrap();
    let mut list = ListProgress::resume(witnesses.group.clone(), mark, [rows.as_slice()]).unwrap();
    let step = reader.next_page(&mut list).await.unwrap();
    assert!(matches!(step, ListStep::Page { mark: None, .. }), "what was kept is void: {step:?}");
    let reading = rest(&reader, &mut list).await;
    assert_eq!((reading.state, users(&reading.rows)), (ListState::Complete, present(&fake, COMMUNITY)));
}

#[tokio::test]
async fn whom_a_list_leaves_out_is_asked_for_by_name_before_anyone_is_gone() {
    let fake = fake_of(8, json!({})).await;
    let reader = reader_of(&fake);
    let mut mirror = present(&fake, PUBLIC);
    mirror.insert("stranger".to_owned());
    let before = list(&reader, PUBLIC).await;
    // Read before this one joined; the mirror knows of the join, and of one who never was a member.
    joins(&fake, PUBLIC, "zoe").await;
    mirror.insert("zoe".to_owned());
    assert_eq!(before.leaves_out(&ids(&mirror)), [user("stranger"), user("zoe")]);
    let confirmed = reader.confirmed(before, &ids(&mirror)).await.unwrap();
    assert_eq!(confirmed.state, ListState::Complete);
    assert_eq!(confirmed.leaves_out(&ids(&mirror)), [user("stranger")]);
    let zoe = confirmed.rows.all().into_iter().find(|member| member.user == user("zoe")).unwrap();
    assert!(zoe.join_secs.is_some() && zoe.role.as_deref() == Some("Member"), "{zoe:?}");

    // More than can be added: the list confirms and removes no one. Without an answer: the same.
    let before = list(&reader, PUBLIC).await;
    for number in 0..60 {
        joins(&fake, PUBLIC, &format!("late_{number}")).await;
    }
    let all = ids(&present(&fake, PUBLIC));
    let confirmed = reader.confirmed(before, &all).await.unwrap();
    assert_eq!(confirmed.state, ListState::Incomplete(IncompleteWhy::LeavesOut));
    let before = list(&reader, PUBLIC).await;
    fake.set_knobs(&json!({ "internal_error": 1.0 })).unwrap();
    let confirmed = reader.confirmed(before, &[user("stranger")]).await.unwrap();
    assert_eq!(confirmed.state, ListState::Incomplete(IncompleteWhy::Unconfirmed));
}

#[tokio::test]
async fn a_group_that_ends_between_two_pages_is_a_candidate_and_enters_nothing() {
    let fake = fake_of(450, json!({ "large_limit": "cut" })).await;
    let reader = reader_of(&fake);
    let mut list = first_page(&reader, PUBLIC).await;
    done(&fake, GROUPS, "destroy_group", json!({ "GroupId": PUBLIC })).await;
    let reading = rest(&reader, &mut list).await;
    assert_eq!(reading.state, ListState::Gone);
    assert_eq!(reading.batches().count(), 0);
}

#[tokio::test]
async fn a_fault_in_the_middle_leaves_a_list_that_confirms() {
    let fake = fake_of(450, json!({ "large_limit": "cut" })).await;
    let reader = reader_of(&fake);
    let mut list = first_page(&reader, PUBLIC).await;
    fake.set_knobs(&json!({ "http_502": 1.0 })).unwrap();
    let reading = rest(&reader, &mut list).await;
    assert_eq!(reading.state, ListState::Incomplete(IncompleteWhy::Interrupted));
    assert_eq!(reading.rows.len(), 200);
    let room =
        Witnesses { group_type: Some("AVChatRoom".to_owned()), ..Witnesses::unknown(reading.group.clone()) };
    assert_eq!(reader.members(&room, SPARE).await.unwrap().state, ListState::Unsupported, "without a call");
}

#[tokio::test]
async fn a_large_list_is_made_range_by_range_in_batches_that_a_transaction_takes() {
    let fake = fake_of(5_500, json!({})).await;
    let reading = list(&reader_of(&fake), PUBLIC).await;
    let batches: Vec<_> = reading.batches().collect();
    assert!(batches.iter().all(|batch| batch.len() <= 64));
    let snapshots: Vec<_> = batches.into_iter().flatten().collect();
    assert_eq!(snapshots.len(), 256);
    assert!(snapshots.iter().all(|snapshot| snapshot.is_complete && snapshot.range.is_some()));
    assert!(snapshots.windows(2).all(|pair| pair[0].range < pair[1].range), "in the order of ranges");
    let again = group_mirror::mirror::Snapshot::of_members(&reading.group, reading.time, &reading.rows.all());
    assert_eq!(snapshots, again);
}

#[tokio::test]
async fn lists_of_several_groups_are_read_side_by_side_by_one_reader() {
    let fake = fake_with(
        &json!({ "rate_factor": 10_000, "large_limit": "cut", "cut_rows": 20 }),
        None,
        1,
        ExistingGroups { groups: 40, members: 50 },
    )
    .await;
    let reader = reader_of(&fake);
    let state = fake.state(None);
    let names: Vec<&String> = state.as_object().unwrap().keys().collect();
    let reading = async |name: &str| (name.to_owned(), list(&reader, name).await);
    let all = futures_util::future::join_all(names.iter().map(|name| reading(name))).await;
    for (name, reading) in all {
        let is_room = state[&name]["type"] == "AVChatRoom";
        let wanted = if is_room { ListState::Unsupported } else { ListState::Complete };
        assert_eq!(reading.state, wanted, "{name}");
        assert_eq!(users(&reading.rows), present(&fake, &name), "{name}");
    }
}
