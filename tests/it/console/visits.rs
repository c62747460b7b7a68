//! A reader of the console's pages about groups, people and moments: a world of callbacks, visits in a language, and what a page
//! says once its tags are gone.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::api::after;
use crate::support::{API_TOKEN, App};

/// The languages of the console, by the value of the cookie.
pub(crate) const LANGUAGES: [&str; 3] = ["en", "ja", "zh"];

/// The most bytes that a page may have.
pub(crate) const PAGE_BYTES_MAX: usize = 100 * 1024;

/// A page, which must be 200, no larger than allowed, with one heading of the first level and no raw key.
pub(crate) async fn page(app: &App, path: &str, language: &str) -> String {
    app.service.until(|shown| shown["spool"]["depth"] == 0).await;
    let (status, text) = visited(app, path, language).await;
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    assert!(text.len() <= PAGE_BYTES_MAX, "{path}: {} bytes", text.len());
    assert_eq!(text.matches("<h1").count(), 1, "{path}");
    assert!(!text.contains('⟦'), "{path} in {language} shows a raw key: {text}");
    assert!(!text.contains(['\u{E000}', '\u{E001}', '\u{E002}']), "{path}: a placeholder is left: {text}");
    assert!(!text.contains(" style="), "{path}: the policy allows no style in an attribute");
    text
}

/// A page of whatever status.
pub(crate) async fn visited(app: &App, path: &str, language: &str) -> (StatusCode, String) {
    let request = app.service.client.get(app.service.api_url(path)).bearer_auth(API_TOKEN);
    let answer = request.header("Cookie", format!("lang={language}; tz=UTC")).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// Elements that stand in the line of the text around them.
const INLINE: [&str; 10] = ["a", "bdi", "code", "q", "span", "strong", "time", "svg", "path", "rect"];

/// A page as its reader sees it: without tags, entities resolved, every stretch of white space one space.
pub(crate) fn words(html: &str) -> String {
    let mut text = String::new();
    for (number, piece) in html.split('<').enumerate() {
        if number == 0 {
            text.push_str(piece);
            continue;
        }
        let (tag, rest) = piece.split_once('>').unwrap_or((piece, ""));
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if !INLINE.contains(&name) {
            text.push(' ');
        }
        text.push_str(rest);
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands between a mark and the next end of an element of this name.
pub(crate) fn part<'a>(html: &'a str, begin: &str, end: &str) -> &'a str {
    let from = html.find(begin).unwrap_or_else(|| panic!("no {begin} in {html}"));
    let rest = &html[from..];
    &rest[..rest.find(end).unwrap_or_else(|| panic!("no {end} behind {begin}"))]
}

/// The tags of a page without the values of their attributes.
pub(crate) fn bare_tags(html: &str) -> Vec<String> {
    let (mut tags, mut tag, mut is_tag, mut is_value) = (Vec::new(), String::new(), false, false);
    for character in html.chars() {
        match character {
            '<' if !is_value => is_tag = true,
            '>' if is_tag && !is_value => {
                tags.push(std::mem::take(&mut tag));
                is_tag = false;
            }
            '"' if is_tag => is_value = !is_value,
            other if is_tag && !is_value => tag.push(other),
            _ => {}
        }
    }
    tags
}

/// The entries of a list, each as its words.
pub(crate) fn entries(html: &str) -> Vec<String> {
    html.split("<li class=\"deed ")
        .skip(1)
        .map(|item| words(&format!("<{}", &item[..item.find("</li>").unwrap()])))
        .collect()
}

/// The address of the link that begins with this text, such as `rel="next"` among the attributes.
pub(crate) fn link_with(html: &str, attribute: &str) -> Option<String> {
    let tags = html.split("<a ").skip(1).map(|rest| &rest[..rest.find('>').unwrap()]);
    let tag = tags.into_iter().find(|tag| tag.contains(attribute))?;
    let href = tag.split("href=\"").nth(1)?.split('"').next()?;
    Some(href.replace("&amp;", "&"))
}

/// Members of a body.
pub(crate) fn list(users: &[&str]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}

/// Posts a callback of the app from a platform and an address.
pub(crate) async fn sent_from(app: &App, body: &Value, platform: &str, address: &str) {
    let command = body["CallbackCommand"].as_str().unwrap();
    let tail =
        format!("&CallbackCommand={command}&contenttype=json&OptPlatform={platform}&ClientIP={address}");
    let answer = app.service.post_with(&tail, body.to_string()).await;
    assert_eq!(answer.status(), StatusCode::OK, "{body}");
}

/// A group of readers, out of which an administrator removes six within five minutes.
pub(crate) async fn night_owls(app: &App, group: &str) {
    let created = after(
        "CreateGroup",
        group,
        0,
        json!({"Name": "Night owls", "Type": "Public", "Operator_Account": "mei_lin", "Owner_Account": "mei_lin",
               "MemberList": list(&["mei_lin", "boris-2"])}),
    );
    let readers: Vec<String> = (0..8).map(|number| format!("reader_{number:02}")).collect();
    let readers: Vec<&str> = readers.iter().map(String::as_str).collect();
    let joined = after(
        "NewMemberJoin",
        group,
        60_000,
        json!({"JoinType": "Invited", "Operator_Account": "mei_lin", "NewMemberList": list(&readers)}),
    );
    sent_from(app, &created, "iOS", "203.0.113.7").await;
    sent_from(app, &joined, "iOS", "203.0.113.7").await;
    for number in 0..6 {
        let removed = after(
            "MemberExit",
            group,
            3_600_000 + number * 40_000,
            json!({"ExitType": "Kicked", "Operator_Account": "boris-2",
                   "ExitMemberList": list(&[readers[usize::try_from(number).unwrap()]])}),
        );
        sent_from(app, &removed, "Web", "203.0.113.9").await;
    }
}
