//! The page of a group, now and then: the members that the API has, what is different now, steps from event to event, the time
//! rail, the times of values, and what is not known.

use std::collections::BTreeSet;

use group_mirror::retention::{self, PruneWanted};
use group_mirror::store::Database;
use serde_json::{Value, json};

use super::visits::{entries, link_with, list, night_owls, page, part, sent_from, visited, words};
use crate::support::api::after;
use crate::support::{API_TOKEN, App};

/// The users of a table whose rows begin with a link to a person.
fn members(html: &str) -> BTreeSet<String> {
    let table = part(html, "<tbody", "</tbody>");
    table.split("<th scope=\"row\">").skip(1).map(|row| words(&row[..row.find("</th>").unwrap()])).collect()
}

#[tokio::test]
async fn a_group_at_a_moment_has_the_members_that_the_api_has_and_says_what_is_different_now() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    let came =
        after("NewMemberJoin", "owls", 7_200_000, json!({"NewMemberList": list(&["late_1", "late_2"])}));
    app.service.taken(&came).await;
    for at in ["2026-01-01T00:00:30Z", "2026-01-01T01:01:30Z", "2026-01-01T05:00:00Z"] {
        let html = page(&app, &format!("/groups/owls?at={at}"), "en").await;
        let read = app.service.read(&format!("/v1/groups/owls/members?at={at}")).await;
        let wanted: BTreeSet<String> = read["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["user_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(members(&html), wanted, "{at}");
        assert!(html.contains("class=\"group-page past\""), "the frame of the past");
    }
    let html = page(&app, "/groups/owls?at=2026-01-01T00:02:00Z", "en").await;
    let said = words(part(&html, "past-difference", "</p>"));
    assert!(said.ends_with("10 members then, 6 now: 2 came later, 6 are gone."), "{said}");
    let lists = words(part(&html, "past-lists", "</section>"));
    assert!(lists.contains("Gone since (6)") && lists.contains("Came later (2)"), "{lists}");
    assert!(!page(&app, "/groups/owls", "en").await.contains("group-page past"));
    app.stop().await;
}

#[tokio::test]
async fn a_history_of_which_older_entries_were_pruned_says_from_when_on_it_is_whole() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    let url = app.database.url.clone();
    let whole = words(&page(&app, "/groups/owls?tab=events", "en").await);
    assert!(!whole.contains("were pruned"), "{whole}");
    let mut conn = app.connect().await;
    sqlx::query("UPDATE ledger SET received_at = to_timestamp(time_ms / 1000.0)")
        .execute(&mut conn)
        .await
        .unwrap();
    let database = Database::new(&url).unwrap();
    let before = "2026-01-01T00:01:00Z".parse().unwrap();
    let wanted = PruneWanted { before, follower: None, forced: false };
    assert!(retention::prune(&database, &wanted, |_| {}).await.unwrap().entries > 0);
    database.close().await;
    for path in ["/groups/owls?tab=events", "/moment", "/users/mei_lin"] {
        let shown = words(&page(&app, path, "en").await);
        assert!(
            shown.contains("Older entries were pruned; the list is whole from here on: 2026-01-01"),
            "{path}: {shown}"
        );
    }
    let (status, early) = visited(&app, "/groups/owls?at=2026-01-01T00:00:30Z", "en").await;
    assert_eq!(status, 410);
    let early = words(&early);
    assert!(early.contains("This is too long ago") && early.contains("Choose a later moment"), "{early}");
    app.stop().await;
}

#[tokio::test]
async fn a_dismissed_group_opens_as_it_was() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    app.service
        .taken(&after("GroupDestroyed", "owls", 7_200_000, json!({"Operator_Account": "mei_lin"})))
        .await;
    let now = words(&page(&app, "/groups/owls", "en").await);
    assert!(now.contains("dismissed") && now.contains("Night owls"), "{now}");
    let then = page(&app, "/groups/owls?at=2026-01-01T00:02:00Z", "en").await;
    assert!(words(&then).contains("Night owls (as it was then)"), "{then}");
    assert!(words(part(&then, "<dl", "</dl>")).contains("members 10"), "{then}");
    assert_eq!(members(&then).len(), 10);
    let early = words(&page(&app, "/groups/owls?at=2020-01-01", "en").await);
    assert!(early.contains("Nothing was known of this group at that moment"), "{early}");
    app.stop().await;
}

#[tokio::test]
async fn steps_lead_from_event_to_event_and_back_to_now() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    let (mut path, mut times) = ("/groups/owls".to_owned(), Vec::new());
    loop {
        let html = page(&app, &path, "en").await;
        let Some(earlier) = link_with(&html, "rel=\"prev\"") else { break };
        assert!(earlier.starts_with("?at="), "an address relative to the page: {earlier}");
        times.push(earlier[4..28].to_owned());
        path = format!("/groups/owls{earlier}");
        assert!(times.len() < 20, "{times:?}");
    }
    assert_eq!(times.len(), 8, "{times:?}");
    assert!(times.is_sorted_by(|a, b| a > b), "{times:?}");
    for _ in 0..8 {
        let html = page(&app, &path, "en").await;
        path = format!("/groups/owls{}", link_with(&html, "rel=\"next\" data-key=\"]\"").unwrap());
    }
    assert_eq!(path, "/groups/owls?", "the last step leads to now");
    app.stop().await;
}

#[tokio::test]
async fn the_rail_marks_the_removals_and_every_mark_opens() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    let html = page(&app, "/groups/owls", "en").await;
    let rail = part(&html, "class=\"rail rail-wide\"", "class=\"rail rail-medium\"");
    assert!(rail.contains("rail-removal") && rail.contains("rail-create"), "{rail}");
    let marks: Vec<&str> = rail.split("<a ").skip(1).collect();
    assert!((2..=8).contains(&marks.len()), "{rail}");
    for mark in marks {
        let href = link_with(&format!("<a {mark}"), "rail-mark").unwrap();
        let then = page(&app, &format!("/groups/owls{href}"), "en").await;
        assert!(then.contains("class=\"rail-at\""), "the moment of the page stands on the rail");
    }
    let said = part(rail, "rail-removal", "</a>");
    assert!(words(said).contains("removed: ") && words(said).contains("members: "), "{said}");
    app.stop().await;
}

#[tokio::test]
async fn fields_bear_the_time_at_which_they_were_written() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    let set = after(
        "GroupAttrChanged",
        "owls",
        9_000_000,
        json!({"OptionType": "set", "GroupAttr": [{"key": "mood", "value": "calm"}]}),
    );
    app.service.taken(&set).await;
    let now = words(part(&page(&app, "/groups/owls?tab=fields", "en").await, "<table", "</table>"));
    assert!(now.contains("mood attribute calm 2026-01-01 02:30:00 UTC"), "{now}");
    let then = words(&page(&app, "/groups/owls?tab=fields&at=2026-01-01T03:00:00Z", "en").await);
    assert!(then.contains("mood attribute calm"), "{then}");
    let before = words(&page(&app, "/groups/owls?tab=fields&at=2026-01-01T02:00:00Z", "en").await);
    assert!(before.contains("No field and no attribute is known"), "{before}");
    app.stop().await;
}

#[tokio::test]
async fn a_group_that_only_parked_entries_name_has_a_page_and_an_unknown_one_has_none() {
    let app = App::start().await;
    app.service.parked(r#"{"CallbackCommand":"Group.CallbackAfterFoo","GroupId":"half"}"#).await;
    let html = page(&app, "/groups/half", "en").await;
    assert!(words(&html).contains("not seen whole"), "{html}");
    assert_eq!(entries(&page(&app, "/groups/half?tab=events", "en").await).len(), 1);
    let (status, html) = visited(&app, "/groups/none", "en").await;
    assert_eq!(status, 404, "{html}");
    assert!(html.contains("<h1"), "an error is a page: {html}");
    app.stop().await;
}

#[tokio::test]
async fn a_time_is_read_and_shown_in_the_zone_of_the_reader() {
    let app = App::start().await;
    sent_from(
        &app,
        &after("CreateGroup", "g", 0, json!({"Name": "G", "Type": "Public"})),
        "Web",
        "203.0.113.1",
    )
    .await;
    app.service.until(|shown: &Value| shown["spool"]["depth"] == 0).await;
    let request = app.service.client.get(app.service.api_url("/groups/g?at=2026-01-01+09:00&tab=events"));
    let answer =
        request.bearer_auth(API_TOKEN).header("Cookie", "tz=Asia/Tokyo; lang=en").send().await.unwrap();
    let html = answer.text().await.unwrap();
    assert_eq!(entries(&html).len(), 1, "{html}");
    assert!(words(part(&html, "past-moment", "</p>")).contains("2026-01-01 09:00:00 UTC+9"), "{html}");
    assert!(words(&html).contains("2026-01-01 09:00 UTC+9"), "the heading of the minute: {html}");
    app.stop().await;
}
