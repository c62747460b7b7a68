//! What the program prints of itself: completions that shells accept, manual pages that readers accept, and a version that
//! says what was built. None of it needs a setting.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use group_mirror::cli::Cli;
use serde_json::Value;

use crate::process::lifecycle::skipped;
use crate::support::process::{Ended, Place, run};

/// What a program says to a file; none where it is not installed.
async fn said_by(place: &Place, program: &str, arguments: &[&str]) -> Option<Ended> {
    let is_there =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if is_there.is_err() {
        skipped(&format!("{program} is not installed"));
        return None;
    }
    let mut command = place.program(program);
    command.args(arguments);
    Some(run(command).await)
}

async fn printed(place: &Place, args: &[&str]) -> String {
    let ended = run(place.command(args)).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
    ended.stdout
}

/// Every command, the one of `clap` aside.
fn commands() -> Vec<String> {
    let names: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert!(names.len() >= 15 && names.contains(&"serve".to_owned()), "{names:?}");
    names
}

#[tokio::test]
async fn each_shell_accepts_its_completions_which_name_every_command() {
    let place = Place::new();
    for (shell, program, check) in [
        ("bash", "bash", "-n"),
        ("zsh", "zsh", "-n"),
        ("fish", "fish", "--no-execute"),
        ("elvish", "elvish", "-compileonly"),
    ] {
        let script = printed(&place, &["completions", shell]).await;
        for name in commands() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
        let name = format!("group-mirror.{shell}");
        std::fs::write(place.path().join(&name), script).unwrap();
        if let Some(ended) = said_by(&place, program, &[check, &name]).await {
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{shell}");
        }
    }
    // What a person gets who presses the key.
    let asked = "source ./group-mirror.bash; COMP_WORDS=(group-mirror mig); COMP_CWORD=1; \
                 _group__mirror group-mirror mig group-mirror; echo \"${COMPREPLY[@]}\"";
    if let Some(ended) = said_by(&place, "bash", &["-c", asked]).await {
        assert_eq!(ended.stdout.trim(), "migrate", "{ended:?}");
    }
    let ended = run(place.command(&["completions", "tcsh"])).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

/// The page as a reader shows it, without a warning; none where there is no reader.
async fn read(place: &Place, page: &Path) -> Option<String> {
    let page = page.to_str().unwrap();
    let read = said_by(place, "groff", &["-man", "-Tutf8", "-Kutf8", "-ww", "-P-cbou", page]).await?;
    assert_eq!((read.code, read.stderr.as_str()), (Some(0), ""), "{page}");
    Some(read.stdout)
}

#[tokio::test]
async fn the_manual_is_one_page_or_one_for_each_command_and_groff_reads_all_of_them() {
    let place = Place::new();
    let page = printed(&place, &["man"]).await;
    assert!(page.contains(".TH group-mirror 1"), "{page}");
    std::fs::write(place.path().join("one.1"), &page).unwrap();
    let dir = place.path().join("man/man1");
    assert_eq!(printed(&place, &["man", "--dir", dir.to_str().unwrap()]).await, "");
    let written: BTreeSet<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted = commands().into_iter().map(|name| format!("group-mirror-{name}.1"));
    assert_eq!(written, wanted.chain(["group-mirror.1".to_owned()]).collect());
    assert_eq!(std::fs::read_to_string(dir.join("group-mirror.1")).unwrap(), page);
    if let Some(shown) = read(&place, &place.path().join("one.1")).await {
        for word in ["NAME", "SYNOPSIS", "--database-url", "DATABASE_URL", "group-mirror-serve(1)"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }
    for name in &written {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        for secret in ["CALLBACK_TOKEN=", "API_TOKEN="] {
            assert!(!text.contains(&format!("{secret}hush")), "{name}");
        }
        let _ = read(&place, &dir.join(name)).await;
    }
}

#[tokio::test]
async fn the_version_names_commit_schema_and_formats() {
    let place = Place::new();
    let text = printed(&place, &["version"]).await;
    let version: Value = serde_json::from_str(&printed(&place, &["version", "--json"]).await).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let migrations = std::fs::read_dir(root.join("migrations")).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.split('_').next().unwrap().parse::<i64>().unwrap()
    });
    let migrations: Vec<i64> = migrations.collect();
    assert_eq!(version["schema"]["migrations"], migrations.len());
    assert_eq!(version["schema"]["newest_migration"], *migrations.iter().max().unwrap());
    let formats = std::fs::read_to_string(root.join("docs/formats.md")).unwrap();
    let record = &version["formats"]["spool_record"];
    assert!(formats.contains(&format!("| 0 | version, {record} |")), "{record}");
    let cursor = &version["formats"]["cursor"];
    assert!(formats.contains(&format!("{{\"v\":{cursor},")), "{cursor}");
    let commit = version["commit"].as_str().unwrap_or("unknown");
    for wanted in [
        format!("group-mirror {}", env!("CARGO_PKG_VERSION")),
        format!("commit: {commit}"),
        format!("schema: migration {}", version["schema"]["newest_migration"]),
        format!("formats: record of the spool {record}, cursor {cursor}"),
    ] {
        assert!(text.lines().any(|line| line.starts_with(&wanted)), "{wanted}: {text}");
    }
    // A build in a repository knows its commit; one of an archive says that it does not.
    let head = Command::new("git").arg("-C").arg(root).args(["rev-parse", "HEAD"]).output();
    let head = head.ok().filter(|output| output.status.success() && root.join(".git").exists());
    match (head, std::env::var_os("GROUP_MIRROR_COMMIT")) {
        (Some(head), None) => assert_eq!(commit, String::from_utf8(head.stdout).unwrap().trim()),
        (None, None) => assert_eq!(commit, "unknown"),
        (_, Some(given)) => assert_eq!(commit, given.to_str().unwrap()),
    }
}

#[tokio::test]
async fn what_the_program_prints_of_itself_needs_no_setting_and_minds_no_wrong_one() {
    let place = Place::new();
    let file = place.path().join(".env");
    std::fs::write(&file, "SDK_APP_ID='\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let refused = run(place.command(&["migrate"])).await;
    assert_eq!(refused.code, Some(2), "the file cannot be used: {refused:?}");
    for args in [&["version"][..], &["openapi"], &["man"], &["completions", "bash"]] {
        let mut command = place.command(args);
        command.env("LOG_FORMAT", "xml").env("SDK_APP_ID", "none");
        let ended = run(command).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(!place.path().join("data").exists());
    }
}
