//! Places that name the version of the program, and numbers that a document quotes: each follows from one place, and they agree.

use std::process::Command;

use super::documents::text;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The numbered sections of the change log, newest first.
fn sections() -> Vec<String> {
    let changes = text("CHANGELOG.md");
    let headings = changes.lines().filter_map(|line| line.strip_prefix("## "));
    let names = headings.filter_map(|heading| heading.split(' ').next().map(str::to_owned));
    names.filter(|name| name.starts_with(|mark: char| mark.is_ascii_digit())).collect()
}

#[test]
fn lock_file_document_of_the_read_api_and_debian_package_have_the_version_of_the_manifest() {
    let lock = text("Cargo.lock");
    assert!(lock.contains(&format!("name = \"group-mirror\"\nversion = \"{VERSION}\"\n")), "Cargo.lock");
    let api: serde_json::Value = serde_json::from_str(&text("tests/it/data/openapi.json")).unwrap();
    assert_eq!(api["info"]["version"], VERSION);
    // What the script runs, as it stands there.
    let script = text("deploy/debian/build");
    let line = script.lines().find_map(|line| line.strip_prefix("version=${VERSION:-$(")).unwrap();
    let command = line.strip_suffix(")}").unwrap();
    let made =
        Command::new("sh").args(["-c", command]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert_eq!(String::from_utf8(made.stdout).unwrap().trim(), VERSION);
}

/// Until there is one, the version is that of no release.
#[test]
fn the_version_is_that_of_the_newest_section_of_the_change_log() {
    let newest = sections().first().cloned();
    assert_eq!(newest.as_deref().unwrap_or("0.0.1"), VERSION, "CONTRIBUTING.md says how a release is made");
}

#[test]
fn the_page_of_formats_names_the_advisory_locks_that_the_sources_take() {
    let page = text("docs/formats.md");
    for (file, name) in
        [("src/store/rebuild.rs", "REPLAY_LOCK: i64 = 0x"), ("src/store/outbox.rs", "LOCK_CLASS: i32 = 0x")]
    {
        let source = text(file);
        let digits = source.split(name).nth(1).unwrap().split(';').next().unwrap().replace('_', "");
        let number = u64::from_str_radix(&digits, 16).unwrap();
        assert!(page.contains(&number.to_string()), "{file}: {number}");
    }
    let migration = text("migrations/0001_ledger.sql");
    let number = migration.split("pg_advisory_xact_lock(").nth(1).unwrap().split(')').next().unwrap();
    assert!(page.contains(number), "{number}");
}
