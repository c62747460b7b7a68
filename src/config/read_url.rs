//! `READ_DATABASE_URL`: from where lists and lookups are read.
//!
//! Beside `DATABASE_URL` alone: an embedded server has no standby. Its form is checked where it is
//! opened, and what it leads to while the service runs.

use anyhow::ensure;

use super::Settings;

impl Settings {
    /// The URL; none where it is not set.
    pub(super) fn read_url(&self, is_embedded: bool) -> anyhow::Result<Option<String>> {
        let url = self.read_database_url_secret().one_value()?;
        ensure!(
            url.is_none() || !is_embedded,
            "READ_DATABASE_URL is set and DATABASE_URL is not; the embedded PostgreSQL has no standby"
        );
        Ok(url)
    }
}
