//! A real PgBouncer on loopback before the server of a test's database; none where the program is not installed.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use super::chaos::Proxy;
use super::eventually;
use super::postgres::TestDatabase;

/// One that runs; stopped when dropped.
pub(crate) struct Bouncer {
    child: Child,
    _server: Proxy,
    /// Of the database, through it.
    pub url: String,
    /// Host and port.
    pub address: String,
    /// Version, such as `1.18.0`.
    pub version: String,
    _dir: TempDir,
}

impl Bouncer {
    /// Starts one with these lines in its ini file. Prints and answers `None` where there is no program: `PGBOUNCER` names
    /// another one than that of the path.
    pub(crate) async fn start(database: &TestDatabase, settings: &str) -> Option<Self> {
        Self::start_with(database, "", settings).await
    }

    /// The same with more in the line of the database.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub(crate) async fn start_with(database: &TestDatabase, line: &str, settings: &str) -> Option<Self> {
        let program = std::env::var_os("PGBOUNCER").map_or_else(|| PathBuf::from("pgbouncer"), PathBuf::from);
        let Ok(version) = Command::new(&program).arg("--version").output() else {
            println!("skipped: there is no {}; install pgbouncer or name it by PGBOUNCER", program.display());
            return None;
        };
        let version = String::from_utf8_lossy(&version.stdout).to_lowercase();
        let version = version.split_whitespace().nth(1).unwrap().to_owned();
        let dir = tempfile::tempdir().unwrap();
        // It has a user of its own, which the server's socket may not be open to.
        let proxy = Proxy::start(&database.url).await;
        let server = PgConnectOptions::from_str(&proxy.url).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = server.get_database().unwrap();
        let login = proxy.url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
        let password = login.and_then(|(login, _)| login.split_once(':')).map(|(_, password)| password);
        let password = password.map_or_else(String::new, |password| format!("password={password}"));
        let ini = format!(
            "[databases]\n{name} = host=127.0.0.1 port={} user={} {password} {line}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\nunix_socket_dir =\npidfile = {}\n{settings}\n",
            server.get_port(),
            server.get_username(),
            dir.path().join("pid").display(),
        );
        let file = dir.path().join("pgbouncer.ini");
        std::fs::write(&file, ini).unwrap();
        open_to_all(dir.path());
        let mut command = Command::new(&program);
        // It refuses to run as root; with `-u` it changes to another user first.
        if std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0) {
            command.args(["-u", "postgres"]);
        }
        let child = command.arg("-q").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        assert!(eventually(listens).await, "it listens");
        let url = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(server.get_username());
        let url = url.database(name).ssl_mode(sqlx::postgres::PgSslMode::Disable).to_url_lossy().to_string();
        Some(Self { child, _server: proxy, url, address: format!("127.0.0.1:{port}"), version, _dir: dir })
    }

    /// A URL that names several.
    pub(crate) fn url_of<const N: usize>(bouncers: [&Self; N]) -> String {
        let hosts = bouncers.map(|bouncer| bouncer.address.clone()).join(",");
        bouncers[0].url.replacen(&bouncers[0].address, &hosts, 1)
    }

    /// True where it can carry prepared statements in transaction mode.
    pub(crate) fn carries_statements(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) >= (1, 21)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_to_all(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
}
