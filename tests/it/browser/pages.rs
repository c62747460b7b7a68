//! Every page of the console, found by following its links from the first one: it answers, is small, fits all widths, asks
//! no other host for anything, and axe-core finds nothing on it, light and dark.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use crate::support::browser::Browser;
use crate::support::demo::Demo;

/// How many pages are opened at most.
const PAGES_MAX: usize = 150;

/// How many of one kind are looked at closely.
const OF_A_KIND_MAX: usize = 2;

const PAGE_BYTES_MAX: usize = 100 * 1024;

/// Links of a page that lead to pages: no downloads, no foreign addresses.
const LINKS: &str =
    "return [...document.querySelectorAll('a[href]')].filter(a => !a.hasAttribute('download'))
    .map(a => new URL(a.getAttribute('href'), location).href.split('#')[0])";

/// A page by the parts of its address that choose what it is: ids and values left out.
fn kind(address: &str, base: &str) -> String {
    let rest = &address[base.len()..];
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parts: Vec<&str> = path.split('/').collect();
    for at in 2..parts.len() {
        if ["groups", "users"].contains(&parts[1]) && at == 2 {
            parts[at] = "…";
        }
    }
    let mut keys: Vec<&str> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
    keys.sort_unstable();
    format!("{}?{}", parts.join("/"), keys.join("&"))
}

/// All pages that the links of the first one lead to, by kind.
async fn crawl(browser: &Browser, base: &str) -> BTreeMap<String, Vec<String>> {
    let mut waiting = VecDeque::from([format!("{base}/")]);
    let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut opened = 0;
    while let Some(address) = waiting.pop_front() {
        let of_kind = kinds.entry(kind(&address, base)).or_default();
        if of_kind.len() >= 6 || opened >= PAGES_MAX {
            continue;
        }
        of_kind.push(address.clone());
        opened += 1;
        browser.go(&address).await;
        let links = browser.run(LINKS).await;
        for link in links.as_array().unwrap() {
            let link = link.as_str().unwrap();
            // The calls of the API and its document are files; /docs is the page of Swagger UI, with a test of its own.
            let is_page = link.starts_with(base)
                && ["/v1/", "/openapi.json", "/docs"]
                    .iter()
                    .all(|part| !link[base.len()..].starts_with(part));
            if is_page && seen.insert(link.to_owned()) {
                waiting.push_back(link.to_owned());
            }
        }
    }
    kinds
}

/// The pages that are looked at closely.
fn chosen(kinds: &BTreeMap<String, Vec<String>>) -> Vec<&String> {
    kinds.values().flat_map(|pages| pages.iter().take(OF_A_KIND_MAX)).collect()
}

#[tokio::test]
async fn every_page_fits_every_width_in_every_language_and_axe_finds_nothing_on_it() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    let base = demo.base();
    let kinds = crawl(&browser, &base).await;
    let mut faults = Vec::new();
    for language in ["en", "ja", "zh"] {
        browser.cookie("lang", language).await;
        for address in chosen(&kinds) {
            browser.go(address).await;
            for width in [360, 768, 1280, 1920] {
                browser.resize(width, 900).await;
                let excess = browser.excess_width().await;
                if excess > 0 {
                    faults.push(format!("{address}: {excess} px too wide at {width}, {language}"));
                }
            }
            // Below /docs stands the page of Swagger UI, whose markup is not ours.
            let schemes =
                if language == "en" && !address.contains("/docs") { &["light", "dark"][..] } else { &[] };
            for scheme in schemes {
                browser.scheme(scheme).await;
                for finding in browser.axe().await.unwrap_or_default() {
                    faults.push(format!("{address}, {scheme}: {finding}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    browser.assert_well_behaved(&base).await;
    demo.app.stop().await;
}

#[tokio::test]
async fn every_page_answers_is_small_and_has_one_request_per_kind_of_asset() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    let base = demo.base();
    let kinds = crawl(&browser, &base).await;
    assert!(kinds.len() > 10, "{kinds:?}");
    browser.requests().await;
    for address in chosen(&kinds) {
        let answer = demo.app.service.client.get(address).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{address}");
        let bytes = answer.bytes().await.unwrap().len();
        assert!(bytes <= PAGE_BYTES_MAX, "{address}: {bytes} bytes");
        browser.go(address).await;
        let entries = "return performance.getEntriesByType('resource').map(entry => entry.name)";
        let assets = browser.run(entries).await;
        for ending in [".css", ".js", ".svg", ".woff2"] {
            let of_type: Vec<&Value> = assets
                .as_array()
                .unwrap()
                .iter()
                .filter(|name| name.as_str().unwrap().split('?').next().unwrap().ends_with(ending))
                .collect();
            assert!(of_type.len() <= 1, "{address}: {of_type:?}");
        }
    }
    demo.app.stop().await;
}

#[tokio::test]
async fn the_page_of_the_api_fits_every_width_and_asks_no_other_host() {
    let Some(browser) = Browser::open().await else { return };
    let app = crate::support::App::start().await;
    let base = app.service.api_url("");
    browser.go(&format!("{base}/docs")).await;
    browser.until("document.querySelector('main #document .opblock')").await;
    browser.until("document.querySelector('main h1') && document.querySelector('footer #choices')").await;
    for width in [360, 768, 1280, 1920] {
        browser.resize(width, 900).await;
        assert!(browser.excess_width().await <= 0, "{width}");
    }
    browser.assert_well_behaved(&base).await;
    app.stop().await;
}
