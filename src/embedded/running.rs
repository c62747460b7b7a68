//! Whether a server runs in a cluster directory: what `postmaster.pid` says, checked against the living processes.
//!
//! It reads `postmaster.pid` and `/proc`, because the pid in the file may belong to any program by now. It starts and
//! stops nothing and changes no file.

#[cfg(target_os = "linux")]
use std::fs;
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::EmbeddedError;
use super::interrupt::Interrupt;
#[cfg(not(target_os = "linux"))]
use super::process;
use crate::files::PrivateDir;

/// Number in the socket's file name. No TCP port is opened.
pub(super) const PORT: u16 = 5432;

/// The file in the cluster in which a postmaster describes itself.
pub(super) const PID_FILE: &str = "postmaster.pid";

/// Longest such file that is read. PostgreSQL writes eight short lines and two paths.
const PID_FILE_MAX: u64 = 16 * 1024;

/// Longest wait for a server that is starting or shutting down, e.g. because its service was killed a moment
/// ago.
const BUSY_LIMIT: Duration = Duration::from_mins(1);

/// Longest wait for processes whose postmaster is gone; they notice it by themselves within milliseconds.
const ORPHAN_LIMIT: Duration = Duration::from_secs(5);

/// How often the waits above look again.
const POLL: Duration = Duration::from_millis(25);

/// A server whose service was just killed still says "ready" until it has handled the signal. One that says
/// so again after this time can be attached to.
const ATTACH_SETTLE: Duration = Duration::from_millis(100);

/// A server that `postmaster.pid` names.
#[derive(Debug, Clone)]
pub(super) struct RunningServer {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
}

/// What is going on in a cluster directory.
enum Seen {
    NoServer,
    Ready(RunningServer),
    /// A postmaster that is starting or stopping.
    Busy(u32),
    /// Processes without a postmaster.
    Orphan(u32),
}

/// Waits until there is either a server to attach to in `cluster`, or surely none. `dir` is for the error
/// text.
///
/// # Errors
/// [`EmbeddedError::Busy`] when neither comes true in time, [`EmbeddedError::Interrupted`] when the start is given up.
pub(super) fn settle(
    dir: &Path,
    cluster: Option<&PrivateDir>,
    interrupt: &Interrupt,
) -> Result<Option<RunningServer>, EmbeddedError> {
    let Some(cluster) = cluster else { return Ok(None) };
    let mut ready_before = None;
    let mut orphans_since = None;
    let begun = Instant::now();
    loop {
        interrupt.check()?;
        let (pid, late) = match look(cluster) {
            Seen::NoServer => return Ok(None),
            Seen::Ready(running) if ready_before == Some(running.pid) => {
                return Ok(Some(running));
            }
            Seen::Ready(running) => {
                ready_before = Some(running.pid);
                thread::sleep(ATTACH_SETTLE);
                continue;
            }
            Seen::Busy(pid) => (pid, begun.elapsed() > BUSY_LIMIT),
            Seen::Orphan(pid) => {
                let since = *orphans_since.get_or_insert_with(Instant::now);
                (pid, since.elapsed() > ORPHAN_LIMIT)
            }
        };
        if late {
            let dir = dir.to_path_buf();
            return Err(EmbeddedError::Busy { dir, pid });
        }
        thread::sleep(POLL);
    }
}

/// The server that the cluster's `postmaster.pid` names, and its status. The process may be gone long since.
pub(super) fn read_pid_file(cluster: &PrivateDir) -> Option<(RunningServer, String)> {
    parse_pid_file(&cluster.read_text(PID_FILE, PID_FILE_MAX).ok()?)
}

/// Lines: pid, cluster, start time, port, socket directory, address, shared memory, status.
fn parse_pid_file(text: &str) -> Option<(RunningServer, String)> {
    let line = |number: usize| text.lines().nth(number - 1).map(str::trim);
    let running = RunningServer {
        pid: line(1)?.parse().ok()?,
        port: line(4).and_then(|port| port.parse().ok()).unwrap_or(PORT),
        socket_dir: PathBuf::from(line(5).unwrap_or_default()),
    };
    Some((running, line(8).unwrap_or_default().to_owned()))
}

fn look(cluster: &PrivateDir) -> Seen {
    let holders = holders(cluster);
    let Some(first) = holders.first() else {
        return Seen::NoServer;
    };
    match read_pid_file(cluster) {
        Some((running, status)) if holders.contains(&running.pid) => {
            if status == "ready" && running.socket_dir.is_absolute() {
                Seen::Ready(running)
            } else {
                Seen::Busy(running.pid)
            }
        }
        _ => Seen::Orphan(*first),
    }
}

/// Living server processes of a cluster. Each has the cluster as its working directory, and a zombie has
/// none.
#[cfg(target_os = "linux")]
fn holders(cluster: &PrivateDir) -> Vec<u32> {
    let (Ok(cluster), Ok(processes)) = (cluster.id(), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let cwd = fs::metadata(entry.path().join("cwd")).ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            // A shell may well stand in the directory.
            let is_server = name.starts_with("postgres") || name.starts_with("postmaster");
            ((cwd.dev(), cwd.ino()) == cluster && is_server).then_some(pid)
        })
        .collect()
}

/// The server of a cluster if it lives. The pid may belong to any program by now, so the socket has to answer
/// too.
#[cfg(not(target_os = "linux"))]
fn holders(cluster: &PrivateDir) -> Vec<u32> {
    let alive = |running: &RunningServer| {
        let socket = running.socket_dir.join(format!(".s.PGSQL.{}", running.port));
        process::exists(running.pid) && std::os::unix::net::UnixStream::connect(socket).is_ok()
    };
    let running = read_pid_file(cluster).map(|(running, _)| running);
    running.filter(alive).map(|running| running.pid).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::parse_pid_file;

    #[test]
    fn a_pid_file_is_read_line_by_line() {
        let text = "4711\n/d/cluster\n1700000000\n5432\n/d/socket\n\n  123 456\nready   \n";
        let (running, status) = parse_pid_file(text).expect("a full file");
        assert_eq!((running.pid, running.port), (4711, 5432));
        assert_eq!(running.socket_dir, Path::new("/d/socket"));
        assert_eq!(status, "ready");
        let (_, status) = parse_pid_file("4711\n/d/cluster\n").expect("a file just begun");
        assert_eq!(status, "");
        assert!(parse_pid_file("").is_none());
    }
}
