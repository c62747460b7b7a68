//! Names that would like to be markup, addresses, formulas or another line of text: whatever a user calls a group, a card or
//! himself, the console shows it as text, in its place, and nothing else happens.

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::{App, unix_now};

/// What each of them would do, if it could, is to change the title of the page to `ran`.
fn nasty() -> Vec<String> {
    let texts = [
        "<script>document.title='ran'</script>",
        "\"><img src=x onerror=\"document.title='ran'\">",
        "</title></textarea></pre><svg onload=\"document.title='ran'\">",
        "' onfocus='document.title=\"ran\"' autofocus='",
        "javascript:document.title='ran'//http://192.0.2.1/",
        "{{7*7}}${7*7}<%= 7 %>&lt;b&gt;&#60;b&#62;",
        "\u{202e}gro.elpmaxe\u{200f}\u{2067} שלום \u{2066}",
        "a\tb\r\nc\u{2028}d\u{0085}e\u{feff}",
        "=HYPERLINK(\"http://192.0.2.1/\",\"click\")",
        "👩‍👩‍👧‍👦🏳️‍🌈 ﷽ ௵",
    ];
    let mut texts: Vec<String> = texts.map(str::to_owned).into();
    texts.push(format!("Z{}algo", "\u{0301}\u{0323}".repeat(250)));
    texts.push("W".repeat(400));
    texts.push(format!("{}ю", "Ы".repeat(120)));
    texts
}

/// Callbacks that put every one of them into every place that a user or a client can choose.
async fn fill(app: &App) -> Vec<(String, String)> {
    let service = &app.service;
    let mut places = Vec::new();
    for (number, text) in (0..).zip(nasty()) {
        let at = unix_now() * 1000 - 3_600_000 + number * 1000;
        let is_row = text.len() < 60;
        let group = if is_row { text.clone() } else { format!("group-{number}") };
        let user = if is_row { format!("u{text}") } else { format!("user-{number}") };
        let more = |command: &str, ms: u64, more: Value| {
            let mut body = json!({ "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": group,
                "EventTime": at + ms, "Type": "Public", "Operator_Account": user });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let key: String = text.chars().take(12).collect();
        for body in [
            more(
                "CreateGroup",
                0,
                json!({ "Name": text, "Owner_Account": user, "MemberList": [{ "Member_Account": "victim" }],
                    "UserDefinedDataList": [{ "Key": key, "Value": text }] }),
            ),
            more(
                "GroupInfoChanged",
                1,
                json!({ "Introduction": text, "Notification": text, "FaceUrl": text }),
            ),
            more("MemberFieldChanged", 2, json!({ "Member_Account": "victim", "NameCard": text })),
            more(
                "GroupAttrChanged",
                3,
                json!({ "OptionType": "modify", "GroupAttr": [{ "key": key, "value": text }] }),
            ),
            more(
                "MemberExit",
                4,
                json!({ "ExitType": text, "ExitMemberList": [{ "Member_Account": "victim" }] }),
            ),
            more(
                "NewMemberJoin",
                5,
                json!({ "JoinType": text, "NewMemberList": [{ "Member_Account": "victim" }] }),
            ),
            more("CreateTopic", 6, json!({ "TopicId": format!("{group}@TOPIC#_{number}"), "Name": text })),
        ] {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query
                .append_pair("OptPlatform", &text)
                .append_pair("ClientIP", &text)
                .append_pair("RequestID", &text);
            let answer = service.post_with(&format!("&{}", query.finish()), body.to_string()).await;
            let status = answer.status();
            assert_eq!(status, 200, "{}", answer.text().await.unwrap());
        }
        // Parked with its bytes: a command that is not known, and a body that is no JSON.
        let parked = more(&text, 7, json!({ "Name": text }));
        service.post_with("", parked.to_string()).await;
        service.post_with("", format!("{{\"GroupId\": {text}")).await;
        places.push((group, user));
    }
    places
}

/// Elements that none of the console's own pages have.
const FOREIGN: &str = "return [...document.querySelectorAll('img, iframe, object, embed, script:not([src]), [onload], \
    [onerror], [onfocus], a[href^=javascript], base, main title:not(svg title), main link')].map(element => element.outerHTML)";

#[tokio::test]
async fn names_that_would_like_to_be_markup_are_text_on_every_page() {
    let Some(browser) = Browser::open().await else { return };
    let app = App::start_with(open).await;
    let places = fill(&app).await;
    let base = app.service.api_url("");
    let mut pages: Vec<String> =
        ["/", "/groups", "/groups?q=script", "/moment", "/parked", "/health", "/users/victim"]
            .map(str::to_owned)
            .into();
    for (group, user) in &places {
        let (group, user) = (percent_encoded(group), percent_encoded(user));
        for tab in ["", "?tab=events", "?tab=fields", "?tab=topics", "/raw"] {
            pages.push(format!("/groups/{group}{tab}"));
        }
        pages.push(format!("/users/{user}"));
        pages.push(format!("/groups?q={group}"));
    }
    let mut faults = Vec::new();
    for page in &pages {
        browser.go(&format!("{base}{page}")).await;
        let title = browser.run("return document.title").await;
        if title == "ran" {
            faults.push(format!("{page}: a script ran"));
        }
        let foreign = browser.run(FOREIGN).await;
        if foreign != json!([]) {
            faults.push(format!("{page}: {foreign}"));
        }
        for width in [360, 1280] {
            browser.resize(width, 800).await;
            let excess = browser.excess_width().await;
            if excess > 0 {
                faults.push(format!("{page}: {excess} px too wide at {width}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    browser.assert_well_behaved(&base).await;
    app.stop().await;
}

#[tokio::test]
async fn no_cell_of_a_table_begins_a_formula_whatever_a_user_is_called() {
    let app = App::start_with(open).await;
    let places = fill(&app).await;
    let mut lists = vec!["/v1/groups?status=all&format=csv".to_owned(), "/v1/parked?format=csv".to_owned()];
    for (group, user) in &places {
        let (group, user) = (percent_encoded(group), percent_encoded(user));
        for list in ["members?status=all&format=csv", "history?format=csv", "topics?format=csv"] {
            lists.push(format!("/v1/groups/{group}/{list}"));
        }
        lists.push(format!("/v1/users/{user}/history?format=csv"));
    }
    let mut cells = 0;
    for list in lists {
        let answer = app.service.client.get(app.service.api_url(&list)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{list}");
        let table = answer.bytes().await.unwrap();
        for record in csv::Reader::from_reader(&table[..]).records() {
            for cell in &record.unwrap() {
                assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{list}: {cell:?}");
                cells += 1;
            }
        }
    }
    assert!(cells > 500, "{cells} cells");
    app.stop().await;
}

fn open(settings: &mut group_mirror::config::Settings) {
    (settings.api_token, settings.api_auth) = (None, Some("none".to_owned()));
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
