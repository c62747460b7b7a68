//! The documents, checked against the sources: links lead somewhere, lists are complete, pages keep their size, and the
//! words are those of the glossary.
//!
//! A document is as true as code only where a test reads both. Examples are run by `.ci/walkthrough`; settings are compared
//! in `process/config.rs`; the files of `deploy` are run elsewhere (`house/deployment.rs`), and what the page quotes of them is
//! compared here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::sources::sources;

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every page that a reader gets, by its path.
fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "fuzz/README.md"].map(str::to_owned).into();
    for folder in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let pages = entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        names.extend(pages.map(|path| path.strip_prefix(root()).unwrap().display().to_string()));
    }
    names.sort();
    names.into_iter().map(|name| (name.clone(), text(&name))).collect()
}

/// The targets of `[text](target)`, code blocks left out.
fn links(page: &str) -> Vec<String> {
    let mut prose = String::new();
    for (part, block) in page.split("\n```").enumerate() {
        if part % 2 == 0 {
            prose.push_str(block);
        }
    }
    let ends = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(target, _)| target.to_owned()).collect()
}

/// As GitHub makes it of a heading: lower case, words joined by hyphens, other marks dropped.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|mark| mark.is_alphanumeric() || " -_".contains(*mark));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_relative_link_of_a_document_leads_to_a_file_and_a_heading() {
    let mut checked = 0;
    for (name, page) in documents() {
        for link in links(&page).into_iter().filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let from = root().join(&name);
            let target: PathBuf =
                if file.is_empty() { from.clone() } else { from.parent().unwrap().join(file) };
            assert!(target.exists(), "{name}: {link} leads to no file");
            if !heading.is_empty() {
                let target = std::fs::read_to_string(&target).unwrap();
                let headings = target.lines().filter(|line| line.starts_with('#'));
                let found = headings.map(|line| anchor(line.trim_start_matches('#'))).any(|it| it == heading);
                assert!(found, "{name}: {link} leads to no heading");
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} links were found");
}

#[test]
fn every_page_and_every_decision_is_reached_from_the_readme() {
    let readme = text("README.md");
    let reached: BTreeSet<String> = links(&readme).into_iter().collect();
    for (name, _) in documents().into_iter().filter(|(name, _)| name.starts_with("docs/")) {
        let page = if name.starts_with("docs/decisions/") { "docs/decisions".to_owned() } else { name };
        assert!(reached.contains(&page), "{page}");
    }
}

#[test]
fn pages_keep_their_size() {
    let words = text("README.md").split_whitespace().count();
    assert!(words <= 1_500, "README.md has {words} words, at most 1,500 are wanted");
    let pages = documents();
    let lines = |page: &str| page.lines().count();
    let of_docs = pages.iter().filter(|(name, _)| name.starts_with("docs/"));
    let sum: usize = of_docs.map(|(_, page)| lines(page)).sum();
    assert!(sum >= 800, "docs/ has {sum} lines, at least 800 are wanted");
    let decisions: Vec<_> = pages.iter().filter(|(name, _)| name.starts_with("docs/decisions/")).collect();
    assert!(decisions.len() >= 8);
    for (name, page) in decisions {
        assert!(lines(page) <= 40, "{name} has {} lines, at most 40 are wanted", lines(page));
        for part in ["**Decided.**", "**Cost.**", "**Changes when**"] {
            assert!(page.contains(part), "{name} has no {part}");
        }
    }
}

/// Names that begin like a metric and stand in quotes or backticks.
pub(super) fn metrics_in(text: &str, quote: char) -> BTreeSet<String> {
    let begin = format!("{quote}group_mirror_");
    let named = text.split(begin.as_str()).skip(1).map(|rest| {
        rest.split(|mark: char| !(mark.is_ascii_lowercase() || mark.is_ascii_digit() || mark == '_'))
            .next()
            .unwrap_or_default()
    });
    named.filter(|name| !name.is_empty()).map(|name| format!("group_mirror_{name}")).collect()
}

#[test]
fn the_table_of_metrics_is_complete_and_every_metric_that_is_counted_has_a_help_text() {
    let page = text("docs/operations.md");
    let chapter = page.split("\n## ").find(|chapter| chapter.starts_with("Metrics\n")).unwrap();
    let rows: String = chapter.lines().filter(|line| line.starts_with("| `")).collect();
    let described = metrics_in(&text("src/telemetry.rs"), '"');
    assert!(described.len() >= 16, "{described:?}");
    assert_eq!(metrics_in(&rows, '`'), described);
    // The advisory schema of replay has such a name too.
    let used: BTreeSet<String> = sources("src")
        .iter()
        .flat_map(|source| metrics_in(&source.code().collect::<String>(), '"'))
        .collect();
    let unknown: Vec<_> =
        used.difference(&described).filter(|name| *name != "group_mirror_rebuild").collect();
    assert!(unknown.is_empty(), "without help text: {unknown:?}");
    for (name, page) in documents().into_iter().filter(|(name, _)| name != "CHANGELOG.md") {
        for metric in metrics_in(&page, '`') {
            assert!(described.contains(&metric), "{name} names {metric}, which does not exist");
        }
    }
}

#[test]
fn log_lines_that_the_operations_page_quotes_stand_in_the_sources() {
    let page = text("docs/operations.md");
    let chapter = page.split("\n## ").find(|chapter| chapter.starts_with("When nothing arrives\n")).unwrap();
    let cells =
        chapter.lines().filter(|line| line.starts_with("| `")).filter_map(|row| row.split('|').nth(1));
    let sources: Vec<String> = sources("src")
        .iter()
        .map(|source| source.text.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let mut checked = 0;
    for quoted in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        let line = quoted.split('…').next().unwrap().trim();
        assert!(sources.iter().any(|source| source.contains(line)), "no source logs {line:?}");
        checked += 1;
    }
    assert!(checked > 10, "only {checked} lines are quoted");
}

#[test]
fn every_label_of_a_closed_list_stands_in_the_operations_page() {
    use group_mirror::callback::ReasonCause;
    use group_mirror::refusals::RefusalCause;
    use strum::VariantArray as _;
    let page = text("docs/operations.md");
    let causes = ReasonCause::VARIANTS.iter().map(|cause| cause.label());
    let refusals = RefusalCause::VARIANTS.iter().map(|cause| cause.label());
    for label in causes.chain(refusals) {
        assert!(page.contains(&format!("`{label}`")), "{label}");
    }
}

#[test]
fn every_command_and_every_module_stands_in_its_table() {
    use clap::CommandFactory as _;
    let operations = text("docs/operations.md");
    for command in group_mirror::cli::Cli::command().get_subcommands() {
        let row = format!("| `{}", command.get_name());
        assert!(operations.contains(&row), "{}", command.get_name());
    }
    let architecture = text("docs/architecture.md");
    for source in sources("src").iter().filter(|source| !source.path.contains('/')) {
        assert!(architecture.contains(&format!("`{}`", source.path)), "{}", source.path);
    }
}

#[test]
fn every_path_of_the_read_api_stands_in_the_page_that_describes_it() {
    let document: serde_json::Value = serde_json::from_str(&text("tests/it/data/openapi.json")).unwrap();
    let paths: Vec<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert!(paths.len() > 8);
    let pages = text("docs/reading.md") + &text("docs/operations.md");
    for path in paths {
        // Ids stand percent-encoded in the examples.
        let parts: Vec<&str> = path.split('/').filter(|part| !part.starts_with('{')).collect();
        let last = parts.last().copied().unwrap_or_default();
        assert!(pages.contains(&format!("/{last}")), "{path}");
    }
}

#[test]
fn documents_use_the_words_of_the_glossary() {
    const NOT: [&str; 12] = [
        "made out",
        "somebody",
        "nobody",
        "whoever",
        "way back",
        "is told",
        "are told",
        "for ever",
        "goes away",
        "passed over",
        "halving",
        "lets go",
    ];
    for (name, page) in documents() {
        for (number, line) in page.lines().enumerate() {
            let lower = line.to_lowercase();
            for word in NOT {
                let found = lower.split_once(word);
                // "for every" holds another word.
                let found = found.is_some_and(|(_, rest)| !rest.starts_with(char::is_alphabetic));
                assert!(!found, "{name}:{}: {word:?}", number + 1);
            }
        }
    }
}

/// The value of a line such as `name = "value"`.
fn value(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
    line.and_then(|rest| rest.split_once('"')).unwrap_or_else(|| panic!("no {name}")).0.to_owned()
}

#[test]
fn compiler_and_licences_are_named_alike_everywhere() {
    let manifest = text("Cargo.toml");
    let (oldest, pinned) = (value(&manifest, "rust-version"), value(&text("rust-toolchain.toml"), "channel"));
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    assert!(minor(&oldest) <= minor(&pinned));
    assert!(text("README.md").contains(&format!("Rust {oldest} or later")));
    assert!(text(".github/workflows/ci.yml").contains(&format!("rust:1.{}-", minor(&pinned))));
    assert!(text("CHANGELOG.md").contains(&pinned));
    assert_eq!(value(&manifest, "license"), "MIT OR Apache-2.0");
    assert!(text("LICENSE-MIT").contains("Permission is hereby granted, free of charge"));
    assert!(text("LICENSE-APACHE").contains("TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"));
}

#[test]
fn the_deployment_page_quotes_lines_of_the_shipped_files_and_links_each() {
    let page = text("docs/deploy.md");
    let mut quoted = 0;
    for (mark, file) in [
        ("nginx", "deploy/nginx.conf"),
        ("haproxy", "deploy/haproxy.cfg"),
        ("ini", "deploy/group-mirror.socket"),
    ] {
        let shipped = text(file);
        let lines: BTreeSet<&str> = shipped.lines().map(str::trim).collect();
        for block in page.split(&format!("```{mark}\n")).skip(1) {
            let block = block.split("```").next().unwrap();
            for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
                assert!(lines.contains(line), "{file} has no line {line:?}");
                quoted += 1;
            }
        }
    }
    assert!(quoted > 10, "only {quoted} lines are quoted");
    let links = links(&page);
    for entry in std::fs::read_dir(root().join("deploy")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(links.contains(&format!("../deploy/{name}")), "{name} is not linked");
    }
}

#[test]
fn everything_that_check_looks_at_or_asks_stands_in_its_page() {
    use group_mirror::check::{CheckSubject, ProbeQuestion};
    use strum::VariantArray as _;
    let page = text("docs/check.md");
    let subjects = CheckSubject::VARIANTS.iter().map(|subject| -> &str { subject.into() });
    let questions = ProbeQuestion::VARIANTS.iter().map(|question| -> &str { question.into() });
    let connections = group_mirror::store::SERVICE_CONNECTIONS_MAX;
    assert!(page.contains(&format!("against the {connections} that one service takes at most")));
    let calls = group_mirror::check::CALLS_MAX;
    assert!(page.split_whitespace().collect::<Vec<_>>().join(" ").contains(&format!("up to {calls} calls")));
    let rows: String = page.lines().filter(|line| line.starts_with("| `")).collect();
    for label in subjects.chain(questions) {
        assert!(rows.contains(&format!("`{label}`")), "{label}");
    }
}
