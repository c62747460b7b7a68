//! Keeps partitions of the ledger ahead of time, while the service runs.
//!
//! Every replica looks once an hour, and a lock in the database lets one after the other make what is missing. Without a
//! partition nothing is lost: its entries go to the default one, and are dealt with when partitions can be made again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::schema::SchemaState;
use crate::store::{Database, StoreError, partitions};

/// How often it looks.
const PERIOD: Duration = Duration::from_hours(1);

/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_mins(1);

/// With partitions for fewer days than this a failure is a warning; there are 28 days or more after each success.
const DAYS_AHEAD_MIN: i64 = 14;

/// Of failures in a row the first is logged, and then one an hour.
const FAILURES_LOGGED_EACH: u32 = 60;

/// Goes on until `stop`.
pub(super) async fn keep_partitions(database: Database, schema: SchemaState, stop: CancellationToken) {
    let keep = async {
        let mut failures = 0;
        loop {
            schema.fitting().await;
            let pause = match look(&database).await {
                Ok(Look { failure: None, .. }) => {
                    failures = 0;
                    PERIOD
                }
                Ok(Look { days, failure: Some(error) }) => {
                    if days < DAYS_AHEAD_MIN && failures % FAILURES_LOGGED_EACH == 0 {
                        warn(days, &error);
                    }
                    failures += 1;
                    FAILURE_PAUSE
                }
                // No connection: others report that.
                Err(error) => {
                    tracing::debug!(%error, "it is not known for how long the ledger has partitions");
                    FAILURE_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    stop.run_until_cancelled(keep).await;
}

/// What came of a look.
struct Look {
    /// For how many days there are partitions.
    days: i64,
    /// Why no more could be made.
    failure: Option<StoreError>,
}

async fn look(database: &Database) -> Result<Look, StoreError> {
    let mut conn = database.connect().await?;
    let made = partitions::make_ahead(&mut conn).await;
    let ahead = partitions::ahead(&mut conn).await?;
    metrics::gauge!("group_mirror_partitions_ahead_seconds").set(ahead.as_seconds_f64());
    for step in made.iter().flatten() {
        tracing::info!("partitions of the ledger: {step}");
    }
    Ok(Look { days: ahead.num_days(), failure: made.err().map(StoreError::from) })
}

fn warn(days: i64, error: &StoreError) {
    tracing::warn!(
        %error,
        days,
        "no partition of the ledger could be made, and there are some for this many days only; later entries go to the \
         default one: let the owner of the tables run `group-mirror migrate`"
    );
}
