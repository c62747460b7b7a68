//! Errors of the embedded PostgreSQL, with the texts that a person reads who starts the service.
//!
//! Each text names the cause and, where the person can do something about it, the remedy. No code decides by the kind
//! of error: each ends the command.

use std::io;
use std::path::{Path, PathBuf};

use crate::files::FileError;

/// Why there is no embedded server. Every text is one line, but for [`EmbeddedError::NoPrograms`], which is a
/// list of remedies.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The operation, as it reads after "cannot".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No usable server programs on this machine, and none bundled.
    #[error(
        "no DATABASE_URL is set and no PostgreSQL server programs were found.\n\
         looked in: $PATH, /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, Homebrew and Postgres.app\n\
         fix one of these:\n\
         \x20 Debian/Ubuntu  sudo apt-get install postgresql\n\
         \x20 Fedora         sudo dnf install postgresql-server\n\
         \x20 macOS          brew install postgresql@17\n\
         \x20 or point at a server you already run:  export DATABASE_URL=postgres://user:pass@host/db{hints}"
    )]
    NoPrograms {
        /// More lines, each with a line break before it: what was found unusable, and a server seen on port
        /// 5432.
        hints: String,
    },
    /// The cluster was made by another major version than the programs at hand.
    #[error(
        "the embedded database in {} was made by PostgreSQL {wanted}, but only {found} was found; install PostgreSQL \
         {wanted}, or move that directory away, or set DATABASE_URL",
        dir.display()
    )]
    WrongMajor {
        /// The server's directory.
        dir: PathBuf,
        /// Major version of the cluster.
        wanted: u32,
        /// Versions and places of the programs.
        found: String,
    },
    /// Processes of an earlier server do not end, or another one neither becomes ready nor ends.
    #[error(
        "another process already runs the embedded server of {} (pid {pid}); stop it, or set DATABASE_URL=...",
        dir.display()
    )]
    Busy {
        /// The server's directory.
        dir: PathBuf,
        /// One process that holds it.
        pid: u32,
    },
    /// Another process is starting the server and does not come to an end.
    #[error(
        "another process has been starting the embedded server of {} for {seconds} s; stop it, or set DATABASE_URL=...",
        dir.display()
    )]
    Locked {
        /// The server's directory.
        dir: PathBuf,
        /// How long this one waited.
        seconds: u64,
    },
    /// A file or a directory is not one that this user may trust, or cannot be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// The start was given up because a signal came.
    #[error("the start of the embedded PostgreSQL was interrupted")]
    Interrupted,
    /// `PG_BIN_DIR` names a directory without usable programs.
    #[error(
        "PG_BIN_DIR is {dir:?}; it should be a directory with the server programs `postgres` and `initdb` of PostgreSQL: \
         {reason}"
    )]
    BinDir {
        /// The directory.
        dir: PathBuf,
        /// Why its programs are not used.
        reason: String,
    },
    /// As root, and the server cannot be run as anyone else.
    #[error(
        "cannot run initdb in {}: as root, user namespaces are forbidden here, and the server's own user cannot enter \
         that directory: choose one outside /root, or set DATABASE_URL",
        dir.display()
    )]
    RootRefused {
        /// The server's directory.
        dir: PathBuf,
    },
    /// Making the cluster failed.
    #[error("{program} failed in {}: {words}", dir.display())]
    Initdb {
        /// The program that failed.
        program: &'static str,
        /// The cluster's directory.
        dir: PathBuf,
        /// Last lines that it printed.
        words: String,
    },
    /// The server ended while it started.
    #[error("postgres ended at start: {log_tail}")]
    EndedAtStart {
        /// Last lines of its log.
        log_tail: String,
    },
    /// The server runs but does not become ready.
    #[error("postgres was not ready after {seconds} s and was stopped: {log_tail}")]
    NotReady {
        /// How long it was given.
        seconds: u64,
        /// Last lines of its log.
        log_tail: String,
    },
}

impl EmbeddedError {
    /// For `map_err`: puts the operation and the path before an I/O error.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedError {
        let path = path.to_path_buf();
        move |source| EmbeddedError::Io { doing, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::EmbeddedError;

    #[test]
    fn the_text_without_programs_keeps_its_columns() {
        let hints = "\na server answers on port 5432; it is not touched".to_owned();
        let text = EmbeddedError::NoPrograms { hints }.to_string();
        assert!(text.contains("\n  Fedora         sudo dnf install postgresql-server\n"));
        assert!(text.ends_with("host/db\na server answers on port 5432; it is not touched"));
    }
}
