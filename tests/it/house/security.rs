//! The page about security, checked against the sources: what it says is open, refused or kept in a file is so.

use std::collections::BTreeSet;

use super::sources::sources;

const PAGE: &str = include_str!("../../../docs/security.md");

/// Whether the page names a thing as code.
fn names(thing: &str) -> bool {
    PAGE.split('`').skip(1).step_by(2).any(|code| code == thing || code.rsplit('/').next() == Some(thing))
}

/// The string literals of a line.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

#[test]
fn every_path_that_needs_no_token_stands_there_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(include_str!("../data/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let row = PAGE.lines().find(|line| line.starts_with("| Serves |")).unwrap();
    let (_, open) = row.split_once("without a token").unwrap();
    let said: BTreeSet<&str> = open.split('`').skip(1).step_by(2).collect();
    let is_open = |item: &serde_json::Value| item["get"].get("security").is_some();
    let open = paths.iter().filter(|(_, item)| is_open(item)).map(|(path, _)| path.as_str());
    // The page of the document is one of the console, and open like the document.
    let wanted: BTreeSet<&str> = open.chain(["/docs"]).collect();
    assert_eq!(said, wanted);
}

#[test]
fn every_header_of_a_proxy_that_the_open_api_refuses_stands_there() {
    let sources = sources("src");
    let source = sources.iter().find(|source| source.path == "api/local.rs").unwrap();
    let list = source.text.split("PROXY_HEADERS").nth(1).unwrap().split("];").next().unwrap();
    let headers: Vec<&str> = literals(list).collect();
    assert!(headers.len() >= 10, "{headers:?}");
    for header in headers {
        assert!(names(header), "{header}");
    }
}

#[test]
fn every_file_that_is_made_in_the_data_directory_stands_there() {
    let mut found = 0;
    for source in sources("src") {
        if !["spool", "app", "embedded"].contains(&source.module()) {
            continue;
        }
        let is_name = |line: &&str| line.contains("_NAME: &str = \"") || line.contains(".file(\"");
        for name in source.code().filter(is_name).flat_map(literals) {
            assert!(names(name), "{}: {name}", source.path);
            found += 1;
        }
    }
    assert!(found >= 7, "only {found} names were found");
}

#[test]
fn every_secret_that_a_file_can_hold_stands_there() {
    let settings = sources("src").into_iter().find(|source| source.path == "config/settings.rs").unwrap();
    let secrets: BTreeSet<&str> = settings
        .text
        .lines()
        .flat_map(literals)
        .filter(|name| name.ends_with("_FILE") && name.starts_with(|first: char| first.is_ascii_uppercase()))
        .collect();
    assert_eq!(secrets.len(), 6, "{secrets:?}");
    for name in secrets {
        assert!(names(name), "{name}");
    }
}
