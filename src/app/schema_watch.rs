//! The schema watch: checks in the background, from the start on, that the database is ours and fits the program.
//!
//! The service serves before the first check has ended, and callbacks go to the spool until one succeeds. A first definite
//! answer that only a person can change (foreign tables, a wrong password, a missing database) ends a first start, where
//! there is nothing to lose: no database was known and the spool is empty. Any other trouble is waited for and reported
//! every minute, because `sqlx migrate`, a restore or a newer program can change the database at any time.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::known_database::KnownDatabase;
use crate::spool::{SpoolError, SpoolStatus};
use crate::store::errors::Mismatch;
use crate::store::{Database, StoreError, condition, schema};

/// How often the schema is compared with the program's: a migration by another hand is noticed within this time.
const SCHEMA_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// The same while the database does not fit or has not answered yet: callbacks and readers wait for it.
const TROUBLE_CHECK_PERIOD: Duration = Duration::from_millis(500);

/// How long one check may take, connecting included. The server's own time-outs are not relied on: it may stall, and
/// the bundled one has no timers.
const SCHEMA_CHECK_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often trouble that goes on is reported again.
const REPORT_PERIOD: Duration = Duration::from_mins(1);

/// The shortest time between two reports of different trouble: a server that fails over shows several kinds in turn.
const REPORT_PAUSE: Duration = Duration::from_secs(5);

/// What a check found.
enum Finding {
    /// The database is ours and fits.
    Fits,
    /// No definite answer: the same may succeed a little later.
    NoAnswer(String),
    /// It has to be migrated, adopted or mended, and can be.
    Differs(String),
    /// It is not ours, or does not let us in.
    Refused(String),
}

/// The watch and what it works with.
pub(super) struct SchemaWatch {
    pub(super) database: Database,
    pub(super) known: KnownDatabase,
    /// Whether the first database that fits is taken, whatever its id.
    pub(super) adopt: bool,
    pub(super) state: watch::Sender<Option<String>>,
    pub(super) spool: watch::Receiver<SpoolStatus>,
    /// Set once, where the start has to end.
    pub(super) refusal: watch::Sender<Option<String>>,
    /// `KEEP_ANSWERED_SECS`.
    pub(super) keep_answered_secs: u64,
    /// Asynchronous replication is reported once.
    pub(super) is_replication_reported: bool,
}

/// Trouble that the log has: one error line begins it, warnings repeat it.
#[derive(Debug, Clone, Copy)]
struct Reported {
    begun: Instant,
    last: Instant,
}

impl SchemaWatch {
    /// Runs until the service stops.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled_owned(async move { self.watch().await }).await;
    }

    async fn watch(&mut self) {
        let mut reported: Option<Reported> = None;
        let mut may_refuse = self.known.id().is_none();
        // An embedded server is started beside the service.
        self.database.located().await;
        loop {
            let finding = self.check().await;
            if let Finding::Refused(reason) = &finding
                && may_refuse
                && self.is_spool_empty().await
            {
                self.refusal.send_replace(Some(reason.clone()));
                self.state.send_replace(Some(reason.clone()));
                return;
            }
            may_refuse &= matches!(finding, Finding::NoAnswer(_));
            self.publish(finding, &mut reported);
            let period = if self.fits() { SCHEMA_CHECK_PERIOD } else { TROUBLE_CHECK_PERIOD };
            tokio::time::sleep(period).await;
        }
    }

    async fn check(&mut self) -> Finding {
        match tokio::time::timeout(SCHEMA_CHECK_WAIT_MAX, self.look()).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(error)) if error.is_passing() => Finding::NoAnswer(error.to_string()),
            Ok(Err(error)) => Finding::Refused(error.to_string()),
            Err(_) => Finding::NoAnswer(format!(
                "the database did not answer the check of its schema in {} s",
                SCHEMA_CHECK_WAIT_MAX.as_secs()
            )),
        }
    }

    async fn look(&mut self) -> Result<Finding, StoreError> {
        let mut conn = self.database.connect().await?;
        let all_rights = self.database.rights().look(&mut conn).await?;
        let finding = match schema::check(&mut conn).await? {
            Some(foreign @ Mismatch::Foreign(_)) => Finding::Refused(foreign.to_string()),
            Some(mismatch) => Finding::Differs(mismatch.to_string()),
            None => match schema::database_id(&mut conn).await? {
                None => Finding::Differs(Mismatch::NoId.to_string()),
                Some(id) => match self.other_database(&id) {
                    Some(difference) => Finding::Differs(difference),
                    None => {
                        // Without a right on the sequence the writer may still work; the log has the GRANT.
                        if all_rights {
                            schema::make_ready(&mut conn).await?;
                        }
                        self.database.shards().look(&mut conn).await?;
                        self.remember(&id);
                        self.report_replication(&mut conn).await?;
                        Finding::Fits
                    }
                },
            },
        };
        let _ = sqlx::Connection::close(conn).await;
        Ok(finding)
    }

    /// Reports once that a failover may lose what was answered.
    async fn report_replication(&mut self, conn: &mut PgConnection) -> Result<(), StoreError> {
        if self.is_replication_reported {
            return Ok(());
        }
        let Some(cause) = condition::replication(conn).await?.asynchronous() else { return Ok(()) };
        self.is_replication_reported = true;
        match self.keep_answered_secs {
            0 => tracing::warn!(
                cause = %cause,
                "the database replicates asynchronously ({cause}): a failover may lose the last commits, and with them \
                 callbacks that were answered; make a standby synchronous, or set KEEP_ANSWERED_SECS"
            ),
            secs => tracing::info!(
                cause = %cause,
                "the database replicates asynchronously ({cause}): after a failover that loses commits, what was answered \
                 in the last {secs} s is sent again"
            ),
        }
        Ok(())
    }

    /// Why nothing may go into a database with this id, if so.
    fn other_database(&self, id: &str) -> Option<String> {
        let known = self.known.id().filter(|known| *known != id && !self.adopt)?;
        Some(format!(
            "DATABASE_URL leads to the database with id {id}, and this data directory belongs to the one with id \
             {known:?}; nothing is written until DATABASE_URL names that one, or `serve --adopt-database` takes this one"
        ))
    }

    fn remember(&mut self, id: &str) {
        let adopt = std::mem::take(&mut self.adopt);
        if self.known.id() == Some(id) {
            if adopt {
                tracing::warn!(
                    "--adopt-database was not needed: this data directory belongs to this database already; leave it \
                     out, because a start with it takes whatever database DATABASE_URL leads to"
                );
            }
            return;
        }
        let before = self.known.id().map(str::to_owned);
        match self.known.remember(id) {
            Ok(()) if before.is_some() => {
                tracing::warn!(database.id = id, database.id_before = before, "the database is adopted");
            }
            Ok(()) => tracing::info!(database.id = id, "this data directory now belongs to this database"),
            // The next check tries again.
            Err(error) => tracing::error!(%error, "DATA_DIR: the id of the database cannot be written"),
        }
    }

    /// Whether the spool is open and has no record, so that nothing is left behind by ending the start. A spool that is
    /// being opened is waited for.
    async fn is_spool_empty(&mut self) -> bool {
        let opened = self.spool.wait_for(|status| status.failure != Some(SpoolError::Opening)).await;
        opened.is_ok_and(|status| status.failure.is_none() && status.depth == 0)
    }

    fn fits(&self) -> bool {
        self.state.borrow().is_none()
    }

    fn publish(&self, finding: Finding, reported: &mut Option<Reported>) {
        let trouble = match finding {
            Finding::Fits => None,
            // The circuit breaker knows better whether the server commits: it has fitted, and that is not undone here.
            Finding::NoAnswer(_) if self.fits() => return,
            Finding::NoAnswer(trouble) | Finding::Differs(trouble) | Finding::Refused(trouble) => {
                Some(trouble)
            }
        };
        metrics::gauge!("group_mirror_database_fits").set(f64::from(u8::from(trouble.is_none())));
        let changed = *self.state.borrow() != trouble;
        let since = reported.map(|known| known.last.elapsed());
        match &trouble {
            None if changed => {
                let (seconds, waiting) =
                    (reported.map(|known| known.begun.elapsed().as_secs_f64()), self.spool.borrow().depth);
                tracing::info!(
                    outage.seconds = seconds,
                    spool.depth = waiting,
                    "the schema fits; serving{}",
                    seconds.map_or_else(String::new, |seconds| format!(
                        ", after {seconds:.1} s; {waiting} callbacks wait in the spool"
                    ))
                );
                *reported = None;
            }
            Some(trouble) if is_report_due(since, changed) => {
                let fate = self.spool.borrow().fate_of_callbacks();
                let line = format!("until that is mended {fate} and reads are answered with 503");
                match reported {
                    None => tracing::error!(cause = trouble, "{trouble}; {line}"),
                    Some(_) => tracing::warn!(cause = trouble, "{trouble}; {line}"),
                }
                let (begun, last) = (reported.map(|known| known.begun), Instant::now());
                *reported = Some(Reported { begun: begun.unwrap_or(last), last });
            }
            _ => {}
        }
        self.state.send_if_modified(|known| {
            *known = trouble;
            changed
        });
    }
}

/// Whether trouble is reported now, where it was reported some time before, or never.
fn is_report_due(since: Option<Duration>, changed: bool) -> bool {
    since.is_none_or(|since| since >= REPORT_PERIOD || (changed && since >= REPORT_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::{REPORT_PAUSE, REPORT_PERIOD, TROUBLE_CHECK_PERIOD, is_report_due};

    #[test]
    fn trouble_is_reported_at_once_then_every_minute_and_different_trouble_after_a_pause() {
        assert!(is_report_due(None, true) && is_report_due(None, false));
        assert!(!is_report_due(Some(TROUBLE_CHECK_PERIOD), true));
        assert!(is_report_due(Some(REPORT_PAUSE), true));
        assert!(!is_report_due(Some(REPORT_PERIOD - TROUBLE_CHECK_PERIOD), false));
        assert!(is_report_due(Some(REPORT_PERIOD), false));
    }
}
