//! Pictures of every page for a person to look at: wide, narrow, dark, Japanese, Chinese.

use std::path::PathBuf;

use crate::support::App;
use crate::support::browser::Browser;
use crate::support::demo::Demo;

/// The pages by the names of their pictures.
fn pages(demo: &Demo) -> Vec<(&'static str, String)> {
    let owls = "/groups/%40TGS%232NIGHTOWLS";
    let then = demo.at(13, 21, 16).replace(':', "%3A");
    vec![
        ("live", "/".to_owned()),
        ("groups", "/groups".to_owned()),
        ("groups-search", "/groups?q=club".to_owned()),
        ("groups-none", "/groups?q=zzzz".to_owned()),
        ("group", owls.to_owned()),
        ("group-then", format!("{owls}?at={then}")),
        ("group-events", format!("{owls}?tab=events")),
        ("group-fields", format!("{owls}?tab=fields")),
        ("group-raw", format!("{owls}/raw")),
        ("group-community", "/groups/%40TGS%23_OWLSREADCN".to_owned()),
        ("group-topics", "/groups/%40TGS%23_OWLSREADCN?tab=topics".to_owned()),
        ("group-dismissed", "/groups/%40TGS%232WINTERPOEM".to_owned()),
        ("group-unseen", "/groups/%40TGS%232OLDLIBRARY".to_owned()),
        ("group-rtl", "/groups/%40TGS%232CAIROREAD".to_owned()),
        ("person-removed", "/users/lena.fischer".to_owned()),
        ("person-moderator", "/users/boris-2".to_owned()),
        ("moment", format!("/moment?at={then}")),
        ("parked", "/parked".to_owned()),
        ("health", "/health".to_owned()),
        ("login", "/login".to_owned()),
        ("missing", "/groups/no-such-group".to_owned()),
        ("docs", "/docs".to_owned()),
    ]
}

/// The forms of each picture: name, width, scheme, language.
const FORMS: [(&str, u32, &str, &str); 5] = [
    ("wide", 1280, "light", "en"),
    ("narrow", 360, "light", "en"),
    ("dark", 1280, "dark", "en"),
    ("japanese", 1280, "light", "ja"),
    ("chinese", 1280, "light", "zh"),
];

#[tokio::test]
async fn pictures_of_every_page_are_written_where_they_are_wanted() {
    let Some(folder) = std::env::var_os("PICTURES").map(PathBuf::from) else { return };
    let Some(browser) = Browser::open().await else { return };
    std::fs::create_dir_all(&folder).unwrap();
    let only = std::env::var("PICTURES_OF").unwrap_or_default();
    let demo = Demo::open().await;
    let empty = App::start_with(|settings| {
        (settings.api_token, settings.api_auth) = (None, Some("none".to_owned()));
    })
    .await;
    for (form, width, scheme, language) in FORMS {
        browser.scheme(scheme).await;
        browser.resize(width, 900).await;
        browser.go(&demo.base()).await;
        browser.cookie("lang", language).await;
        let of_demo = pages(&demo).into_iter().map(|(name, path)| (name, format!("{}{path}", demo.base())));
        for (name, address) in of_demo.chain([("live-empty", empty.service.api_url("/"))]) {
            if name.starts_with(&only) {
                browser.go(&address).await;
                browser.picture(&folder.join(format!("{name}-{form}.png"))).await;
            }
        }
    }
    demo.app.stop().await;
    empty.stop().await;
}
