//! Pages of hostile texts stay small, and lists keep their filters from page to page and in their files.

use std::collections::BTreeSet;

use serde_json::json;

use super::visits::{PAGE_BYTES_MAX, link_with, page, part, visited, words};
use crate::support::api::after;
use crate::support::{API_TOKEN, App};

/// As long as a text in a body of 1 MiB can be, with room for the rest.
const LONG: usize = 900_000;

/// The address of the first entry on the list of what is parked.
async fn first_entry(app: &App) -> String {
    let parked = page(app, "/parked", "en").await;
    let link = parked.split("href=\"/entry?").nth(1).unwrap_or_else(|| panic!("nothing is parked: {parked}"));
    format!("/entry?{}", link.split('"').next().unwrap().replace("&amp;", "&"))
}

#[tokio::test]
async fn names_and_commands_of_900_kb_make_no_page_and_no_event_large() {
    let app = App::start().await;
    for id in ["long-name", "long-too"] {
        let mut body = after("CreateGroup", id, 0, json!({"Name": "Night", "Type": "Public"}));
        body["Name"] = json!(format!("Night{}", "\"".repeat(LONG / 2)));
        app.service.taken(&body).await;
    }
    let command = format!("Group.{}", "x".repeat(LONG));
    app.service.parked(&json!({"CallbackCommand": command, "GroupId": "long-name"}).to_string()).await;
    let entry = first_entry(&app).await;
    for path in ["/", "/groups", "/groups?q=night", "/parked", "/groups/long-name", &entry] {
        // It asserts the size.
        page(&app, path, "en").await;
    }
    let request = app.service.client.get(app.service.api_url("/live/events?after=0")).bearer_auth(API_TOKEN);
    let mut stream = request.send().await.unwrap();
    // A part may end in the middle of a character.
    let (mut parts, mut said) = (Vec::new(), String::new());
    while !said.contains("event: trust") {
        parts.extend_from_slice(&stream.chunk().await.unwrap().unwrap());
        said = String::from_utf8_lossy(&parts).into_owned();
        assert!(parts.len() <= PAGE_BYTES_MAX, "{} bytes", parts.len());
    }
    assert_eq!(said.matches("data-position").count(), 3, "{said}");
    drop(stream);
    app.stop().await;
}

#[tokio::test]
async fn a_profile_of_many_fields_is_one_short_line() {
    let app = App::start().await;
    let fields: Vec<_> =
        (0..1_500).map(|number| json!({"Key": format!("k{number}"), "Value": "\"\""})).collect();
    let changed = json!({"UserDefinedDataList": fields, "Name": "Night"});
    app.service.taken(&after("CreateGroup", "fields", 0, changed)).await;
    for path in ["/", "/groups/fields?tab=events", "/moment?at=2026-01-01"] {
        page(&app, path, "en").await;
    }
    app.stop().await;
}

#[tokio::test]
async fn bodies_of_quotation_marks_make_no_page_large_and_all_of_them_are_shown() {
    let app = App::start().await;
    let marks = vec![""; 20_000];
    for number in 0..10 {
        let body =
            json!({"CallbackCommand": "Group.CallbackAfterFoo", "GroupId": "marks", "A": number, "B": marks});
        app.service.parked(&body.to_string()).await;
    }
    page(&app, &first_entry(&app).await, "en").await;
    let (mut path, mut shown, mut pages) = ("/groups/marks/raw".to_owned(), BTreeSet::new(), 0);
    loop {
        let html = page(&app, &path, "en").await;
        let bodies = html.split("<pre class=\"body\"").skip(1);
        for body in bodies.map(|body| words(&format!("<pre {}", &body[..body.find("</pre>").unwrap()]))) {
            assert!(shown.insert(body), "an entry comes twice");
        }
        pages += 1;
        let Some(next) = link_with(&html, "rel=\"next\"") else { break };
        path = format!("/groups/marks/raw{next}");
    }
    assert_eq!((shown.len(), pages > 1), (10, true), "{pages} pages");
    app.stop().await;
}

#[tokio::test]
async fn every_filter_of_the_list_of_groups_holds_on_its_next_page_and_in_its_file() {
    let app = App::start().await;
    for number in 0..60 {
        let kind = ["Public", "Work", "Meeting"][number % 3];
        let body = after("CreateGroup", &format!("g{number:02}"), 0, json!({"Name": "G", "Type": kind}));
        app.service.taken(&body).await;
    }
    for number in 60..90 {
        let body = after("CreateGroup", &format!("g{number:02}"), 0, json!({"Name": "G", "Type": "Work"}));
        app.service.taken(&body).await;
    }
    let path = "/groups?type=Public&type=Work&sort=group_id&prefix=g&updated_after=2025-01-01T00:00:00Z";
    let first = page(&app, path, "en").await;
    let second = page(&app, &link_with(&first, "rel=\"next\"").unwrap(), "en").await;
    let count = |html: &str| html.matches("<th scope=\"row\">").count();
    assert_eq!((count(&first), count(&second)), (50, 20));
    assert!(!second.contains("Meeting</td>") && second.contains("Work</td>"), "{second}");
    let back = link_with(part(&second, "class=\"pager\"", "</nav>"), "href").unwrap();
    assert!(back.contains("type=Public&type=Work") && !back.contains("cursor="), "{back}");
    let (status, file) = visited(&app, &link_with(&second, "format=csv").unwrap(), "en").await;
    assert_eq!((status.as_u16(), file.lines().count()), (200, 71), "{file}");
    app.stop().await;
}

#[tokio::test]
async fn every_filter_of_the_list_of_what_is_parked_holds_on_its_next_page_and_in_its_file() {
    let app = App::start().await;
    for number in 0..45 {
        let group = if number % 3 == 0 { "other" } else { "mine" };
        let body = json!({"CallbackCommand": "Group.CallbackAfterFoo", "GroupId": group, "Number": number});
        app.service.parked(&body.to_string()).await;
    }
    let path = "/parked?group_id=mine&command=Group.CallbackAfterFoo&after=2020-01-01T00:00:00Z";
    let first = page(&app, path, "en").await;
    let next = link_with(&first, "rel=\"next\"").unwrap();
    let second = page(&app, &next, "en").await;
    let of = |html: &str, group: &str| html.matches(&format!("title=\"{group}\"")).count();
    assert_eq!([of(&first, "mine"), of(&first, "other")], [25, 0]);
    assert_eq!([of(&second, "mine"), of(&second, "other")], [5, 0]);
    let file = link_with(&second, "format=csv").unwrap();
    let (status, table) = visited(&app, &file, "en").await;
    assert_eq!((status.as_u16(), table.lines().count()), (200, 31), "{file}: {table}");
    app.stop().await;
}
