//! The PostgreSQL inside this binary: what it is, how old it is, and its unpacking.
//!
//! With the feature `bundled-postgres` the build script puts an archive of server programs into the binary, verified by
//! its checksum. Nothing updates it, unlike programs of the system, so it has to say its age; and it is unpacked once per
//! data directory, under a name that holds the checksum.

pub(super) use archive::{MAJOR, unpack};

/// What the programs inside this binary are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundledPostgres {
    /// Version of PostgreSQL.
    pub version: &'static str,
    /// Day on which the PostgreSQL project released that version, as a person reads it.
    pub released: &'static str,
    /// The same, Unix milliseconds.
    pub released_ms: i64,
    /// The crate that the programs come from, with its version.
    pub source: &'static str,
    /// SHA-256 of the archive in it, which the build script has compared.
    pub digest: &'static str,
}

/// The PostgreSQL project releases minor versions of every major one in February, May, August and November.
const MINOR_PERIOD_MONTHS: i64 = 3;

impl BundledPostgres {
    /// Whole months since the release.
    #[must_use]
    pub fn months_old(&self, now_ms: i64) -> i64 {
        const MONTH_MS: i64 = 2_629_746_000; // a twelfth of a mean year
        (now_ms - self.released_ms).max(0) / MONTH_MS
    }

    /// True where a newer minor version of the same major one must have been released meanwhile.
    #[must_use]
    pub fn is_outdated(&self, now_ms: i64) -> bool {
        // A release can be some weeks late.
        self.months_old(now_ms) > MINOR_PERIOD_MONTHS
    }
}

/// What is inside this binary; `None`: nothing, or the target has no payload.
#[must_use]
pub fn bundled_postgres() -> Option<BundledPostgres> {
    archive::POSTGRES
}

#[cfg(has_bundled_postgres)]
mod archive {
    use std::fs;
    use std::io;
    use std::path::{Path, PathBuf};

    use super::BundledPostgres;
    use crate::embedded::EmbeddedError;

    /// Programs, plpgsql and time zones of PostgreSQL, verified by the build script.
    static ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/postgres.tar.zst"));

    /// SHA-256 of the archive; part of the directory name, so that another archive is never taken for this
    /// one.
    const DIGEST: &str = env!("BUNDLED_POSTGRES_DIGEST");

    /// Major version in the archive.
    pub(in crate::embedded) const MAJOR: Option<u32> = Some(17);

    /// What the archive holds; a test asks the programs in it.
    pub(super) const POSTGRES: Option<BundledPostgres> = Some(BundledPostgres {
        version: "17.5",
        released: "8 May 2025",
        released_ms: 1_746_662_400_000,
        source: env!("BUNDLED_POSTGRES_CRATE"),
        digest: DIGEST,
    });

    /// Returns the directory with the bundled programs, unpacked when they are not there yet. The caller
    /// holds the lock of `home`.
    pub(in crate::embedded) fn unpack(home: &Path) -> Result<Option<PathBuf>, EmbeddedError> {
        let short: String = DIGEST.chars().take(12).collect();
        let place = home.join(format!("programs-{short}"));
        if !place.exists() {
            let half_done = home.join(format!("programs-{short}.new"));
            unpack_to(&half_done)
                .and_then(|()| fs::rename(&half_done, &place))
                .map_err(EmbeddedError::io("unpack the bundled programs to", &place))?;
        }
        Ok(Some(place.join("bin")))
    }

    fn unpack_to(place: &Path) -> io::Result<()> {
        if place.exists() {
            fs::remove_dir_all(place)?;
        }
        let plain = ruzstd::decoding::StreamingDecoder::new(ARCHIVE).map_err(io::Error::other)?;
        tar::Archive::new(plain).unpack(place)
    }
}

#[cfg(not(has_bundled_postgres))]
mod archive {
    use std::path::{Path, PathBuf};

    use super::BundledPostgres;
    use crate::embedded::EmbeddedError;

    /// Nothing is bundled: the feature is off or the target has no payload.
    pub(in crate::embedded) const MAJOR: Option<u32> = None;
    pub(super) const POSTGRES: Option<BundledPostgres> = None;

    #[expect(clippy::unnecessary_wraps, reason = "same signature as with programs")]
    pub(in crate::embedded) fn unpack(_home: &Path) -> Result<Option<PathBuf>, EmbeddedError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::bundled_postgres;

    #[test]
    fn bundled_programs_are_outdated_when_the_next_minor_release_must_have_come() {
        let Some(bundled) = bundled_postgres() else { return };
        let after = |days: i64| bundled.released_ms + days * 86_400_000;
        assert_eq!([0, 30, 31, 62, 366].map(|days| bundled.months_old(after(days))), [0, 0, 1, 2, 12]);
        assert_eq!(
            [-1, 0, 91, 121, 122, 700].map(|days| bundled.is_outdated(after(days))),
            [false, false, false, false, true, true]
        );
    }
}
