//! Keeps partitions of the ledger ahead of time, while the service runs.
//!
//! Every replica looks once an hour, and a lock in the database lets one after the other make what is missing. Without a
//! partition nothing is lost: its entries go to the default one, and are dealt with when partitions can be made again. The
//! metric is the end of the last partition less the time now, so it falls where a look fails or gets no answer.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::PgConnection;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::model::Millis;
use crate::store::partitions::{self, DAYS_AHEAD_MIN, Tries};
use crate::store::schema::SchemaState;
use crate::store::{Database, StoreError};

/// How often it looks.
const PERIOD: Duration = Duration::from_hours(1);

/// How long a look may take: a default partition that has entries of weeks is looked through in minutes. A host that vanishes
/// never answers, and a statement that goes on without its client ends by itself.
const LOOK_MAX: Duration = Duration::from_mins(30);

/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_mins(1);

/// How often the metric is set.
const METRIC_PERIOD: Duration = Duration::from_secs(1);

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Of failures in a row the first is logged, and then one an hour.
const FAILURES_LOGGED_EACH: u32 = 60;

/// Why a look has not made what is missing.
#[derive(Debug, Error)]
enum LookFailure {
    /// No connection, which others report.
    #[error(transparent)]
    Unconnected(StoreError),
    /// A statement failed.
    #[error(transparent)]
    Refused(#[from] StoreError),
    /// The server did not answer.
    #[error("the server did not answer in {} minutes", .0.as_secs() / 60)]
    Late(Duration),
}

/// The end of the last partition, by the clock of this host; `None` until it is known.
type KnownEnd = watch::Sender<Option<Millis>>;

/// Goes on until `stop`.
pub(super) async fn keep_partitions(database: Database, schema: SchemaState, stop: CancellationToken) {
    let end = KnownEnd::new(None);
    let shown = show(end.subscribe());
    let keep = async { tokio::join!(look_again(&database, &schema, &end), shown) };
    stop.run_until_cancelled(Box::pin(keep)).await;
}

async fn look_again(database: &Database, schema: &SchemaState, end: &KnownEnd) {
    let mut failures = 0;
    loop {
        schema.fitting().await;
        // It resolves also where the schema is not watched any more, because the start is refused.
        if !schema.fits() {
            sleep(FAILURE_PAUSE).await;
            continue;
        }
        let pause = match in_time(LOOK_MAX, look(database, end)).await {
            Ok(()) => {
                failures = 0;
                PERIOD
            }
            Err(LookFailure::Unconnected(error)) => {
                tracing::debug!(%error, "it is not known for how long the ledger has partitions");
                FAILURE_PAUSE
            }
            Err(failure) => {
                let days = end.borrow().map(days_until);
                // A failure with more days ahead is no warning yet.
                if days.is_none_or(|days| days < DAYS_AHEAD_MIN) && failures % FAILURES_LOGGED_EACH == 0 {
                    warn(days, &failure);
                }
                failures += 1;
                FAILURE_PAUSE
            }
        };
        sleep(pause).await;
    }
}

async fn in_time(
    limit: Duration,
    look: impl Future<Output = Result<(), LookFailure>>,
) -> Result<(), LookFailure> {
    timeout(limit, look).await.unwrap_or(Err(LookFailure::Late(limit)))
}

async fn look(database: &Database, end: &KnownEnd) -> Result<(), LookFailure> {
    let mut conn = database.connect().await.map_err(LookFailure::Unconnected)?;
    let tries = Tries::with(note_end(&mut conn, end).await?);
    let made = partitions::make_ahead(&mut conn, tries).await;
    note_end(&mut conn, end).await?;
    for step in made.map_err(StoreError::from)? {
        tracing::info!("partitions of the ledger: {step}");
    }
    Ok(())
}

/// Answers for how long from now on there are partitions.
async fn note_end(conn: &mut PgConnection, end: &KnownEnd) -> Result<TimeDelta, StoreError> {
    let ahead = partitions::ahead(conn).await?;
    end.send_replace(Some(Millis::new(clock::now().get() + ahead.num_milliseconds())));
    Ok(ahead)
}

/// Sets the metric from the first look on, whether later ones succeed or not.
async fn show(mut end: watch::Receiver<Option<Millis>>) {
    loop {
        if let Some(end) = *end.borrow_and_update() {
            #[expect(clippy::cast_precision_loss, reason = "no time reaches 2^53")]
            metrics::gauge!("group_mirror_partitions_ahead_seconds").set(ms_until(end) as f64 / 1000.0);
        }
        let _ = timeout(METRIC_PERIOD, end.changed()).await;
    }
}

fn ms_until(end: Millis) -> i64 {
    end.get() - clock::now().get()
}

fn days_until(end: Millis) -> i64 {
    ms_until(end) / DAY_MS
}

fn warn(days: Option<i64>, failure: &LookFailure) {
    tracing::warn!(
        error = %failure,
        days,
        "{}: where the error names no remedy, end a session that has read or locked the ledger for hours, or let the owner of \
         the tables run `group-mirror migrate`",
        lack(days)
    );
}

/// What is known of the partitions, by the days for which there are some.
fn lack(days: Option<i64>) -> String {
    match days {
        None => "it is not known for how long the ledger has partitions, and none is made; entries without one go to the default one".to_owned(),
        Some(days) if days < 0 => "no further partition of the ledger could be made, and the last one has ended; entries go to the default one".to_owned(),
        Some(days) => format!(
            "no further partition of the ledger could be made, and there are some for {days} days only; later entries go to the \
             default one"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_partitions_is_what_is_known_of_them() {
        let [unknown, over, some] = [None, Some(-3), Some(5)].map(lack);
        assert!(unknown.starts_with("it is not known for how long the ledger has partitions"), "{unknown}");
        assert!(over.contains("the last one has ended") && !over.contains("-3"), "{over}");
        assert!(some.contains("there are some for 5 days only"), "{some}");
    }

    #[tokio::test]
    async fn a_look_that_gets_no_answer_ends_and_is_a_failure_that_is_logged() {
        let failure = in_time(Duration::ZERO, std::future::pending()).await.unwrap_err();
        assert!(matches!(failure, LookFailure::Late(_)), "{failure}");
        assert_eq!(LookFailure::Late(LOOK_MAX).to_string(), "the server did not answer in 30 minutes");
    }
}
