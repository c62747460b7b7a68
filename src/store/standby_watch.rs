//! Whether the standby of `READ_DATABASE_URL` can serve reads: reached, of this program's schema, a copy of the database that
//! the service writes to, and no further behind than the moment of the look.
//!
//! The last counts when a host comes into use, in the place of the primary or of another host: what a reader has seen a
//! moment ago is there. Later it may fall behind; `at_least` waits for it, and other reads show what it has. While the
//! primary is away and its end is not known, the host in use stays in use, and without one any host is better than none: it
//! has to show that it has caught up as soon as the primary is back.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::condition;
use super::errors::StoreError;
use super::hosts::UsedHost;
use super::pools::Database;
use super::read_pool::in_time;
use super::schema;
use super::session;
use super::standby::StandbyReads;
use super::url;

/// How long one look may take: at each server.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(4);

/// How long it waits until the standby has got to where the primary was, and how often it asks.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(2);
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);

/// A standby of a standby can be compared with no end of a log.
const PRIMARY_END: &str =
    "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn()::text END";

const HAS_CAUGHT_UP: &str = "
SELECT NOT pg_is_in_recovery() OR $1::text IS NULL OR COALESCE(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";

/// What the primary says, and whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPrimary {
    /// What its standbys have in common with it, as last read.
    id: Option<String>,
    /// The host that had caught up with it when it came into use.
    proven_host: Option<usize>,
}

impl Database {
    /// Looks at the standby, if there is one, and takes it into use or leaves it.
    pub async fn look_at_standby(&self, known: &mut KnownPrimary) {
        let Some(standby) = self.standby() else { return };
        let primary = in_time(LOOK_WAIT_MAX, self.primary_end()).await;
        let end = match primary {
            Ok((id, end)) => {
                known.id = Some(id);
                end
            }
            Err(_) => None,
        };
        let Some(id) = known.id.clone() else {
            return standby.leave("the primary has not answered yet, or is not migrated");
        };
        let used = standby.is_used().then(|| standby.hosts().used().index);
        let proven = known.proven_host.filter(|proven| Some(*proven) == used);
        match self.examine(standby, &id, (end.as_deref(), used, proven)).await {
            Ok((index, address)) => {
                known.proven_host = (end.is_some() || proven == Some(index)).then_some(index);
                standby.take_into_use(&address);
            }
            Err(cause) => standby.leave(&cause),
        }
    }

    /// What database is written to, and the end of its log.
    async fn primary_end(&self) -> Result<(String, Option<String>), sqlx::Error> {
        let mut conn = self.feed().acquire().await?;
        let id = condition::copy_id(&mut conn).await?;
        Ok((id, sqlx::query_scalar(PRIMARY_END).fetch_one(&mut *conn).await?))
    }

    /// Leads lists and lookups to one of the hosts of the standby.
    fn lead_standby_to(&self, standby: &StandbyReads, index: usize) {
        let hosts = standby.hosts();
        if hosts.used().index == index {
            return;
        }
        for pool in [self.reader(), self.lookup()] {
            pool.lead_standby_to(hosts.all()[index].clone());
        }
        hosts.set(UsedHost { index, since: Instant::now().into_std(), sessions_checked: true });
    }

    /// The first host that can serve reads, to which the pools are led, and its address; or why none can. One that is in use and
    /// is proven need not catch up with the end of the primary once more.
    async fn examine(
        &self,
        standby: &StandbyReads,
        id: &str,
        (end, used, proven): (Option<&str>, Option<usize>, Option<usize>),
    ) -> Result<(usize, String), String> {
        let mut hosts: Vec<_> = standby.hosts().all().iter().enumerate().collect();
        // Without an end none can be shown to have caught up: the one in use comes first then.
        hosts.sort_by_key(|(index, _)| end.is_none() && Some(*index) != used);
        let mut cause = String::new();
        for (index, options) in hosts {
            let wanted_end = end.filter(|_| Some(index) != proven);
            let examined = async {
                let mut conn =
                    PgConnection::connect_with(options).await.map_err(|error| error.to_string())?;
                let fault = fault(&mut conn, id, wanted_end).await.map_err(|error| error.to_string())?;
                let _ = conn.close().await;
                fault.map_or(Ok(()), Err)
            };
            // One that has vanished leaves the time of the others alone.
            let examined = timeout(LOOK_WAIT_MAX, examined).await;
            let late = |_| Err(format!("it does not answer in {} s", LOOK_WAIT_MAX.as_secs()));
            match examined.unwrap_or_else(late) {
                Ok(()) => {
                    self.lead_standby_to(standby, index);
                    return Ok((index, url::address(options)));
                }
                Err(fault) => cause = format!("{}: {fault}", url::address(options)),
            }
        }
        Err(cause)
    }
}

/// Why this database cannot serve reads; none where it can.
async fn fault(conn: &mut PgConnection, id: &str, end: Option<&str>) -> Result<Option<String>, StoreError> {
    let facts = session::facts(conn).await?;
    if facts.version_number < 150_000 {
        return Ok(Some(StoreError::Version(facts.version).to_string()));
    }
    if let Some(mismatch) = schema::check(conn).await? {
        return Ok(Some(mismatch.to_string()));
    }
    let found = condition::copy_id(conn).await?;
    if found != id {
        return Ok(Some(format!(
            "it is no standby of the database of DATABASE_URL: it is {found}, and that one {id}"
        )));
    }
    let until = Instant::now() + CATCH_UP_WAIT_MAX;
    loop {
        if sqlx::query_scalar(HAS_CAUGHT_UP).bind(end).fetch_one(&mut *conn).await? {
            return Ok(None);
        }
        if Instant::now() >= until {
            return Ok(Some("it is behind the primary".to_owned()));
        }
        sleep(CATCH_UP_PAUSE).await;
    }
}
