//! The files of an embedded PostgreSQL: one directory with the cluster, its socket, log and start lock, who may
//! enter it, and what a killed server leaves in it. This file knows the layout; it neither chooses programs nor
//! starts or stops the server.
//!
//! `lock`, `cluster/`, `socket/`, `postgres.log`, `programs-*/` (unpacked) and `*.new*` (unfinished) lie in
//! it.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::error::EmbeddedError;
use super::interrupt::Interrupt;
use super::process::{self, ParentDeathSignal, RunAs};
use super::programs::ServerPrograms;
use super::running::{PID_FILE, PORT};
use crate::files::{Access, PrivateDir, this_user};

/// The server's log, in its directory.
const LOG_NAME: &str = "postgres.log";

/// Superuser and database of the embedded server. There is no password: who can enter the directory may
/// connect.
pub(super) const NAME: &str = "group_mirror";

/// Longest wait for another process that is starting the same server: the sum of what it may wait for itself.
const LOCK_LIMIT: Duration = Duration::from_mins(5);

/// How often the lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(25);

/// Longest run of `initdb` or of the program call that makes the database. They take 1 s; a slow disk takes
/// longer.
const INITDB_LIMIT: Duration = Duration::from_mins(1);

/// Longest run of a program that is asked for nothing but its version.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Longest path of a unix socket that the operating system takes, without the final NUL.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Longest `PG_VERSION`, which is a number and a line break.
const VERSION_MAX: u64 = 64;

/// Size in bytes from which a start sets the log aside (one old log is kept).
const LOG_MAX: u64 = 16 * 1024 * 1024;

/// Lines of a program's output that an error text quotes, and bytes that are read to find them.
const TAIL_LINES: usize = 5;
const TAIL_BYTES: u64 = 16 * 1024;

/// The directory of an embedded server; absolute, without links, 0700.
#[derive(Debug)]
pub(super) struct DataDirectory {
    home: PrivateDir,
    dir: PathBuf,
    interrupt: Interrupt,
    /// Its owner.
    uid: u32,
    gid: u32,
}

impl DataDirectory {
    /// Opens `dir`, making it where needed. It may belong to an account that root has given it to.
    pub(super) fn open(dir: &Path, interrupt: &Interrupt) -> Result<DataDirectory, EmbeddedError> {
        let accounts = if this_user() == 0 { process::server_accounts() } else { Vec::new() };
        let accounts: Vec<u32> = accounts.into_iter().map(|(uid, _)| uid).collect();
        let home = PrivateDir::make_shared(dir, &accounts)?;
        let dir = fs::canonicalize(dir).map_err(EmbeddedError::io("find", dir))?;
        if home.mode()? & 0o777 != 0o700 {
            home.set_mode(0o700)?;
        }
        let (uid, gid) = home.owner()?;
        Ok(DataDirectory { home, dir, interrupt: interrupt.clone(), uid, gid })
    }

    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// The cluster; none before it is made. A link in its place is refused: it could lead root to another user's files,
    /// or to root's own.
    pub(super) fn open_cluster(&self) -> Result<Option<PrivateDir>, EmbeddedError> {
        match self.home.below("cluster") {
            Err(error) if error.is_missing() => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.dir.join(LOG_NAME)
    }

    /// Keeps other processes from starting the same server for as long as the file is held. The kernel releases
    /// the lock when the process ends.
    pub(super) fn lock(&self) -> Result<File, EmbeddedError> {
        let path = self.dir.join("lock");
        let file = self.home.file("lock", Access::Append)?;
        let begun = Instant::now();
        loop {
            self.interrupt.check()?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => {
                    return Err(EmbeddedError::io("lock", &path)(error));
                }
                Err(TryLockError::WouldBlock) if begun.elapsed() > LOCK_LIMIT => {
                    return Err(EmbeddedError::Locked {
                        dir: self.dir.clone(),
                        seconds: LOCK_LIMIT.as_secs(),
                    });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
            }
        }
    }

    /// Major version that the cluster belongs to; none before there is one.
    pub(super) fn major(&self) -> Result<Option<u32>, EmbeddedError> {
        let Some(cluster) = self.open_cluster()? else { return Ok(None) };
        let text = cluster.read_text("PG_VERSION", VERSION_MAX)?;
        let path = self.cluster().join("PG_VERSION");
        let failed = EmbeddedError::io("read the version of the cluster from", &path);
        text.trim().parse().map(Some).map_err(|error| failed(io::Error::other(error)))
    }

    /// Whom the server runs as. For root that is the directory's owner, or an appearance of root in a user
    /// namespace, or an account of its own, which then gets the directory.
    pub(super) fn choose_user(&mut self, found: &ServerPrograms) -> Result<RunAs, EmbeddedError> {
        if this_user() != 0 {
            return Ok(RunAs::Same);
        }
        let refused = || EmbeddedError::RootRefused { dir: self.dir.clone() };
        let namespace = process::namespace().filter(|_| self.uid == 0);
        if let Some(run_as) = namespace.filter(|run_as| self.can_run(found, *run_as)) {
            return Ok(run_as);
        }
        let (uid, gid) = match self.uid {
            0 => *process::server_accounts().first().ok_or_else(refused)?,
            owner => (owner, self.gid),
        };
        let run_as = RunAs::User { uid, gid };
        // What an account has owned already may be full of its traps, and needs no other owner.
        let gives = self.uid == 0;
        if gives {
            self.home.set_owner_below(uid, gid)?;
            self.home.set_owner(uid, gid)?;
        }
        if self.can_run(found, run_as) || self.let_through(found, run_as)? {
            return Ok(run_as);
        }
        if gives {
            self.home.set_owner(self.uid, self.gid)?;
            self.home.set_owner_below(self.uid, self.gid)?;
        }
        Err(refused())
    }

    /// Lets the server's account pass through the data directory, which root made for itself alone; not list it. False,
    /// and nothing is changed, where that is not what keeps it out.
    fn let_through(&self, found: &ServerPrograms, run_as: RunAs) -> Result<bool, EmbeddedError> {
        let Some(Ok(around)) = self.dir.parent().map(PrivateDir::open) else { return Ok(false) };
        let mode = around.mode()?;
        around.set_mode(mode | 0o011)?;
        let can_run = self.can_run(found, run_as);
        if !can_run {
            around.set_mode(mode)?;
        }
        Ok(can_run)
    }

    /// Whether `run_as` is allowed here, and can enter the directory and run the programs.
    fn can_run(&self, found: &ServerPrograms, run_as: RunAs) -> bool {
        let mut probe = process::command(&found.postgres(), run_as, ParentDeathSignal::Kill);
        probe.arg("--version").current_dir(&self.dir);
        let output = process::run(probe, "", PROBE_LIMIT, &self.interrupt);
        output.is_ok_and(|output| output.status.success())
    }

    /// Makes the cluster with its role and database, unless there is one.
    ///
    /// All is done in a side directory that is renamed at the end, so that there is never half a cluster.
    pub(super) fn make_cluster(&self, found: &ServerPrograms, run_as: RunAs) -> Result<(), EmbeddedError> {
        if self.open_cluster()?.is_some() {
            return Ok(());
        }
        self.remove_unfinished();
        // A name of its own: programs of an earlier start that was killed may live for another moment.
        let side = self.dir.join(format!("cluster.new-{}", std::process::id()));
        let locale = if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" };
        let mut initdb = process::command(&found.initdb(), run_as, ParentDeathSignal::Kill);
        initdb
            .arg("-D")
            .arg(&side)
            .args(["-U", NAME, "--auth-local=trust", "--auth-host=reject", "-E", "UTF8", locale])
            .arg("--no-instructions")
            .current_dir(&self.dir);
        self.run_maker("initdb", initdb, "")?;
        let mut single = process::command(&found.postgres(), run_as, ParentDeathSignal::Kill);
        single.args(["--single", "-D"]).arg(&side).args(["-c", "exit_on_error=on"]).current_dir(&self.dir);
        if found.bundled {
            single.args(["-c", "dynamic_shared_memory_type=mmap"]);
        }
        single.arg("postgres");
        self.run_maker("postgres --single", single, &format!("create database {NAME};\n"))?;
        fs::rename(&side, self.cluster()).map_err(EmbeddedError::io("finish", &self.cluster()))?;
        Ok(self.home.sync()?)
    }

    fn run_maker(&self, program: &'static str, command: Command, input: &str) -> Result<(), EmbeddedError> {
        let words = match process::run(command, input, INITDB_LIMIT, &self.interrupt) {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                format!("{} ({})", last_lines(&String::from_utf8_lossy(&output.stderr)), output.status)
            }
            Err(error) => error.to_string(),
        };
        Err(EmbeddedError::Initdb { program, dir: self.dir.clone(), words })
    }

    /// Clears what killed starts left. What resists stays: its name is not used again.
    fn remove_unfinished(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(b"cluster.new-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// The directory for the socket, which the server's user owns: `socket` in the data directory or, where
    /// the socket's path would be too long for the operating system, one with a short name below the
    /// temporary directory.
    pub(super) fn socket_dir(&self, run_as: RunAs) -> Result<PrivateDir, EmbeddedError> {
        let near = self.dir.join("socket");
        let place = if fits(&near) {
            near
        } else {
            let name = format!("group-mirror-{:016x}", fingerprint(self.dir.as_os_str().as_bytes()));
            let usual = env::temp_dir().join(&name);
            if fits(&usual) { usual } else { Path::new("/tmp").join(name) }
        };
        let failed = |doing| EmbeddedError::io(doing, &place);
        let made = make_owner_only(&place).map_err(failed("make"))?;
        let owner = match run_as {
            RunAs::User { uid, .. } => uid,
            RunAs::Same | RunAs::Namespace { .. } => this_user(),
        };
        // Anyone can make things below the temporary directory, under this very name too.
        let mut socket_dir = PrivateDir::open_unlinked(&place, &[owner])?;
        if let (RunAs::User { uid, gid }, true) = (run_as, made) {
            socket_dir.set_owner(uid, gid)?;
        }
        if socket_dir.owner()?.0 == owner && socket_dir.mode()? & 0o777 == 0o700 {
            Ok(socket_dir)
        } else {
            Err(failed("use")(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("it is not a directory of user id {owner} that only this user can enter"),
            )))
        }
    }

    /// Removes what a killed server left behind. To be called when no process of the server lives.
    ///
    /// PostgreSQL does the same, but takes a zombie for a living process, and where no process reaps zombies it
    /// would never start again.
    pub(super) fn remove_stale(&self, socket_dir: &PrivateDir) -> Result<(), EmbeddedError> {
        if let Some(cluster) = self.open_cluster()? {
            cluster.remove(PID_FILE)?;
        }
        socket_dir.remove(&format!(".s.PGSQL.{PORT}"))?;
        Ok(socket_dir.remove(&format!(".s.PGSQL.{PORT}.lock"))?)
    }

    /// Opens the log for appending and answers its length. It belongs to the owner of the directory, also where root
    /// makes it.
    pub(super) fn open_log(&self) -> Result<(File, u64), EmbeddedError> {
        if fs::metadata(self.log_file()).map_or(0, |about| about.len()) > LOG_MAX {
            self.home.rename(LOG_NAME, "postgres.log.old")?;
        }
        let file = self.home.file(LOG_NAME, Access::Append)?;
        let owner = self.home.owner()?;
        let length = file.metadata().and_then(|about| {
            if about.uid() != owner.0 {
                fchown(&file, Some(owner.0), Some(owner.1))?;
            }
            Ok(about.len())
        });
        let length = length.map_err(EmbeddedError::io("open", &self.log_file()))?;
        Ok((file, length))
    }

    /// The last lines of the log from byte `start` on, on one line.
    pub(super) fn log_tail(&self, start: u64) -> String {
        let read = || -> Result<String, EmbeddedError> {
            let mut file = self.home.file(LOG_NAME, Access::Read)?;
            let mut bytes = Vec::new();
            let failed = || EmbeddedError::io("read", &self.dir);
            let end = file.metadata().map_err(failed())?.len();
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES)))).map_err(failed())?;
            file.take(TAIL_BYTES).read_to_end(&mut bytes).map_err(failed())?;
            Ok(last_lines(&String::from_utf8_lossy(&bytes)))
        };
        read().unwrap_or_else(|error| format!("its log cannot be read: {error}"))
    }
}

/// Makes directory `path` with mode 0700; true where it was not there before.
fn make_owner_only(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a socket in `dir` has a path that the system takes and the server's list of directories can hold.
fn fits(dir: &Path) -> bool {
    let bytes = dir.as_os_str().as_bytes();
    bytes.len() + format!("/.s.PGSQL.{PORT}").len() <= SOCKET_PATH_MAX
        && !bytes.iter().any(|byte| b",\"".contains(byte))
}

/// 64-bit FNV-1a: the same in every build, unlike the hash of the standard library.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The last lines of a program's words, put on one.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut tail = String::new();
    for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
        let _ = write!(tail, "{}{line}", if tail.is_empty() { "" } else { " | " });
    }
    if tail.is_empty() {
        tail.push_str("it printed nothing");
    }
    tail
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{fits, last_lines};

    #[test]
    fn long_or_odd_socket_paths_do_not_fit() {
        assert!(fits(Path::new(&format!("/{}", "x".repeat(92)))));
        assert!(!fits(Path::new(&format!("/{}", "x".repeat(93)))));
        assert!(!fits(Path::new("/a,b")));
    }

    #[test]
    fn five_lines_are_quoted() {
        assert_eq!(last_lines("1\n2\n\n3\n4\n5\n6\n"), "2 | 3 | 4 | 5 | 6");
        assert_eq!(last_lines("\n"), "it printed nothing");
    }
}
