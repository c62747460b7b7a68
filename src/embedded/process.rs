//! Child processes of the embedded PostgreSQL: which user they run as, that they end with this process, and
//! how a long-running one is watched and stopped.
//!
//! All `unsafe` of the crate is here, because the kernel's calls for this have no safe interface. The file knows nothing
//! of clusters, sockets or versions; it runs the command lines it is given.

#![expect(
    unsafe_code,
    reason = "starting a child as another user, and ending it with this process, has no safe API"
)]

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::interrupt::Interrupt;
use crate::files::this_user;

/// How often a short-lived program is asked whether it has ended: short against the 5 ms that the shortest
/// takes.
const PROGRAM_POLL: Duration = Duration::from_millis(3);

/// User id inside a user namespace when the machine has neither `postgres` nor `nobody`. Any but 0 would do.
const NAMESPACE_UID: u32 = 1000;

/// The user that server programs run as. `initdb` and `postgres` refuse to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAs {
    /// As this process.
    Same,
    /// In a user namespace where root of this process appears as user `inside`. Files stay root's.
    Namespace { inside: u32 },
    /// As another user, who must own the files. Only root can do that.
    User { uid: u32, gid: u32 },
}

/// What the kernel sends a child when the thread that started it ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum ParentDeathSignal {
    /// Fast shutdown, for the server itself.
    FastShutdown,
    /// For helper programs whose half-done work is thrown away.
    Kill,
}

/// How to ask a server to end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    /// Ends sessions, writes a checkpoint.
    Fast,
    /// Leaves the rest to crash recovery.
    Immediate,
    /// The kernel takes the postmaster away; its other processes notice and end.
    Kill,
}

/// Whether process `pid` exists. A zombie exists too.
#[cfg(not(target_os = "linux"))]
pub(super) fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 is never delivered, the call only checks that the process is there.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// User and group of the accounts that a root process may hand the server to, best first: `postgres`, `nobody`.
pub(super) fn server_accounts() -> Vec<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse::<u32>().ok()?;
        let gid = fields.next()?.parse::<u32>().ok()?;
        (uid != 0).then_some((uid, gid))
    };
    ["postgres", "nobody"].into_iter().filter_map(find).collect()
}

/// The user that owns `path`, for programs that lie where this user could have changed them.
pub(super) fn owner_of(path: &Path) -> io::Result<RunAs> {
    let about = fs::metadata(path)?;
    if about.uid() == this_user() {
        return Ok(RunAs::Same);
    }
    Ok(RunAs::User { uid: about.uid(), gid: about.gid() })
}

/// The namespace variant of [`RunAs`] where the system has it, with a user id that has an account where
/// possible: `initdb` looks its own up.
pub(super) fn namespace() -> Option<RunAs> {
    cfg!(target_os = "linux").then(|| RunAs::Namespace {
        inside: server_accounts().first().map_or(NAMESPACE_UID, |(uid, _)| *uid),
    })
}

/// A command line for `program` with an empty environment but for `LC_ALL=C` (settings such as `PGDATA` of
/// the caller must not reach it), no input, its own process group (a terminal's Ctrl-C is the service's to
/// handle), and `at_parent_death` when the starting thread ends (Linux only).
pub(super) fn command(program: &Path, run_as: RunAs, at_parent_death: ParentDeathSignal) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .process_group(0);
    if let RunAs::User { uid, gid } = run_as {
        command.uid(uid).gid(gid);
    }
    prepare_child(&mut command, run_as, at_parent_death);
    command
}

#[cfg(target_os = "linux")]
fn prepare_child(command: &mut Command, run_as: RunAs, at_parent_death: ParentDeathSignal) {
    let signal = match at_parent_death {
        ParentDeathSignal::FastShutdown => libc::SIGINT,
        ParentDeathSignal::Kill => libc::SIGKILL,
    };
    let maps = match run_as {
        RunAs::Namespace { inside } => Some([
            // Unprivileged writers of `gid_map` must give up setgroups first.
            (c"/proc/self/setgroups", "deny".to_owned()),
            (c"/proc/self/uid_map", format!("{inside} {} 1", this_user())),
            (c"/proc/self/gid_map", format!("{inside} {} 1", rustix::process::getegid().as_raw())),
        ]),
        RunAs::Same | RunAs::User { .. } => None,
    };
    let parent = libc::pid_t::try_from(std::process::id()).unwrap_or(0);
    let in_child = move || {
        if let Some(maps) = &maps {
            linux::enter_user_namespace()?;
            for (path, line) in maps {
                linux::write_line(path, line)?;
            }
        }
        linux::end_with_parent(parent, signal)
    };
    // SAFETY: the closure runs in the child between fork and exec. It makes only async-signal-safe system
    // calls on memory that was allocated before the fork; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(in_child);
    }
}

// Other systems have no such signal: a server that outlives a killed service is found and used by the next
// start.
#[cfg(not(target_os = "linux"))]
fn prepare_child(_command: &mut Command, _run_as: RunAs, _at_parent_death: ParentDeathSignal) {}

/// System calls made in a child between fork and exec.
#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CStr;
    use std::io;

    fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
        if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
    }

    pub(super) fn enter_user_namespace() -> io::Result<()> {
        // SAFETY: takes no pointers. It changes only the calling process, which has one thread after fork.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }).map(drop)
    }

    /// Writes `line` to a file of `/proc` in one call, as the kernel asks for these files.
    pub(super) fn write_line(path: &CStr, line: &str) -> io::Result<()> {
        // SAFETY: `path` ends with NUL and outlives the call.
        let file = check(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
        // SAFETY: pointer and length describe the bytes of `line`, which outlives the call.
        let written = unsafe { libc::write(file, line.as_ptr().cast(), line.len()) };
        let outcome = if written == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: `file` was opened above and is closed once.
        unsafe { libc::close(file) };
        outcome
    }

    /// Must follow every change of user: the kernel forgets the setting then.
    pub(super) fn end_with_parent(parent: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
        let signal = libc::c_ulong::try_from(signal).unwrap_or(0);
        // SAFETY: PR_SET_PDEATHSIG reads one integer argument and no memory.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) })?;
        // SAFETY: getppid takes no arguments and cannot fail.
        if unsafe { libc::getppid() } == parent {
            Ok(())
        } else {
            // The parent ended before the setting was made, so no signal will ever come.
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }
}

/// Runs a short-lived program to its end and returns what it printed. It is killed after `limit` (`TimedOut`), and when the
/// start is given up (`Interrupted`). `input` must fit into a pipe (a few kilobytes), and so must the output.
pub(super) fn run(
    mut command: Command,
    input: &str,
    limit: Duration,
    interrupt: &Interrupt,
) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input.as_bytes())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    let deadline = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        let late = Instant::now() >= deadline;
        if late || interrupt.is_set() {
            child.kill()?;
            child.wait()?;
            return Err(if late {
                io::Error::new(io::ErrorKind::TimedOut, format!("no end after {} s", limit.as_secs()))
            } else {
                io::ErrorKind::Interrupted.into()
            });
        }
        thread::sleep(PROGRAM_POLL);
    }
    child.wait_with_output()
}

/// A running server process, started from a thread of its own that lives as long as the process.
///
/// The thread matters: the kernel sends the signal of [`ParentDeathSignal`] when the starting *thread* ends, and callers may
/// start a server from a pool thread or a test.
#[derive(Debug)]
pub(super) struct Server {
    pid: u32,
    shared: Arc<ProcessState>,
    parent: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct ProcessState {
    ended: Mutex<Option<ExitStatus>>,
    changed: Condvar,
    /// Whether an end is reported: from the time the server is in use until it is asked to end.
    in_use: AtomicBool,
}

impl ProcessState {
    // Nothing panics with the lock held, and the value is valid at any moment.
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Starts `command`. Fails when the program cannot be run or the user not be changed.
    pub(super) fn start(mut command: Command) -> io::Result<Server> {
        let shared = Arc::new(ProcessState::default());
        let theirs = Arc::clone(&shared);
        let (started, pid) = mpsc::sync_channel(1);
        let parent =
            thread::Builder::new().name("postgres-parent".to_owned()).spawn(move || {
                match command.spawn() {
                    Ok(child) => {
                        let _ = started.send(Ok(child.id()));
                        attend(child, &theirs);
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
        let pid = pid.recv().map_err(io::Error::other)??;
        Ok(Server { pid, shared, parent: Some(parent) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// From now on an end that was not asked for is reported in the log.
    pub(super) fn put_to_use(&self) {
        self.shared.in_use.store(true, Ordering::Relaxed);
    }

    /// The exit status, once the process has ended.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        *self.shared.lock()
    }

    /// Asks the process to end; nothing happens when it already has.
    pub(super) fn ask_to_stop(&self, how: Stop) {
        let signal = match how {
            Stop::Fast => libc::SIGINT,
            Stop::Immediate => libc::SIGQUIT,
            Stop::Kill => libc::SIGKILL,
        };
        self.shared.in_use.store(false, Ordering::Relaxed);
        let ended = self.shared.lock();
        if ended.is_none()
            && let Ok(pid) = libc::pid_t::try_from(self.pid)
        {
            // SAFETY: no memory is involved. The child is reaped only under the lock held here, so `pid` is
            // still its.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Waits for the end of the process, at most `limit`; true where it has ended.
    pub(super) fn wait(&mut self, limit: Duration) -> bool {
        let ended = {
            let (ended, _) = self
                .shared
                .changed
                .wait_timeout_while(self.shared.lock(), limit, |ended| ended.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            ended.is_some()
        };
        if ended && let Some(parent) = self.parent.take() {
            let _ = parent.join();
        }
        ended
    }
}

/// Stays with the child until it ends, then notes its status.
fn attend(mut child: Child, shared: &ProcessState) {
    wait_unreaped(child.id());
    let mut ended = shared.lock();
    // An error cannot happen for a child of ours; a made-up status ends the wait of those who wait.
    let status = child.wait().unwrap_or_default();
    *ended = Some(status);
    shared.changed.notify_all();
    if shared.in_use.load(Ordering::Relaxed) {
        tracing::error!(pid = child.id(), %status, "the embedded PostgreSQL ended by itself");
    }
}

/// Blocks until child `pid` has ended, and leaves it a zombie, so that its id stays taken until it is reaped.
fn wait_unreaped(pid: u32) {
    loop {
        // SAFETY: `siginfo_t` is plain data for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writes during the call.
        let answer = unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
        if answer == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}
