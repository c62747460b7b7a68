//! The embedded PostgreSQL: a server of its own that the service starts where no `DATABASE_URL` is set.
//!
//! This file owns the server's life: attach or start, wait until it answers, stop it with the service. `cluster` owns its
//! files, `running` the search for a server that runs, `programs` the choice of programs, `process` the child processes.
//! The module knows neither the schema nor sqlx nor the environment; it hands out a URL and nothing else.

mod bundled;
mod cluster;
mod error;
mod interrupt;
mod process;
mod programs;
mod running;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use bundled::{BundledPostgres, bundled_postgres};
pub use error::EmbeddedError;
pub use interrupt::Interrupt;
pub use programs::Programs;

use cluster::{DataDirectory, NAME};
use process::{ParentDeathSignal, RunAs, Server, Stop};
use programs::ServerPrograms;
use running::{PORT, RunningServer};

/// Longest wait for a started server to become ready. Crash recovery may have to replay 1 GB of log on a slow
/// disk.
const READY_LIMIT: Duration = Duration::from_mins(2);

/// How often readiness is looked at. A start takes about 40 ms.
const READY_POLL: Duration = Duration::from_millis(5);

/// Longest wait for a fast shutdown, which writes a checkpoint; after it the server is stopped at once, which
/// loses nothing but makes the next start replay the log.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(20);

/// Longest wait for an immediate shutdown; the server itself kills its processes after 5 s.
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(7);

/// Longest wait for the kernel to remove a killed process.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// The embedded server of one directory, started or attached to.
///
/// A server that this value started ends with it, and also when the process is killed (Linux; elsewhere a
/// server left behind is attached to by the next start). One that was attached to ends with the process that
/// started it.
#[derive(Debug)]
pub struct Embedded {
    url: String,
    socket_dir: PathBuf,
    port: u16,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    server: Server,
    /// Socket directory outside the data directory, to be removed after the stop.
    outside: Option<PathBuf>,
    /// From inside this binary.
    bundled: bool,
}

impl Embedded {
    /// Attaches to the running embedded server of `dir`, or starts it; makes `dir` and the cluster in it first
    /// where needed. `dir` may be relative. Blocks: about 1 s at first, 0.1 s later, and at most a few
    /// minutes (crash recovery, another process that starts or stops the same server).
    ///
    /// May be called from any thread, short-lived ones too.
    ///
    /// # Errors
    /// See [`EmbeddedError`]. Nothing is left running then.
    pub fn start(dir: &Path, programs: &Programs) -> Result<Embedded, EmbeddedError> {
        Self::start_unless(dir, programs, &Interrupt::default())
    }

    /// The same, until another thread sets `interrupt`: then it ends within moments.
    ///
    /// # Errors
    /// [`EmbeddedError::Interrupted`], and as above. Nothing is left running then.
    pub fn start_unless(
        dir: &Path,
        programs: &Programs,
        interrupt: &Interrupt,
    ) -> Result<Embedded, EmbeddedError> {
        let started = Self::attach_or_start(dir, programs, interrupt);
        // What was given up half-way fails in many ways.
        started.map_err(|error| interrupt.check().err().unwrap_or(error))
    }

    fn attach_or_start(
        dir: &Path,
        programs: &Programs,
        interrupt: &Interrupt,
    ) -> Result<Embedded, EmbeddedError> {
        let mut home = DataDirectory::open(dir, interrupt)?;
        let _lock = home.lock()?;
        if let Some(running) = running::settle(home.dir(), home.open_cluster()?.as_ref(), interrupt)? {
            tracing::info!(pid = running.pid, "using the embedded PostgreSQL that is already running");
            return Ok(Embedded::new(running.socket_dir, running.port, None));
        }
        let found = programs::find(programs, home.major()?, home.dir(), interrupt)?;
        let run_as = home.choose_user(&found)?;
        home.make_cluster(&found, run_as)?;
        let socket_dir = home.socket_dir(run_as)?;
        home.remove_stale(&socket_dir)?;
        let socket_dir = socket_dir.path().to_path_buf();
        let server = launch(&home, &found, run_as, &socket_dir)?;
        announce(&home, &found, &server);
        let outside = (!socket_dir.starts_with(home.dir())).then(|| socket_dir.clone());
        let started = Started { server, outside, bundled: found.bundled };
        Ok(Embedded::new(socket_dir, PORT, Some(started)))
    }

    fn new(socket_dir: PathBuf, port: u16, started: Option<Started>) -> Embedded {
        // The port and `sslmode` keep PGPORT and PGSSLMODE of the environment out of the client's hands.
        let url = format!(
            "postgres://{NAME}@localhost:{port}/{NAME}?host={}&sslmode=disable",
            percent_encoded(socket_dir.as_os_str())
        );
        Embedded { url, socket_dir, port, started }
    }

    /// URL of the database over the unix socket; role and database exist. It contains no secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A `psql` command line for a person to paste into a shell.
    #[must_use]
    pub fn psql_line(&self) -> String {
        format!(
            "psql -h {} -p {} -U {NAME} {NAME}",
            shell_quoted(&self.socket_dir.to_string_lossy()),
            self.port
        )
    }

    /// True if this value started the server, false if it attached to one already running.
    #[must_use]
    pub fn started_here(&self) -> bool {
        self.started.is_some()
    }

    /// What the programs are, if the server was started here by those inside this binary.
    #[must_use]
    pub fn bundled(&self) -> Option<BundledPostgres> {
        self.started.as_ref().filter(|started| started.bundled).and_then(|_| bundled_postgres())
    }

    /// Stops the server if it was started here, and waits for its end: a fast shutdown, which ends sessions
    /// and writes a checkpoint, for 20 s, then harder ways. Dropping the value does the same.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        if let Some(mut started) = self.started.take() {
            end(&mut started.server);
            if let Some(outside) = started.outside {
                // Stays when the server was killed and left its socket; the next start clears it.
                let _ = std::fs::remove_dir(outside);
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Stops a server, each way harder than the one before.
fn end(server: &mut Server) {
    for (how, limit) in
        [(Stop::Fast, FAST_STOP_LIMIT), (Stop::Immediate, IMMEDIATE_STOP_LIMIT), (Stop::Kill, KILL_LIMIT)]
    {
        server.ask_to_stop(how);
        if server.wait(limit) {
            return;
        }
        tracing::warn!(pid = server.pid(), ?how, "the embedded PostgreSQL does not stop");
    }
}

fn announce(home: &DataDirectory, found: &ServerPrograms, server: &Server) {
    if found.bundled {
        tracing::warn!(
            pid = server.pid(),
            dir = %home.dir().display(),
            "started the bundled PostgreSQL {}{}; it has no timers: statement_timeout, lock_timeout and the detection of \
             deadlocks do nothing in it, so use it to try things out and set DATABASE_URL in production",
            found.version,
            bundled_postgres()
                .map(|known| format!(" (released on {}, from the crate {})", known.released, known.source))
                .unwrap_or_default()
        );
    } else {
        tracing::info!(
            pid = server.pid(),
            dir = %home.dir().display(),
            "started an embedded PostgreSQL {}",
            found.version
        );
    }
}

/// Starts the server process and waits until it accepts connections.
fn launch(
    home: &DataDirectory,
    found: &ServerPrograms,
    run_as: RunAs,
    socket_dir: &Path,
) -> Result<Server, EmbeddedError> {
    let (log, log_start) = home.open_log()?;
    let stdout = log.try_clone().map_err(EmbeddedError::io("use", &home.log_file()))?;
    let mut command = process::command(&found.postgres(), run_as, ParentDeathSignal::FastShutdown);
    command
        .arg("-D")
        .arg(home.cluster())
        .arg("-k")
        .arg(socket_dir)
        .arg("-p")
        .arg(PORT.to_string())
        .args(settings(found))
        .stdout(stdout)
        .stderr(log);
    let mut server = Server::start(command).map_err(EmbeddedError::io("run", &found.postgres()))?;
    let begun = Instant::now();
    loop {
        if server.ended().is_some() {
            server.wait(KILL_LIMIT);
            let log_tail = home.log_tail(log_start);
            return Err(EmbeddedError::EndedAtStart { log_tail });
        }
        if ready(home, &server) {
            server.put_to_use();
            return Ok(server);
        }
        if let Err(interrupted) = home.interrupt().check() {
            end(&mut server);
            return Err(interrupted);
        }
        if begun.elapsed() > READY_LIMIT {
            end(&mut server);
            return Err(EmbeddedError::NotReady {
                seconds: READY_LIMIT.as_secs(),
                log_tail: home.log_tail(log_start),
            });
        }
        thread::sleep(READY_POLL);
    }
}

/// A file of an earlier server may still say "ready", so the pid in it must be the new one's.
fn ready(home: &DataDirectory, server: &Server) -> bool {
    let cluster = home.open_cluster().ok().flatten();
    cluster
        .and_then(|cluster| running::read_pid_file(&cluster))
        .is_some_and(|(RunningServer { pid, .. }, status)| pid == server.pid() && status == "ready")
}

/// Settings on the command line: they hold for old clusters too, and whatever their files say.
fn settings(found: &ServerPrograms) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=",
        "unix_socket_permissions=0700",
        "logging_collector=off",
        "log_destination=stderr",
        "log_timezone=UTC",
        "timezone=UTC",
        "max_connections=100",
        "fsync=on",
        "cluster_name=group_mirror",
    ];
    if found.bundled {
        // The bundled build's other kind of shared memory is a stub, and `initdb` picks it where /dev/shm is
        // missing.
        settings.extend(["dynamic_shared_memory_type=mmap", "shared_buffers=64MB"]);
    } else {
        settings.push("shared_buffers=128MB");
    }
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting.to_owned()]).collect()
}

fn percent_encoded(text: &OsStr) -> String {
    let mut encoded = String::new();
    for byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{percent_encoded, shell_quoted};

    #[test]
    fn paths_are_encoded_and_quoted() {
        assert_eq!(percent_encoded(OsStr::new("/a b/c&d")), "%2Fa%20b%2Fc%26d");
        assert_eq!(shell_quoted("/it's"), r"'/it'\''s'");
    }
}
