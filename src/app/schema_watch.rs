//! Notices when the schema and the program begin or cease to agree.
//!
//! Before the start and every few seconds after it, because `sqlx migrate` or a newer program can change the schema at
//! any time.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::errors::Mismatch;
use crate::store::schema;
use crate::store::{Database, StoreError, feed};

/// How often the schema is compared with the program's: a migration by another hand is noticed within this time.
const SCHEMA_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// The same while they do not agree, or the database has not answered yet: somebody waits for it.
const TROUBLE_CHECK_PERIOD: Duration = Duration::from_millis(500);

/// How long one comparison may take, connecting included.
const SCHEMA_CHECK_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why callbacks go to the spool for now, if they do. A database that could be ours a little later is waited for; one
/// that will not be without somebody's help ends the start.
pub(super) async fn first_check(database: &Database) -> anyhow::Result<Option<String>> {
    let trouble = match check(database).await {
        Ok(None) => return Ok(None),
        Ok(Some(foreign @ Mismatch::Foreign(_))) => return Err(StoreError::Schema(foreign).into()),
        Ok(Some(mismatch)) => mismatch.to_string(),
        Err(error) if error.is_passing() => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    tracing::error!("{trouble}; until then callbacks go to the spool and reads are answered with 503");
    Ok(Some(trouble))
}

async fn check(database: &Database) -> Result<Option<Mismatch>, StoreError> {
    let mut conn = database.connect().await?;
    let all_rights = database.rights().look(&mut conn).await?;
    let mismatch = schema::check(&mut conn).await?;
    if mismatch.is_none() && all_rights {
        feed::advance(&mut conn).await?;
    }
    let _ = sqlx::Connection::close(conn).await;
    Ok(mismatch)
}

/// Notices when schema and program begin or cease to agree. A database that does not answer changes nothing here.
pub(super) async fn watch_schema(
    database: Database,
    trouble: watch::Sender<Option<String>>,
    stop: CancellationToken,
) {
    loop {
        let period = if trouble.borrow().is_some() { TROUBLE_CHECK_PERIOD } else { SCHEMA_CHECK_PERIOD };
        if stop.run_until_cancelled(tokio::time::sleep(period)).await.is_none() {
            return;
        }
        // Bounded, and given up at a stop: a server that takes the connection and then stalls would hold up both.
        let checking = tokio::time::timeout(SCHEMA_CHECK_WAIT_MAX, check(&database));
        let Some(checked) = stop.run_until_cancelled(checking).await else { return };
        let Ok(Ok(mismatch)) = checked else { continue };
        let mismatch = mismatch.map(|mismatch| mismatch.to_string());
        trouble.send_if_modified(|known| {
            let changed = *known != mismatch;
            if changed {
                match &mismatch {
                    Some(mismatch) => tracing::error!("{mismatch}"),
                    None => tracing::info!("the schema fits; serving"),
                }
                *known = mismatch;
            }
            changed
        });
    }
}
