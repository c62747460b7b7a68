//! A start that is interrupted: whatever it waits for, the process ends at the first signal and leaves nothing running.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use group_mirror::embedded::Embedded;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::postgres::{TestDatabase, programs};
use crate::support::process::{BINARY, Place, Process, refused};

/// A directory with scripts in the place of the server programs.
fn scripts(place: &Place, postgres: &str, initdb: &str) -> std::path::PathBuf {
    let dir = place.path().join("programs");
    std::fs::create_dir(&dir).unwrap();
    for (name, text) in [("postgres", postgres), ("initdb", initdb)] {
        std::fs::write(dir.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// Processes whose command line names this place, the service itself left out.
fn children(place: &Path, service: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(place.to_str().unwrap())
    };
    pids.filter(|pid| *pid != service).filter(names).collect()
}

/// Sends the signal, and asserts that the process ends with 0 and leaves nothing.
async fn ends_at_the_first_signal(mut service: Process, place: &Place) {
    service.signal("INT");
    service.says("the start is given up").await;
    let pid = service.pid();
    let ended = service.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(children(&place.path(), pid), Vec::<u32>::new());
    place.assert_no_server();
}

#[tokio::test]
async fn a_start_that_waits_for_another_start_of_the_same_server_can_be_interrupted() {
    let place = Place::new();
    std::fs::create_dir_all(place.postgres()).unwrap();
    for dir in [place.path().join("data"), place.postgres()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let held = std::fs::File::create(place.postgres().join("lock")).unwrap();
    held.lock().unwrap();
    let mut service = Process::start(place.command(&[]));
    service.until(|service| holds_open(service.pid(), "/lock"), "the lock is waited for").await;
    ends_at_the_first_signal(service, &place).await;
}

/// Whether a process has a file open whose path ends so.
fn holds_open(pid: u32, end: &str) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut paths = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    paths.any(|path| path.to_str().is_some_and(|path| path.ends_with(end) && path.contains("postgres")))
}

#[tokio::test]
async fn a_start_whose_initdb_hangs_can_be_interrupted() {
    let place = Place::new();
    let mark = place.path().join("hangs");
    let hangs = format!("touch '{}'; exec sleep 600", mark.display());
    let dir = scripts(&place, "echo 'postgres (PostgreSQL) 15.1'", &hangs);
    let mut command = place.command(&[]);
    command.env("PG_BIN_DIR", &dir);
    let mut service = Process::start(command);
    service.until(|_| mark.exists(), "initdb runs").await;
    ends_at_the_first_signal(service, &place).await;
}

#[tokio::test]
async fn a_start_whose_server_does_not_become_ready_can_be_interrupted() {
    let place = Place::new();
    let mark = place.path().join("hangs");
    // It says its version, and makes a cluster; as a server it never becomes ready.
    let postgres = format!(
        "case \"$*\" in --version) echo 'postgres (PostgreSQL) 15.1';; --single*) cat >/dev/null;; \
         *) touch '{}'; exec sleep 600;; esac",
        mark.display()
    );
    let initdb =
        "while [ $# -gt 0 ]; do [ \"$1\" = -D ] && mkdir \"$2\" && echo 15 >\"$2/PG_VERSION\"; shift; done";
    let dir = scripts(&place, &postgres, initdb);
    let mut command = place.command(&[]);
    command.env("PG_BIN_DIR", &dir);
    let mut service = Process::start(command);
    service.until(|_| mark.exists(), "the server runs").await;
    ends_at_the_first_signal(service, &place).await;
}

#[tokio::test]
async fn a_start_whose_migration_waits_for_a_lock_can_be_interrupted() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("data")).unwrap();
    std::fs::set_permissions(place.path().join("data"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let server = Embedded::start(&place.postgres(), &programs()).unwrap();
    let mut holder = PgConnection::connect(server.url()).await.unwrap();
    // The table that migrations are recorded in, made by a transaction that stays open.
    holder.execute("BEGIN; CREATE TABLE _sqlx_migrations (version bigint)").await.unwrap();
    let mut watcher = PgConnection::connect(server.url()).await.unwrap();
    let mut service = Process::start(place.command(&[]));
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
    loop {
        service.until(|_| true, "it lives").await;
        if sqlx::query_scalar(waits).fetch_one(&mut watcher).await.unwrap() {
            break;
        }
    }
    service.signal("TERM");
    let ended = service.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("the start is given up"), "{ended:?}");
    // The server was running before, so it stays.
    holder.execute("ROLLBACK").await.unwrap();
    drop((holder, watcher));
    server.stop();
    place.assert_no_server();
}

/// Starts `serve` with a socket as its descriptor 3, as a service manager does.
fn activated(place: &Place, name: &str, set: &[(&str, &str)]) -> std::process::Command {
    let mut command = place.program("sh");
    command.args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" serve", BINARY]);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).envs(set.iter().copied());
    command
}

#[tokio::test]
async fn a_socket_of_the_service_manager_that_others_can_reach_is_refused_without_tokens() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let url = ("DATABASE_URL", database.url.as_str());
    let app = ("SDK_APP_ID", crate::support::APP);
    let token = ("CALLBACK_TOKEN", crate::support::TOKEN);
    for (name, set, words) in [
        ("api", &[url, app, token, ("API_AUTH", "none")][..], "API_AUTH is \"none\""),
        ("api", &[url, app, token, ("API_TOKEN", "short")], "fewer than 16 characters"),
        ("callback", &[("API_AUTH", "none")], "CALLBACK_TOKEN is not set"),
    ] {
        let command = activated(&place, name, set);
        let input = Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
        let ended = Process::start_with_input(command, input).ended().await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let listen = if name == "api" { "API_LISTEN" } else { "CALLBACK_LISTEN" };
        assert!(ended.stderr.contains(&format!("{listen} is 0.0.0.0:")), "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
}

#[tokio::test]
async fn a_start_with_the_open_api_on_a_database_of_ones_own_warns_of_proxies() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut command = place.command_on(&database.url, &[]);
    command.env_remove("API_TOKEN").env("API_AUTH", "none");
    let mut service = Process::start(command);
    service.says("a proxy on this machine").await;
    service.ready().await.ends_well_on("TERM").await;
    let mut command = place.command_on(&database.url, &[]);
    command.env("API_AUTH", "none");
    assert!(refused(command).await.starts_with("API_AUTH is \"none\" and API_TOKEN is set"));
}
