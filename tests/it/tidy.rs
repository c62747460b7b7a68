//! The house rules, checked on the sources: who may import whom, where statements and foreign crates may stand, that
//! every file says what it owns and stays small.

use std::path::Path;

struct Source {
    /// Below `src`, such as `store/ledger.rs`.
    path: String,
    text: String,
}

impl Source {
    /// The module a file belongs to: `store` for `store.rs` and everything below `store/`.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// Lines of code, without comments and without the unit tests at the end.
    fn code(&self) -> impl Iterator<Item = &str> {
        let code = self.text.split("\n#[cfg(test)]").next().unwrap();
        code.lines().filter(|line| !line.trim_start().starts_with("//"))
    }
}

fn sources(below: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let mut dirs = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&root).unwrap().display().to_string(), text });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Imports point one way. A module may use those to its right, and itself.
const IMPORTS: [(&str, &[&str]); 14] = [
    ("simulate", &["store", "mirror", "callback", "model"]),
    ("embedded", &[]),
    ("model", &[]),
    ("callback", &["model"]),
    ("mirror", &["callback", "model"]),
    ("store", &["mirror", "callback", "model"]),
    ("ingest", &["store", "mirror", "callback", "model"]),
    ("http", &["ingest", "store", "mirror", "callback", "model"]),
    ("config", &["http", "ingest", "callback", "model"]),
    ("cli", &["config"]),
    ("telemetry", &["config"]),
    (
        "app",
        &[
            "cli",
            "simulate",
            "embedded",
            "telemetry",
            "config",
            "http",
            "ingest",
            "store",
            "mirror",
            "callback",
            "model",
        ],
    ),
    ("main", &[]),
    ("lib", &[]),
];

#[test]
fn imports_point_one_way() {
    for source in sources("src") {
        let (_, allowed) = IMPORTS
            .iter()
            .find(|(module, _)| *module == source.module())
            .unwrap_or_else(|| panic!("{}: a new module needs its place in IMPORTS", source.path));
        for line in source.code() {
            for used in line.split("crate::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                let known = used.is_empty() || used == source.module() || allowed.contains(&used);
                assert!(known, "{}: {line}", source.path);
            }
        }
    }
}

/// What may stand only in certain places: a piece of text, and the beginnings of the paths that may hold it.
const PLACES: [(&str, &[&str]); 18] = [
    ("axum::", &["http", "app"]),
    ("tower", &["http", "app"]),
    ("sqlx::query", &["store"]),
    ("QueryBuilder", &[]),
    (".begin()", &["store.rs"]),
    ("reqwest", &["simulate"]),
    ("redb::", &["ingest/shelf.rs", "ingest/spool.rs"]),
    ("hyper", &["http/listen.rs"]),
    ("clap::", &["config.rs", "cli.rs", "main.rs"]),
    ("std::env::var", &["config.rs"]),
    ("dotenvy", &["config.rs"]),
    ("SystemTime::now", &["http/callback.rs", "simulate/sender.rs", "app/simulate.rs"]),
    ("Utc::now", &[]),
    ("unsafe ", &["embedded/process.rs"]),
    ("macro_rules!", &[]),
    ("TODO", &[]),
    ("FIXME", &[]),
    ("dbg!", &[]),
];

#[test]
fn statements_and_foreign_crates_stand_in_their_places() {
    for source in sources("src") {
        for line in source.code() {
            for (text, places) in PLACES {
                let allowed = places.iter().any(|place| source.path.starts_with(place));
                assert!(allowed || !line.contains(text), "{}: {text:?} in {line}", source.path);
            }
        }
    }
}

#[test]
fn the_pure_modules_know_no_runtime_database_clock_or_chance() {
    for source in
        sources("src").iter().filter(|source| ["model", "callback", "mirror"].contains(&source.module()))
    {
        for line in source.code() {
            for word in ["tokio", "axum", "sqlx", "std::time", "rand", "tracing", "metrics", "async "] {
                assert!(!line.contains(word), "{}: {word} in {line}", source.path);
            }
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_stays_small() {
    for (below, lines_max) in [("src", 400), ("tests", 500)] {
        for source in sources(below) {
            let head = source.text.lines().take_while(|line| line.starts_with("//!")).count();
            let wanted = if below == "src" && !["main.rs"].contains(&source.path.as_str()) { 3 } else { 1 };
            assert!(head >= wanted, "{below}/{}: {head} lines of head, {wanted} wanted", source.path);
            let lines = source.text.lines().count();
            assert!(lines <= lines_max, "{below}/{}: {lines} lines, at most {lines_max}", source.path);
        }
    }
}

#[test]
fn folders_below_src_are_one_level_deep() {
    for source in sources("src") {
        assert!(source.path.matches('/').count() <= 1, "{}", source.path);
        assert!(!source.path.ends_with("mod.rs"), "{}", source.path);
    }
}

#[test]
fn nothing_refers_to_places_outside_the_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["README.md", ".env.example", "Cargo.toml", "build.rs", ".ci/run"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        assert!(!text.contains(concat!("../", "shared")), "{name}");
    }
}
