//! The pages of a person and of a moment, as a support agent uses them: why was I removed, what did this admin do, what happened
//! at that time; and pages of long ids, of raw bodies and of addresses.

use std::collections::BTreeSet;

use serde_json::json;

use super::sentences::encoded;
use super::visits::{entries, link_with, list, night_owls, page, part, visited, words};
use crate::support::api::after;
use crate::support::{API_TOKEN, App};

#[tokio::test]
async fn the_first_line_of_a_person_says_who_removed_whom_from_where_and_with_how_many_others() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    // Not with the six: another group, another operator, another time.
    let created = after(
        "CreateGroup",
        "larks",
        0,
        json!({"Name": "Larks", "Type": "Public", "Operator_Account": "mei_lin",
        "MemberList": list(&["x1", "x2"])}),
    );
    app.service.taken(&created).await;
    for (group, ms, by, user) in [
        ("larks", 3_600_000, "boris-2", "x1"),
        ("owls", 3_600_000, "mei_lin", "reader_06"),
        ("owls", 3_600_000 + 700_000, "boris-2", "reader_07"),
    ] {
        let removed = after(
            "MemberExit",
            group,
            ms,
            json!({"ExitType": "Kicked", "Operator_Account": by,
            "ExitMemberList": list(&[user])}),
        );
        app.service.taken(&removed).await;
    }
    let html = page(&app, "/users/reader_02", "en").await;
    let body = part(&html, "</h1>", "</main>");
    let first = words(part(body, "<p ", "</p>"));
    assert_eq!(
        first,
        "Removed from Night owls by boris-2 on 2026-01-01 01:01:20 UTC, Web, with 5 others within five minutes"
    );
    let alone = page(&app, "/users/reader_07", "en").await;
    assert!(words(&alone).contains("by boris-2 on 2026-01-01 01:11:40 UTC"), "{alone}");
    assert!(!words(part(&alone, "class=\"suffered", "</p>")).contains("others"), "{alone}");
    for (language, wanted) in [("ja", "5 分以内にほか 5 人"), ("zh", "五分钟内另有 5 人")] {
        let html = page(&app, "/users/reader_02", language).await;
        assert!(words(part(&html, "class=\"suffered", "</p>")).contains(wanted), "{language}: {html}");
    }
    let nothing = page(&app, "/users/never-seen", "en").await;
    assert!(words(&nothing).contains("Nothing was done to this person lately"));
    app.stop().await;
}

#[tokio::test]
async fn a_person_has_groups_of_now_and_of_before_with_how_and_by_whom() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    let html = page(&app, "/users/reader_07", "en").await;
    let now = words(part(&html, "Groups now", "</section>"));
    assert!(now.contains("Night owls member 2026-01-01 00:01:00 UTC brought in by mei_lin"), "{now}");
    let html = page(&app, "/users/reader_00", "en").await;
    let left = words(part(&html, "Groups left", "</section>"));
    assert!(left.contains("2026-01-01 01:00:00 UTC removed by boris-2 (Kicked)"), "{left}");
    let html = page(&app, "/users/boris-2", "en").await;
    assert!(words(&html).contains("client addresses 203.0.113.9"), "{html}");
    assert!(words(&html).contains("platforms Web"), "{html}");
    app.stop().await;
}

#[tokio::test]
async fn what_an_admin_did_is_filtered_by_part_and_kind_and_its_data_link_answers() {
    let app = App::start().await;
    night_owls(&app, "owls").await;
    let html = page(&app, "/users/boris-2?part=operator&kind=removal", "en").await;
    let said = entries(&html);
    assert_eq!(said.len(), 6, "{said:?}");
    assert!(
        said.iter().all(|line| line.contains("boris-2 removed reader_0") && line.contains("from Night owls"))
    );
    assert!(entries(&page(&app, "/users/boris-2?part=operator&kind=join", "en").await).is_empty());
    let until = "/users/boris-2?part=operator&before=2026-01-01+01:01:20";
    assert_eq!(
        entries(&page(&app, until, "en").await).len(),
        2,
        "earlier than a time in the zone of the reader"
    );
    // The API filters by command: it can say "joined", but not "removed", whose command leaves have as well.
    for (kind, has_link) in [
        ("removal", false),
        ("leave", false),
        ("topic", false),
        ("read", false),
        ("unread", false),
        ("join", true),
    ] {
        let html = page(&app, &format!("/users/boris-2?part=operator&kind={kind}"), "en").await;
        assert_eq!(html.contains("data-link"), has_link, "{kind}");
    }
    let html = page(&app, "/users/boris-2?part=operator", "en").await;
    let link = link_with(part(&html, "data-link", "</p>"), "href").unwrap();
    let (status, table) = visited(&app, &link, "en").await;
    assert_eq!(status, 200, "{table}");
    assert_eq!(table.lines().count(), 7, "a row of names and six of values: {table}");
    app.stop().await;
}

#[tokio::test]
async fn a_moment_shows_all_groups_that_were_touched_around_it_with_counts() {
    let app = App::start().await;
    for group in ["owls", "larks"] {
        night_owls(&app, group).await;
    }
    let html = page(&app, "/moment?at=2026-01-01+01:02&minutes=5", "en").await;
    assert_eq!(entries(&html).len(), 12);
    assert_eq!(html.matches("class=\"moment-group\"").count(), 2);
    assert!(words(part(&html, "class=\"counts\"", "</ul>")).contains("removed 12"), "{html}");
    let html = page(&app, "/moment?at=2026-01-01+01:02&minutes=1", "en").await;
    assert_eq!(entries(&html).len(), 6, "from 01:01 to 01:03, both with it");
    let none = words(&page(&app, "/moment?at=2025-01-01", "en").await);
    assert!(none.contains("Nothing is known of that time"), "{none}");
    assert_eq!(visited(&app, "/moment?at=yesterday", "en").await.0, 400);
    app.stop().await;
}

#[tokio::test]
async fn pages_go_on_behind_their_last_entry_and_show_each_once() {
    let app = App::start().await;
    let user = "u".repeat(500);
    let group = format!("{}é", "g".repeat(480));
    app.service
        .taken(&after(
            "CreateGroup",
            &group,
            0,
            json!({"Name": "n".repeat(300), "Type": "Public",
        "Operator_Account": user}),
        ))
        .await;
    for number in 0..130 {
        let joined = after(
            "NewMemberJoin",
            &group,
            1_000 + number,
            json!({"JoinType": "Invited", "Operator_Account": user,
            "NewMemberList": list(&[&format!("{number}-{}", "v".repeat(480)), &format!("{number}-{}", "w".repeat(480))])}),
        );
        app.service.taken(&joined).await;
    }
    for path in
        [format!("/groups/{}?tab=events", encoded(&group)), format!("/users/{user}"), "/moment".to_owned()]
    {
        let (mut next, mut seen) = (path.clone(), Vec::new());
        loop {
            let html = page(&app, &next, "en").await;
            seen.extend(entries(&html));
            let pager = html.rfind("class=\"pager\"").map(|at| html[at..].to_owned());
            let Some(link) = pager.and_then(|pager| link_with(&pager, "rel=\"next\"")) else { break };
            next = format!("{}{link}", path.split('?').next().unwrap());
            assert!(seen.len() < 200, "{path} does not end");
        }
        let different: BTreeSet<&String> = seen.iter().collect();
        assert_eq!((seen.len(), different.len()), (131, 131), "{path}");
    }
    page(&app, &format!("/groups/{}?tab=members&status=all", encoded(&group)), "en").await;
    app.stop().await;
}

#[tokio::test]
async fn raw_entries_and_addresses_are_for_callers_with_the_right_alone() {
    let app = App::start_with(|settings| {
        settings.api_token = Some(format!("desk+raw:{API_TOKEN},plain:plain-secret"));
    })
    .await;
    night_owls(&app, "owls").await;
    let raw = page(&app, "/groups/owls/raw", "en").await;
    assert!(words(&raw).contains("\"ExitType\":\"Kicked\"") && raw.contains("203.0.113.9"), "{raw}");
    let tab = link_with(&page(&app, "/groups/owls", "en").await, "/raw\"").unwrap();
    assert_eq!(tab, "/groups/owls/raw");
    let plain = async |path: &str| {
        let request = app.service.client.get(app.service.api_url(path)).bearer_auth("plain-secret");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(plain("/groups/owls/raw").await.0, 403);
    for path in ["/groups/owls", "/groups/owls?tab=events", "/users/boris-2", "/moment"] {
        let (status, html) = plain(path).await;
        assert_eq!(status, 200, "{path}: {html}");
        assert!(!html.contains("203.0.113") && !html.contains("/raw\""), "{path}");
    }
    app.stop().await;
}
