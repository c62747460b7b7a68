//! Which files a start trusts: the settings file of the working directory and the data directory, made by whom and how.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::process::lifecycle::{ordinary_user, skipped};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused, run};

/// The id of an account that is neither root's nor this user's.
const STRANGER: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// True where a file can be given to another user.
fn is_root(place: &Place) -> bool {
    std::fs::metadata(place.path()).unwrap().uid() == 0
}

/// Programs that leave a trace when they are run.
fn programs_of_a_stranger(place: &Place) -> (std::path::PathBuf, std::path::PathBuf) {
    let (dir, trace) = (place.path().join("programs"), place.path().join("was-run"));
    std::fs::create_dir(&dir).unwrap();
    for name in ["postgres", "initdb"] {
        let text = format!("#!/bin/sh\ntouch '{}'\necho 'postgres (PostgreSQL) 15.1'\n", trace.display());
        std::fs::write(dir.join(name), text).unwrap();
        set_mode(&dir.join(name), 0o755);
    }
    (dir, trace)
}

#[tokio::test]
async fn a_settings_file_above_the_working_directory_is_not_read() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let (programs, trace) = programs_of_a_stranger(&place);
    let text = format!("PG_BIN_DIR={}\nAPI_LISTEN=nonsense\n", programs.display());
    std::fs::write(place.path().join(".env"), text).unwrap();
    let below = place.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut command = place.command_on(&database.url, &[]);
    command.current_dir(&below);
    let mut service = Process::start(command);
    service.says("settings: the environment and no .env").await;
    service.ready().await.ends_well_on("TERM").await;
    assert!(!trace.exists());
}

#[tokio::test]
async fn a_settings_file_that_another_user_could_have_written_ends_the_start() {
    let place = Place::new();
    let file = place.path().join(".env");
    let refused = async |words: &str| {
        let line = refused(place.command(&["migrate"])).await;
        assert!(line.starts_with(&file.display().to_string()) && line.contains(words), "{line}");
        assert!(!place.path().join("data").exists());
    };
    std::fs::write(&file, "API_LISTEN=127.0.0.1:0\n").unwrap();
    for mode in [0o666, 0o664, 0o602] {
        set_mode(&file, mode);
        refused("can be written by other users").await;
    }
    set_mode(&file, 0o600);
    if is_root(&place) {
        chown(&file, Some(STRANGER), None).unwrap();
        refused("belongs to user id 65534").await;
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::write(place.path().join("elsewhere"), "").unwrap();
    symlink(place.path().join("elsewhere"), &file).unwrap();
    refused("is a link").await;
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    refused("is not a regular file").await;
}

#[tokio::test]
async fn a_settings_file_chooses_no_program_and_sets_nothing_but_settings() {
    let place = Place::new();
    let (programs, trace) = programs_of_a_stranger(&place);
    let file = place.path().join(".env");
    std::fs::write(&file, format!("PG_BIN_DIR={}\n", programs.display())).unwrap();
    let line = refused(place.command(&[])).await;
    assert!(line.contains("PG_BIN_DIR is not taken from a file"), "{line}");
    let others = format!(
        "PATH={0}\nLD_PRELOAD={0}/x.so\nPGPASSWORD=hush\nPGOPTIONS=-csearch_path=hush\nHTTPS_PROXY=hush\nhush=hush\nSDK_APP_ID=1400000009\n",
        programs.display()
    );
    std::fs::write(&file, others).unwrap();
    // Without PATH in the environment the file's would be the one that counts.
    let mut command = place.command(&[]);
    command.env_remove("PATH");
    let mut service = Process::start(command);
    service.says("have no effect: HTTPS_PROXY, LD_PRELOAD, PATH, PGOPTIONS, PGPASSWORD, 1 more").await;
    let service = service.ready().await;
    assert!(service.log().contains("callbacks of app 1400000009"), "a setting of the file counts");
    assert!(!service.log().contains("hush"), "{}", service.log());
    service.ends_well_on("TERM").await;
    assert!(!trace.exists());
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file_and_an_empty_value_sets_nothing() {
    let place = Place::new();
    std::fs::write(place.path().join(".env"), "LOG_FORMAT=of-the-file\nSDK_APP_ID=x\n").unwrap();
    let line = refused(place.command(&[])).await;
    assert!(line.starts_with("LOG_FORMAT is \"of-the-file\""), "{line}");
    let mut command = place.command(&[]);
    command.env("LOG_FORMAT", "of-the-environment");
    assert!(refused(command).await.starts_with("LOG_FORMAT is \"of-the-environment\""));
    let mut command = place.command(&["--log-format", "of-the-flag"]);
    command.env("LOG_FORMAT", "of-the-environment");
    assert!(refused(command).await.starts_with("LOG_FORMAT is \"of-the-flag\""));
    let mut command = place.command(&[]);
    command.env("LOG_FORMAT", "");
    assert!(refused(command).await.starts_with("LOG_FORMAT is \"of-the-file\""));
    // A secret of the file counts beside an empty variable of the other form, and not beside a set one.
    std::fs::write(place.path().join(".env"), "API_TOKEN=of-the-file\n").unwrap();
    for (path, token) in [("", "of-the-file"), ("tokens", "of-a-file-of-its-own")] {
        std::fs::write(place.path().join("tokens"), "of-a-file-of-its-own").unwrap();
        let mut command = place.command(&[]);
        command.env("API_TOKEN_FILE", path);
        let service = Process::start(command).ready().await;
        assert_eq!(service.get_as("none", "/v1/groups").await.status(), 401, "{path:?}");
        assert_eq!(service.get_as(token, "/v1/groups").await.status(), 200, "{path:?}");
        service.ends_well_on("TERM").await;
    }
}

#[tokio::test]
async fn a_link_in_the_data_directory_is_refused_and_what_it_leads_to_stays_as_it_is() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let (data, victim) = (place.path().join("data"), place.path().join("victim.conf"));
    std::fs::write(&victim, "important = yes\n").unwrap();
    std::fs::create_dir(&data).unwrap();
    for name in ["serve.lock", "database-id", "spool.redb", "spool.mark"] {
        symlink(&victim, data.join(name)).unwrap();
        let line = refused(place.command_on(&database.url, &[])).await;
        assert!(line.starts_with("DATA_DIR: ") && line.contains(&format!("{name} is a link")), "{line}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "important = yes\n", "{name}");
        std::fs::remove_file(data.join(name)).unwrap();
    }
    symlink(&victim, data.join("database-id.new")).unwrap();
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    service.ends_well_on("TERM").await;
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "important = yes\n");
    std::fs::create_dir_all(data.join("postgres")).unwrap();
    symlink(&victim, data.join("postgres/lock")).unwrap();
    let line = refused(place.command(&["migrate"])).await;
    assert!(line.contains("postgres/lock is a link"), "{line}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "important = yes\n");
}

#[tokio::test]
async fn a_cluster_that_is_a_link_or_holds_a_pipe_is_refused_and_nothing_is_removed_through_it() {
    let place = Place::new();
    let (cluster, victim) = (place.postgres().join("cluster"), place.path().join("victim"));
    std::fs::create_dir_all(place.postgres()).unwrap();
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("PG_VERSION"), "15\n").unwrap();
    std::fs::write(victim.join("postmaster.pid"), "4711\n").unwrap();
    symlink(&victim, &cluster).unwrap();
    let line = refused(place.command(&["migrate"])).await;
    assert!(line.contains("postgres/cluster is a link or no directory"), "{line}");
    assert!(victim.join("postmaster.pid").exists());
    std::fs::remove_file(&cluster).unwrap();
    std::fs::create_dir(&cluster).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, cluster.join("PG_VERSION"), 0o600.into()).unwrap();
    let line = refused(place.command(&["migrate"])).await;
    assert!(line.contains("PG_VERSION is not a regular file"), "{line}");
}

#[tokio::test]
async fn a_data_directory_of_another_user_and_a_file_of_one_in_it_are_refused() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    if !is_root(&place) {
        return skipped("only root can give a directory away");
    }
    let data = place.path().join("data");
    std::fs::create_dir(&data).unwrap();
    chown(&data, Some(STRANGER), None).unwrap();
    for (command, args) in [
        (place.command_on(&database.url, &[]), "serve"),
        (place.command(&["migrate"]), "migrate"),
        (place.command(&[]), "serve, embedded"),
    ] {
        let line = refused(command).await;
        assert!(
            line.starts_with("DATA_DIR: ") && line.contains("belongs to user id 65534"),
            "{args}: {line}"
        );
        assert!(line.contains("run it as that user, or name a directory below it"), "{line}");
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "nothing is made in it");
    chown(&data, Some(0), None).unwrap();
    for name in ["serve.lock", "spool.redb", "spool.mark", "database-id"] {
        std::fs::write(data.join(name), "").unwrap();
        chown(data.join(name), Some(STRANGER), None).unwrap();
        let line = refused(place.command_on(&database.url, &[])).await;
        assert!(line.contains(&format!("{name} belongs to user id 65534")), "{line}");
        std::fs::remove_file(data.join(name)).unwrap();
    }
}

#[tokio::test]
async fn on_a_volume_that_a_group_can_write_to_a_directory_below_it_is_made_private() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let volume = place.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    set_mode(&volume, 0o2775);
    let on = |dir: &str| {
        let mut command = place.command_on(&database.url, &[]);
        command.env("DATA_DIR", place.path().join(dir));
        command
    };
    let line = refused(on("volume")).await;
    assert!(line.contains("can be written to by other users (mode 2775)"), "{line}");
    let service = Process::start(on("volume/mirror")).ready().await;
    service.ends_well_on("TERM").await;
    let mode = |name: &str| std::fs::metadata(volume.join("mirror").join(name)).unwrap().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for entry in std::fs::read_dir(volume.join("mirror")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert_eq!(mode(&name), 0o600, "{name}");
    }
}

#[tokio::test]
async fn an_ordinary_user_refuses_what_a_stranger_prepared_and_takes_what_root_did() {
    let place = Place::new();
    let as_root = is_root(&place);
    let Some(mut command) = ordinary_user(&place) else { return skipped("there is no account `nobody`") };
    if !as_root {
        return skipped("only root can prepare another user's files");
    }
    command.arg("migrate");
    let file = place.path().join(".env");
    std::fs::write(&file, "RUST_LOG=debug\n").unwrap();
    let ended = run(command).await;
    assert_eq!(ended.code, Some(0), "root's file is taken: {ended:?}");
    chown(&file, Some(1), None).unwrap();
    let mut command = ordinary_user(&place).unwrap();
    command.arg("migrate");
    let line = refused(command).await;
    assert!(line.contains(".env belongs to user id 1"), "{line}");
}

/// Waits until its user namespace is described, then goes on as root of it, where no further namespace can be made.
const WITHOUT_NAMESPACES: &str =
    r#"read go; exec sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0"' "$0""#;

/// Starts a program as root of a user namespace in which all users of the machine exist and no further namespace can be
/// made, as in a container; there the embedded server has to run as an account of its own. None: not possible here.
async fn without_namespaces(place: &Place, program: &Path) -> Option<Process> {
    let (input, mut go) = std::io::pipe().unwrap();
    let mut command = place.program("unshare");
    command.args(["--user", "sh", "-c", WITHOUT_NAMESPACES]).arg(program);
    let mut process = Process::start_with_input(command, input.into());
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let own = namespace("self")?;
    let is_apart = |process: &mut Process| {
        namespace(&process.pid().to_string()).is_some_and(|theirs| theirs != own)
            || process.log().contains("unshare")
    };
    process.until(is_apart, "a namespace of its own").await;
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", process.pid()), "0 0 65536\n").ok()?;
    }
    go.write_all(b"go\n").unwrap();
    Some(process)
}

#[tokio::test]
async fn root_without_user_namespaces_lets_the_account_of_the_server_through_its_private_directory() {
    let place = Place::new();
    set_mode(&place.path(), 0o755);
    let program = place.path().join("group-mirror");
    std::fs::copy(crate::support::process::BINARY, &program).unwrap();
    for _ in 0..2 {
        let service = if is_root(&place) { without_namespaces(&place, &program).await } else { None };
        let Some(service) = service else {
            return skipped("no user namespace can be made here");
        };
        let service = service.ready().await;
        service.takes_a_group().await;
        service.serves_the_group().await;
        let owner = std::fs::metadata(place.postgres()).unwrap().uid();
        assert_ne!(owner, 0, "the server has an account of its own");
        service.ends_well_on("INT").await;
        // What root puts there later, or a link of the account leads to, is not walked at the next start.
        let later = place.postgres().join("later");
        if later.exists() {
            assert_eq!(std::fs::metadata(&later).unwrap().uid(), 0, "root's file stays root's");
        }
        std::fs::write(&later, "").unwrap();
    }
    let mode = std::fs::metadata(place.path().join("data")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o711, "the account may pass through and not list");
}

#[tokio::test]
async fn a_path_that_is_not_utf_8_and_a_directory_without_programs_are_refused_by_the_name_of_the_variable() {
    let place = Place::new();
    let mut command = place.command(&[]);
    command.env("DATA_DIR", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert!(refused(command).await.starts_with("DATA_DIR is not UTF-8"));
    for (dir, words) in [("/nope", "No such file"), ("/tmp", "it has no postgres")] {
        let mut command = place.command(&["migrate"]);
        command.env("PG_BIN_DIR", dir);
        let line = refused(command).await;
        assert!(line.starts_with(&format!("PG_BIN_DIR is {dir:?}")) && line.contains(words), "{line}");
    }
    let (programs, _) = programs_of_a_stranger(&place);
    std::fs::write(programs.join("postgres"), "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6'\n").unwrap();
    let mut command = place.command(&["migrate"]);
    command.env("PG_BIN_DIR", &programs);
    let line = refused(command).await;
    assert!(line.contains("PostgreSQL 9.6; 15 or newer is needed"), "{line}");
}

#[tokio::test]
async fn secrets_come_from_files_one_a_line() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let file = |name: &str, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut command = place.command(&[]);
    command.env("SDK_APP_ID", crate::support::APP);
    command.env("DATABASE_URL_FILE", file("url", &format!("{}\n", database.url)));
    command.env("CALLBACK_TOKEN_FILE", file("callback", "with,comma\nmirror-secret-01\n"));
    command.env("API_TOKEN_FILE", file("api", "desk:of,the,desk\n\nother\n"));
    let service = Process::start(command).ready().await;
    let body = crate::support::sample("Group.CallbackAfterCreateGroup").to_string();
    let answer = service.post(&crate::support::signed_query(), body).await;
    assert_eq!(answer.text().await.unwrap(), crate::support::OK);
    assert_eq!(service.get_as("of,the,desk", "/v1/groups").await.status(), 200);
    assert_eq!(service.get_as("of", "/v1/groups").await.status(), 401);
    service.ends_well_on("TERM").await;
    for name in ["DATABASE_URL", "CALLBACK_TOKEN", "API_TOKEN"] {
        let mut command = place.command_on(&database.url, &[]);
        command.env(format!("{name}_FILE"), place.path().join("api"));
        assert_eq!(refused(command).await, format!("{name} and {name}_FILE are both set; unset one of them"));
        let mut command = place.command_on(&database.url, &[]);
        command.env_remove(name).env(format!("{name}_FILE"), "/nowhere");
        let line = refused(command).await;
        assert!(line.starts_with(&format!("{name}_FILE: cannot open /nowhere")), "{line}");
    }
}
