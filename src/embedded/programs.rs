//! Which PostgreSQL server programs the embedded server runs: installed ones in a fixed order of places, else
//! the ones bundled inside this binary (feature `bundled-postgres`), which are unpacked once per data
//! directory.
//!
//! Of a cluster it knows the major version that its files need, because no other can open them. It never reads the
//! environment: the places of the caller are handed in.

use std::cmp::Reverse;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bundled;
use super::error::EmbeddedError;
use super::interrupt::Interrupt;
use super::process::{self, ParentDeathSignal, RunAs};
use crate::files::this_user;

/// Oldest PostgreSQL whose SQL this service is written for.
const OLDEST_MAJOR: u32 = 15;

/// Longest that `postgres --version` may take. It prints a constant; more means a broken file found on
/// `PATH`.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// Longest wait for a stranger on port 5432. It is on this machine, and only an error text depends on it.
const STRANGER_LIMIT: Duration = Duration::from_millis(200);

/// Port of a server that someone else may run here. Looked at for the error text only.
const STRANGER_PORT: u16 = 5432;

/// Where to look for server programs. The caller reads the environment, not this module.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// Value of `PG_BIN_DIR`: the directory with `postgres` and `initdb`. Where it is set, no other is looked at.
    pub bin_dir: Option<PathBuf>,
    /// Value of `PATH`, looked at first otherwise; relative entries are skipped.
    pub path: Option<OsString>,
}

/// Server programs that can be run here.
#[derive(Debug, Clone)]
pub(super) struct ServerPrograms {
    /// Directory with `postgres` and `initdb`.
    bin: PathBuf,
    /// What `postgres --version` printed behind the name, e.g. `15.18 (Debian 15.18-0+deb12u1)`.
    pub(super) version: String,
    /// From inside this binary, not installed by the machine's owner.
    pub(super) bundled: bool,
}

impl ServerPrograms {
    pub(super) fn postgres(&self) -> PathBuf {
        self.bin.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.bin.join("initdb")
    }
}

/// Candidates that were looked at and not taken.
#[derive(Debug, Default)]
struct ProgramsRefused {
    /// Usable, but of a major version that cannot open the cluster.
    other_majors: Vec<String>,
    /// Not usable: place and reason.
    unusable: Vec<String>,
}

/// Finds programs; with `wanted` only of that major version. Bundled ones are unpacked below `home`.
///
/// # Errors
/// [`EmbeddedError::WrongMajor`] when there are only programs of other versions,
/// [`EmbeddedError::NoPrograms`] when there are none, [`EmbeddedError::Io`] when the bundled ones cannot be
/// unpacked.
pub(super) fn find(
    programs: &Programs,
    wanted: Option<u32>,
    home: &Path,
    interrupt: &Interrupt,
) -> Result<ServerPrograms, EmbeddedError> {
    let mut refused = ProgramsRefused::default();
    if let Some(dir) = &programs.bin_dir {
        return find_in(dir, wanted, home, interrupt);
    }
    for bin in places(programs) {
        if let Some(reason) = foreign(&bin) {
            refused.note(&bin, &reason);
        } else if let Some(found) = look_at(&bin, RunAs::Same, wanted, &mut refused, interrupt) {
            return Ok(found);
        }
    }
    match (wanted, bundled::MAJOR) {
        // Not worth unpacking.
        (Some(wanted), Some(major)) if wanted != major => {
            let found = format!("{major} inside this program");
            refused.other_majors.push(found);
        }
        _ => {
            if let Some(bin) = bundled::unpack(home)? {
                // Root does not run what lies in another user's directory.
                let owner = process::owner_of(home).map_err(EmbeddedError::io("look at", home))?;
                if let Some(found) = look_at(&bin, owner, wanted, &mut refused, interrupt) {
                    return Ok(ServerPrograms { bundled: true, ..found });
                }
            }
        }
    }
    match wanted {
        Some(wanted) if !refused.other_majors.is_empty() => Err(EmbeddedError::WrongMajor {
            dir: home.to_path_buf(),
            wanted,
            found: refused.other_majors.join(", "),
        }),
        _ => Err(EmbeddedError::NoPrograms { hints: hints(&refused) }),
    }
}

/// The programs of `PG_BIN_DIR`. Others are not looked for: who names a directory means that one.
fn find_in(
    dir: &Path,
    wanted: Option<u32>,
    home: &Path,
    interrupt: &Interrupt,
) -> Result<ServerPrograms, EmbeddedError> {
    let mut refused = ProgramsRefused::default();
    let unusable = |reason: String| EmbeddedError::BinDir { dir: dir.to_path_buf(), reason };
    let bin = fs::canonicalize(dir).map_err(|error| unusable(error.to_string()))?;
    if let Some(missing) = ["postgres", "initdb"].iter().find(|name| !bin.join(name).is_file()) {
        return Err(unusable(format!("it has no {missing}")));
    }
    if let Some(found) = look_at(&bin, RunAs::Same, wanted, &mut refused, interrupt) {
        return Ok(found);
    }
    match (wanted, refused.other_majors.pop()) {
        (Some(wanted), Some(found)) => {
            Err(EmbeddedError::WrongMajor { dir: home.to_path_buf(), wanted, found })
        }
        _ => Err(unusable(refused.unusable.join("; "))),
    }
}

/// Why the programs in `bin` are not run: another user owns or can write one of them or its directory, and would decide
/// what this user runs. Links are resolved first. `None`: they are root's or this user's.
fn foreign(bin: &Path) -> Option<String> {
    ["postgres", "initdb"].into_iter().find_map(|name| {
        let program = match fs::canonicalize(bin.join(name)) {
            Ok(program) => program,
            Err(error) => return Some(format!("{name}: {error}")),
        };
        [Some(program.as_path()), program.parent()].into_iter().flatten().find_map(written_by_others)
    })
}

fn written_by_others(path: &Path) -> Option<String> {
    let wrong = match fs::metadata(path) {
        Err(error) => error.to_string(),
        Ok(about) if ![0, this_user()].contains(&about.uid()) => {
            format!("belongs to user id {}", about.uid())
        }
        Ok(about) if about.mode() & 0o022 != 0 => {
            format!("can be written by other users (mode {:04o})", about.mode() & 0o7777)
        }
        Ok(_) => return None,
    };
    Some(format!("{} {wrong}; name the directory in PG_BIN_DIR if you trust it", path.display()))
}

/// What `run_as` can run in `bin`, as if it were installed; notes a reason where that is nothing.
fn look_at(
    bin: &Path,
    run_as: RunAs,
    wanted: Option<u32>,
    refused: &mut ProgramsRefused,
    interrupt: &Interrupt,
) -> Option<ServerPrograms> {
    let postgres = bin.join("postgres");
    let mut asked = process::command(&postgres, run_as, ParentDeathSignal::Kill);
    asked.arg("--version");
    let printed = match process::run(asked, "", VERSION_LIMIT, interrupt) {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            refused.note(bin, words.trim());
            return None;
        }
        Err(error) => {
            refused.note(bin, &error.to_string());
            return None;
        }
    };
    let Some((version, major)) = parse_version(&printed) else {
        refused.note(bin, "does not print its version");
        return None;
    };
    if major < OLDEST_MAJOR {
        refused.note(bin, &format!("PostgreSQL {version}; {OLDEST_MAJOR} or newer is needed"));
        return None;
    }
    if wanted.is_some_and(|wanted| wanted != major) {
        refused.other_majors.push(format!("{version} in {}", bin.display()));
        return None;
    }
    Some(ServerPrograms { bin: bin.to_path_buf(), version: version.to_owned(), bundled: false })
}

impl ProgramsRefused {
    fn note(&mut self, bin: &Path, reason: &str) {
        self.unusable.push(format!("{}: {reason}", bin.display()));
    }
}

/// Version and major of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(printed: &str) -> Option<(&str, u32)> {
    let (_, version) = printed.trim().split_once("(PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    let major = version.get(..digits)?.parse().ok()?;
    Some((version, major))
}

/// Directories that hold both programs, best first, each once.
fn places(programs: &Programs) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Some(path) = &programs.path {
        // A relative entry would make the choice depend on the working directory.
        all.extend(env::split_paths(path).filter(|entry| entry.is_absolute()));
    }
    all.extend(numbered("/usr/lib/postgresql", "", "bin"));
    all.extend(numbered("/usr", "pgsql-", "bin"));
    all.extend(numbered("/opt/homebrew/opt", "postgresql", "bin"));
    all.extend(numbered("/usr/local/opt", "postgresql", "bin"));
    all.extend(numbered("/Applications/Postgres.app/Contents/Versions", "", "bin"));
    let mut usable: Vec<PathBuf> = Vec::new();
    for bin in all {
        // A link such as /usr/local/bin/postgres leads to the directory that has `initdb` and the shared
        // files too.
        let real = fs::canonicalize(bin.join("postgres"))
            .ok()
            .and_then(|postgres| Some(postgres.parent()?.to_path_buf()));
        if let Some(real) = real
            && real.join("postgres").is_file()
            && real.join("initdb").is_file()
            && !usable.contains(&real)
        {
            usable.push(real);
        }
    }
    usable
}

/// `<parent>/<prefix>*/<leaf>`, highest number first (`postgresql@17` before `postgresql@16`, plain names
/// last).
fn numbered(parent: &str, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let rest = name.to_str()?.strip_prefix(prefix)?;
            let digits: String =
                rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            Some((digits.parse().unwrap_or(0), entry.path().join(leaf)))
        })
        .collect();
    found.sort_by_key(|(number, _)| Reverse(*number));
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// Extra lines for the error text, each with a line break before it.
fn hints(refused: &ProgramsRefused) -> String {
    let mut lines = String::new();
    for reason in &refused.unusable {
        lines.push_str("\nnot used: ");
        lines.push_str(&reason.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let stranger = SocketAddr::from((Ipv4Addr::LOCALHOST, STRANGER_PORT));
    if TcpStream::connect_timeout(&stranger, STRANGER_LIMIT).is_ok() {
        lines.push_str("\na server answers on port 5432; it is not touched");
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::{Programs, bundled, find, foreign, parse_version, this_user};
    use crate::embedded::process::{self, ParentDeathSignal, RunAs};

    #[test]
    fn the_bundled_programs_are_of_the_version_that_this_program_says() -> io::Result<()> {
        let Some(said) = bundled::bundled_postgres() else { return Ok(()) };
        let home = tempfile::tempdir()?;
        let bin = bundled::unpack(home.path()).map_err(io::Error::other)?;
        let bin = bin.ok_or_else(|| io::Error::other("nothing is unpacked"))?;
        let mut asked = process::command(&bin.join("postgres"), RunAs::Same, ParentDeathSignal::Kill);
        asked.arg("--version");
        let printed = process::run(asked, "", super::VERSION_LIMIT, &super::Interrupt::default())?;
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert_eq!(parse_version(&printed), Some((said.version, 17)), "{printed}");
        assert_eq!(bundled::MAJOR, Some(17));
        Ok(())
    }

    #[test]
    fn programs_that_another_user_could_have_written_are_named_and_not_run() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let (bin, trace) = (place.path().join("bin"), place.path().join("was-run"));
        let (postgres, initdb) = (bin.join("postgres"), bin.join("initdb"));
        fs::create_dir(&bin)?;
        for program in [&postgres, &initdb] {
            fs::write(program, format!("#!/bin/sh\ntouch '{}'\n", trace.display()))?;
            fs::set_permissions(program, Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(&bin, Permissions::from_mode(0o755))?;
        assert_eq!(foreign(&bin), None);
        let linked = place.path().join("linked");
        fs::create_dir(&linked)?;
        symlink(&postgres, linked.join("postgres"))?;
        symlink(&initdb, linked.join("initdb"))?;
        let programs = Programs { bin_dir: None, path: Some(linked.clone().into()) };
        let refused = |words: &str| {
            for bin in [&bin, &linked] {
                assert!(foreign(bin).is_some_and(|reason| reason.contains(words)), "{words}");
            }
            // Whatever else this machine has installed.
            let _ = find(&programs, None, place.path(), &super::Interrupt::default());
            assert!(!trace.exists(), "{words}");
        };
        for path in [&bin, &postgres, &initdb] {
            for mode in [0o775, 0o757] {
                fs::set_permissions(path, Permissions::from_mode(mode))?;
                refused(&format!("{} can be written by other users (mode {mode:04o})", path.display()));
            }
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
            if this_user() == 0 {
                chown(path, Some(65_534), None)?;
                refused(&format!("{} belongs to user id 65534", path.display()));
                chown(path, Some(0), None)?;
            }
        }
        Ok(())
    }

    #[test]
    fn versions_of_releases_and_betas() {
        assert_eq!(
            parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(("15.18 (Debian 15.18-0+deb12u1)", 15))
        );
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta1"), Some(("19beta1", 19)));
        assert_eq!(parse_version("pyenv: postgres: command not found"), None);
    }
}
