//! The files of `deploy`, given to the programs that they are written for, and compared with sources and documents.
//!
//! Proxies carry load with these files in `durability/restart.rs`, roles work in `process/roles.rs`; `.ci/deployment` checks
//! alerts, board and containers, `.ci/package` installs the package. What is left is here: names that two files share.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use super::documents::{anchor, metrics_in, text};
use crate::support::tls::Authority;

/// None where the program is not installed.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn accepts(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let Ok(output) = run else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Asserts that a program, if it is installed, accepts what was written for it.
fn assert_accepted(program: &str, arguments: &[&str]) {
    if let Some((accepted, words)) = accepts(program, arguments) {
        assert!(accepted, "{program}: {words}");
    }
}

/// Replaces what has to be there once.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

#[test]
fn proxies_and_systemd_accept_the_files_that_are_shipped_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    let pair = Authority::new().issue("callbacks.example.org");
    write("callbacks.pem", pair.certificate.clone() + &pair.key);
    // A port below 1024 needs rights.
    let listen = format!("listen unix:{} ssl;", path("socket"));
    let nginx = replaced(&text("deploy/nginx.conf"), "listen 443 ssl;", &listen);
    let nginx = replaced(&nginx, "/etc/nginx/tls/fullchain.pem", &path("callbacks.pem"));
    write("nginx.conf", replaced(&nginx, "/etc/nginx/tls/privkey.pem", &path("callbacks.pem")));
    let globals = format!("pid {}; error_log stderr;", path("pid"));
    assert_accepted("/usr/sbin/nginx", &["-t", "-p", &path(""), "-c", &path("nginx.conf"), "-g", &globals]);
    let haproxy =
        replaced(&text("deploy/haproxy.cfg"), "/etc/haproxy/tls/callbacks.pem", &path("callbacks.pem"));
    write("haproxy.cfg", haproxy);
    assert_accepted("/usr/sbin/haproxy", &["-c", "-f", &path("haproxy.cfg")]);
    let units = [
        "group-mirror.service",
        "group-mirror.socket",
        "group-mirror-prune.service",
        "group-mirror-prune.timer",
    ];
    for unit in units {
        // It looks for the program of a service.
        let unit_text = text(&format!("deploy/{unit}"));
        let is_service = unit.ends_with(".service");
        write(
            unit,
            if is_service { replaced(&unit_text, "/usr/bin/group-mirror", "/bin/sh") } else { unit_text },
        );
    }
    let paths = units.map(path);
    assert_accepted("systemd-analyze", &["verify", &paths[0], &paths[1], &paths[2], &paths[3]]);
}

/// The alerts by name, each with its lines.
fn alerts() -> Vec<(String, String)> {
    let rules = text("deploy/prometheus/rules.yml");
    let parts = rules.split("- alert: ").skip(1).map(|part| part.split_once('\n').unwrap());
    parts.map(|(name, lines)| (name.trim().to_owned(), lines.to_owned())).collect()
}

#[test]
fn every_alert_leads_to_a_runbook_and_is_tested_and_every_runbook_belongs_to_an_alert() {
    let page = text("docs/operations.md");
    let headings = page.lines().filter(|line| line.starts_with("### GroupMirror"));
    let runbooks: BTreeSet<String> = headings.map(|line| line[4..].to_owned()).collect();
    let (alerts, tests) = (alerts(), text("deploy/prometheus/rules_test.yml"));
    assert!(alerts.len() >= 20, "only {} alerts were found", alerts.len());
    for (name, lines) in &alerts {
        let runbook = format!("runbook: docs/operations.md#{}\n", anchor(name));
        assert!(lines.contains(&runbook), "{name} does not name {runbook}");
        let tried: Vec<&str> = tests.split(&format!("alertname: {name}\n")).skip(1).collect();
        assert!(
            tried.iter().any(|test| test.trim_start().starts_with("exp_alerts: []")),
            "{name} never stays silent"
        );
        assert!(
            tried.iter().any(|test| test.trim_start().starts_with("exp_alerts:\n")),
            "{name} never fires"
        );
    }
    assert_eq!(alerts.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), runbooks);
}

/// `.ci/deployment` compares labels too, with a scrape.
#[test]
fn alerts_and_board_name_metrics_that_there_are() {
    let described = metrics_in(&text("src/telemetry.rs"), '"');
    for file in ["deploy/prometheus/rules.yml", "deploy/grafana/group-mirror.json"] {
        // Names stand behind spaces, quotes and brackets there.
        let spaced = text(file).replace(|mark: char| !(mark.is_ascii_alphanumeric() || mark == '_'), " ");
        let named = metrics_in(&spaced, ' ');
        assert!(named.len() > 20, "{file}: {named:?}");
        for name in named {
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(described.contains(stem.unwrap_or(&name)), "{file} names {name}, which does not exist");
        }
    }
}

/// What stands between quotes in a list of rows such as `("ledger", &["SELECT", "INSERT"])`.
fn rights_of_the_program() -> BTreeSet<(String, String)> {
    let source = text("src/store/rights.rs");
    let list = source.split("const TABLES").nth(1).unwrap().split("];\n").next().unwrap();
    let rows = list.lines().filter(|line| line.trim().starts_with("(\""));
    let mut rights = BTreeSet::new();
    for row in rows {
        let mut words = row.split('"').skip(1).step_by(2).map(str::to_owned);
        let table = words.next().unwrap();
        rights.extend(words.map(|right| (table.clone(), right)));
    }
    rights
}

#[test]
fn the_role_script_gives_serve_what_the_program_looks_for_and_nothing_else() {
    let script = text("deploy/roles.sql");
    let list = script.split("INSERT INTO rights (name, serve, erase) VALUES\n").nth(1).unwrap();
    let list = list.split(";\n").next().unwrap();
    let mut given = BTreeSet::new();
    for row in list.lines() {
        let words: Vec<&str> = row.split('\'').skip(1).step_by(2).collect();
        given.extend(words[1].split(", ").map(|right| (words[0].to_owned(), right.to_owned())));
    }
    let wanted = rights_of_the_program();
    assert!(wanted.len() > 60, "{wanted:?}");
    assert_eq!(given, wanted);
    let source = text("src/store/rights.rs");
    let called = source.split("const FUNCTIONS").nth(1).unwrap().split("];\n").next().unwrap();
    let called: Vec<&str> = called.split('"').skip(1).step_by(2).collect();
    assert_eq!(called.len(), 7, "{called:?}");
    for name in called {
        assert!(script.contains(&format!("('{name}', ")), "{name}");
    }
}

#[test]
fn the_compose_file_changes_and_mounts_what_the_shipped_proxy_file_names() {
    let (compose, nginx) = (text("deploy/compose.yaml"), text("deploy/nginx.conf"));
    let changed = compose.split("-e s/").skip(1).filter_map(|part| part.split('/').next());
    let mounted = compose.split("target: /etc/nginx/").skip(1).filter_map(|part| part.split('}').next());
    let names: Vec<String> =
        changed.map(str::to_owned).chain(mounted.map(|path| format!("/etc/nginx/{path}"))).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        assert_eq!(nginx.matches(&name).count(), 1, "{name}");
    }
}

#[test]
fn what_the_compose_recipe_puts_beside_the_files_that_are_shipped_stays_out_of_git() {
    let (recipe, compose) = (text("docs/deploy.md"), text("deploy/compose.yaml"));
    let made = recipe.split("cd deploy && mkdir -m 0700 ").nth(1).and_then(|rest| rest.split(" &&").next());
    let made: BTreeSet<&str> = made.unwrap().split(' ').collect();
    let mounted = compose.split("{file: ").skip(1).filter_map(|path| path.split_once('/'));
    let mounted: BTreeSet<&str> = mounted.map(|(directory, _)| directory).collect();
    assert_eq!(mounted, made, "the recipe makes each directory that the compose file names");
    let ignored = text(".gitignore");
    for directory in made {
        assert!(ignored.lines().any(|line| line == format!("/deploy/{directory}")), "{directory}");
    }
}

#[test]
fn the_container_file_gives_the_build_the_commit_that_its_context_cannot_say() {
    let (file, script) = (text("deploy/Containerfile"), text("build.rs"));
    let variable =
        script.split("const COMMIT_VARIABLE: &str = \"").nth(1).and_then(|rest| rest.split('"').next());
    let variable = variable.unwrap();
    let before = file.split("RUN cargo build").next().unwrap();
    assert!(before.contains(&format!("\nARG {variable}=\n")), "{before}");
    assert!(!text(".dockerignore").contains(".git"), "the context has no repository");
}
