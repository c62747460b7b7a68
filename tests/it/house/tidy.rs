//! The house rules, checked on the sources: who may import whom, where statements and foreign crates may stand, that a
//! type name stands once, that every file says what it owns and stays small.

use std::collections::BTreeMap;
use std::path::Path;

use super::sources::{Imports, sources, type_names};

/// Imports point one way: a module may use those named here, and itself.
const IMPORTS: [(&str, &[&str]); 32] = [
    ("model", &[]),
    ("json", &[]),
    ("files", &[]),
    ("clock", &["model"]),
    ("callback", &["json", "model"]),
    ("tencent", &["json", "model"]),
    ("mirror", &["tencent", "callback", "model"]),
    ("spool", &["callback", "clock", "files", "model"]),
    ("store", &["mirror", "callback", "model"]),
    ("replay", &["store", "mirror", "callback", "model"]),
    ("retention", &["replay", "store", "mirror", "callback", "model"]),
    ("outbox", &["relay", "spool", "store", "callback", "clock", "model"]),
    ("ingest", &["traces", "outbox", "replay", "spool", "store", "mirror", "callback", "model"]),
    ("reconcile", &["ingest", "store", "mirror", "tencent", "callback", "model"]),
    ("traces", &["clock", "model"]),
    ("traffic", &["model"]),
    ("refusals", &["traffic", "clock", "model"]),
    ("relay", &["callback", "model"]),
    ("receiver", &["ingest", "refusals", "relay", "traces", "traffic", "callback", "clock", "model"]),
    (
        "api",
        &["ingest", "outbox", "refusals", "replay", "spool", "store", "mirror", "callback", "clock", "model"],
    ),
    (
        "console",
        &[
            "api", "ingest", "outbox", "refusals", "replay", "spool", "store", "traffic", "mirror",
            "callback", "clock", "model",
        ],
    ),
    ("server", &["refusals", "files", "clock", "model"]),
    ("telemetry", &[]),
    ("embedded", &["files"]),
    ("simulate", &["store", "mirror", "callback", "clock", "model"]),
    (
        "config",
        &[
            "api",
            "reconcile",
            "outbox",
            "server",
            "spool",
            "telemetry",
            "tencent",
            "traces",
            "callback",
            "files",
            "model",
        ],
    ),
    ("fake", &["tencent", "callback", "model"]),
    ("cli", &["config"]),
    ("check", &["tencent", "files", "refusals", "spool", "store", "callback", "clock", "model"]),
    (
        "app",
        &[
            "cli",
            "config",
            "check",
            "simulate",
            "fake",
            "tencent",
            "embedded",
            "files",
            "telemetry",
            "server",
            "api",
            "console",
            "receiver",
            "relay",
            "outbox",
            "refusals",
            "traces",
            "traffic",
            "reconcile",
            "ingest",
            "replay",
            "retention",
            "spool",
            "store",
            "mirror",
            "callback",
            "clock",
            "model",
        ],
    ),
    ("main", &[]),
    ("lib", &[]),
];

fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

#[test]
fn imports_point_one_way() {
    let imports = Imports::of(&sources("src"));
    assert!(
        imports.uses.values().map(std::collections::BTreeSet::len).sum::<usize>() > 200,
        "imports are found"
    );
    for (file, used) in &imports.uses {
        let (_, allowed) = IMPORTS
            .iter()
            .find(|(name, _)| *name == module(file))
            .unwrap_or_else(|| panic!("{file}: a new module needs its place in IMPORTS"));
        for used in used {
            assert!(module(used) == module(file) || allowed.contains(&module(used)), "{file} uses {used}");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_eq!(Imports::of(&sources("src")).circle(), None);
}

#[test]
fn a_type_name_stands_once() {
    let mut defined = BTreeMap::new();
    for source in sources("src") {
        for name in type_names(&source) {
            let before = defined.insert(name.clone(), source.path.clone());
            assert_eq!(before, None, "{name} is defined in {} too", source.path);
        }
    }
}

/// What may stand only in certain places: a piece of text, and the beginnings of the paths that may hold it.
const PLACES: [(&str, &[&str]); 31] = [
    ("axum::", &["receiver", "api", "console", "server", "app", "fake/http.rs", "fake/door.rs"]),
    ("tower", &["receiver", "api", "console/failure.rs", "server", "fake/http.rs", "check/relay_target.rs"]),
    ("sqlx::query", &["store/"]),
    ("QueryBuilder", &[]),
    // Of a driver: only for reads, where a connection that is dropped in the middle is rolled back at its next use.
    (".begin()", &["store/ledger_pages.rs"]),
    ("\"BEGIN", &["store/transaction.rs", "store/session.rs"]),
    (".code()", &["store/errors.rs"]),
    ("reqwest", &["simulate", "fake/delivery.rs"]),
    (
        "rustls::",
        &[
            "server",
            "tencent/transport.rs",
            "check/relay_target.rs",
            "check/own_client.rs",
            "relay/target.rs",
            "traces/exporter.rs",
        ],
    ),
    ("x509_cert", &["server/certificate.rs"]),
    ("redb::", &["spool/file.rs", "spool/inspect.rs", "spool/moved.rs", "spool/status.rs"]),
    (
        "hyper",
        &[
            "server",
            "tencent/calls.rs",
            "tencent/transport.rs",
            "relay",
            "outbox/delivery.rs",
            "outbox/pace.rs",
            "fake/http.rs",
            "check/relay_target.rs",
            "check/own_client.rs",
            "traces/exporter.rs",
        ],
    ),
    ("maud::", &["console"]),
    ("PreEscaped", &[]), // markup that is not escaped
    ("fluent_bundle", &["console"]),
    ("chrono_tz", &["console/zone.rs"]),
    ("clap::", &["config", "cli", "main.rs"]),
    ("opentelemetry", &["traces"]),
    ("env::var", &["config.rs"]),
    ("dotenvy", &["config/dotenv.rs"]),
    ("File::open", &["app/sign.rs", "config/secrets.rs", "spool/thread.rs"]),
    ("File::create", &[]),
    ("OpenOptions", &[]),
    ("SystemTime::now", &["clock.rs"]),
    ("Utc::now", &[]),
    ("Local::now", &[]),
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

/// Pure files of a module that is not pure as a whole.
const PURE: [&str; 7] = [
    "tencent/answers.rs",
    "tencent/fields.rs",
    "tencent/groups.rs",
    "tencent/members.rs",
    "tencent/details.rs",
    "tencent/codes.rs",
    "tencent/commands.rs",
];

#[test]
fn the_pure_modules_know_no_runtime_database_clock_or_chance() {
    for source in sources("src").iter().filter(|source| {
        ["model", "json", "callback", "mirror"].contains(&source.module()) || PURE.contains(&&*source.path)
    }) {
        for line in source.code() {
            for word in ["tokio", "axum", "sqlx", "std::time", "rand", "tracing", "metrics", "async "] {
                assert!(!line.contains(word), "{}: {word} in {line}", source.path);
            }
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_stays_small() {
    for (below, lines_max) in [("src", 400), ("tests", 500), ("benches", 500)] {
        for source in sources(below) {
            let head = source.text.lines().take_while(|line| line.starts_with("//!")).count();
            let wanted = if below == "src" && source.path != "main.rs" { 3 } else { 1 };
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
fn assertions_stand_where_batches_arrays_and_limits_meet() {
    let (mut lines, mut assertions) = (0, 0);
    for source in sources("src") {
        lines += source.code().count();
        let asserts = |line: &&str| {
            line.contains("assert!(") || line.contains("assert_eq!(") || line.contains("assert_ne!(")
        };
        assertions += source.code().filter(asserts).count();
    }
    assert!(
        assertions * 1000 * 10 >= lines * 15,
        "{assertions} assertions in {lines} lines; 1.5 per 1,000 wanted"
    );
}

#[test]
fn nothing_refers_to_places_outside_the_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["README.md", ".env.example", "Cargo.toml", "build.rs", ".ci/run"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        assert!(!text.contains(concat!("../", "shared")), "{name}");
    }
}
